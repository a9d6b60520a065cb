"""Luma, the brightness of a pixel as video and JPEG weigh it."""

import torch
from jaxtyping import Float
from torch import Tensor

WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue: ITU-R Rec. 601."""


def luma(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch height width"]:
    """Y = 0.299 R + 0.587 G + 0.114 B of gamma-encoded values, in [0, 1] where they are."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(WEIGHTS))
