"""What tells images apart: the features of a verifier's own tower, or thumbnails."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from noise_search.choosing.sets import shown_by
from verifiers.base import Verifier
from verifiers.loading.tower import TowerSource

GRID = 8
"""Cells along height and width to which pictures are averaged."""

BLANK: UInt8[np.ndarray, " cell"] = np.zeros(3 * GRID * GRID, np.uint8)
"""The thumbnail of what was never seen."""

Thumbnails = UInt8[np.ndarray, "image cell"]


class Features:
    """Unit features of images: those of a CLIP tower among the verifiers, else thumbnails of 8 x 8 pixels.

    Attributes:
        label: which.
    """

    def __init__(self, verifiers: Sequence[Verifier], known: str | None = None) -> None:
        """Take verifiers and judges, whose tower is loaded anyway: the first, or that of the label that is `known`."""
        given = [getattr(one, "source", None) for one in verifiers]
        sources = [one for one in given if isinstance(one, TowerSource)]
        self._source = next((one for one in sorted(sources, key=lambda one: one.label != known)), None)
        self.label = f"thumbnails of {GRID} x {GRID}" if self._source is None else self._source.label

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[np.ndarray, "batch dim"]:
        """Features of images in [0, 1]."""
        if self._source is not None:
            return np.asarray(self._source.tower(images.device).image(images).float().cpu())
        return shown_by(np.asarray(F.adaptive_avg_pool2d(images, GRID).flatten(1).cpu()))


def thumbnails(images: UInt8[np.ndarray, "image height width 3"]) -> Thumbnails:
    """Images averaged to 8 x 8 cells, in whole numbers, so that they are the same once they were written and read."""
    small = F.adaptive_avg_pool2d(torch.from_numpy(images).movedim(-1, 1).double(), GRID)
    return np.asarray(small.round().byte().flatten(1))
