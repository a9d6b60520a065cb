"""What a batch gives back from a GPU while that goes on: copies that nobody waits for before they are read.

A copy made as usual waits until the device has done everything it was given. Here it is queued behind that, a mark is
set behind it, and the device can be given the next batch. The CPU has nothing to be waited for: all is there at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor


@dataclass
class Memory:
    """Shares of a device's memory: taken before, and at most; 0 where that isn't known."""

    before: float = 0.0
    peak: float = 0.0


class Readback:
    """Copies from a device, and the seconds that it took for each phase of a batch.

    Args:
        device: that is read asynchronously where it is a GPU of CUDA; tensors of any other are copied at once.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self._gpu: torch.device | None = None
        if device is not None and (one := torch.device(device)).type == "cuda":
            self._gpu = torch.device("cuda", torch.cuda.current_device() if one.index is None else one.index)
        self._phases: list[tuple[str, float | torch.cuda.Event, float | torch.cuda.Event]] = []
        self._seconds: dict[str, float] = {}
        self._end: float | torch.cuda.Event = 0.0

    def copy(self, tensor: Tensor) -> np.ndarray:
        """The values of a tensor, which are there once `wait` has returned."""
        found: np.ndarray = tensor.detach().to("cpu", non_blocking=tensor.device == self._gpu).numpy()
        return found

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is computed in the block, however it ends."""
        started = self._mark()
        try:
            yield
        finally:
            self._phases.append((name, started, self._mark()))

    @contextmanager
    def memory(self) -> Iterator[Memory]:
        """What the block takes of the device's memory."""
        found = Memory()
        if self._gpu is None:
            yield found
            return
        whole = torch.cuda.get_device_properties(self._gpu).total_memory
        found.before = torch.cuda.memory_allocated(self._gpu) / whole
        torch.cuda.reset_peak_memory_stats(self._gpu)
        yield found
        found.peak = torch.cuda.max_memory_allocated(self._gpu) / whole

    def close(self) -> None:
        """All is queued that belongs to the batch."""
        self._end = self._mark()

    def wait(self) -> dict[str, float]:
        """Return once the device has come to where this was closed, with the seconds of each phase."""
        if isinstance(self._end, torch.cuda.Event):
            self._end.synchronize()
        for name, before, after in self._phases:
            self._seconds[name] = self._seconds.get(name, 0.0) + _between(before, after)
        self._phases.clear()
        return self._seconds

    def _mark(self) -> float | torch.cuda.Event:
        if self._gpu is None:
            return perf_counter()
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._gpu))
        return event


def _between(before: float | torch.cuda.Event, after: float | torch.cuda.Event) -> float:
    if isinstance(before, float) or isinstance(after, float):
        assert isinstance(before, float) and isinstance(after, float)
        return after - before
    after.synchronize()
    return float(before.elapsed_time(after)) / 1000


AT_ONCE = Readback()
"""Waits for every copy."""
