"""From images in [0, 1] to a tower's input, on the device and equal to what PIL would give."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "longest", "squash"),
    "crop": ("round", "floor"),
}
FILTERS = {2: "bilinear", 3: "bicubic"}
"""PIL's numbers, as processors of transformers give them."""

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation, of values in [0, 1]."""

Images = Float[Tensor, "batch 3 height width"]
Pixels = Float[Tensor, "batch 3 rows columns"]


def straight_through(x: Float[Tensor, "*shape"], rounded: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The rounded values with the gradient of the identity."""
    return x + (rounded - x).detach()


def pil_resize(
    x: Float[Tensor, "batch channel h w"], height: int, width: int, mode: str = "bicubic"
) -> Float[Tensor, "batch channel rows columns"]:
    """Resize float32 pixel values in [0, 255] as `PIL.Image.resize` does, antialiased.

    Pillow resizes one axis, clamps and rounds to 8 bits, then the other likewise; one pass over both axes never clamps
    the overshoot in between. Which axis comes first is asked of the Pillow that is installed. Equal to it to 1/255
    (2/255 when enlarging), and exactly for most pixels. The gradient goes straight through the rounding; on CUDA its
    order of sums is not fixed.
    """
    before = (x.shape[-2], x.shape[-1])
    return _two_passes(x, height, width, mode, _vertical_first(before, (height, width), mode))


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop or pad, normalise; fields as in open_clip's `preprocess_cfg`, sizes in pixels.

    `crop` says how half a pixel is resolved: "round" (half to even) in torchvision, open_clip and OpenAI's
    CLIP, "floor" in transformers' processors. `resize` is what images are resized to where that is more than the
    crop, as classifiers do.

    Raises:
        ValueError: an interpolation, resize mode or crop that is not among `CHOICES`.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    crop: str = "round"
    fill: int = 0
    resize: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what the pipeline below would silently treat as something else."""
        for field, known in CHOICES.items():
            if (value := getattr(self, field)) not in known:
                raise ValueError(f"{field} is {value!r}; expected one of {known}")

    @classmethod
    def from_open_clip(cls, cfg: Mapping[str, Any]) -> "Preprocess":
        """Read `model.visual.preprocess_cfg`."""
        size = cfg["size"]
        return cls(
            size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[-1])),
            mean=three(cfg["mean"]),
            std=three(cfg["std"]),
            interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",  # "random" too, as there
            resize_mode=cfg["resize_mode"],
            fill=cfg.get("fill_color", 0),
        )

    def __call__(self, images: Images) -> Pixels:
        """The tower's input, float32."""
        return self.normalise(self.pixels(images))

    def pixels(self, images: Images) -> Pixels:
        """Resized and cropped 8-bit values, whole numbers in [0, 255] held as float32."""
        x = images.float().clamp(0, 1) * 255
        x = straight_through(x, x.round())  # as diffusers makes PIL images
        return self._crop(pil_resize(x, *self._resized(*x.shape[-2:]), self.interpolation))

    def normalise(self, pixels: Pixels) -> Pixels:
        """Scale 8-bit values to [0, 1], subtract the mean, divide by the standard deviation."""
        mean = pixels.new_tensor(self.mean)[:, None, None]
        std = pixels.new_tensor(self.std)[:, None, None]
        return (pixels / 255 - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = self.resize or self.size
        if self.resize_mode == "squash":
            return rows, columns
        if self.resize_mode == "shortest" and rows == columns:
            # torchvision truncates the long side; open_clip's own resize, used otherwise, rounds both
            return (rows, int(rows * width / height)) if height <= width else (int(rows * height / width), rows)
        pick = max if self.resize_mode == "longest" else min
        ratio = pick(height / rows, width / columns)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _crop(self, x: Images) -> Pixels:
        rows, columns = self.size
        more_rows, more_columns = max(0, rows - x.shape[-2]), max(0, columns - x.shape[-1])
        if more_rows or more_columns:
            left, top = more_columns // 2, more_rows // 2
            x = F.pad(x, (left, more_columns - left, top, more_rows - top), value=float(self.fill))
        top, left = self._offset(x.shape[-2] - rows), self._offset(x.shape[-1] - columns)
        return x[..., top : top + rows, left : left + columns]

    def _offset(self, excess: int) -> int:
        return round(excess / 2) if self.crop == "round" else excess // 2


def _two_passes(x: Tensor, height: int, width: int, mode: str, vertical_first: bool) -> Tensor:
    first = (height, x.shape[-1]) if vertical_first else (x.shape[-2], width)
    for size in (first, (height, width)):
        if tuple(x.shape[-2:]) != size:
            x = _resize_once(x, *size, mode)
    return x


@lru_cache(1024)
def _vertical_first(before: tuple[int, int], after: tuple[int, int], mode: str) -> bool:
    """Whether the installed Pillow resizes vertically first from one size to another, (height, width) both.

    Version 13 does for many that shrink more in height, older ones never do. Noise tells the orders apart.
    """
    if before[0] == after[0] or before[1] == after[1]:
        return False
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, before, dtype=np.uint8)
    resized = Image.fromarray(noise).resize(after[::-1], Image.Resampling[mode.upper()])
    found = torch.from_numpy(np.array(resized)).float()
    x = torch.from_numpy(noise)[None, None].float()
    horizontal, vertical = ((_two_passes(x, *after, mode, first) - found).abs().sum() for first in (False, True))
    return bool(vertical < horizontal)


def _resize_once(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    resized = F.interpolate(x, size=(height, width), mode=mode, antialias=True, align_corners=False)
    resized = resized.clamp(0, 255)
    return straight_through(resized, (resized + 0.5).floor())  # Pillow rounds halves up


def three(values: Any) -> tuple[float, float, float]:
    """One number per channel, of three or of one for all."""
    red, green, blue = (values,) * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def clip_input(side: int, crop: str) -> Preprocess:
    """Shortest side to `side` pixels, bicubic; centre crop, "round" as in OpenAI's code, "floor" as in transformers."""
    return Preprocess((side, side), MEAN, STD, crop=crop)


def class_of(processor: Any) -> str:
    """The exact class of a processor of transformers, whatever its backend: a subclass may do more than its parent."""
    return type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
