"""The winner held against the first image: in changed images and under other prompts.

What a verifier likes in an image survives a flip, a resize by two percent and JPEG; what only fools it tends to shrink.
A winner that is better for its prompt is not as much better for any other (`reference/algorithms.md` section 9).
"""

import io
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noise_search.engine.scoring import Scorer, as_images
from noise_search.engine.sources import Source
from noise_search.results.candidate import as_pixels, number
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.captions import evaluation_prompts, parse
from verifiers.base import Verifier

ENOUGH = 4
"""Scores from which a spread is taken; fewer say nothing of it."""


_PIXELS = 2**22
"""Of one batch: four images of 1024 x 1024."""


@dataclass(frozen=True)
class Gain:
    """What the winner has over the first image.

    Attributes:
        winner, first: raw scores by verifier key.
        units: by key, what makes verifiers comparable: the standard deviation of the finished candidates' scores; where
            there is none, the size of the gain itself.
    """

    winner: Mapping[str, float]
    first: Mapping[str, float]
    units: Mapping[str, float]

    def by(self, keys: Collection[str]) -> "Gain":
        """The same by some of the verifiers."""
        parts = ({k: v for k, v in part.items() if k in keys} for part in (self.winner, self.first, self.units))
        return Gain(*parts)

    @property
    def by_key(self) -> dict[str, float]:
        """Raw gain by verifier key."""
        return {key: self.winner[key] - self.first[key] for key in self.units}

    @property
    def total(self) -> float:
        """Mean over the verifiers of the gain in their units; NaN where one has none, or there are no verifiers."""
        gains = [gain / self.units[key] for key, gain in self.by_key.items()]
        return float(np.mean(gains)) if gains else math.nan


def spread(values: Sequence[float] | np.ndarray) -> float:
    """The standard deviation of the finite values; NaN where fewer than 4, or all equal."""
    finite = [float(value) for value in values if math.isfinite(value)]
    deviation = float(np.std(finite, ddof=1)) if len(finite) >= ENOUGH else math.nan
    return deviation if deviation > 0 else math.nan


class PairScorer:
    """Scores (winner, first) pairs with a search's verifiers.

    Attributes:
        sources: what the images were made from, for verifiers that need it.
    """

    def __init__(
        self, verifiers: Sequence[Verifier], units: Mapping[str, float], sources: Sequence[Source] = ()
    ) -> None:
        """Take verifiers of kind "score", and a unit for each key."""
        self.sources = tuple(sources)
        self._scorer = Scorer(verifiers, sources)
        self._units = dict(units)

    def gains(self, pairs: Sequence[Tensor], prompts: Sequence[str]) -> list[Gain]:
        """One gain per pair `[2, 3, height, width]` (or of clips), the winner first, and its prompt.

        Pairs share batches, which a verifier must not notice, as far as memory and their shapes allow.
        """
        per_batch = max(1, _PIXELS // (pairs[0].numel() // 3))
        found = []
        for at in range(0, len(pairs), per_batch):
            some, texts = pairs[at : at + per_batch], prompts[at : at + per_batch]
            scores, _ = self._scorer.score(torch.cat(list(some)), [text for text in texts for _ in range(2)])
            for row in range(0, 2 * len(some), 2):
                winner, first = ({key: float(scores[key][i]) for key in self._units} for i in (row, row + 1))
                found.append(Gain(winner, first, self._units))
        return found


JPEG_QUALITY = 90
RESIZE = 0.02
_SIDES = re.compile(r"\b(left|right)(most|wards?|hand)?\b", re.IGNORECASE)

Transform = Callable[[Tensor], Tensor]


def flip(images: Tensor) -> Tensor:
    """Mirrored, left to right."""
    return images.flip(-1)


def resize(images: Tensor, by: float) -> Tensor:
    """Scaled by 1 + `by`, at least by a pixel, and back to size, both times bicubic with antialiasing."""
    size = list(images.shape[-2:])
    sign = 1 if by > 0 else -1
    rows = images.reshape(-1, *images.shape[-3:])
    for to in ([max(1, side + sign * max(1, round(side * abs(by)))) for side in size], size):
        rows = torch.nn.functional.interpolate(rows, to, mode="bicubic", antialias=True, align_corners=False)
        rows = rows.clamp(0, 1)
    return rows.reshape(images.shape)


def jpeg(images: Tensor, quality: int = JPEG_QUALITY) -> Tensor:
    """Written as JPEG, by Pillow with its chroma subsampling 4:2:0, and read back; colours are 8-bit then."""
    read = []
    for pixels in as_pixels(images.reshape(-1, *images.shape[-3:])):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        read.append(np.array(Image.open(stream).convert("RGB")))
    return as_images(read, images.device).reshape(images.shape)


TRANSFORMS: Mapping[str, Transform] = {
    "flip": flip,
    "resize -2 %": lambda images: resize(images, -RESIZE),
    "resize +2 %": lambda images: resize(images, RESIZE),
    "JPEG 90": jpeg,
}
"""What both images go through, by name; each takes and gives `[..., 3, height, width]` in [0, 1]."""


@dataclass(frozen=True)
class Rescoring:
    """What is left of the gain.

    Attributes:
        shares: by transform, gain of the changed images over that of the stored ones, 1 where all stays; NaN where
            it can't be scored.
        gains: by transform, the changed images' scores.
        skipped: by transform, why it wasn't tried; under "all" why none was.
        rounded: whether the stored images, which have 8 bits, show no gain to begin with.
    """

    shares: Mapping[str, float]
    gains: Mapping[str, Gain]
    skipped: Mapping[str, str]
    rounded: bool = False

    @property
    def share(self) -> float:
        """The median share, as one transform may do anything to a small gain; NaN where there is none."""
        known = [share for share in self.shares.values() if math.isfinite(share)]
        return float(np.median(known)) if known else math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "share": number(self.share),
            "shares": {name: number(share) for name, share in self.shares.items()},
            "gains": _raw(self.gains),
            "skipped": dict(self.skipped),
            "rounded": self.rounded,
        }


def rescore(
    scorer: PairScorer, pair: Tensor, prompt: str, before: Gain, transforms: Mapping[str, Transform] = TRANSFORMS
) -> Rescoring:
    """Change both images of a pair `[2, ..., 3, height, width]`, and score them again under their prompt.

    A prompt that says left or right is not true of a mirrored image, and a source isn't that of one, so the flip is
    skipped there.
    """
    if not before.total > 0:
        return Rescoring({}, {}, {"all": "the stored images, which have 8 bits, show no gain to keep"}, rounded=True)
    sides = _SIDES.search(prompt)
    skipped = {"flip": f"the prompt says {sides[0]!r}"} if sides and "flip" in transforms else {}
    if scorer.sources and "flip" in transforms:
        skipped["flip"] = "the verifier compares with the source image"
    asked = {name: transform for name, transform in transforms.items() if name not in skipped}
    if not asked:
        return Rescoring({}, {}, skipped)
    changed = [transform(pair) for transform in asked.values()]
    gains = dict(zip(asked, scorer.gains(changed, [prompt] * len(changed)), strict=True))
    return Rescoring({name: gain.total / before.total for name, gain in gains.items()}, gains, skipped)


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
            "gains": _raw(self.gains),
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
    gains = dict(zip(prompts, scorer.gains([pair] * len(prompts), prompts), strict=True))
    unread = all(_same(gain.winner, right.winner) and _same(gain.first, right.first) for gain in gains.values())
    skipped = "the verifier gives the same scores whatever the prompt" if unread else ""
    return WrongPrompts(right.total, {text: gain.total for text, gain in gains.items()}, gains, skipped)


def _attributes(prompt: str) -> set[str]:
    request = parse(prompt)
    return {word for thing in request.things for word in (thing.colour, thing.shape)} if request else set()


def _same(scores: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether they are the same but for the rounding of another batch."""
    return all(math.isclose(score, others[key], rel_tol=1e-5, abs_tol=1e-7) for key, score in scores.items())


def _raw(gains: Mapping[str, Gain]) -> dict[str, dict[str, float | None]]:
    return {name: {key: number(value) for key, value in gain.by_key.items()} for name, gain in gains.items()}
