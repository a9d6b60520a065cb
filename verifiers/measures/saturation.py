"""Saturation: how far colours are from grey."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card

CARD = Card(
    measures="saturation: how far colours are from grey, whatever the prompt; for tests, demos and diagnostics",
    range="0 (grey) to 1 (pure colours)",
    reference="saturation of the HSV hexcone, Smith 1978",
    code_licence="a formula",
    needs="images",
)


class Saturation(Verifier):
    """Mean over the pixels of (max - min) / max of red, green and blue, 0 where a pixel is black; in [0, 1].

    Does not depend on the image's size. Near-black pixels count as much as bright ones, and their hue is mostly noise.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)
        >>> Saturation()(torch.stack([red, torch.ones_like(red)]), ["", ""])
        tensor([1., 0.])
    """

    name = "saturation"
    version = "1"

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Mean saturation."""
        pixels = images.clamp(0, 1)
        most, least = pixels.amax(1), pixels.amin(1)
        # A divisor of 0 would give black pixels a gradient that isn't finite, though another value is chosen there.
        divisor = torch.where(most > 0, most, 1.0)
        return ((most - least) / divisor).mean((1, 2))
