"""Verifiers by short name, with what one should know before choosing one."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .aesthetic import Aesthetic
from .base import Verifier
from .clip import CLIPScore


@dataclass(frozen=True)
class Card:
    """What a verifier measures, its usual range, the licence of its default weights, and its source."""

    measures: str
    range: str
    licence: str
    reference: str
    needs: str = "images and prompts"
    differentiable: bool = True
    direction: str = "higher is better"

    def __str__(self) -> str:
        """One line for a listing."""
        return f"{self.measures}; {self.range}, {self.direction}; weights: {self.licence}; {self.reference}"


_CATALOGUE: dict[str, tuple[Callable[..., Verifier], Card]] = {
    "clip": (
        CLIPScore,
        Card(
            measures="match of image and prompt (CLIPScore, OpenAI ViT-L/14 or any open_clip model)",
            range="0 to 2.5, usually 0.5 to 1",
            licence="MIT",
            reference="Hessel et al. 2104.08718",
        ),
    ),
    "aesthetic": (
        Aesthetic,
        Card(
            measures="visual appeal whatever the prompt (LAION aesthetic predictor v2 on ViT-L/14)",
            range="about 1 to 10, generated images 4.5 to 7",
            licence="tower MIT; head v1 MIT, v2 unclear",
            reference="github.com/christophschuhmann/improved-aesthetic-predictor",
            needs="images",
        ),
    ),
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
