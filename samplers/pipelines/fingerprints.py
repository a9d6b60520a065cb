"""What a pipeline's modules are beside their classes: a sample of their weights, and what was put on them since."""

import functools
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "samplers")
"""Whose parts, hooks and functions change no image, or are told by weights, caches and adapters."""
_FREEU = ("b1", "b2", "s1", "s2")


def weights(module: nn.Module) -> str:
    """A short hash of a module's weights: names, shapes and 16 spread elements of each (no full read).

    Quantised weights are hashed by what they hold, offloaded ones where they lie.
    """
    module, digest = _original(module), hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        for part, held in _held(name, _lying(module, name, value)):
            if not isinstance(held, Tensor):
                digest.update(f"{part}{held}".encode())
                continue
            digest.update(f"{part}{tuple(held.shape)}".encode())
            if held.device.type != "meta" and held.numel():
                some = held.detach().flatten()[:: max(held.numel() // 16, 1)][:16]
                digest.update(some.to(torch.float32).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _lying(module: nn.Module, name: str, value: Any) -> Any:
    """A weight that is on its device in its module's turn alone, from where accelerate's hooks keep it meanwhile."""
    if not isinstance(value, Tensor) or value.device.type != "meta":
        return value
    owner, _, own = name.rpartition(".")
    hook = getattr(module.get_submodule(owner), "_hf_hook", None)
    kept = (getattr(one, "weights_map", None) for one in (hook, *getattr(hook, "hooks", ())))
    return next((found[own] for found in kept if found is not None), value)


def _held(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The plain tensors and words that a value consists of, each with its name."""
    if isinstance(value, tuple | list):
        for at, one in enumerate(value):
            yield from _held(f"{name}.{at}", one)
    elif not isinstance(value, Tensor):
        yield name, _ADDRESS.sub("", repr(value))
    elif value.is_quantized:
        yield f"{name}{value.qscheme()}", value.dequantize()
    elif hasattr(value, "__tensor_flatten__"):
        inner, context = value.__tensor_flatten__()
        yield f"{name}.{type(value).__name__}", _ADDRESS.sub("", repr(context))
        for one in inner:
            yield from _held(f"{name}.{one}", getattr(value, one))
    else:
        yield name, value.detach().as_subclass(Tensor)


def step_caches(modules: Sequence[nn.Module]) -> list[str]:
    """The step caches (FirstBlockCache, TaylorSeer, ...) on any of them: their settings, else their hooks.

    They are enabled by the model's method or put on its blocks as hooks, which keep state between steps.
    """
    enabled = [repr(getattr(m, "_cache_config", None)) for m in modules if getattr(m, "is_cache_enabled", False)]
    registries = [getattr(part, "_diffusers_hook", None) for m in modules for part in m.modules()]
    hooks = [hook for registry in registries for hook in getattr(registry, "hooks", {}).values()]
    stateful = {_called(type(hook).__name__, vars(hook)) for hook in hooks if getattr(hook, "_is_stateful", False)}
    return [" ".join(_ADDRESS.sub("", one).split()) for one in enabled or sorted(stateful)]


def changes(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """What beside weights changes what modules compute, in words by what and where; {} for modules as they were loaded.

    Adapters that are on, off or fused, and their scales; values of attention processors; FreeU; tiling; functions and
    parts that another library or the user put in place of the module's own; forward hooks.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for component, module in modules.items():
        module = _original(module)
        own = (*_LIBRARIES, _root(type(module)))
        for name, part in module.named_modules():
            for what, words in _on(part, own):
                found.setdefault(f"{what} of {component}", []).append((name, words))
    return {what: _together(parts) for what, parts in found.items()}


def _on(part: nn.Module, own: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    kind, held = type(part), vars(part)
    if isinstance(getattr(kind, "active_adapters", None), property):
        yield "adapters", _adapters(part)
    if held.get("use_tiling"):
        yield "tiling", _values({k: v for k, v in held.items() if k.startswith("tile_")}) or "on"
    if all(held.get(name) is not None for name in _FREEU):
        yield "FreeU", _values({name: held[name] for name in _FREEU})
    processor = getattr(part, "processor", None)
    if processor is not None and (hasattr(processor, "scale") or _root(type(processor)) not in own):
        yield "attention", _called(type(processor).__name__, {"scale": getattr(processor, "scale", None)})
    if _root(kind) not in own:
        yield "parts", f"{kind.__module__}.{kind.__qualname__}"
    hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
    for what, function in (("forward", held.get("forward")), *(("hooks", one) for one in hooks)):
        if function is not None and _module_of(plain := _put_there(function)).partition(".")[0] not in own:
            yield what, _code(plain, function)


def _adapters(part: Any) -> str:
    if getattr(part, "disable_adapters", False):
        return "off"
    scales, fused = getattr(part, "scaling", {}), getattr(part, "merged_adapters", ())
    active = [f"{name!r} at {scales[name]:g}" if name in scales else repr(name) for name in part.active_adapters]
    return ", ".join([*(f"{name!r} fused" for name in fused), *active]) or "none"


def _put_there(function: Any) -> Any:
    """What somebody put in a function's place, or the function itself, below the wrappers of libraries."""
    while True:
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__func__", function)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None and _module_of(inner).partition(".")[0] in _LIBRARIES:
            function = wrapped
        elif inner is function:
            return function
        else:
            function = inner


def _module_of(function: Any) -> str:
    """Where code was written, which `functools.wraps` hides."""
    return str(getattr(function, "__globals__", {}).get("__name__") or type(function).__module__)


def _code(function: Any, given: Any) -> str:
    """A function by its name, with the settings that it closes over, as far as these are plain or in a tool's dicts."""
    closed = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else vars(function)
    held = dict(closed)
    for one in (*closed.values(), getattr(given, "__self__", None)):
        if not isinstance(one, nn.Module):
            held |= {k: v for k, v in getattr(one, "__dict__", {}).items() if isinstance(v, dict) and v}
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return _called(f"{_module_of(function)}.{name}", held)


def _called(name: str, values: Mapping[str, Any]) -> str:
    """A name and those of the values that are plain: "name(one=1)"."""
    plain = _values(values)
    return f"{name}({plain})" if plain else name


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in sorted(values.items()) if _is_plain(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _together(parts: Sequence[tuple[str, str]]) -> str:
    """What stands on several parts: each thing once, how many parts, and a hash of which has what."""
    words, digest = list(dict.fromkeys(words for _, words in parts)), hashlib.sha256(repr(parts).encode())
    said = "; ".join(words[:3]) + ("; ..." if words[3:] else "")
    return f"{said} (in {len(parts)} part{'s' * (len(parts) > 1)}, {digest.hexdigest()[:8]})"


def _root(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _original(module: nn.Module) -> nn.Module:
    """The module that torch.compile wraps."""
    found = getattr(module, "_orig_mod", module)
    assert isinstance(found, nn.Module)
    return found
