"""Re-scoring: how much of a gain is left when both images are changed in ways that change nothing one can see.

What a verifier likes in an image survives a flip, a resize by two percent and JPEG; what only fools it tends to shrink
(`reference/algorithms.md` section 9.4).
"""

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noise_search.diagnosis.pairs import Gain, PairScorer
from noise_search.results.candidate import number

JPEG_QUALITY = 90
RESIZE = 0.02
_SIDES = re.compile(r"\b(left|right)(most|wards?|hand)?\b", re.IGNORECASE)

Transform = Callable[[Tensor], Tensor]


def flip(images: Tensor) -> Tensor:
    """Mirrored, left to right."""
    return images.flip(-1)


def resize(images: Tensor, by: float) -> Tensor:
    """Scaled by 1 + `by`, at least by a pixel, and back to size, both times bicubic with antialiasing."""
    height, width = images.shape[-2:]
    sign = 1 if by > 0 else -1
    scaled = [max(1, size + sign * max(1, round(size * abs(by)))) for size in (height, width)]
    return _interpolated(_interpolated(images, scaled), [height, width])


def jpeg(images: Tensor, quality: int = JPEG_QUALITY) -> Tensor:
    """Written as JPEG, by Pillow with its chroma subsampling 4:2:0, and read back; colours are 8-bit then."""
    rows = images.reshape(-1, *images.shape[-3:])
    eight_bit = (rows.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    read = [torch.from_numpy(_through_jpeg(row, quality)).permute(2, 0, 1) for row in eight_bit]
    return (torch.stack(read).float() / 255).reshape(images.shape).to(images.device)


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
            "gains": {
                name: {key: number(value) for key, value in gain.by_key.items()} for name, gain in self.gains.items()
            },
            "skipped": dict(self.skipped),
            "rounded": self.rounded,
        }


def rescore(
    scorer: PairScorer, pair: Tensor, prompt: str, before: Gain, transforms: Mapping[str, Transform] = TRANSFORMS
) -> Rescoring:
    """Change both images of a pair `[2, ..., 3, height, width]`, and score them again under their prompt.

    A prompt that says left or right is not true of a mirrored image, so the flip is skipped there.
    """
    if not before.total > 0:
        return Rescoring({}, {}, {"all": "the stored images, which have 8 bits, show no gain to keep"}, rounded=True)
    sides = _SIDES.search(prompt)
    skipped = {"flip": f"the prompt says {sides[0]!r}"} if sides and "flip" in transforms else {}
    asked = {name: transform for name, transform in transforms.items() if name not in skipped}
    if not asked:
        return Rescoring({}, {}, skipped)
    changed = [transform(pair) for transform in asked.values()]
    gains = dict(zip(asked, scorer.gains(changed, [prompt] * len(changed)), strict=True))
    shares = {name: gain.total / before.total for name, gain in gains.items()}
    return Rescoring(shares, gains, skipped)


def _interpolated(images: Tensor, size: list[int]) -> Tensor:
    rows = images.reshape(-1, *images.shape[-3:])
    scaled = torch.nn.functional.interpolate(rows, size, mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0, 1).reshape(*images.shape[:-2], *size)


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream).convert("RGB"))
