"""Verifiers by short name, with what one should know before choosing one."""

import difflib
import sys
from functools import cache
from typing import Any, Literal, overload

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
from verifiers.judge.pairs import PairJudge
from verifiers.measures import Brightness, JPEGSize, Saturation, Sharpness
from verifiers.pickscore import PickScore
from verifiers.safety import Safety
from verifiers.vlm import VLM

_SCORES = (CLIPScore, Aesthetic, ImageReward, PickScore, HPS, HPSv3, VLM, RubricJudge, ClassScore, Consistency)
_EDITS = (CLIPDirection, CLIPImage, EditJudge)
_MEASURES = (JPEGSize, Sharpness, Saturation, Brightness)
_CLASSES: dict[str, type[Verifier]] = {kind.name: kind for kind in (*_SCORES, *_EDITS, *_MEASURES, Safety)}

ADVICE = (
    "For the images of a real model take 'pickscore' (small) or 'hpsv3' (better, 7B) for what people prefer, and 'vlm' "
    "with a large model for what the prompt says: 'clip', the default as it is small and works everywhere, agrees with "
    "people's choices between images of modern models hardly more often than chance (51 %; pickscore 58.6, hpsv3 60.2, "
    "vision-language models up to 74). Judge by one of another family than you search by."
)
"""What to take for a real model, for people; docs/verifiers.md has the table."""


@cache
def available() -> dict[str, Card]:
    """Every short name and its card."""
    return {name: card for name, kind in _CLASSES.items() if (card := card_of(kind))}


def card_of(kind: type) -> Card | None:
    """The card of a verifier's class, as its `card` or as the CARD of its module; None for classes of others."""
    found: Card | None = vars(kind).get("card") or getattr(sys.modules.get(kind.__module__), "CARD", None)
    return found


@overload
def load(name: str, *, mode: Literal["scores"] = "scores", **options: Any) -> Verifier: ...


@overload
def load(name: str, *, mode: Literal["pairs"], **options: Any) -> PairJudge: ...


def load(name: str, *, mode: str = "scores", **options: Any) -> Verifier | PairJudge:
    """Make the verifier with this short name; its weights load at the first call.

    Example:
        >>> load("clip", model="ViT-B-32-quickgelu", pretrained="openai")

    Args:
        name: one of `available()`.
        mode: "pairs" makes of `judge` a `PairJudge`, which is shown two images; it scores none, so that it is for
            `result.choose` and not for a search.
        options: arguments of the verifier's class.

    Raises:
        ValueError: no such name, of which the message suggests the nearest, or no such mode of it.
        TypeError: an option that the class does not have, or a value of another type than it states.
    """
    kind = verifier_class(name)
    check_options(name, kind, options)
    if mode == "scores":
        return kind(**options)
    if mode != "pairs" or not issubclass(kind, RubricJudge):
        raise ValueError(
            f"mode is {mode!r} for {name!r}; expected 'scores', or 'pairs' for 'judge': of another verifier, "
            "result.choose() compares the scores"
        )
    return PairJudge(kind(**options))


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
