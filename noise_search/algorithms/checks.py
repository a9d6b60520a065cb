"""Options of algorithms, checked where they are given."""

from typing import Any


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a whole number")
    if value < least:
        raise ValueError(f"{name}={value!r} must be at least {least}")


def check_number(name: str, value: Any) -> None:
    """Raise unless `value` is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number")


def check_between(name: str, value: Any, low: float, high: float) -> None:
    """Raise unless `value` is a number strictly between `low` and `high`."""
    check_number(name, value)
    if not low < value < high:
        raise ValueError(f"{name}={value!r} must be between {low:g} and {high:g}, ends excluded")
