"""Where a model runs, told with its index, and the models that are loaded there: each once, whoever asks for it."""

import gc
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import torch

from verifiers.arguments import as_device
from verifiers.loading.hub import first_line

M = TypeVar("M")


def indexed(device: torch.device | str | None) -> torch.device:
    """The device with its index; None for the CPU. One model is then loaded for "cuda" and "cuda:0".

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


class Shared(Generic[M]):
    """Loaded models by what identifies them and where they are; each stays as long as somebody uses it.

    The last few are kept beyond that, so that two searches in a row load them once.
    """

    def __init__(self, kept: int) -> None:
        """Take how many are kept."""
        self.models: WeakValueDictionary[Hashable, M] = WeakValueDictionary()
        self.recent: deque[M] = deque(maxlen=kept)
        _ALL.append(self)

    def get(self, key: Hashable, load: Callable[[], M]) -> M:
        """The model of that key, loaded if it isn't there."""
        found = self.models.get(key)
        if found is None:
            found = self.models[key] = load()
            self.recent.append(found)
        return found


_ALL: list[Shared[Any]] = []


def unload() -> None:
    """Free the memory of loaded models that no verifier uses any more.

    The last few models are kept for the next verifier that wants them. A verifier that still exists keeps its own:
    drop it first (`del verifier`), and whatever holds it. What is unloaded loads again when it is asked for.

    Example:
        >>> del pickscore
        >>> verifiers.unload()
    """
    for shared in _ALL:
        shared.recent.clear()
    gc.collect()  # modules and their hooks refer to each other
    torch.cuda.empty_cache()  # does nothing where CUDA was never used
