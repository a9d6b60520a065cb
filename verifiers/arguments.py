"""Numbers and texts as a user gives them: one line that names the value and what was expected, before anything runs."""

import math
import numbers
from typing import Any


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
