"""Where a model runs, told with its index: one model is then loaded once, whether "cuda" or "cuda:0" was asked for."""

import gc
from collections import deque
from typing import Any

import torch

from verifiers.arguments import as_device
from verifiers.loading.hub import first_line


def indexed(device: torch.device | str | None) -> torch.device:
    """The device with its index; None for the CPU.

    Raises:
        ValueError: no such device, here or at all.
    """
    found = as_device("cpu" if device is None else device)
    if found.type in ("cpu", "meta"):
        return found
    try:
        return torch.empty(0, device=found).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {str(device)!r} can't be used here ({first_line(error)}); use cpu") from error


_kept: list[deque[Any]] = []


def keep(count: int) -> deque[Any]:
    """A place for the last `count` models that were loaded, so that two searches in a row load them once."""
    recent: deque[Any] = deque(maxlen=count)
    _kept.append(recent)
    return recent


def unload() -> None:
    """Free the memory of loaded models that no verifier uses any more.

    The last few models are kept for the next verifier that wants them. A verifier that still exists keeps its own:
    drop it first (`del verifier`), and whatever holds it. What is unloaded loads again when it is asked for.

    Example:
        >>> del pickscore
        >>> verifiers.unload()
    """
    for recent in _kept:
        recent.clear()
    gc.collect()  # modules and their hooks refer to each other
    torch.cuda.empty_cache()  # does nothing where CUDA was never used
