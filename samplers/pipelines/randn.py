"""`randn_tensor`, by which pipelines draw noise: seen or replaced for one thread, and put back."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from samplers.base import NotDrivable

Randn = Callable[..., Tensor]
"""`randn_tensor`, or what replaces it: that takes the original first, then the same arguments."""

_guard = threading.Lock()
_replacements: dict[tuple[int, ModuleType], Randn] = {}
_installed: dict[ModuleType, tuple[Randn, int]] = {}


def drawing_modules(cls: type) -> list[ModuleType]:
    """The modules of a pipeline's classes, or of its blocks, that draw by `randn_tensor`."""
    names = dict.fromkeys([*(c.__module__ for c in cls.__mro__), *getattr(cls, "block_modules", ())])
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return [m for m in modules if "randn_tensor" in vars(m)]


def all_drawing_modules(cls: type) -> list[ModuleType]:
    """Those, and all modules of diffusers that do: encoders draw an image's sample, schedulers their steps' noise."""
    own = {name: module for name, module in sys.modules.items() if name.startswith("diffusers.")}
    others = [m for m in own.values() if isinstance(m, ModuleType) and "randn_tensor" in vars(m)]
    return list(dict.fromkeys([*drawing_modules(cls), *others]))


@contextmanager
def replaced(modules: Sequence[ModuleType], randn: Randn) -> Iterator[None]:
    """Give modules another `randn_tensor`, for this thread alone, and put back what they had.

    Other threads may do the same at the same time; the last to leave a module restores it.
    """
    mine = [(threading.get_ident(), module) for module in modules]
    with _guard:
        outer = {key: _replacements[key] for key in mine if key in _replacements}
        for key in mine:
            _install(key[1])
            _replacements[key] = randn
    try:
        yield
    finally:
        with _guard:
            for key in mine:
                _remove(key[1])
                del _replacements[key]
            _replacements.update(outer)


@contextmanager
def handed_in(cls: type, noise: Tensor, skip: int = 0) -> Iterator[None]:
    """Replace one draw of exactly the shape of `noise` by it, in the dtype and on the device asked for.

    The draw is made all the same, so that the generators give what they would to those that follow.

    Args:
        cls: of the pipeline.
        noise: rows in the layout in which they are drawn.
        skip: how many draws of this shape come before.

    Raises:
        NotDrivable: at the end of a call that drew too few of this shape.
    """
    drawn = 0

    def randn(original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
        nonlocal drawn
        own = original(shape, generator=generator, **where)
        if tuple(shape) != tuple(noise.shape):
            return own
        drawn += 1
        return noise.to(own) if drawn == skip + 1 else own

    with replaced(drawing_modules(cls), randn):
        yield
    if drawn <= skip:
        raise NotDrivable(f"{cls.__name__} drew no noise of shape {tuple(noise.shape)}, so none could be handed to it")


def _install(module: ModuleType) -> None:
    original, users = _installed.get(module, (module.randn_tensor, 0))
    _installed[module] = (original, users + 1)
    if users == 0:

        def choose(*args: Any, **kwargs: Any) -> Tensor:
            replacement = _replacements.get((threading.get_ident(), module))
            return original(*args, **kwargs) if replacement is None else replacement(original, *args, **kwargs)

        vars(module)["randn_tensor"] = choose


def _remove(module: ModuleType) -> None:
    original, users = _installed.pop(module)
    if users == 1:
        vars(module)["randn_tensor"] = original
    else:
        _installed[module] = (original, users - 1)


def global_states() -> list[Tensor]:
    """Of the generators that are everyone's."""
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    on_mps = [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else []
    return [torch.get_rng_state(), *on_cuda, *on_mps]
