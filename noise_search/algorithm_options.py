"""Options of an algorithm as text, `neighbours=8`, for the command line."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from noise_search.algorithms import ALGORITHMS
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.typed import assignment
from noise_search.words import unknown


def configured(name: str, assignments: Sequence[str]) -> SearchAlgorithm:
    """The algorithm of that name with options given as NAME=VALUE: a number, true, false or none.

    Raises:
        ValueError: an unknown algorithm or option, a text without "=", or a value that the algorithm refuses.
        TypeError: a value of the wrong kind.
    """
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    kind = ALGORITHMS[name]
    known = [field.name for field in fields(kind)]
    options: dict[str, Any] = {}
    for text in assignments:
        option, value = assignment(text, "neighbours=8")
        if not known:
            raise ValueError(f"algorithm {name!r} takes no options, got {text!r}")
        if option not in known:
            raise unknown(f"option of algorithm {name!r}:", option, known)
        options[option] = value
    return kind(**options)
