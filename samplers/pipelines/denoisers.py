"""The denoiser modules of a pipeline: found by name, counted by hooks, claimed by one search at a time."""

import logging
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor, nn

log = logging.getLogger(__name__)

NAMES = re.compile(r"(unet|transformer|prior|denoiser|dit)(_\d+)?")
CLASSES = re.compile(r"UNet|DiT|DiffNeXt|Transformer\w*Model")
"""Of models of diffusers, for pipelines that name theirs otherwise (Stable Cascade's decoder)."""


@dataclass(frozen=True, eq=False)
class _Claim:
    owner: weakref.ref[object]
    thread: int
    calling: bool

    def allows(self, owner: object) -> bool:
        """Whether another claim may stand beside this one: of the same owner, or of one that is nested in its search.

        What is in the middle of a call shares its modules with nobody, as their hooks and caches hold state.
        """
        mine = self.owner()
        return mine is None or mine is owner or (self.thread == threading.get_ident() and not self.calling)


class Busy(RuntimeError):
    """A call in the middle of another's call, on the same modules."""


_changed = threading.Condition()
_claims: WeakKeyDictionary[nn.Module, list[_Claim]] = WeakKeyDictionary()
_told: WeakSet[object] = WeakSet()


def find(pipe: Any) -> dict[str, nn.Module]:
    """The denoiser modules by component name, else those of a denoiser's class.

    Raises ValueError where there is none.
    """
    parts = pipe.components
    modules = {k: v for k, v in parts.items() if isinstance(v, nn.Module)}
    found = {k: v for k, v in modules.items() if NAMES.fullmatch(k)}
    if not found:
        own = {k: v for k, v in modules.items() if type(v).__module__.startswith("diffusers.")}
        found = {k: v for k, v in own.items() if CLASSES.search(type(v).__name__)}
    if not found:
        raise ValueError(
            f"{type(pipe).__name__} has no denoiser among its components {sorted(parts)}: "
            "expected one named unet, transformer, prior, denoiser or dit"
        )
    return found


@contextmanager
def counted(modules: Sequence[nn.Module], count: Callable[[int], None]) -> Iterator[None]:
    """Tell the rows of each call of the denoiser modules, before it runs; leaves no hook behind."""

    def told(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        count(input_rows(args, kwargs))

    with ExitStack() as hooks:
        for module in {id(m): m for m in modules}.values():  # each once
            hooks.callback(module.register_forward_pre_hook(told, with_kwargs=True).remove)
        yield


def input_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Rows of a denoiser call: the first axis of its first tensor, or the length of its list of (lists of) tensors."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim > 1:
            return len(value)
        inner = value
        while isinstance(inner, list) and inner:
            inner = inner[0]
        if inner is not value and isinstance(inner, Tensor):
            return len(value)
    return 0


@contextmanager
def claimed(modules: Sequence[nn.Module], owner: object, *, calling: bool = False) -> Iterator[None]:
    """Hold the modules for one search, until the block ends; claims of one thread nest.

    Waits, and says so once for an owner, where another thread holds one of them.

    Args:
        modules: of a pipeline.
        owner: who may claim again what it holds.
        calling: whether a call of the pipeline runs in the block, rather than a search between its calls.

    Raises:
        Busy: a call in the middle of another's call, in the same thread.
    """
    claim = _Claim(weakref.ref(owner), threading.get_ident(), calling)
    with _changed:
        while against := [c for m in modules for c in _claims.get(m, ()) if not c.allows(owner)]:
            if any(c.thread == claim.thread for c in against):
                raise Busy(
                    f"{type(modules[0]).__name__} is in the middle of another search's call: its hooks and caches hold "
                    "state, so search one after the other, or load one pipeline for each"
                )
            if owner not in _told:
                log.warning("waiting for another search on the same model, in another thread, to end")
                _told.add(owner)
            _changed.wait(1)  # not for ever: an owner that is gone tells nobody
        for module in modules:
            _claims.setdefault(module, []).append(claim)
    try:
        yield
    finally:
        with _changed:
            for module in modules:
                _claims[module].remove(claim)
            _changed.notify_all()


def held(module: nn.Module) -> bool:
    """Whether a search holds the module."""
    return any(claim.owner() is not None for claim in _claims.get(module, ()))


@contextmanager
def processors_restored(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put attention processors back that a pipeline swapped and, interrupted, did not restore (PAG)."""
    models: list[Any] = [m for m in modules if hasattr(m, "attn_processors")]
    before = [(m, dict(m.attn_processors)) for m in models]
    try:
        yield
    finally:
        for module, processors in before:
            now = module.attn_processors
            if any(now.get(name) is not processor for name, processor in processors.items()):
                module.set_attn_processor(dict(processors))
