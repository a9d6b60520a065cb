"""Verifiers by short name, with what one should know before choosing one."""

import difflib
from collections.abc import Callable
from typing import Any

from . import aesthetic, clip
from .aesthetic import Aesthetic
from .base import Verifier
from .card import Card
from .clip import CLIPScore

_CATALOGUE: dict[str, tuple[Callable[..., Verifier], Card]] = {
    "clip": (CLIPScore, clip.CARD),
    "aesthetic": (Aesthetic, aesthetic.CARD),
}


def available() -> dict[str, Card]:
    """Every short name and its card."""
    return {name: card for name, (_, card) in _CATALOGUE.items()}


def load(name: str, **options: Any) -> Verifier:
    """Make the verifier with this short name; its weights load at the first call.

    Example:
        >>> load("clip", model="ViT-B-32-quickgelu", pretrained="openai")

    Args:
        name: one of `available()`.
        options: arguments of the verifier's class.

    Raises:
        ValueError: no such name; the message suggests the nearest.
        TypeError: an option that the class does not have.
    """
    if name not in _CATALOGUE:
        near = difflib.get_close_matches(name, _CATALOGUE, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "a function of (images, prompts) is accepted too"
        raise ValueError(f"no verifier is called {name!r}; expected one of {sorted(_CATALOGUE)}: {hint}")
    make, _ = _CATALOGUE[name]
    return make(**options)
