"""Verifiers by name with options of one's own, `clip.output=cosine`, for the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import verifiers
from noise_search.shapes import EMBEDDED_VERIFIERS
from noise_search.typed import assignment, text_of
from noise_search.words import unknown
from verifiers.catalogue import verifier_class
from verifiers.options import takes_text


@dataclass(frozen=True)
class Named:
    """A verifier by name, with options over what the searched model declares under it, or else over the defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def configured(assignments: Sequence[str], *groups: Sequence[str]) -> list[list[Named]]:
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
