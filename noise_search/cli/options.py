"""Options as people type them, NAME=VALUE, for algorithms and verifiers."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import verifiers
from noise_search.algorithms import ALGORITHMS
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.resolve import Named
from noise_search.shapes import EMBEDDED_VERIFIERS
from noise_search.words import unknown
from verifiers.arguments import takes_text
from verifiers.catalogue import verifier_class


def configured_algorithm(name: str, assignments: Sequence[str]) -> SearchAlgorithm:
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


_WORDS = {"none": None, "null": None, "true": True, "false": False}


def assignment(text: str, example: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE: JSON, or true, false, none in any case, or the text itself.

    Raises:
        ValueError: a text without "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option {text!r} has no value; write it as NAME=VALUE, such as {example}")
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def text_of(assigned: str) -> str:
    """The value of NAME=VALUE as it was typed."""
    return assigned.partition("=")[2]


def configured_verifiers(assignments: Sequence[str], *groups: Sequence[str]) -> list[list[Named]]:
    """Groups of verifiers, such as those searched by and the judges, with options given as NAME.OPTION=VALUE.

    The name may be left out where the first group is one verifier. What an option takes as text stays as it is typed:
    `hps.version=2.0`, and a commit that reads as a number.

    Raises:
        ValueError: a text without "=", or an option of a verifier that isn't asked for.
    """
    names = list(dict.fromkeys(name for group in groups for name in group))
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in assignments:
        path, value = assignment(text, "clip.output=cosine")
        owner, dot, option = path.partition(".")
        if not dot:
            if len(groups[0]) != 1:
                raise ValueError(f"option {text!r} doesn't say of which verifier; write it as NAME.{text}")
            owner, option = groups[0][0], path
        if owner not in options:
            raise unknown("verifier in option", owner, names)
        options[owner][option] = text_of(text) if _stays_text(owner, option, value) else value
    return [[Named(name, options[name]) for name in group] for group in groups]


def _stays_text(name: str, option: str, value: Any) -> bool:
    """Whether an option of what usually has this name takes texts, and none like the value that was read."""
    kind = EMBEDDED_VERIFIERS.get(name, {}).get("kind", name)
    return kind in verifiers.available() and takes_text(verifier_class(kind), option, value)
