"""Rows in, outcomes out: the only place that batches, pads, charges and retries.

Nothing here knows what a search is; nothing in an algorithm knows what a batch is.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
import torch

from noise_search.algorithms.base import Job
from noise_search.choosing.features import thumbnails
from noise_search.engine.batches import Batches
from noise_search.engine.crew import Alone, Crew, WorkerDied, WorkersFailed
from noise_search.engine.scoring import free_memory
from noise_search.engine.worker import TOO_LARGE, Batch, BatchStopped, Done, Rows, SearchOutOfMemory, Spent, Worker
from noise_search.engine.x0_predictions import NONE, Predictions
from noise_search.results.candidate import middle
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
        thumbnail: uint8 `[cell]`, the picture averaged to 8 x 8 cells, where the job asked for it.
        compared: score of its first look by verifier key, by the model's own decoder; {} where that wasn't asked.
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
    thumbnail: np.ndarray | None = None
    compared: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The candidate's id."""
        return self.work.ids[self.row]

    @property
    def cost(self) -> int:
        """Its NFE."""
        return self.work.job.cost

    @property
    def looked(self) -> dict[str, float]:
        """Its scores where it was first looked at."""
        looks = self.work.job.looks
        return self.looks[looks[0]].components if looks else self.components


@dataclass(frozen=True, eq=False)
class Glance:
    """A row on its way: its state, and the raw scores of its x0 prediction by verifier key, NaN where it has none."""

    state: State
    components: dict[str, float]


_Row = tuple[Work, int]

_DEATHS = 3
"""After how many of its workers' deaths a micro-batch is given up."""
_LOST_IN_A_ROW = 4
"""Micro-batches given up without another between them that wasn't, after which all would be."""


@dataclass(eq=False)
class _Flight:
    """A micro-batch that is run, with all that is needed to take it in or to run it again."""

    rows: list[_Row]
    batch: Batch
    padding: int
    shares: list[tuple[Ledger, int]]
    group: deque[_Row]
    deaths: int = 0

    @property
    def job(self) -> Job:
        """What its rows have in common."""
        return self.rows[0][0].job

    @property
    def whole(self) -> int:
        """NFE of all of it, padding included."""
        return len(self.batch.prompts) * self.job.cost

    def charge(self) -> None:
        """Book what it will cost."""
        for ledger, count in self.shares:
            ledger.charge(count * self.job.cost)

    def refund(self) -> None:
        """Take that back."""
        for ledger, count in self.shares:
            ledger.refund(count * self.job.cost)


class Evaluator:
    """Runs rows through workers in micro-batches, as many at a time as there are workers.

    What a batch costs whose worker died, or that nobody waited for, is unknown: it counts as run to its end.

    Args:
        crew: runs them; one worker alone runs one after the other.
        prompts: text by prompt index.
        ledgers: booked by prompt index.
        batch_size: rows per micro-batch, or what measures them; halved when memory runs out.
        fixed_shape: pad every micro-batch to `batch_size`, so that a row's bits don't depend on its neighbours.
        predictions: which x0 predictions verifiers and judges look at.
        widening: what makes rounds of more rows, in words, for the line that says that they are too small.
        compared: of how many rows of the first prompt the first look is shown by the model's own decoder, too.

    Attributes:
        device: where the images are; None before the first.
    """

    def __init__(
        self,
        crew: Crew | Worker,
        prompts: Sequence[str],
        ledgers: Sequence[Ledger],
        batch_size: int | Batches,
        fixed_shape: bool = False,
        predictions: Predictions = NONE,
        widening: str = "more prompts at once",
        compared: int = 0,
    ) -> None:
        self._crew = crew if isinstance(crew, Crew) else Alone(crew)
        self._prompts, self._ledgers = tuple(prompts), tuple(ledgers)
        self._batches = batch_size if isinstance(batch_size, Batches) else Batches(batch_size)
        self._fixed_shape, self._predictions = fixed_shape, predictions
        self._widening, self._narrow, self._lost_in_a_row = widening, 0, 0
        self.device: str | None = None
        self._to_compare, self._compared = compared, set[int]()

    @property
    def batch_size(self) -> int:
        """Rows per micro-batch, by now."""
        return self._batches.size

    def run(
        self, works: Sequence[Work], cancelled: Callable[[Work], bool], known: Collection[tuple[int, int]] = ()
    ) -> Iterator[list[Outcome]]:
        """Run all rows of the works, yielding after each micro-batch; rows of cancelled works are skipped.

        Those that are `known`, by prompt and id, are left out. Micro-batches hold the same rows for any number of
        workers, unless works are cancelled meanwhile, and are yielded as they come. After an error no further one
        starts, and those that are running are yielded before it is raised.

        Raises:
            VerifierUnusable: a verifier can score no further images; after what it did score was yielded.
            WorkersFailed: no worker is left, or micro-batch after micro-batch kills its workers.
        """
        self._choose_compared(works)
        groups = [deque(group) for group in _groups(works, known)]
        self._look_at_width(groups)
        flying: dict[int, _Flight] = {}
        failure: Exception | None = None
        try:
            while True:
                while failure is None and len(flying) < self._crew.size:
                    if (flight := self._next(groups, cancelled)) is None:
                        break
                    flight.charge()
                    flying[self._crew.submit(flight.batch)] = flight
                if not flying:
                    break
                ticket, answer = self._crew.wait()
                if (flight := flying.pop(ticket, None)) is None:  # of a search that ended before it
                    continue
                try:
                    again, outcomes = self._taken_in(flight, answer, retry=failure is None)
                except Exception as error:
                    failure = failure or error
                    continue
                if again:
                    flying[self._crew.submit(flight.batch)] = flight
                if outcomes:
                    yield outcomes
                if isinstance(answer, Done) and answer.unusable is not None:
                    failure = failure or answer.unusable
        finally:
            if flying:
                self._crew.abandon()
            for flight in flying.values():
                flight.refund()
                self._book(flight.shares, _unknown(flight, self._ledgers[0].rows_per_evaluation), waste=flight.whole)
        if failure is not None:
            raise failure

    def _next(self, groups: Sequence[deque[_Row]], cancelled: Callable[[Work], bool]) -> _Flight | None:
        """The next micro-batch; None where nothing is left to run."""
        for group in groups:
            rows: list[_Row] = []
            while group and len(rows) < self.batch_size:
                row = group.popleft()
                if not cancelled(row[0]):
                    rows.append(row)
            if rows:
                padding = max(0, self.batch_size - len(rows)) if self._fixed_shape else 0
                counts = sorted(Counter(work.prompt for work, _ in rows).items())
                shares = [(self._ledgers[prompt], count) for prompt, count in counts]
                return _Flight(rows, self._batch(rows, padding), padding, shares, group)
        return None

    def _taken_in(self, flight: _Flight, answer: Done | BatchStopped, retry: bool) -> tuple[bool, list[Outcome]]:
        """Book what came of a micro-batch; whether it is to be run again as it was, and its outcomes.

        Where memory ran out its rows go back to their group, for smaller micro-batches.
        """
        job, shares, waste = flight.job, flight.shares, flight.padding * flight.job.cost
        if isinstance(answer, Done):
            self._lost_in_a_row = 0
            self._book(shares, answer.spent, waste)
            self._batches.took(len(flight.batch.prompts), _kind(job), answer.spent.total, answer.spent.memory)
            self.device = answer.device or self.device
            for ledger, count in shares:
                ledger.decodes += count * (job.score + len(job.looks) + len(set(flight.batch.predictions.values())))
                ledger.verifier_images += count * answer.pictures
            if compared := len(flight.batch.compared):
                first = self._ledgers[0]
                first.decodes += compared
                first.verifier_images += compared * answer.pictures // (job.score + len(job.looks))
            return False, self._outcomes(flight, answer)
        if isinstance(answer.error, WorkerDied):
            return self._died(flight, answer, retry)
        if answer.denoised:
            self._book(shares, answer.spent, waste)
        else:  # a batch that didn't finish is not charged; what it ran is waste
            flight.refund()
            self._book(shares, answer.spent, answer.spent.denoiser_rows / answer.spent.rows_per_evaluation)
            if is_out_of_memory(answer.error):
                self._shrink(len(flight.batch.prompts))
                flight.group.extendleft(reversed(flight.rows))
                return False, []
        raise answer.error

    def _died(self, flight: _Flight, answer: BatchStopped, retry: bool) -> tuple[bool, list[Outcome]]:
        """Run a micro-batch again whose worker died, or give its candidates up: they keep their charge."""
        flight.deaths += 1
        spent = replace(_unknown(flight, answer.spent.rows_per_evaluation), repeated=answer.spent.repeated)
        if flight.deaths < _DEATHS:
            self._book(flight.shares, spent, waste=flight.whole)
            log.warning("%s: its micro-batch of %d runs again", answer.error, len(flight.rows))
            if not retry:
                flight.refund()
            return retry, []
        self._book(flight.shares, spent, waste=flight.padding * flight.job.cost)
        said = f"its workers ended {_DEATHS} times"
        log.warning("%s: %d candidates are lost, as %s", answer.error, len(flight.rows), said)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _LOST_IN_A_ROW:
            raise WorkersFailed(f"{_LOST_IN_A_ROW} micro-batches in a row were lost; of the last, {answer.error}")
        return False, [_lost(work, row, said) for work, row in flight.rows]

    def _look_at_width(self, groups: Sequence[Sequence[_Row]]) -> None:
        """Say, once, that rounds are too small for the workers; the first may be one noise alone."""
        rows = sum(map(len, groups))
        batches = sum(math.ceil(len(group) / self.batch_size) for group in groups)
        if not self._crew.elsewhere or not 0 < batches < self._crew.size:
            return
        self._narrow += 1
        if self._narrow == 2:
            fits = f"batch_size={max(1, rows // self._crew.size)}" if batches < rows else ""
            more = self._widening if rows < self._crew.size else ""
            log.warning(
                "%d of %d workers wait in a round of %d rows, %d to a micro-batch; what keeps them busy: %s",
                self._crew.size - batches,
                self._crew.size,
                rows,
                self.batch_size,
                ", and ".join(filter(None, (fits, more))),
            )

    def _batch(self, rows: list[_Row], padding: int) -> Batch:
        job = rows[0][0].job
        states = State.cat([work.job.states[[row]] for work, row in rows])
        prompts = [self._prompts[work.prompt] for work, _ in rows]
        if padding:  # all the way, so that a fixed shape is one for decoder and verifiers too
            states = State.cat([states, *[states[[-1]]] * padding])
            prompts += prompts[-1:] * padding
        return Batch(
            Rows.of(states),
            tuple(prompts),
            job.stop,
            job.score,
            job.keep,
            job.looks,
            job.transition,
            self._predictions.of_job(job),
            self._predictions.unfinished(job),
            tuple(at for at, (work, row) in enumerate(rows) if work.prompt == 0 and work.ids[row] in self._compared),
        )

    def _choose_compared(self, works: Sequence[Work]) -> None:
        """Which rows are compared: by their ids, so that it depends on no batch, and on nothing that is known."""
        for work in works:
            job = work.job
            if work.prompt == 0 and (job.looks or (job.score and self._predictions.unfinished(job))):
                chosen = work.ids[: self._to_compare]
                self._compared.update(chosen)
                self._to_compare -= len(chosen)

    def _outcomes(self, flight: _Flight, done: Done) -> list[Outcome]:
        judged = self._predictions.judged & done.x0.keys()
        images = done.pixels
        if images is not None and images.ndim == 5:
            images = images[:, middle(images.shape[1])]
        compared = {row: at for at, row in enumerate(flight.batch.compared)}
        found = []
        for i, (work, row) in enumerate(flight.rows):
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
                    thumbnail=thumbnails(images[[i]])[0] if work.job.thumbnails and images is not None else None,
                    compared={key: float(v[compared[i]]) for key, v in done.compared.items()} if i in compared else {},
                )
            )
        return found

    @staticmethod
    def _book(shares: Sequence[tuple[Ledger, int]], spent: Spent, waste: float) -> None:
        """Split what a batch cost over its ledgers, by their rows; the last takes what doesn't divide.

        Whole numbers, whose sums don't depend on the order in which workers answer.
        """
        total = sum(count for _, count in shares)
        all_rows, waste = spent.denoiser_rows + spent.repeated, waste + spent.repeated // spent.rows_per_evaluation
        rows_left, waste_left = all_rows, waste
        for i, (ledger, count) in enumerate(shares, start=1):
            last = i == len(shares)
            rows = rows_left if last else all_rows * count // total
            wasted = waste_left if last else waste * count // total
            rows_left -= rows
            waste_left -= wasted
            ledger.denoiser_rows += rows
            ledger.rows_per_evaluation = spent.rows_per_evaluation
            ledger.nfe_waste += wasted
            for phase, seconds in spent.seconds.items():
                ledger.seconds[phase] += seconds * count / total

    def _shrink(self, tried: int) -> None:
        free_memory()
        if tried == 1:
            raise SearchOutOfMemory(TOO_LARGE)
        if self._batches.ran_out(tried):
            log.warning("out of memory: continuing with micro-batches of %d", self.batch_size)


def _kind(job: Job) -> tuple[object, ...]:
    """What rows have in common that can share a batch."""
    return (job.states.grid, job.states.step, job.stop, job.transition, job.keep, job.looks, job.score)


def _unknown(flight: _Flight, rows_per_evaluation: int) -> Spent:
    """What a batch cost of which nothing is known: as much as one that ran to its end."""
    return Spent(flight.whole * rows_per_evaluation, rows_per_evaluation)


def _lost(work: Work, row: int, why: str) -> Outcome:
    """A row that never arrived: a failure, with the recipe of its start and a latent that is no number."""
    job, start = work.job, work.job.states[[row]]

    def at(point: int) -> State:
        return replace(start, x=torch.full_like(start.x, math.nan), step=point, x0=None)

    looks = {point: Glance(at(point), {}) for point in job.looks}
    return Outcome(work, row, at(job.stop), {point: at(point) for point in job.keep}, None, {}, why, looks=looks)


def _groups(works: Sequence[Work], known: Collection[tuple[int, int]] = ()) -> list[list[_Row]]:
    """Rows that can share a batch: same start, stop, transitions, kept points and looks.

    Prompts take turns row by row, so that a search that is ended early has something for each of them.
    """
    groups: dict[tuple[object, ...], dict[int, list[_Row]]] = {}
    for work in works:
        job = work.job
        rows = groups.setdefault(_kind(job), {}).setdefault(work.prompt, [])
        rows.extend((work, row) for row, at in enumerate(work.ids) if (work.prompt, at) not in known)
    return [
        [row for turn in zip_longest(*prompts.values()) for row in turn if row is not None]
        for prompts in groups.values()
    ]
