"""Features of finished images, by which the diversity of winners is measured."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.tower import TowerSource

GRID = 8


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
        small = F.adaptive_avg_pool2d(images, GRID).flatten(1)
        return np.asarray(F.normalize(small - small.mean(1, keepdim=True), dim=1).cpu())
