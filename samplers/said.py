"""How things are put to people: warnings that point at their line, and what an error says first."""

import sys
import warnings

PASSED = {"noise_search", "samplers", "verifiers", "torch", "contextlib", "functools", "jaxtyping", "beartype"}
"""Packages whose frames stand between what warns and whoever called it: ours, and those of decorators."""


def warn(message: str) -> None:
    """A UserWarning at the innermost line that is neither ours nor a decorator's."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PASSED:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def first_line(error: BaseException) -> str:
    """What an error says first; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
