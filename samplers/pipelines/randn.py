"""`randn_tensor`, by which pipelines draw noise: seen or replaced for one thread, and put back."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor

from samplers.base import NotDrivable

Randn = Callable[..., Tensor]
"""`randn_tensor`, or what replaces it: that takes the original first, then the same arguments."""

_guard = threading.Lock()
_replacements: dict[int, Randn] = {}
_installed: dict[ModuleType, tuple[Randn, int]] = {}


def drawing_modules(cls: type) -> list[ModuleType]:
    """The modules of a pipeline's classes, or of its blocks, that draw by `randn_tensor`."""
    names = dict.fromkeys([*(c.__module__ for c in cls.__mro__), *getattr(cls, "block_modules", ())])
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return [m for m in modules if hasattr(m, "randn_tensor")]


@contextmanager
def replaced(cls: type, randn: Randn) -> Iterator[None]:
    """Give the modules of a class another `randn_tensor`, for this thread alone, and put theirs back.

    Other threads may do the same at the same time; the last to leave a module restores it.
    """
    me, modules = threading.get_ident(), drawing_modules(cls)
    with _guard:
        outer = _replacements.get(me)
        _replacements[me] = randn
        for module in modules:
            _install(module)
    try:
        yield
    finally:
        with _guard:
            for module in modules:
                _remove(module)
            if outer is None:
                del _replacements[me]
            else:
                _replacements[me] = outer


@contextmanager
def first_draw(cls: type, noise: Tensor) -> Iterator[None]:
    """Replace the first draw of exactly the shape of `noise` by it, in the dtype and on the device asked for.

    Raises NotDrivable at the end of a call that drew nothing of this shape.
    """
    left = [noise]

    def randn(original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
        if left and tuple(shape) == tuple(left[0].shape):
            return left.pop().to(device=where.get("device"), dtype=where.get("dtype"))
        return original(shape, generator=generator, **where)

    with replaced(cls, randn):
        yield
    if left:
        raise NotDrivable(f"{cls.__name__} drew no noise of shape {tuple(noise.shape)}, so none could be handed to it")


def _install(module: ModuleType) -> None:
    original, users = _installed.get(module, (module.randn_tensor, 0))
    _installed[module] = (original, users + 1)
    if users == 0:

        def choose(*args: Any, **kwargs: Any) -> Tensor:
            replacement = _replacements.get(threading.get_ident())
            return original(*args, **kwargs) if replacement is None else replacement(original, *args, **kwargs)

        vars(module)["randn_tensor"] = choose


def _remove(module: ModuleType) -> None:
    original, users = _installed.pop(module)
    if users == 1:
        vars(module)["randn_tensor"] = original
    else:
        _installed[module] = (original, users - 1)
