"""One micro-batch through sampler and verifiers: plain data in, plain data out.

The seam for other processes, devices and machines. A worker knows no search, no budget and no ledger; what crosses it
are numpy arrays, recipes and texts, all of which pickle. Its evaluator books what a batch cost.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from noise_search.engine.scoring import NO_X0, Scorer, free_memory, pictures
from noise_search.engine.sources import Source
from noise_search.results.candidate import as_pixels
from samplers.base import Run, Sampler, is_out_of_memory
from samplers.recipe import Recipe
from samplers.state import State
from samplers.transition import Transitions
from verifiers.base import Verifier, VerifierUnusable

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
    def of(cls, state: State) -> "Rows":
        """The rows of a state."""
        x0 = None if state.x0 is None else state.x0.detach().cpu().numpy()
        return cls(state.x.detach().cpu().numpy(), state.step, state.grid, state.recipes, x0)

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
    """

    rows: Rows
    prompts: tuple[str, ...]
    stop: int
    score: bool = True
    keep: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    transition: Transitions = None
    predictions: Mapping[float, int] = field(default_factory=dict)


@dataclass
class Spent:
    """What a batch cost: denoiser rows, rows per NFE, and seconds by phase."""

    denoiser_rows: int = 0
    rows_per_evaluation: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, however it ends."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started


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


class LocalWorker:
    """Runs micro-batches in this process.

    Args:
        sampler: makes the images.
        verifiers: score them.
        on_step: told, before each denoiser evaluation, how many of a batch's NFE are done, those of padding included.
        sources: what the images are made from, for verifiers that need it.
    """

    def __init__(
        self,
        sampler: Sampler,
        verifiers: Sequence[Verifier],
        on_step: Callable[[int], None] | None = None,
        sources: Sequence[Source] = (),
    ) -> None:
        self._on_step = on_step
        self._sampler, self._verifiers, self._scorer = sampler, tuple(verifiers), Scorer(verifiers, sources)
        self._conditions: dict[str, int] = {}
        self._decode_size: int | None = None  # as many as denoised, until decoding runs out of memory

    def run(self, batch: Batch) -> Done:
        """Run a micro-batch; see `Worker.run`."""
        spent, denoised = Spent(rows_per_evaluation=self._sampler.rows_per_evaluation), False
        try:
            run = self._denoise(batch, spent)
            denoised = True
            kept = {step: Rows.of(run.kept[step]) for step in batch.keep}
            looks, seen = {}, 0
            for step in batch.looks:
                images = self._decode(run.kept[step], spent)
                looks[step] = Look(Rows.of(run.kept[step]), *self._scores(images, batch.prompts, spent))
                seen += self._pictures(images)
            unusable = self._scorer.unusable
            done = Done(Rows.of(run.final), kept, spent, looks=looks, pictures=seen, unusable=unusable)
            return self._scored(batch, run, spent, done) if batch.score else done
        except BaseException as error:
            stopped = BatchStopped(error, spent, denoised)
        raise stopped  # not from within: the error goes on as it is

    def _denoise(self, batch: Batch, spent: Spent) -> Run:
        states = batch.rows.state([self._condition(text) for text in batch.prompts])
        # An x0 prediction made at one point is held by the state at the next.
        keep = sorted({*batch.keep, *batch.looks, *(at + 1 for at in batch.predictions.values())})
        before = self._sampler.denoiser_rows
        if (told := self._on_step) is not None:
            self._sampler.on_step = lambda: told(
                (self._sampler.denoiser_rows - before) // self._sampler.rows_per_evaluation
            )
        try:
            with spent.phase("denoise"):
                return self._sampler.run(states, batch.stop, transition=batch.transition, keep=tuple(keep))
        finally:
            if told is not None:
                self._sampler.on_step = None
            spent.denoiser_rows = self._sampler.denoiser_rows - before
            spent.rows_per_evaluation = self._sampler.rows_per_evaluation

    def _condition(self, text: str) -> int:
        if text not in self._conditions:
            self._conditions[text] = self._sampler.condition(text)
        return self._conditions[text]

    def _scored(self, batch: Batch, run: Run, spent: Spent, done: Done) -> Done:
        """What came of the batch with the pictures and scores at its stop."""
        images = self._decode(run.final, spent)
        by_point = {at: self._decode(run.kept[at + 1], spent) for at in sorted(set(batch.predictions.values()))}
        x0 = {level: by_point[at] for level, at in batch.predictions.items()}
        scores, failures = self._scores(images, batch.prompts, spent, x0)
        return replace(
            done,
            pixels=as_pixels(images),
            x0={level: as_pixels(pictured) for level, pictured in x0.items()},
            scores=scores,
            failures=failures,
            pictures=done.pictures + self._pictures(images),
            unusable=self._scorer.unusable,
            device=str(images.device),
        )

    def _scores(
        self, images: Tensor, prompts: Sequence[str], spent: Spent, x0: Mapping[float, Tensor] = NO_X0
    ) -> tuple[dict[str, np.ndarray], tuple[str | None, ...]]:
        """Scores by verifier key, and why a row has none."""
        with spent.phase("verify"):
            scores, failures = self._scorer.score(images, prompts, x0)
        finite = images.flatten(1).isfinite().all(1).tolist()
        told = (why if fine else "the image has non-finite pixels" for why, fine in zip(failures, finite, strict=True))
        return scores, tuple(told)

    def _pictures(self, images: Tensor) -> int:
        """How many pictures the verifiers look at for one row."""
        return sum(pictures(images, verifier) for verifier in self._verifiers)

    def _decode(self, states: State, spent: Spent) -> Tensor:
        """Images of all rows, fewer at a time where memory runs out."""
        parts: list[Tensor] = []
        done, size = 0, min(self._decode_size or len(states), len(states))
        while done < len(states):
            try:
                with spent.phase("decode"):
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
