"""The input of image classifiers: resize, crop the centre, normalise, on the device and equal to what PIL gives."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from verifiers.base import WeightsError
from verifiers.inputs.preprocess import Preprocess, pil_resize, straight_through

PROCESSORS = (
    "BitImageProcessor",
    "CLIPImageProcessor",
    "DeiTImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
)
"""Those of transformers that do these steps and no others; ConvNeXt's and LeViT's enlarge before they crop."""


_FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class ClassifierInput:
    """Resize, crop, normalise; sizes in pixels.

    `Preprocess` crops a square of the size to which it resized the shortest side; classifiers leave a margin.

    Attributes:
        resize: of the shortest side, the long one truncated; or (rows, columns).
        crop: rows and columns around the centre.
        mean, std: per channel, of values in [0, 1].
        interpolation: "bilinear" or "bicubic".
        centre: how half a pixel of margin is resolved: "round" (half to even) in torchvision, "floor" in transformers.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    centre: str

    @classmethod
    def of_transformers(cls, processor: Any) -> "ClassifierInput":
        """What one of transformers' image processors does.

        Raises:
            WeightsError: it does something else as well, or has another filter.
        """
        kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
        size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
        side, cropped = size.get("shortest_edge"), bool(getattr(processor, "do_center_crop", False))
        resize = side or (size.get("height", 0), size.get("width", 0))
        rows, columns = resize if isinstance(resize, tuple) else (resize, resize)
        whole = (rows, columns) if not cropped else (crop.get("height", 0), crop.get("width", 0))
        fits = kind in PROCESSORS and (cropped or not side) and 0 < whole[0] <= rows and 0 < whole[1] <= columns
        scaled = processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6 and processor.do_normalize
        if not fits or not scaled or not processor.do_resize or int(processor.resample) not in _FILTERS:
            raise WeightsError(
                f"the image processor is a {kind} that resizes to {size} with filter {int(processor.resample)} and "
                f"crops to {whole if cropped else None}; expected a bilinear or bicubic resize, a crop within it and a "
                f"normalisation, by one of {', '.join(PROCESSORS)}"
            )
        mean, std = _three(processor.image_mean), _three(processor.image_std)
        return cls(resize, whole, mean, std, _FILTERS[int(processor.resample)], "floor")

    @classmethod
    def of_torchvision(cls, preset: Any) -> "ClassifierInput":
        """What `torchvision.transforms._presets.ImageClassification` does to a PIL image."""
        (side,), (crop,) = preset.resize_size, preset.crop_size
        mean, std = _three(preset.mean), _three(preset.std)
        return cls(int(side), (int(crop), int(crop)), mean, std, str(preset.interpolation.value), "round")

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 rows columns"]:
        """The classifier's input, float32."""
        x = images.float().clamp(0, 1) * 255
        x = straight_through(x, x.round())  # as diffusers makes PIL images
        x = pil_resize(x, *self._resized(*x.shape[-2:]), self.interpolation)
        rows, columns = self.crop
        top, left = self._margin(x.shape[-2] - rows), self._margin(x.shape[-1] - columns)
        return Preprocess(self.crop, self.mean, self.std).normalise(x[..., top : top + rows, left : left + columns])

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize
        short = min(height, width)
        return self.resize * height // short, self.resize * width // short

    def _margin(self, excess: int) -> int:
        return round(excess / 2) if self.centre == "round" else excess // 2


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
