"""What all crews have in common whose workers are elsewhere: a queue, time limits, and answers that come twice."""

import logging
import statistics
import time
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from noise_search.engine.crew import Crew, WorkerDied, WorkersFailed
from noise_search.engine.worker import Batch, BatchStopped, Done, Spent
from noise_search.engine.workers.asked import Told
from noise_search.engine.workers.wire import decode, encode
from samplers.transition import evaluations

log = logging.getLogger(__name__)

_LOOK = 0.25
"""Seconds between two looks at what takes too long."""
_USUAL = 3
"""How many micro-batches must have ended before it is known how long one takes."""
_REMEMBERED = 64
"""Of so many of the last."""
STARTS = 3
"""After how many deaths before it was ready a worker isn't started again."""


@dataclass(frozen=True, eq=False)
class _Taken:
    """A batch that a worker runs.

    Attributes:
        ticket: the number by which it was handed in.
        batch: it.
        since: when the worker got it.
    """

    ticket: int
    batch: Batch
    since: float

    @property
    def rows(self) -> int:
        """Rows of the denoiser that it takes, where one is one NFE."""
        return len(self.batch.prompts) * evaluations(self.batch.rows.step, self.batch.stop, self.batch.transition)


class FedCrew(Crew):
    """Workers that are told a batch, and answer or die.

    Args:
        told: what they load, and what they must be.
        timeout: seconds for one micro-batch after which its worker counts as dead; None for never.
        speculate: run a micro-batch once more, on a worker that has nothing to do, once it takes so many times as long
            as is usual; what answers first counts, the other is waste. None for never.
    """

    def __init__(self, told: Told, timeout: float | None = None, speculate: float | None = None) -> None:
        self._told, self._timeout, self._speculate = told, timeout, speculate
        self._numbers, self._searches = count(), count()
        self._waiting: deque[tuple[int, Batch]] = deque()
        self._taken: dict[Hashable, _Taken] = {}
        self._open: dict[int, int] = {}  # tickets without an answer yet: rows that were run in vain for them
        self._paces: deque[float] = deque(maxlen=_REMEMBERED)
        self._rows_per_evaluation = 1
        self.begin({})

    def begin(self, grids: Mapping[str, Mapping[str, Any]]) -> None:
        """What batches are run on from now on; those before it that nobody has run yet are forgotten."""
        self._grids, self._search = dict(grids), next(self._searches)
        for held in (self._waiting, self._open, self._paces):
            held.clear()

    def submit(self, batch: Batch) -> int:
        """For the next worker that has nothing to do."""
        ticket = next(self._numbers)
        self._waiting.append((ticket, batch))
        self._open[ticket] = 0
        self._hand_out()
        return ticket

    def wait(self) -> tuple[int, Done | BatchStopped]:
        """What came first."""
        patience = None if self._timeout is None and self._speculate is None else _LOOK
        while True:
            self._hand_out()
            self._repeat()
            # Who is late is asked in silence alone: an answer may have waited here for long.
            said = self._heard(patience) or self._late()
            if said is None or (taken := self._taken.pop(said[0], None)) is None:
                continue
            if taken.ticket in self._open and (answer := self._answer(taken, said[1])) is not None:
                return taken.ticket, answer

    @abstractmethod
    def _free(self) -> Sequence[Hashable]:
        """Workers that are ready, and may run a batch already."""

    @abstractmethod
    def _send(self, worker: Any, message: bytes) -> None:
        """Tell a worker a batch."""

    @abstractmethod
    def _heard(self, seconds: float | None) -> tuple[Hashable, bytes | WorkerDied] | None:
        """The next answer of a worker, or how it ended, which is replaced then; None where nobody said anything.

        Args:
            seconds: how long to wait for it at most; None for as long as it takes.
        """

    @abstractmethod
    def _end(self, worker: Any, why: str) -> str:
        """End a worker, and replace it; returns what became of it, in words."""

    def _look_at(self, about: Mapping[str, Any], where: str) -> None:
        """Take in what a worker says that it is; one whose model or verifiers aren't those of the search is refused.

        Raises:
            WorkersFailed: it is another.
        """
        for name, value in self._told.about.items():
            found = list(about[name]) if isinstance(about[name], tuple) else about[name]
            if found != value:
                raise WorkersFailed(
                    f"worker on {where} has {name} {found}, and the search {value}: they must be the same"
                )
        self._rows_per_evaluation = int(about["rows_per_evaluation"])

    def _now(self) -> float:
        return time.monotonic()

    def _hand_out(self) -> None:
        for worker in self._free() if self._waiting else ():
            if self._waiting and worker not in self._taken:
                self._give(worker, *self._waiting.popleft())

    def _repeat(self) -> None:
        """Let workers that have nothing to do run once more what takes too long."""
        if self._speculate is None or self._waiting or len(self._paces) < _USUAL:
            return
        slow = self._stragglers(self._speculate * statistics.median(self._paces))
        idle = (worker for worker in self._free() if worker not in self._taken)
        for worker, one in zip(idle, slow, strict=False):
            self._give(worker, one.ticket, one.batch)

    def _give(self, worker: Hashable, ticket: int, batch: Batch) -> None:
        self._taken[worker] = _Taken(ticket, batch, self._now())
        self._send(worker, encode({"search": self._search, "grids": self._grids, "batch": batch}))

    def _answer(self, taken: _Taken, said: bytes | WorkerDied) -> Done | BatchStopped | None:
        """What comes of a batch; None where it died, and another worker runs it too."""
        others = sum(one.ticket == taken.ticket for one in self._taken.values())
        if isinstance(said, WorkerDied) and others:
            self._open[taken.ticket] += taken.rows
            return None
        in_vain = self._open.pop(taken.ticket) + others * taken.rows
        answer: Done | BatchStopped
        if isinstance(said, WorkerDied):
            answer = BatchStopped(said, Spent(rows_per_evaluation=self._rows_per_evaluation), denoised=False)
        else:
            answer = decode(said, taken.batch.rows.recipes)
            self._paces.append((self._now() - taken.since) / taken.rows)
        spent = answer.spent
        spent.repeated = in_vain * spent.rows_per_evaluation
        return answer

    def _late(self) -> tuple[Hashable, WorkerDied] | None:
        """A worker that took too long, and is ended for it."""
        if self._timeout is None:
            return None
        for worker, taken in self._taken.items():
            if self._now() - taken.since > self._timeout:
                why = f"no answer within timeout={self._timeout:g} seconds"
                return worker, WorkerDied(self._end(worker, why))
        return None

    def _stragglers(self, limit: float) -> list[_Taken]:
        """Batches that take more seconds for a row than the limit, and that one worker alone runs; slowest first."""
        now, runners = self._now(), Counter(one.ticket for one in self._taken.values())
        paces = [((now - one.since) / one.rows, one) for one in self._taken.values() if one.ticket in self._open]
        slow = [(pace, one) for pace, one in paces if pace > limit and runners[one.ticket] == 1]
        return [one for _, one in sorted(slow, key=lambda found: -found[0])]
