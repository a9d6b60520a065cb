"""Rows in, outcomes out: the only place that batches, pads, retries and runs models.

Nothing here knows what a search is; nothing in an algorithm knows what a batch is.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from noise_search.algorithms.base import Job
from noise_search.engine.scoring import Scorer, free_memory, is_out_of_memory, pictures
from noise_search.engine.x0_predictions import NONE, Predictions
from noise_search.results.ledger import Ledger, Shares
from samplers.base import Run, Sampler
from samplers.state import State
from verifiers.base import Verifier

log = logging.getLogger(__name__)


_TOO_LARGE = (
    "out of memory with a single candidate; use a smaller height and width, a smaller dtype, or an offload such as "
    "pipe.enable_model_cpu_offload()"
)


class SearchOutOfMemory(RuntimeError):
    """A single candidate doesn't fit into memory; everything smaller was tried."""


@dataclass(frozen=True)
class Work:
    """One job of one prompt, trimmed to what its budget allows; `ids` are its rows' candidate ids."""

    prompt: int
    job: Job
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """One row: where it came from, its state and, if it was scored, its image and raw scores.

    Attributes:
        work: the job that asked for it.
        row: its position in that job.
        state: a state of one row at the job's stop.
        kept: the same at the grid points that the job asked to keep.
        image: float32 `[3, height, width]` or, for a clip, `[frames, 3, height, width]` in [0, 1]; None where nothing
            was decoded.
        components: score by verifier key, NaN where a verifier failed.
        failure: why the row can't win, or None.
        x0: the pictures of x0 predictions on the way that judges need, like `image`, by noise level.
    """

    work: Work
    row: int
    state: State
    kept: dict[int, State]
    image: Tensor | None
    components: dict[str, float]
    failure: str | None
    x0: dict[float, Tensor] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The candidate's id."""
        return self.work.ids[self.row]


_Row = tuple[Work, int]


class Evaluator:
    """Runs rows through sampler and verifiers in micro-batches.

    Args:
        sampler: makes the images.
        verifiers: score them.
        prompts: text by prompt index.
        ledgers: booked by prompt index.
        batch_size: rows per micro-batch; halved when memory runs out.
        fixed_shape: pad every micro-batch to `batch_size`, so that a row's bits don't depend on its neighbours.
        predictions: which x0 predictions verifiers and judges look at.
    """

    def __init__(
        self,
        sampler: Sampler,
        verifiers: Sequence[Verifier],
        prompts: Sequence[str],
        ledgers: Sequence[Ledger],
        batch_size: int,
        fixed_shape: bool = False,
        predictions: Predictions = NONE,
    ) -> None:
        self._sampler, self._verifiers, self._scorer = sampler, tuple(verifiers), Scorer(verifiers)
        self._prompts, self._ledgers = tuple(prompts), tuple(ledgers)
        self.batch_size, self._fixed_shape, self._predictions = batch_size, fixed_shape, predictions
        self._decode_size = batch_size
        self.device: torch.device | None = None

    def run(self, works: Sequence[Work], cancelled: Callable[[Work], bool]) -> Iterator[list[Outcome]]:
        """Run all rows of the works, yielding after each micro-batch; rows of cancelled works are skipped.

        Raises:
            VerifierUnusable: a verifier can score no further images; after what it did score was yielded.
        """
        for group in _groups(works):
            todo = deque(group)
            while todo:
                batch: list[_Row] = []
                while todo and len(batch) < self.batch_size:
                    row = todo.popleft()
                    if not cancelled(row[0]):
                        batch.append(row)
                if not batch:
                    continue
                outcomes = self._attempt(batch)
                if outcomes is None:
                    todo.extendleft(reversed(batch))
                else:
                    yield outcomes
                    if self._scorer.unusable is not None:
                        raise self._scorer.unusable

    def _attempt(self, batch: list[_Row]) -> list[Outcome] | None:
        """The outcomes, or None when memory ran out and the micro-batch was halved."""
        run = self._denoise(batch)
        if run is None:
            self._shrink(self.batch_size if self._fixed_shape else len(batch))
            return None
        first = batch[0][0].job
        images: Tensor | None = None
        x0: dict[float, Tensor] = {}
        components: dict[str, np.ndarray] = {}
        failures: list[str | None] = [None] * len(batch)
        if first.score:
            # Padding goes all the way, so that a fixed shape is one for decoder and verifiers too.
            images = self._decode(batch, run.final)
            x0 = self._decode_x0(batch, run)
            components, failures = self._score(batch, images, x0)
        return [
            Outcome(
                work=work,
                row=row,
                state=run.final[[i]],
                kept={step: run.kept[step][[i]] for step in first.keep},
                image=None if images is None else images[i],
                components={key: float(values[i]) for key, values in components.items()},
                failure=failures[i],
                x0={level: x0[level][i] for level in self._predictions.judged & x0.keys()},
            )
            for i, (work, row) in enumerate(batch)
        ]

    def _denoise(self, batch: list[_Row]) -> Run | None:
        job = batch[0][0].job
        steps = job.stop - job.states.step
        shares = self._shares(batch)
        states = State.cat([work.job.states[[row]] for work, row in batch])
        padding = max(0, self.batch_size - len(batch)) if self._fixed_shape else 0
        if padding:
            states = State.cat([states, *[states[[-1]]] * padding])
        for ledger, rows in zip(shares.ledgers, shares.weights, strict=True):
            ledger.charge(rows * steps)
        before = self._sampler.denoiser_rows
        try:
            with shares.phase("denoise"):
                run = self._sampler.run(states, job.stop, rho=job.rho, keep=self._kept(job))
        except BaseException as error:
            self._book_waste(shares, steps, before)
            if not is_out_of_memory(error):
                raise
            return None
        self._book_rows(shares, self._sampler.denoiser_rows - before)
        for ledger, rows in zip(shares.ledgers, shares.weights, strict=True):
            ledger.nfe_waste += padding * steps * rows / len(batch)
        return run

    def _kept(self, job: Job) -> tuple[int, ...]:
        """The points that the job asks for, and those that hold an x0 prediction made one point before."""
        return tuple(sorted({*job.keep, *(at + 1 for at in self._predictions.of_job(job).values())}))

    def _book_waste(self, shares: Shares, steps: int, before: int) -> None:
        """A batch that didn't finish is not charged; what it ran is waste."""
        ran = self._sampler.denoiser_rows - before
        self._book_rows(shares, ran)
        for ledger, rows in zip(shares.ledgers, shares.weights, strict=True):
            ledger.refund(rows * steps)
            ledger.nfe_waste += ran / self._sampler.rows_per_evaluation * rows / sum(shares.weights)

    def _book_rows(self, shares: Shares, ran: int) -> None:
        booked = 0
        for i, (ledger, rows) in enumerate(zip(shares.ledgers, shares.weights, strict=True)):
            last = i == len(shares.ledgers) - 1
            part = ran - booked if last else ran * rows // sum(shares.weights)
            ledger.denoiser_rows += part
            ledger.rows_per_evaluation = self._sampler.rows_per_evaluation
            booked += part

    def _decode(self, batch: list[_Row], states: State) -> Tensor:
        shares, parts, start = self._shares(batch), [], 0
        while start < len(states):
            chunk = states[start : start + self._decode_size]
            try:
                with shares.phase("decode"):
                    part = self._sampler.decode(chunk)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._decode_size == 1:
                    raise SearchOutOfMemory(_TOO_LARGE) from error
                part = None
            if part is None:
                free_memory()
                self._decode_size = max(1, self._decode_size // 2)
                log.warning("out of memory while decoding: decoding %d images at a time", self._decode_size)
                continue
            parts.append(part)
            start += len(chunk)
        for work, _ in batch:
            self._ledgers[work.prompt].decodes += 1
        self.device = parts[0].device
        return torch.cat(parts)

    def _decode_x0(self, batch: list[_Row], run: Run) -> dict[float, Tensor]:
        """The pictures of the x0 predictions that are looked at, by noise level; equal points share a decode."""
        points = self._predictions.of_job(batch[0][0].job)
        by_point = {at: self._decode(batch, run.kept[at + 1]) for at in sorted(set(points.values()))}
        return {level: by_point[at] for level, at in points.items()}

    def _score(
        self, batch: list[_Row], images: Tensor, x0: Mapping[float, Tensor]
    ) -> tuple[dict[str, np.ndarray], list[str | None]]:
        prompts = [self._prompts[work.prompt] for work, _ in batch]
        prompts += prompts[-1:] * (len(images) - len(prompts))
        with self._shares(batch).phase("verify"):
            components, failures = self._scorer.score(images, prompts, x0)
        for work, _ in batch:
            self._ledgers[work.prompt].verifier_images += sum(pictures(images, v) for v in self._verifiers)
        finite = images.flatten(1).isfinite().all(1).tolist()
        reasons = [
            why if fine else "the image has non-finite pixels" for why, fine in zip(failures, finite, strict=True)
        ]
        return components, reasons

    def _shares(self, batch: list[_Row]) -> Shares:
        prompts = [work.prompt for work, _ in batch]
        distinct = sorted(set(prompts))
        return Shares(tuple(self._ledgers[p] for p in distinct), tuple(prompts.count(p) for p in distinct))

    def _shrink(self, tried: int) -> None:
        free_memory()
        if tried == 1:
            raise SearchOutOfMemory(_TOO_LARGE)
        self.batch_size = max(1, tried // 2)
        self._decode_size = min(self._decode_size, self.batch_size)
        log.warning("out of memory: continuing with micro-batches of %d", self.batch_size)


def _groups(works: Sequence[Work]) -> list[list[_Row]]:
    """Rows that can share a batch: same start, stop, transition and kept points.

    Prompts take turns row by row, so that a search that is ended early has something for each of them.
    """
    groups: dict[tuple[object, ...], dict[int, list[_Row]]] = {}
    for work in works:
        job = work.job
        key = (job.states.grid, job.states.step, job.stop, job.rho, job.keep, job.score)
        rows = groups.setdefault(key, {}).setdefault(work.prompt, [])
        rows.extend((work, row) for row in range(len(work.ids)))
    return [
        [row for turn in zip_longest(*prompts.values()) for row in turn if row is not None]
        for prompts in groups.values()
    ]
