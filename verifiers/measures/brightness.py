"""Brightness: the mean luma of an image."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.measures.luma import luma

CARD = Card(
    measures="brightness: mean luma, whatever the prompt; for tests, demos and diagnostics",
    range="0 (black) to 1 (white)",
    reference="luma of ITU-R Rec. 601",
    code_licence="a formula",
    needs="images",
)


class Brightness(Verifier):
    """Mean of 0.299 R + 0.587 G + 0.114 B over the pixels, in [0, 1].

    Does not depend on the image's size. Differentiable everywhere, and its best image is white: a search by it shows
    at a glance whether anything is searched at all.

    Example:
        >>> Brightness()(torch.ones(1, 3, 8, 8), [""])
        tensor([1.])
    """

    name = "brightness"
    version = "1"

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Mean luma."""
        return luma(images).mean((1, 2))
