"""Workers that aren't: in this process, with answers in any order, deaths and all; and models that kill theirs."""

import heapq
import math
import os
import random
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from noise_search.engine.crew import Crew, WorkerDied
from noise_search.engine.scoring import Scorer
from noise_search.engine.worker import Batch, BatchStopped, Done, LocalWorker, Look, Rows, Spent, Worker
from noise_search.engine.workers.asked import Told
from noise_search.engine.workers.fed import FedCrew
from noise_search.engine.workers.wire import decode, encode
from samplers.base import Sampler
from samplers.state import State
from tiny.search import CountingSampler, brightness, exact_x0
from verifiers.base import FunctionVerifier


class Shuffled(Crew):
    """Workers whose batches come back in a random order, and die with some chance; all data as bytes in between."""

    def __init__(
        self,
        size: int,
        seed: int = 0,
        deaths: float = 0.0,
        sampler: Sampler | None = None,
        verifiers: Any = (brightness,),
    ) -> None:
        self.size, self._random, self._deaths = size, random.Random(seed), deaths
        self.sampler = sampler or CountingSampler()
        self._verifiers = [FunctionVerifier(one) for one in verifiers]
        self._numbers, self.running = count(), dict[int, Batch]()
        self.most, self.died, self.deaths_of = 0, 0, Counter[Any]()

    def begin(self, grids: Mapping[str, Mapping[str, Any]]) -> None:
        for asked in grids.values():
            self.sampler.space(**asked)
        self._worker = LocalWorker(self.sampler, Scorer(self._verifiers))

    def submit(self, batch: Batch) -> int:
        ticket = next(self._numbers)
        self.running[ticket] = batch
        self.most = max(self.most, len(self.running))
        assert len(self.running) <= self.size
        return ticket

    def wait(self) -> tuple[int, Done | BatchStopped]:
        ticket = self._random.choice([*self.running])
        batch = self.running.pop(ticket)
        if self._random.random() < self._deaths:
            self.died += 1
            begun = tuple(recipe.key for recipe in batch.rows.recipes)
            self.deaths_of[begun, batch.rows.step, batch.stop] += 1
            return ticket, BatchStopped(WorkerDied("a worker ended"), Spent(), denoised=False)
        answer: Done | BatchStopped
        try:
            answer = self._worker.run(decode(encode(batch)))
        except BatchStopped as stopped:
            answer = stopped
        begun = batch.rows.recipes
        return ticket, decode(encode(answer, begun), begun)


class Instant(Worker):
    """Runs nothing: states stay as they are, and a recipe has a score of its own; for what the driver takes."""

    def run(self, batch: Batch) -> Done:
        def at(point: int) -> Rows:
            start, grid = batch.rows.step, batch.rows.grid
            recipes = tuple(one.then_run(start, point, grid, 1.0) for one in batch.rows.recipes)
            return Rows(batch.rows.x, point, grid, recipes, batch.rows.x)

        def scored(rows: Rows) -> tuple[dict[str, np.ndarray], tuple[None, ...]]:
            scores = np.array([random.Random(one.key).random() for one in rows.recipes])
            return {FunctionVerifier(brightness).key: scores}, (None,) * len(scores)

        final, kept = at(batch.stop), {point: at(point) for point in batch.keep}
        looks = {point: Look(at(point), *scored(at(point))) for point in batch.looks}
        done = Done(final, kept, Spent(len(batch.prompts) * (batch.stop - batch.rows.step)), looks=looks)
        if not batch.score:
            return done
        scores, failures = scored(final)
        pixels = np.zeros((len(failures), 4, 4, 3), np.uint8)
        return replace(done, pixels=pixels, scores=scores, failures=failures, pictures=1)


class Simulated(FedCrew):
    """Workers in simulated time: a batch takes a second for each of its rows' evaluations, more or less.

    Args:
        size: how many.
        sampler: what they run; this process's closed-form one.
        worker: runs batches in place of the sampler.
        spread: standard deviation of the logarithm of a batch's seconds.
        stragglers: chance that a batch takes `slow` times as long.
        slow: how much longer that is; infinite for a worker that hangs.
        deaths: chance that a worker ends on a batch, in the middle of it.
        loading: seconds until a worker is there again that ended.
        timeout, speculate: of a `FedCrew`.

    Attributes:
        now: seconds since the start.
        busy: seconds in which workers ran something, all added up.
        ran: CPU seconds of this process that were the workers', not the driver's.
        ended: workers that ended.
    """

    def __init__(
        self,
        size: int,
        sampler: Sampler | None = None,
        worker: Worker | None = None,
        *,
        spread: float = 0.2,
        stragglers: float = 0.0,
        slow: float = 10.0,
        deaths: float = 0.0,
        loading: float = 30.0,
        timeout: float | None = None,
        speculate: float | None = None,
    ) -> None:
        self.size, self.sampler, self._random = size, sampler or CountingSampler(), random.Random(0)
        self._asked_worker = worker
        super().__init__(Told(b"", {}, "cpu"), timeout, speculate)
        self._spread, self._slowed, self._slow, self._deaths = spread, stragglers, slow, deaths
        self._loading, self._there = loading, [0.0] * size
        self._ending: list[tuple[float, int, int, bytes | None]] = []  # when, which, by whom, what was asked or a death
        self._calls, self._running = count(), dict[int, tuple[int, float, float]]()
        self.now = self.busy = self.ran = 0.0
        self.ended = 0

    def begin(self, grids: Mapping[str, Mapping[str, Any]]) -> None:
        super().begin(grids)
        for asked in grids.values():
            self.sampler.space(**asked)
        self._worker = self._asked_worker or LocalWorker(self.sampler, Scorer([FunctionVerifier(brightness)]))

    def _now(self) -> float:
        return self.now

    def _free(self) -> Sequence[Hashable]:
        return [one for one in range(self.size) if self._there[one] <= self.now]

    def _send(self, worker: Any, message: bytes) -> None:
        seconds = self._taken[worker].rows * math.exp(self._random.gauss(0, self._spread))
        seconds *= self._slow if self._random.random() < self._slowed else 1
        dies, number = self._random.random() < self._deaths, next(self._calls)
        seconds *= self._random.random() if dies else 1
        self._running[worker] = (number, self.now, self.now + seconds)
        heapq.heappush(self._ending, (self.now + seconds, number, worker, None if dies else message))

    def _heard(self, seconds: float | None) -> tuple[Hashable, bytes | WorkerDied] | None:
        coming = self._ending[0][0] if self._ending else math.inf
        if self._waiting:  # for a worker that loads
            coming = min(coming, *(at for at in self._there if at > self.now), math.inf)
        if seconds is not None and coming > self.now + seconds:
            self.now += seconds
            return None
        self.now = coming
        if not self._ending or self._ending[0][0] > self.now:
            return None
        _, number, worker, message = heapq.heappop(self._ending)
        if self._running.get(worker, (None,))[0] != number:  # of one that was ended
            return None
        self._over(worker)
        if message is None:
            return worker, WorkerDied(self._end(worker, "it died"))
        began = time.process_time()
        asked = decode(message)
        answer = encode(self._worker.run(asked["batch"]), asked["batch"].rows.recipes)
        self.ran += time.process_time() - began
        return worker, answer

    def _end(self, worker: Any, why: str) -> str:
        self._over(worker)
        self._there[worker] = self.now + self._loading
        self.ended += 1
        return f"worker {worker} ended ({why})"

    def _over(self, worker: int) -> None:
        if (running := self._running.pop(worker, None)) is not None:
            self.busy += self.now - running[1]


class Deadly(CountingSampler):
    """The closed-form model; where it is armed, its process ends at the noises of some seeds."""

    def __init__(self, seeds: Sequence[int] = ()) -> None:
        super().__init__(4, exact_x0)
        self._seeds = {*seeds}

    def run(self, states: State, stop: int, **asked: Any) -> Any:
        if self._seeds & {recipe.seed for recipe in states.recipes}:
            os._exit(9)
        return super().run(states, stop, **asked)


def deadly(device: str) -> tuple[Any, Any]:
    """A factory of workers that die at seed 5."""
    return Deadly([5]), brightness


def harmless(device: str) -> tuple[Any, Any]:
    """A factory of workers that don't."""
    return Deadly(), brightness


def another(device: str) -> tuple[Any, Any]:
    """A factory of another model than anybody searches."""
    return CountingSampler(9), brightness


class Hanging(Deadly):
    """One that hangs at the noises of seed 5, in the first process that comes there: it leaves a file behind."""

    def run(self, states: State, stop: int, **asked: Any) -> Any:
        mark = Path(os.environ["HANGS_ONCE"])
        if 5 in {recipe.seed for recipe in states.recipes} and not mark.exists():
            mark.touch()
            time.sleep(3600)
        return super().run(states, stop, **asked)


def hanging(device: str) -> tuple[Any, Any]:
    """A factory of workers one of which hangs."""
    return Hanging(), brightness
