"""The wrong-prompt test: a winner that is better for its prompt is not as much better for any other.

`reference/algorithms.md` section 9.4: the score under another prompt must not rise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from noise_search.diagnosis.pairs import Gain, PairScorer
from noise_search.results.candidate import number
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.captions import parse
from noise_search.shapes.prompts import evaluation_prompts

COUNT = 8

CAPTIONS = (
    "a wooden rowing boat on a misty lake at dawn",
    "a bowl of ramen with a soft-boiled egg, seen from above",
    "an astronaut repairing a satellite in orbit",
    "a crowded night market in the rain",
    "a close-up of a bee on a sunflower",
    "an old stone bridge in a snowy forest",
    "a violin lying on a velvet armchair",
    "a herd of elephants crossing the savannah",
)
"""Unrelated captions for models of anything."""


@dataclass(frozen=True)
class WrongPrompts:
    """What the winner gains under prompts that ask for something else.

    Attributes:
        right: its gain under its own prompt, in the units of `Gain.total`.
        wrong: by other prompt, its gain there in the same units; NaN where it can't be scored.
        gains: the same with raw scores.
        skipped: why the test wasn't made, or "".
    """

    right: float
    wrong: Mapping[str, float]
    gains: Mapping[str, Gain]
    skipped: str = ""

    @property
    def mean(self) -> float:
        """The mean gain under other prompts; NaN where there is none."""
        known = [gain for gain in self.wrong.values() if math.isfinite(gain)]
        return float(np.mean(known)) if known else math.nan

    @property
    def share(self) -> float:
        """That over the gain under the right prompt: about 0 where the gain is the prompt's, 1 where it is any's."""
        return self.mean / self.right if self.right else math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "right": number(self.right),
            "wrong_mean": number(self.mean),
            "share": number(self.share),
            "wrong": {text: number(gain) for text, gain in self.wrong.items()},
            "gains": {
                text: {key: number(value) for key, value in gain.by_key.items()} for text, gain in self.gains.items()
            },
            "skipped": self.skipped or None,
        }


def other_prompts(prompt: str, model: str, seed: int = 0, count: int = COUNT) -> tuple[str, ...]:
    """Other prompts than this one: a seeded draw from the embedded world's for its models, else the fixed captions.

    Of the embedded world's, those come first that name neither a colour nor a shape of the prompt: whatever makes a
    circle redder helps every prompt with something red.
    """
    if model not in EMBEDDED_MODELS:
        return tuple(text for text in CAPTIONS if text != prompt)[:count]
    texts = [one.text for one in evaluation_prompts()]
    drawn = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]
    words = _attributes(prompt)
    return tuple(sorted((t for t in drawn if t != prompt), key=lambda text: len(words & _attributes(text)))[:count])


def try_wrong(scorer: PairScorer, pair: Tensor, right: Gain, prompts: Sequence[str]) -> WrongPrompts:
    """Score a pair of images, the winner first, under each of the other prompts."""
    found = scorer.gains([pair] * len(prompts), prompts)
    gains = dict(zip(prompts, found, strict=True))
    unread = all(_same(gain.winner, right.winner) and _same(gain.first, right.first) for gain in found)
    skipped = "the verifier gives the same scores whatever the prompt" if unread else ""
    return WrongPrompts(right.total, {text: gain.total for text, gain in gains.items()}, gains, skipped)


def _attributes(prompt: str) -> set[str]:
    request = parse(prompt)
    return {word for thing in request.things for word in (thing.colour, thing.shape)} if request else set()


def _same(scores: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether they are the same but for the rounding of another batch."""
    return all(math.isclose(score, others[key], rel_tol=1e-5, abs_tol=1e-7) for key, score in scores.items())
