"""The input of image classifiers: resize, crop the centre, normalise, on the device and equal to what PIL gives."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from verifiers.base import WeightsError
from verifiers.inputs.preprocess import FILTERS, Preprocess, class_of, three

PROCESSORS = (
    "BitImageProcessor",
    "CLIPImageProcessor",
    "DeiTImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
)
"""Those of transformers that do these steps and no others; ConvNeXt's and LeViT's enlarge before they crop."""


@dataclass(frozen=True)
class ClassifierInput:
    """Resize, crop, normalise; sizes in pixels.

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
        kind = class_of(processor)
        size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
        side, cropped = size.get("shortest_edge"), bool(getattr(processor, "do_center_crop", False))
        resize = side or (size.get("height", 0), size.get("width", 0))
        rows, columns = resize if isinstance(resize, tuple) else (resize, resize)
        whole = (rows, columns) if not cropped else (crop.get("height", 0), crop.get("width", 0))
        fits = kind in PROCESSORS and (cropped or not side) and 0 < whole[0] <= rows and 0 < whole[1] <= columns
        scaled = processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6 and processor.do_normalize
        if not fits or not scaled or not processor.do_resize or int(processor.resample) not in FILTERS:
            raise WeightsError(
                f"the image processor is a {kind} that resizes to {size} with filter {int(processor.resample)} and "
                f"crops to {whole if cropped else None}; expected a bilinear or bicubic resize, a crop within it and a "
                f"normalisation, by one of {', '.join(PROCESSORS)}"
            )
        mean, std = three(processor.image_mean), three(processor.image_std)
        return cls(resize, whole, mean, std, FILTERS[int(processor.resample)], "floor")

    @classmethod
    def of_torchvision(cls, preset: Any) -> "ClassifierInput":
        """What `torchvision.transforms._presets.ImageClassification` does to a PIL image."""
        (side,), (crop,) = preset.resize_size, preset.crop_size
        mean, std = three(preset.mean), three(preset.std)
        return cls(int(side), (int(crop), int(crop)), mean, std, str(preset.interpolation.value), "round")

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 rows columns"]:
        """The classifier's input, float32."""
        whole, mode = (self.resize, "squash") if isinstance(self.resize, tuple) else ((self.resize,) * 2, "shortest")
        return Preprocess(self.crop, self.mean, self.std, self.interpolation, mode, self.centre, resize=whole)(images)
