"""Images as a vision-language model's processor wants them, resized before it does: as PIL does, and differentiably."""

import math
from typing import Any

from verifiers.inputs.preprocess import FILTERS, Images, Pixels, class_of, pil_resize, straight_through

_SMART = ("Qwen2VLImageProcessor",)  # of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5 too
_PLAIN = (
    "BlipImageProcessor",
    "CLIPImageProcessor",
    "Gemma3ImageProcessor",
    "LlavaImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
)

_TILES_OR_PADS = ("do_pad", "do_pan_and_scan")


def is_resized(processor: Any) -> bool:
    """Whether `resized` does this image processor's whole resize, so that its own must be switched off.

    True for Qwen-VL's smart resize and for one resize to a fixed size or shortest edge, bilinear or bicubic, of
    classes known to do nothing else before cropping. Any other class may tile, pad or choose a grid by the
    original's shape, and gets the original.
    """
    if getattr(processor, "resample", None) not in FILTERS:
        return False
    kind = class_of(processor)
    if kind in _SMART:
        return True
    size = getattr(processor, "size", None) or {}
    fixed = (size.get("height") and size.get("width")) or (size.get("shortest_edge") and not size.get("longest_edge"))
    other = any(getattr(processor, option, None) for option in _TILES_OR_PADS)
    return kind in _PLAIN and bool(getattr(processor, "do_resize", False) and fixed) and not other


def resized(images: Images, processor: Any, pixels: int | None = None) -> Pixels:
    """Images in [0, 1] at the size to which the image processor would bring them, where `is_resized` says so.

    For every other processor images keep their size, unless `pixels` shrinks them. Images become 8-bit values first,
    as when they are saved.

    Args:
        images: float32 in [0, 1].
        processor: an image processor of transformers.
        pixels: area that larger images are scaled down to; None for the processor's own limits.
    """
    x = images.clamp(0, 1) * 255
    x = straight_through(x, x.round())  # as diffusers makes PIL images
    rows, columns = target(x.shape[-2], x.shape[-1], processor, pixels)
    mode = FILTERS[int(processor.resample)] if is_resized(processor) else "bicubic"
    return pil_resize(x, rows, columns, mode) / 255


def target(height: int, width: int, processor: Any, pixels: int | None = None) -> tuple[int, int]:
    """Rows and columns that `resized` gives to an image of this size."""
    if not is_resized(processor):
        if pixels is None or height * width <= pixels:
            return height, width
        scale = math.sqrt(pixels / (height * width))
        return max(1, int(height * scale)), max(1, int(width * scale))
    size = processor.size
    if class_of(processor) in _SMART:
        factor = processor.patch_size * processor.merge_size
        least, most = int(size["shortest_edge"]), int(size["longest_edge"])
        return smart_resize(height, width, factor, least, min(most, pixels or most))
    if size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    edge = int(size["shortest_edge"])
    return (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)


def least_area(processor: Any) -> int:
    """The smallest area that the processor gives to an image, below which `pixels` could do nothing; 1 if unknown."""
    if not is_resized(processor):
        return 1
    size = processor.size
    if class_of(processor) in _SMART:
        return max(int(size["shortest_edge"]), int(processor.patch_size * processor.merge_size) ** 2)
    edge = size.get("shortest_edge")
    return int(edge) ** 2 if edge else int(size["height"]) * int(size["width"])


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
