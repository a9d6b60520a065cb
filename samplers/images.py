"""What pipelines give for images, in the one form that verifiers take."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def as_images(output: Any) -> Float[Tensor, " batch *frames 3 height width"]:
    """A pipeline's images, or clips, as float32 in [0, 1].

    From tensors `[batch, 3, h, w]` or `[batch, frames, 3, h, w]`, numpy arrays with the channels last, or (lists of)
    PIL images; a clip of one frame is an image. Raises ValueError for other shapes.
    """
    pixels = _tensor(output)
    if pixels.ndim == 5 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    if pixels.ndim not in (4, 5) or pixels.shape[-3] != 3:
        raise ValueError(
            "expected images of shape [batch, 3, height, width] or clips of shape [batch, frames, 3, height, width], "
            f"the pipeline gave {tuple(pixels.shape)}"
        )
    return pixels.detach().float().clamp(0, 1)


def _tensor(output: Any) -> Tensor:
    """Stacked pixels, channels before height and width."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, list):
        return torch.stack([_tensor(image) for image in output])
    if hasattr(output, "convert"):
        return torch.from_numpy(np.asarray(output.convert("RGB")).copy()).movedim(-1, 0) / 255
    return torch.as_tensor(output).movedim(-1, -3)
