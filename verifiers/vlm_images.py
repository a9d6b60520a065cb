"""Images as a vision-language model's processor wants them, resized before it does: as PIL does, and differentiably."""

import math
from typing import Any

from .preprocess import Images, Pixels, pil_resize, straight_through

_MODES = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def resized(images: Images, processor: Any, pixels: int | None = None) -> Pixels:
    """Images in [0, 1] at the size to which the image processor would bring them, so that its own resize does nothing.

    Images become 8-bit values first, as when they are saved. A resize that is neither bilinear nor bicubic is left to
    the processor.

    Args:
        images: float32 in [0, 1].
        processor: an image processor of transformers.
        pixels: area that larger images are scaled down to; None for the processor's own limits.
    """
    x = images.clamp(0, 1) * 255
    x = straight_through(x, x.round())  # as diffusers makes PIL images
    mode = _MODES.get(int(getattr(processor, "resample", None) or 3))
    if mode is None:
        return x / 255
    rows, columns = target(x.shape[-2], x.shape[-1], processor, pixels)
    return pil_resize(x, rows, columns, mode) / 255


def target(height: int, width: int, processor: Any, pixels: int | None = None) -> tuple[int, int]:
    """Rows and columns that an image of this size is given."""
    size = getattr(processor, "size", None)
    if getattr(processor, "merge_size", None):
        least, most = _limits(processor)
        return smart_resize(
            height, width, processor.patch_size * processor.merge_size, least, min(most, pixels or most)
        )
    if pixels is not None and height * width > pixels:
        scale = math.sqrt(pixels / (height * width))
        height, width = max(1, int(height * scale)), max(1, int(width * scale))
    if not getattr(processor, "do_resize", False) or not size:
        return height, width
    if size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    if edge := size.get("shortest_edge"):
        if size.get("longest_edge"):
            return height, width  # bounded on both sides in a way of its own: left to the processor
        return (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)
    return height, width


def smart_resize(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Qwen-VL's size of an image: multiples of `factor`, the aspect about kept, the area between two bounds."""
    rows, columns = (max(factor, round(side / factor) * factor) for side in (height, width))
    if rows * columns > most:
        shrink = math.sqrt(height * width / most)
        rows, columns = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif rows * columns < least:
        grow = math.sqrt(least / (height * width))
        rows, columns = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return rows, columns


def _limits(processor: Any) -> tuple[int, int]:
    size = processor.size
    return int(size["shortest_edge"]), int(size["longest_edge"])
