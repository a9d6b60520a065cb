"""One micro-batch through sampler and verifiers: plain data in, plain data out.

The seam for other processes, devices and machines. A worker knows no search, no budget and no ledger; what crosses it
are numpy arrays, recipes and texts, all of which pickle. Its evaluator books what a batch cost.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from noise_search.engine.readback import AT_ONCE, Memory, Readback
from noise_search.engine.scoring import NO_X0, Asked, Scorer, free_memory, pictures
from noise_search.results.candidate import eight_bit
from samplers.base import Run, Sampler, is_out_of_memory
from samplers.recipe import Recipe
from samplers.state import State
from samplers.transition import Transitions
from verifiers.base import VerifierUnusable

log = logging.getLogger(__name__)

TOO_LARGE = (
    "out of memory with a single candidate; use a smaller height and width, a smaller dtype, or an offload such as "
    "pipe.enable_model_cpu_offload()"
)


class SearchOutOfMemory(RuntimeError):
    """A single candidate doesn't fit into memory; everything smaller was tried."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows at one grid point.

    Attributes:
        x: float32 `[row, *latent]`.
        step: the grid point.
        grid: the id of the noise space.
        recipes: one per row.
        x0: the prediction that led there, like `x`; None where there was none.
    """

    x: np.ndarray
    step: int
    grid: str
    recipes: tuple[Recipe, ...]
    x0: np.ndarray | None = None

    @classmethod
    def of(cls, state: State, back: Readback = AT_ONCE) -> "Rows":
        """The rows of a state, copied by `back`."""
        x0 = None if state.x0 is None else back.copy(state.x0)
        return cls(back.copy(state.x), state.step, state.grid, state.recipes, x0)

    def state(self, conditions: Sequence[int]) -> State:
        """The rows as a state, under these conditions of a sampler."""
        x0 = None if self.x0 is None else torch.from_numpy(self.x0)
        return State(torch.from_numpy(self.x), self.step, x0, self.recipes, tuple(conditions), self.grid)

    def row(self, index: int) -> "Rows":
        """One row alone, copied."""
        x0 = None if self.x0 is None else self.x0[[index]]
        return Rows(self.x[[index]], self.step, self.grid, (self.recipes[index],), x0)


@dataclass(frozen=True)
class Batch:
    """What to run.

    Attributes:
        rows: where from, padding included.
        prompts: one text per row.
        stop, keep, looks, transition: as of `Job`.
        score: whether the rows are decoded and scored.
        predictions: grid points, by noise level, whose x0 predictions verifiers and judges look at.
        unfinished: whether the stop is before the end, so that what is scored there is a look, too.
        compared: places of rows whose first look the model's own decoder shows, too, where looks have a small one.
    """

    rows: Rows
    prompts: tuple[str, ...]
    stop: int
    score: bool = True
    keep: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    transition: Transitions = None
    predictions: Mapping[float, int] = field(default_factory=dict)
    unfinished: bool = False
    compared: tuple[int, ...] = ()


@dataclass
class Spent:
    """What a batch cost.

    Attributes:
        denoiser_rows: rows that went through the denoiser.
        rows_per_evaluation: denoiser rows per NFE.
        seconds: by phase.
        memory: what its denoising took of the device's.
        repeated: rows of workers that ran it once more.
    """

    denoiser_rows: int = 0
    rows_per_evaluation: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    repeated: int = 0

    @property
    def total(self) -> float:
        """Seconds of all phases but the compiling."""
        return sum(seconds for phase, seconds in self.seconds.items() if phase != "compile")


@dataclass(frozen=True, eq=False)
class Look:
    """The rows at a point on their way, with the scores of their x0 predictions, and why one has none."""

    rows: Rows
    scores: Mapping[str, np.ndarray]
    failures: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a batch, row by row, padding included.

    Attributes:
        final: the rows at the stop.
        kept: the rows at the points that were asked for.
        spent: what it cost.
        pixels: uint8 `[row, height, width, 3]`, or `[row, frames, height, width, 3]`; None where nothing was scored.
        x0: pictures like `pixels` of x0 predictions by noise level.
        looks: by grid point that was to be scored on the way.
        scores: float64 `[row]` by verifier key, NaN where one failed.
        failures: why a row can't win, or None.
        compared: float64 scores by verifier key, by the model's own decoder, of the rows that were to be compared.
        pictures: how many pictures the verifiers looked at for one row.
        unusable: why a verifier can score no further images, None while all can.
        device: where the images were.
    """

    final: Rows
    kept: Mapping[int, Rows]
    spent: Spent
    pixels: np.ndarray | None = None
    x0: Mapping[float, np.ndarray] = field(default_factory=dict)
    looks: Mapping[int, Look] = field(default_factory=dict)
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: tuple[str | None, ...] = ()
    compared: Mapping[str, np.ndarray] = field(default_factory=dict)
    pictures: int = 0
    unusable: VerifierUnusable | None = None
    device: str | None = None


class BatchStopped(Exception):
    """What ended a batch early, and what it had cost by then.

    Attributes:
        error: it.
        spent: the cost.
        denoised: whether all rows had reached their stop, so that decoding or scoring failed.
    """

    def __init__(self, error: BaseException, spent: Spent, denoised: bool) -> None:
        super().__init__(error, spent, denoised)
        self.error, self.spent, self.denoised = error, spent, denoised


class Worker(Protocol):
    """Whoever runs micro-batches."""

    def run(self, batch: Batch) -> Done:
        """Run a micro-batch.

        Raises:
            BatchStopped: it ended early, for whatever reason.
        """
        ...


_Asked = tuple[Asked, np.ndarray]
"""What a scorer was asked of some pictures, and whether each is finite."""


def _booked(spent: Spent, back: Readback) -> Spent:
    """Wait for the device, and take its seconds; those of compiling were counted as denoising."""
    spent.seconds |= back.wait()
    if "compile" in spent.seconds:
        spent.seconds["denoise"] -= spent.seconds["compile"]
    return spent


class LocalWorker:
    """Runs micro-batches in this process.

    Args:
        sampler: makes the images.
        scorer: scores them.
        on_step: told, before each denoiser evaluation, how many of a batch's NFE are done, those of padding included.
        device: where it computes; a GPU of CUDA is not waited for between `begin` and its answer.
        preview: makes the images of looks from x0 predictions; None for the sampler's own decoder.
    """

    def __init__(
        self,
        sampler: Sampler,
        scorer: Scorer,
        on_step: Callable[[int], None] | None = None,
        device: str | None = None,
        preview: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._on_step, self._device, self._preview = on_step, device, preview
        self._sampler, self._scorer = sampler, scorer
        self._conditions: dict[str, int] = {}
        self._decode_size: int | None = None  # as many as denoised, until decoding runs out of memory

    def run(self, batch: Batch) -> Done:
        """Run a micro-batch; see `Worker.run`."""
        return self.begin(batch)()

    def begin(self, batch: Batch) -> Callable[[], Done]:
        """Queue a micro-batch on the device, and return what waits for it and reads it back; both raise as `run`."""
        spent, denoised = Spent(rows_per_evaluation=self._sampler.rows_per_evaluation), False
        back = Readback(self._device)
        try:
            run = self._denoise(batch, spent, back)
            denoised = True
            kept = {step: Rows.of(run.kept[step], back) for step in batch.keep}
            looks, seen = {}, 0
            for step in batch.looks:
                images = self._look(run.kept[step], back)
                looks[step] = Rows.of(run.kept[step], back), self._ask(images, batch.prompts, back)
                seen += self._pictures(images)
            compared = self._compared(batch, run, back)
            done = Done(Rows.of(run.final, back), kept, spent, pictures=seen)
            asked = None
            if batch.score:
                asked, done = self._scored(batch, run, done, back)
            back.close()
            return lambda: self._read(done, looks, compared, asked, back)
        except BaseException as error:
            stopped = BatchStopped(error, _booked(spent, back), denoised)
        raise stopped  # not from within: the error goes on as it is

    def _read(
        self,
        done: Done,
        looks: Mapping[int, tuple[Rows, _Asked]],
        compared: _Asked | None,
        asked: _Asked | None,
        back: Readback,
    ) -> Done:
        """A batch with its scores, and with what was copied in its arrays."""
        try:
            _booked(done.spent, back)
            looked = {step: Look(rows, *self._told(one)) for step, (rows, one) in looks.items()}
            beside = {} if compared is None else self._told(compared)[0]
            scores, failures = ({}, ()) if asked is None else self._told(asked)
            found = replace(done, looks=looked, compared=beside, scores=scores, failures=failures)
            return replace(found, unusable=self._scorer.unusable)
        except BaseException as error:
            stopped = BatchStopped(error, done.spent, denoised=True)
        raise stopped

    def _denoise(self, batch: Batch, spent: Spent, back: Readback) -> Run:
        states = batch.rows.state([self._condition(text) for text in batch.prompts])
        # An x0 prediction made at one point is held by the state at the next.
        keep = sorted({*batch.keep, *batch.looks, *(at + 1 for at in batch.predictions.values())})
        before, compiled = self._sampler.denoiser_rows, self._sampler.compile_seconds
        if (told := self._on_step) is not None:
            self._sampler.on_step = lambda: told(
                (self._sampler.denoiser_rows - before) // self._sampler.rows_per_evaluation
            )
        try:
            with back.phase("denoise"), back.memory() as spent.memory:
                return self._sampler.run(states, batch.stop, transition=batch.transition, keep=tuple(keep))
        finally:
            if told is not None:
                self._sampler.on_step = None
            spent.denoiser_rows = self._sampler.denoiser_rows - before
            spent.rows_per_evaluation = self._sampler.rows_per_evaluation
            if (warm_up := self._sampler.compile_seconds - compiled) > 0:
                spent.seconds["compile"] = warm_up

    def _condition(self, text: str) -> int:
        if text not in self._conditions:
            self._conditions[text] = self._sampler.condition(text)
        return self._conditions[text]

    def _scored(self, batch: Batch, run: Run, done: Done, back: Readback) -> tuple[_Asked, Done]:
        """What the scorer is asked of the pictures at the stop, and the batch with these."""
        images = self._look(run.final, back) if batch.unfinished else self._decode(run.final, back)
        by_point = {at: self._decode(run.kept[at + 1], back) for at in sorted(set(batch.predictions.values()))}
        x0 = {level: by_point[at] for level, at in batch.predictions.items()}
        asked = self._ask(images, batch.prompts, back, x0)
        return asked, replace(
            done,
            pixels=back.copy(eight_bit(images)),
            x0={level: back.copy(eight_bit(pictured)) for level, pictured in x0.items()},
            pictures=done.pictures + self._pictures(images),
            device=str(images.device),
        )

    def _ask(
        self, images: Tensor, prompts: Sequence[str], back: Readback, x0: Mapping[float, Tensor] = NO_X0
    ) -> _Asked:
        with back.phase("verify"):
            asked = self._scorer.ask(images, prompts, x0, back.copy)
        return asked, back.copy(images.flatten(1).isfinite().all(1))

    def _told(self, asked: _Asked) -> tuple[dict[str, np.ndarray], tuple[str | None, ...]]:
        """Scores by verifier key, and why a row has none."""
        finite = asked[1].tolist()
        scores, failures = self._scorer.read(asked[0], len(finite))
        told = (why if fine else "the image has non-finite pixels" for why, fine in zip(failures, finite, strict=True))
        return scores, tuple(told)

    def _pictures(self, images: Tensor) -> int:
        """How many pictures the verifiers look at for one row."""
        return sum(pictures(images, verifier) for verifier in self._scorer.verifiers)

    def _compared(self, batch: Batch, run: Run, back: Readback) -> _Asked | None:
        """What verifiers are asked of the first look of rows that are compared, as the model's own decoder shows it."""
        if not batch.compared:
            return None
        states = run.kept[batch.looks[0]] if batch.looks else run.final
        rows = list(batch.compared)
        return self._ask(self._decode(states[rows], back), [batch.prompts[row] for row in rows], back)

    def _look(self, states: State, back: Readback) -> Tensor:
        """Images of x0 predictions, by the small decoder where there is one."""
        if self._preview is None or states.x0 is None:
            return self._decode(states, back)
        with back.phase("decode"):
            return self._preview(states.x0)

    def _decode(self, states: State, back: Readback) -> Tensor:
        """Images of all rows, fewer at a time where memory runs out."""
        parts: list[Tensor] = []
        done, size = 0, min(self._decode_size or len(states), len(states))
        while done < len(states):
            try:
                with back.phase("decode"):
                    parts.append(self._sampler.decode(states[done : done + size]))
                done += size
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise SearchOutOfMemory(TOO_LARGE) from error
            self._decode_size = size = size // 2
            free_memory()  # outside of the handler, which holds what ran out of memory
            log.warning("out of memory while decoding: decoding %d images at a time", size)
        return torch.cat(parts)
