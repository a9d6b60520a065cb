"""Verifiers by short name, with what one should know before choosing one."""

import difflib
import importlib
import sys
from functools import cache
from typing import Any

from verifiers.arguments import check_options
from verifiers.base import Verifier
from verifiers.card import Card

_CATALOGUE = {
    "clip": ("clip", "CLIPScore"),
    "aesthetic": ("aesthetic", "Aesthetic"),
    "image-reward": ("image_reward", "ImageReward"),
    "pickscore": ("pickscore", "PickScore"),
    "hps": ("hps", "HPS"),
    "hpsv3": ("hpsv3", "HPSv3"),
    "vlm": ("vlm", "VLM"),
    "judge": ("judge.judge", "RubricJudge"),
    "class": ("classes.score", "ClassScore"),
    "consistency": ("consistency", "Consistency"),
    "jpeg": ("measures", "JPEGSize"),
    "sharpness": ("measures", "Sharpness"),
    "saturation": ("measures", "Saturation"),
    "brightness": ("measures", "Brightness"),
    "safety": ("safety", "Safety"),
}
"""Module and class of each."""


@cache
def available() -> dict[str, Card]:
    """Every short name and its card."""
    return {name: card for name in _CATALOGUE if (card := card_of(verifier_class(name)))}


def load(name: str, **options: Any) -> Verifier:
    """Make the verifier with this short name; its weights load at the first call.

    Example:
        >>> load("clip", model="ViT-B-32-quickgelu", pretrained="openai")

    Args:
        name: one of `available()`.
        options: arguments of the verifier's class.

    Raises:
        ValueError: no such name; the message suggests the nearest.
        TypeError: an option that the class does not have, or a value of another type than it states.
    """
    kind = verifier_class(name)
    check_options(name, kind, options)
    made: Verifier = kind(**options)
    return made


def verifier_class(name: str) -> type[Verifier]:
    """The class behind a short name.

    Raises:
        ValueError: no such name; the message suggests the nearest.
        TypeError: something else than a name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r:.80}; expected one of {sorted(_CATALOGUE)}")
    if name not in _CATALOGUE:
        near = difflib.get_close_matches(name, _CATALOGUE, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "a function of (images, prompts) is accepted too"
        raise ValueError(f"no verifier is called {name!r}; expected one of {sorted(_CATALOGUE)}: {hint}")
    module, kind = _CATALOGUE[name]
    found: type[Verifier] = getattr(importlib.import_module(f"verifiers.{module}"), kind)
    return found


def card_of(kind: type) -> Card | None:
    """The card of a verifier's class, as its `card` or as the CARD of its module; None for classes of others."""
    found: Card | None = vars(kind).get("card") or getattr(sys.modules.get(kind.__module__), "CARD", None)
    return found
