"""Values and options as a user gives them: what is wrong is said in one line, with what was expected."""

import difflib
import inspect
import math
import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch


def as_whole(name: str, value: Any, least: int | None = None) -> int:
    """The value as an int; numpy's integers are welcome.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below `least`.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected a whole number")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
    return int(value)


def as_number(name: str, value: Any, *, positive: bool = False, infinite: bool = False) -> float:
    """The value as a float of at least 0, or more than 0 where `positive`; infinity only where it has a meaning.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside that range.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected a number")
    found = float(value)
    if math.isnan(found) or (math.isinf(found) and not infinite) or (found <= 0 if positive else found < 0):
        least = "more than 0" if positive else "at least 0"
        raise ValueError(f"{name} is {value}; expected a {'' if infinite else 'finite '}number of {least}")
    return found


def as_string(name: str, value: Any, *, secret: bool = False) -> str:
    """The value, if it is a string; a secret one is not repeated.

    Raises:
        TypeError: it isn't.
    """
    if not isinstance(value, str):
        said = "" if secret else f" {value!r}"
        raise TypeError(f"{name} is{said} of type {type(value).__name__}; expected a string")
    return value


def as_device(value: torch.device | str | int) -> torch.device:
    """The device of that name; a device stays.

    Raises:
        ValueError: no such name.
    """
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {str(value)!r}; expected a device such as cpu, cuda, cuda:1 or mps") from error


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def as_dtype(value: torch.dtype | str, option: str = "dtype") -> torch.dtype:
    """The dtype of that name; a dtype stays.

    Args:
        value: a dtype or a name.
        option: where it was given, for the error.

    Raises:
        ValueError: another one.
    """
    found = _DTYPES.get(_SHORT.get(value, value)) if isinstance(value, str) else value
    if found is None or found not in _DTYPES.values():
        raise ValueError(f"{option} is {str(value)!r}; expected one of {', '.join((*_DTYPES, *_SHORT))}")
    return found


_TYPES = {
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


def check_options(name: str, kind: type, options: Mapping[str, Any]) -> None:
    """Refuse options that the class of the verifier `name` doesn't have, and values of another type.

    Classes check ranges and names themselves. Wrong types, typed on a command line or into a model's card, would
    otherwise end in an error deep inside a library.

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
    return _TYPES.get(stated, getattr(stated, "__name__", str(stated)))
