"""Rows in, outcomes out: the only place that batches, pads, charges and retries.

Nothing here knows what a search is; nothing in an algorithm knows what a batch is.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from noise_search.algorithms.base import Job
from noise_search.engine.scoring import free_memory
from noise_search.engine.worker import TOO_LARGE, Batch, BatchStopped, Done, Rows, SearchOutOfMemory, Spent, Worker
from noise_search.engine.x0_predictions import NONE, Predictions
from noise_search.results.ledger import Ledger
from samplers.base import is_out_of_memory
from samplers.state import State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One job of one prompt, trimmed to what its budget allows; `ids` are its rows' candidate ids."""

    prompt: int
    job: Job
    ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """One row: where it came from, its state and, if it was scored, its picture and raw scores.

    Attributes:
        work: the job that asked for it.
        row: its position in that job.
        state: a state of one row at the job's stop.
        kept: the same at the grid points that the job asked to keep.
        pixels: uint8 `[height, width, 3]` or, for a clip, `[frames, height, width, 3]`; None where nothing was decoded.
        components: score by verifier key, NaN where a verifier failed.
        failure: why the row can't win, or None.
        x0: pictures like `pixels` of the x0 predictions on the way that judges need, by noise level.
        looks: by grid point on the way that the job asked to score, the row there.
    """

    work: Work
    row: int
    state: State
    kept: dict[int, State]
    pixels: np.ndarray | None
    components: dict[str, float]
    failure: str | None
    x0: dict[float, np.ndarray] = field(default_factory=dict)
    looks: "dict[int, Glance]" = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The candidate's id."""
        return self.work.ids[self.row]

    @property
    def cost(self) -> int:
        """Its NFE."""
        return self.work.job.cost


@dataclass(frozen=True, eq=False)
class Glance:
    """A row on its way: its state, and the raw scores of its x0 prediction by verifier key, NaN where it has none."""

    state: State
    components: dict[str, float]


_Row = tuple[Work, int]


class Evaluator:
    """Runs rows through a worker in micro-batches.

    Args:
        worker: runs them.
        prompts: text by prompt index.
        ledgers: booked by prompt index.
        batch_size: rows per micro-batch; halved when memory runs out.
        fixed_shape: pad every micro-batch to `batch_size`, so that a row's bits don't depend on its neighbours.
        predictions: which x0 predictions verifiers and judges look at.

    Attributes:
        device: where the images are; None before the first.
    """

    def __init__(
        self,
        worker: Worker,
        prompts: Sequence[str],
        ledgers: Sequence[Ledger],
        batch_size: int,
        fixed_shape: bool = False,
        predictions: Predictions = NONE,
    ) -> None:
        self._worker, self._prompts, self._ledgers = worker, tuple(prompts), tuple(ledgers)
        self.batch_size, self._fixed_shape, self._predictions = batch_size, fixed_shape, predictions
        self.device: str | None = None

    def run(self, works: Sequence[Work], cancelled: Callable[[Work], bool]) -> Iterator[list[Outcome]]:
        """Run all rows of the works, yielding after each micro-batch; rows of cancelled works are skipped.

        Raises:
            VerifierUnusable: a verifier can score no further images; after what it did score was yielded.
        """
        for group in _groups(works):
            todo = deque(group)
            while todo:
                rows: list[_Row] = []
                while todo and len(rows) < self.batch_size:
                    row = todo.popleft()
                    if not cancelled(row[0]):
                        rows.append(row)
                if not rows:
                    continue
                done = self._attempt(rows)
                if done is None:
                    todo.extendleft(reversed(rows))
                    continue
                yield self._outcomes(rows, done)
                if done.unusable is not None:
                    raise done.unusable

    def _attempt(self, rows: list[_Row]) -> Done | None:
        """What came of the rows, or None when memory ran out and the micro-batch was halved."""
        job = rows[0][0].job
        steps, padding = job.cost, max(0, self.batch_size - len(rows)) if self._fixed_shape else 0
        batch = self._batch(rows, padding)
        shares = [
            (self._ledgers[prompt], count) for prompt, count in sorted(Counter(w.prompt for w, _ in rows).items())
        ]
        for ledger, count in shares:
            ledger.charge(count * steps)
        try:
            done = self._worker.run(batch)
        except BatchStopped as error:
            stopped = error
        else:
            self._book(shares, done.spent, waste=padding * steps)
            self.device = done.device or self.device
            for ledger, count in shares:
                ledger.decodes += count * (job.score + len(job.looks) + len(set(batch.predictions.values())))
                ledger.verifier_images += count * done.pictures
            return done
        spent = stopped.spent
        if stopped.denoised:
            self._book(shares, spent, waste=padding * steps)
        else:  # a batch that didn't finish is not charged; what it ran is waste
            for ledger, count in shares:
                ledger.refund(count * steps)
            self._book(shares, spent, waste=spent.denoiser_rows / spent.rows_per_evaluation)
            if is_out_of_memory(stopped.error):
                self._shrink(len(rows) + padding)
                return None
        raise stopped.error

    def _batch(self, rows: list[_Row], padding: int) -> Batch:
        job = rows[0][0].job
        states = State.cat([work.job.states[[row]] for work, row in rows])
        prompts = [self._prompts[work.prompt] for work, _ in rows]
        if padding:  # all the way, so that a fixed shape is one for decoder and verifiers too
            states = State.cat([states, *[states[[-1]]] * padding])
            prompts += prompts[-1:] * padding
        looked_at = self._predictions.of_job(job)
        return Batch(
            Rows.of(states), tuple(prompts), job.stop, job.score, job.keep, job.looks, job.transition, looked_at
        )

    def _outcomes(self, rows: list[_Row], done: Done) -> list[Outcome]:
        judged = self._predictions.judged & done.x0.keys()
        found = []
        for i, (work, row) in enumerate(rows):
            condition = (work.job.states.conditions[row],)
            found.append(
                Outcome(
                    work=work,
                    row=row,
                    state=done.final.row(i).state(condition),
                    kept={step: kept.row(i).state(condition) for step, kept in done.kept.items()},
                    pixels=None if done.pixels is None else done.pixels[i].copy(),
                    components={key: float(values[i]) for key, values in done.scores.items()},
                    failure=done.failures[i] if done.failures else None,
                    x0={level: done.x0[level][i].copy() for level in judged},
                    looks={
                        point: Glance(
                            look.rows.row(i).state(condition),
                            {key: math.nan if look.failures[i] else float(v[i]) for key, v in look.scores.items()},
                        )
                        for point, look in done.looks.items()
                    },
                )
            )
        return found

    @staticmethod
    def _book(shares: Sequence[tuple[Ledger, int]], spent: Spent, waste: float) -> None:
        """Split what a batch cost over its ledgers, by their rows; the last takes what doesn't divide."""
        total, left = sum(count for _, count in shares), spent.denoiser_rows
        for i, (ledger, count) in enumerate(shares, start=1):
            part = left if i == len(shares) else spent.denoiser_rows * count // total
            left -= part
            ledger.denoiser_rows += part
            ledger.rows_per_evaluation = spent.rows_per_evaluation
            ledger.nfe_waste += waste * count / total
            for phase, seconds in spent.seconds.items():
                ledger.seconds[phase] += seconds * count / total

    def _shrink(self, tried: int) -> None:
        free_memory()
        if tried == 1:
            raise SearchOutOfMemory(TOO_LARGE)
        self.batch_size = max(1, tried // 2)
        log.warning("out of memory: continuing with micro-batches of %d", self.batch_size)


def _groups(works: Sequence[Work]) -> list[list[_Row]]:
    """Rows that can share a batch: same start, stop, transitions, kept points and looks.

    Prompts take turns row by row, so that a search that is ended early has something for each of them.
    """
    groups: dict[tuple[object, ...], dict[int, list[_Row]]] = {}
    for work in works:
        job = work.job
        key = (job.states.grid, job.states.step, job.stop, job.transition, job.keep, job.looks, job.score)
        rows = groups.setdefault(key, {}).setdefault(work.prompt, [])
        rows.extend((work, row) for row in range(len(work.ids)))
    return [
        [row for turn in zip_longest(*prompts.values()) for row in turn if row is not None]
        for prompts in groups.values()
    ]
