"""Verifiers by short name, with what one should know before choosing one."""

import difflib
import sys
from functools import cache
from typing import Any

from verifiers.aesthetic import Aesthetic
from verifiers.arguments import check_options
from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.classes.score import ClassScore
from verifiers.clip import CLIPScore
from verifiers.consistency import Consistency
from verifiers.edits import CLIPDirection, CLIPImage
from verifiers.hps import HPS
from verifiers.hpsv3 import HPSv3
from verifiers.image_reward import ImageReward
from verifiers.judge.judge import EditJudge, RubricJudge
from verifiers.measures import Brightness, JPEGSize, Saturation, Sharpness
from verifiers.pickscore import PickScore
from verifiers.safety import Safety
from verifiers.vlm import VLM

_SCORES = (CLIPScore, Aesthetic, ImageReward, PickScore, HPS, HPSv3, VLM, RubricJudge, ClassScore, Consistency)
_EDITS = (CLIPDirection, CLIPImage, EditJudge)
_MEASURES = (JPEGSize, Sharpness, Saturation, Brightness)
_CLASSES: dict[str, type[Verifier]] = {kind.name: kind for kind in (*_SCORES, *_EDITS, *_MEASURES, Safety)}


@cache
def available() -> dict[str, Card]:
    """Every short name and its card."""
    return {name: card for name, kind in _CLASSES.items() if (card := card_of(kind))}


def card_of(kind: type) -> Card | None:
    """The card of a verifier's class, as its `card` or as the CARD of its module; None for classes of others."""
    found: Card | None = vars(kind).get("card") or getattr(sys.modules.get(kind.__module__), "CARD", None)
    return found


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
    return kind(**options)


def verifier_class(name: str) -> type[Verifier]:
    """The class behind a short name.

    Raises:
        ValueError: no such name; the message suggests the nearest.
        TypeError: something else than a name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r:.80}; expected one of {sorted(_CLASSES)}")
    if name not in _CLASSES:
        near = difflib.get_close_matches(name, _CLASSES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "a function of (images, prompts) is accepted too"
        raise ValueError(f"no verifier is called {name!r}; expected one of {sorted(_CLASSES)}: {hint}")
    return _CLASSES[name]
