"""The denoiser modules of a pipeline: found by name, counted by hooks, claimed by one search at a time."""

import hashlib
import re
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

NAMES = re.compile(r"(unet|transformer|prior|denoiser|dit)(_\d+)?")
CLASSES = re.compile(r"UNet|DiT|Transformer\w*Model")
"""Of models of diffusers, for pipelines that name theirs otherwise (Stable Cascade's decoder)."""

_guard = threading.Lock()
_owners: WeakKeyDictionary[nn.Module, weakref.ref[object]] = WeakKeyDictionary()


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


class RowCounter:
    """Counts the rows that enter the denoiser modules while it is open; leaves no hook behind."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.rows = 0
        self._modules = list({id(m): m for m in modules}.values())  # each once
        self._handles: list[Any] = []

    def __enter__(self) -> "RowCounter":
        self._handles = [m.register_forward_pre_hook(self._count, with_kwargs=True) for m in self._modules]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.rows += input_rows(args, kwargs)


def input_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Rows of a denoiser call: the first axis of its first tensor, or the length of its list of tensors."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim > 1:
            return len(value)
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return len(value)
    return 0


@contextmanager
def claimed(modules: Sequence[nn.Module], owner: object) -> Iterator[None]:
    """Hold the modules for one search; the owner may claim again what it holds.

    Raises RuntimeError where another search holds one of them.
    """
    with _guard:
        others = [m for m in modules if (holder := _holder(m)) is not None and holder is not owner]
        if others:
            raise RuntimeError(
                f"{type(others[0]).__name__} is already in use by another search: its hooks and caches "
                "hold state, so search one after the other, or load one pipeline per process or device"
            )
        new = [m for m in modules if _holder(m) is None]
        _owners.update({m: weakref.ref(owner) for m in new})
    try:
        yield
    finally:
        with _guard:
            for module in new:
                _owners.pop(module, None)


def _holder(module: nn.Module) -> object | None:
    found = _owners.get(module)
    return None if found is None else found()


def step_caches(modules: Sequence[nn.Module]) -> list[str]:
    """The step caches (FirstBlockCache, TaylorSeer, ...) on any of them: their settings, else their hooks.

    They are enabled by the model's method or put on its blocks as hooks, which keep state between steps.
    """
    enabled = [repr(getattr(m, "_cache_config", None)) for m in modules if getattr(m, "is_cache_enabled", False)]
    registries = [getattr(part, "_diffusers_hook", None) for m in modules for part in m.modules()]
    hooks = [hook for registry in registries for hook in getattr(registry, "hooks", {}).values()]
    return enabled or sorted({type(hook).__name__ for hook in hooks if getattr(hook, "_is_stateful", False)})


def fingerprint(module: nn.Module) -> str:
    """A short hash of a module's weights: names, shapes and 16 spread elements of each (no full read)."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        if value.device.type != "meta" and value.numel():
            some = value.detach().flatten()[:: max(value.numel() // 16, 1)][:16]
            digest.update(some.to(torch.float32).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


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
