"""A picture as PNG that says how to make it again: a record for `replay`, and a text for image viewers."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from noise_search.parameters import parameters_text
from noise_search.version import __version__
from samplers.recipe import Recipe

CHUNK = "noise_search"
"""The PNG text that holds the record, as JSON."""


def picture_png(
    pixels: np.ndarray, prompt: str, recipe: Recipe, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> bytes:
    """A PNG of uint8 `[height, width, 3]`.

    Args:
        pixels: the picture.
        prompt: of its search.
        recipe: makes it again.
        settings: of its search.
        about: more that is good to know of it, as plain JSON: its id and scores.
    """
    operations = [dict(op) for op in recipe.operations]
    record = {"prompt": prompt, "recipe": operations, **about, "settings": settings}
    info = PngInfo()
    # ASCII: any prompt survives, lone surrogates and NUL included.
    info.add_itxt(CHUNK, json.dumps(record))
    size = (pixels.shape[1], pixels.shape[0])
    info.add_itxt("parameters", parameters_text(prompt, recipe, settings, size, __version__))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def as_pixels(image: Tensor) -> np.ndarray:
    """A float image or clip in [0, 1], channels before height and width, as uint8 with the channels last."""
    eight_bit = (image.detach().float().clamp(0, 1) * 255).round().byte()
    found: np.ndarray = eight_bit.movedim(-3, -1).cpu().numpy()
    return found
