"""What tells a function or object from another of its name: the version it declares, else its code and values."""

import dis
import enum
import functools
import hashlib
import io
import platform
import random
import re
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNTOLD = "untold"
"""The version of what nothing tells from another of its name."""

_PLAIN: tuple[type, ...] = (
    *(bool, int, float, complex, str, bytes, range, slice, type(None), type(Ellipsis), type(NotImplemented)),
    *(torch.dtype, torch.device, np.dtype, np.generic, PurePath, re.Pattern, enum.Enum),
)
_NAMED: tuple[Any, ...] = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType, np.ufunc),
)
_WRAPPERS: dict[type, tuple[str, ...]] = {
    property: ("fget", "fset"),
    classmethod: ("__func__",),
    staticmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.cached_property: ("func",),
    type(functools.lru_cache(len)): ("__wrapped__",),
}
_HIDING = (io.IOBase, random.Random)
"""Objects that have attributes, and a state beside them."""
_MEMBERS = (types.FunctionType, *_WRAPPERS)
"""What counts of a class whatever its name; of the rest, what isn't between double underscores."""

_OURS = {"noise_search", "samplers", "verifiers"}
_PLACES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_MOST, _BYTES = 20_000, 2**26
"""Objects, and bytes of an array, that are looked at."""

_Part = tuple[str, Any]


def version_of(thing: Any) -> str:
    """The `version` that a function or an object declares, else a hash of its code and values, else `UNTOLD`.

    The code is that of functions and of an object's class; the values are those that functions close over, their
    defaults, the globals that they name, and an object's own. Code of libraries counts by its name alone. Bytecode
    depends on Python, whose version stands behind the hash.
    """
    return _told(thing)[0]


def why_untold(thing: Any) -> str:
    """What keeps `version_of` from telling, in words; "" where it tells."""
    return _told(thing)[1]


def _told(thing: Any) -> tuple[str, str]:
    if declared := _declared(thing):
        return declared, ""
    reading = _Reading()
    try:
        reading.read("", thing)
    except _Untold as why:
        return UNTOLD, str(why)
    except RecursionError:
        return UNTOLD, "what it uses is nested too deeply"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{reading.digest.hexdigest()[:8]}-py{python}", ""


def _declared(thing: Any) -> str:
    found = None if isinstance(thing, types.ModuleType | type) else getattr(thing, "version", None)
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


class _Untold(Exception):
    """Something that has no stable form; says which."""


class _Reading:
    """A walk over code and values that meets every object once; `digest` is of all that was met."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._met: dict[int, tuple[int, Any]] = {}

    def read(self, path: str, value: Any) -> None:
        """Take a value into the digest; `path` is how it is reached, for messages."""
        kind = type(value).__qualname__
        if isinstance(value, _PLAIN):
            self._write(kind, repr(value))
        elif id(value) in self._met:
            self._write("met", str(self._met[id(value)][0]))
        elif len(self._met) == _MOST:
            raise _Untold(f"it uses more than {_MOST} values, most by way of {path.split('.')[0]}")
        else:
            self._met[id(value)] = len(self._met), value  # kept, so that no other object gets its id
            text, parts = _parts(path or "it", value)
            self._write(kind, text)
            for name, part in parts:
                self._write("part", name)
                self.read(f"{path}.{name}" if path else name, part)

    def _write(self, tag: str, text: str) -> None:
        self.digest.update(f"{tag}:{len(text)}:{text};".encode("utf-8", "backslashreplace"))


def _parts(path: str, value: Any) -> tuple[str, list[_Part]]:
    """What a value is by itself, and what it consists of."""
    kind = type(value)
    if isinstance(value, Tensor | np.ndarray):
        return _array(path, value), []
    if isinstance(value, types.ModuleType):
        return value.__name__, []
    if isinstance(value, types.CodeType):
        taken = value.co_varnames[: value.co_argcount + value.co_kwonlyargcount]
        counts = value.co_argcount, value.co_posonlyargcount, value.co_flags
        text = repr((value.co_code, value.co_exceptiontable, value.co_names, taken, counts))
        return text, [("consts", value.co_consts)]
    if declared := _declared(value):
        return f"{getattr(value, 'name', getattr(value, '__qualname__', ''))}@{declared}", [("class", kind)]
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, type):
        return _class(value)
    if isinstance(value, _NAMED):
        owner = getattr(value, "__self__", None)
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}", [("of", owner)]
    if kind in _WRAPPERS:
        return "", [(name, getattr(value, name)) for name in _WRAPPERS[kind]]
    return _object(path, value)


def _array(path: str, value: Any) -> str:
    if value.dtype is np.dtype(object) or getattr(value, "device", None) == torch.device("meta"):
        raise _Untold(f"it uses {path}, an array without values of its own")
    if value.nbytes > _BYTES:
        raise _Untold(f"it uses {path}, an array of more than {_BYTES // 2**20} MB")
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        raw = value.tobytes()
    return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(raw).hexdigest()}"


def _function(function: types.FunctionType) -> tuple[str, list[_Part]]:
    code, values = function.__code__, function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    closed = [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]
    module = str(values.get("__name__"))  # `functools.wraps` changes the function's own
    if _is_library(module):
        return f"{module}.{code.co_qualname}", closed
    defaults = [("default", function.__defaults__), ("default", function.__kwdefaults__)]
    named = []
    for name in sorted({*_global_names(code)} & values.keys()):
        found = values[name]
        named.append((name, found))
        if isinstance(found, types.ModuleType) and not _is_library(found.__name__):
            named += [(f"{name}.{one}", vars(found)[one]) for one in sorted({*_names(code)} & vars(found).keys())]
    own = [(name, one) for name, one in sorted(vars(function).items()) if name != "__wrapped__"]
    return "", [("code", code), *defaults, *closed, *named, *own]


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Of the globals that code reads, and code in it."""
    for one in _codes(code):
        yield from (at.argval for at in dis.get_instructions(one) if at.opname in ("LOAD_GLOBAL", "LOAD_NAME"))


def _names(code: types.CodeType) -> Iterator[str]:
    for one in _codes(code):
        yield from one.co_names


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _codes(one)


def _class(kind: type) -> tuple[str, list[_Part]]:
    named = f"{kind.__module__}.{kind.__qualname__}"
    if _is_library(kind.__module__):
        return named, []
    members = [
        (name, one)
        for name, one in sorted(vars(kind).items())
        if isinstance(one, _MEMBERS) or not (name.startswith("__") or name == "_abc_impl")
    ]
    return named, [*(("base", one) for one in kind.__bases__), *members]


def _object(path: str, value: Any) -> tuple[str, list[_Part]]:
    kind = type(value)
    slots = {
        name for one in kind.__mro__ for name, of in vars(one).items() if isinstance(of, types.MemberDescriptorType)
    }
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    parts: list[_Part] = [("class", kind), *sorted(held.items())]
    if isinstance(value, dict):
        return "", parts + [(f"[{pair[0]!r:.20}]", pair) for pair in value.items()]
    if isinstance(value, list | tuple):
        return "", parts + [(f"[{at}]", one) for at, one in enumerate(value)]
    if isinstance(value, set | frozenset):
        if not all(isinstance(one, _PLAIN) for one in value):
            raise _Untold(f"it uses {path}, a set of objects, whose order isn't fixed")
        return repr(sorted(map(repr, value))), parts
    if isinstance(value, _HIDING) or not (hasattr(value, "__dict__") or slots or kind is object):
        raise _Untold(f"it uses {path}, a {kind.__qualname__}, whose state doesn't show")
    return "", parts


@functools.cache
def _is_library(module: str) -> bool:
    """Whether a module is Python's, an installed package's or of this project: its code is told by its name."""
    root = module.partition(".")[0]
    if root in _OURS or (root in sys.stdlib_module_names and root != "__main__"):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and any(Path(file).resolve().is_relative_to(place) for place in _PLACES)
