"""Photos and clips as users hand them over: PIL."""

import numpy as np
from PIL import Image


def photo(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
    """An image of coarse colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def clip_of(frames: int, width: int = 32, height: int = 32, seed: int = 0) -> list[Image.Image]:
    """A clip that goes from one photo to another."""
    first, last = photo(width, height, seed), photo(width, height, seed + 1)
    return [Image.blend(first, last, i / max(frames - 1, 1)) for i in range(frames)]


def mask(width: int = 32, height: int = 32) -> Image.Image:
    """White in its right half, black elsewhere."""
    white = Image.new("L", (width // 2, height), 255)
    whole = Image.new("L", (width, height), 0)
    whole.paste(white, (width - width // 2, 0))
    return whole
