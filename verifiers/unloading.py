"""Loaded models that are kept although no verifier holds them, and how to let go of them."""

import gc
from collections import deque
from typing import Any

import torch

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
