"""Sharpness: the variance of the Laplacian."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.measures.luma import luma

CARD = Card(
    measures="sharpness: variance of the Laplacian of the luma, whatever the prompt; for tests, demos and diagnostics",
    range="0 (flat) to about 16 (a checkerboard of pixels); noise counts as sharpness",
    reference="Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy",
    code_licence="a formula",
    needs="images",
)


class Sharpness(Verifier):
    """Variance over the pixels of the Laplacian of the luma (LAP4 / "variance of Laplacian" of focus measures).

    The Laplacian is the sum of the four neighbours less four times the pixel, the border repeated outwards; the
    variance divides by the number of pixels. Luma (Rec. 601) is in [0, 1]: multiply by 255² = 65025 for what tools of
    8-bit images print. It depends on the image's size: the same picture enlarged is less sharp per pixel, so compare
    images of one size. Noise and artefacts raise it.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy: a comparative study (ICPR 2000).

    Example:
        >>> Sharpness()(torch.full((1, 3, 8, 8), 0.5), [""])
        tensor([0.])
    """

    name = "sharpness"
    version = "1"

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Variance of the Laplacian."""
        y = luma(images)
        padded = F.pad(y[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        neighbours = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
        return (neighbours - 4 * y).flatten(1).var(1, unbiased=False)
