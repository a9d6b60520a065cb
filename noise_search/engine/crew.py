"""Whoever runs micro-batches, several at a time: they are handed in, and come back in any order."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from typing import Any

import torch

from noise_search.engine.worker import Batch, BatchStopped, Done, LocalWorker, Worker


class WorkerDied(RuntimeError):
    """A worker ended in the middle of a batch, which can be handed in again."""


class WorkersFailed(RuntimeError):
    """Workers can't be started, or none is left."""


class Crew(ABC):
    """Runs micro-batches.

    Attributes:
        size: how many are run at a time.
        elsewhere: whether in other processes, on devices of their own.
    """

    size: int = 1
    elsewhere: bool = True

    @abstractmethod
    def submit(self, batch: Batch) -> int:
        """Hand in a batch; returns a number to know it by, which is none of those before."""

    @abstractmethod
    def wait(self) -> tuple[int, Done | BatchStopped]:
        """What came of the next batch that ended, whichever it is; one must be running.

        A worker that died on it stops it with `WorkerDied`, and is replaced.

        Raises:
            WorkersFailed: none is left.
        """

    def begin(self, grids: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: B027 (in process they are known)
        """A search begins, on these grids: by id, what to ask a sampler's `space` for."""

    def abandon(self) -> None:  # noqa: B027 (elsewhere it is seen when it comes)
        """Nobody will wait for the batches that are running."""

    def close(self) -> None:  # noqa: B027 (in process nothing is held)
        """End all workers."""

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Alone(Crew):
    """One worker in this process, which runs a batch when it is waited for."""

    elsewhere = False

    def __init__(self, worker: Worker) -> None:
        self._worker, self._numbers = worker, count()
        self._waiting: deque[tuple[int, Batch]] = deque()

    def submit(self, batch: Batch) -> int:
        """Keep it."""
        self._waiting.append((next(self._numbers), batch))
        return self._waiting[-1][0]

    def wait(self) -> tuple[int, Done | BatchStopped]:
        """Run it."""
        ticket, batch = self._waiting.popleft()
        try:
            return ticket, self._worker.run(batch)
        except BatchStopped as stopped:
            return ticket, stopped


class Ahead(Crew):
    """One worker on a thread of this process, one batch ahead: a GPU has the next before the last is read back.

    It computes while scores and pictures are copied, journalled and looked at. On the CPU both would want the same
    cores. A thread, as whatever sets up a batch may wait for the GPU, which nobody else then has to.
    """

    size, elsewhere = 2, False

    def __init__(self, worker: LocalWorker, device: str | None = None) -> None:
        self._worker, self._numbers = worker, count()
        own = None if device is None or ":" not in device else device  # a thread begins on the first GPU
        set_up = (lambda: None) if own is None else (lambda: torch.cuda.set_device(own))
        self._thread = ThreadPoolExecutor(1, "noise-search-gpu", set_up)
        self._begun: deque[tuple[int, Future[Callable[[], Done]]]] = deque()

    def submit(self, batch: Batch) -> int:
        """Have it queued on the device, behind those before it."""
        self._begun.append((next(self._numbers), self._thread.submit(self._worker.begin, batch)))
        return self._begun[-1][0]

    def wait(self) -> tuple[int, Done | BatchStopped]:
        """Read the first back."""
        ticket, begun = self._begun.popleft()
        try:
            return ticket, begun.result()()
        except BatchStopped as stopped:
            return ticket, stopped

    def abandon(self) -> None:
        """Leave out what hasn't begun, and see what has to its end: it holds the model."""
        waited = [begun for _, begun in self._begun if not begun.cancel()]
        self._begun.clear()
        wait(waited)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)
