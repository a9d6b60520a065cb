"""Warnings that point at the user's line."""

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
