"""Options of a verifier's class: which there are, and whether a value is of the type that one states.

Classes check ranges and names themselves. Here wrong names and types are caught: typed on a command line or into a
model's card, they would otherwise end in an error deep inside a library.
"""

import difflib
import inspect
import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch

from verifiers.loading.devices import as_device, as_dtype

_NAMES = {
    NoneType: "none",
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def parameters(kind: type, provider: Any = None) -> dict[str, inspect.Parameter]:
    """The arguments of a class by name; of one that asks an endpoint, also those of the `provider`'s, or of all."""
    own = inspect.signature(kind).parameters
    found = {name: one for name, one in own.items() if one.kind is not one.VAR_KEYWORD}
    if len(found) == len(own):
        return found
    endpoints = getattr(sys.modules.get(kind.__module__), "ENDPOINTS", {})
    for endpoint in [endpoints[provider]] if provider in endpoints else endpoints.values():
        found |= {name: one for name, one in inspect.signature(endpoint).parameters.items() if name not in found}
    return found


def check(name: str, kind: type, options: Mapping[str, Any]) -> None:
    """Refuse options that the class of the verifier `name` doesn't have, and values of another type.

    Raises:
        TypeError: the option and the nearest, or the value and what was expected.
        ValueError: a device or dtype that can't be used.
    """
    known = parameters(kind)
    if isinstance(provider := options.get("provider", known["provider"].default if "provider" in known else None), str):
        known = parameters(kind, provider)
    for option, value in options.items():
        if option not in known:
            raise TypeError(f"verifier {name!r} has no option {option!r}; {_nearest(option, known)}")
        stated = _members(known[option].annotation)
        if not any(_is(value, one) for one in stated):
            raise TypeError(
                f"option {option!r} of verifier {name!r} is {value!r:.80} ({type(value).__name__}); "
                f"expected {' or '.join(dict.fromkeys(map(_told, stated)))}"
            )
        if torch.device in stated and value is not None:
            as_device(value)
        if torch.dtype in stated and value is not None:
            as_dtype(value)


def takes_text(kind: type, option: str, instead_of: Any) -> bool:
    """Whether what reads as a number or the like must stay text: the option takes texts, and nothing of that type."""
    one = parameters(kind).get(option)
    if one is None:
        return False
    stated = _members(one.annotation)
    return any(_is("", text) for text in stated) and not any(_is(instead_of, other) for other in stated)


def _nearest(option: str, known: Iterable[str]) -> str:
    near = [f"did you mean {one!r}? " for one in difflib.get_close_matches(option, known, n=1, cutoff=0.5)]
    return "".join(near) + (f"expected one of: {', '.join(known)}" if known else "it takes none")


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of which a value may be one."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(one for member in get_args(annotation) for one in _members(member))
    return (annotation,)


def _is(value: Any, stated: Any) -> bool:
    """Whether a value is of a type, as far as it is a plain one; of others anything may be."""
    if get_origin(stated) is Literal:
        return isinstance(value, str)  # which ones there are, the class says better
    if stated is NoneType or stated is None:
        return value is None
    if stated is bool:
        return isinstance(value, bool)
    if stated is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if stated is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if get_origin(stated) is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str)
    if get_origin(stated) in (dict, Mapping):
        return isinstance(value, Mapping)
    if not isinstance(stated, type) or get_origin(stated) is not None or stated is inspect.Parameter.empty:
        return True
    return isinstance(value, stated)


def _told(stated: Any) -> str:
    if get_origin(stated) is Literal:
        return " or ".join(map(repr, get_args(stated)))
    if get_origin(stated) is Sequence:
        return "a list"
    return _NAMES.get(stated, getattr(stated, "__name__", str(stated)))
