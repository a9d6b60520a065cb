"""Preprocessing on tensors against PIL, open_clip's own transform and transformers' PIL processor."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from verifiers.inputs.preprocess import MEAN, STD, Preprocess, pil_resize

CLIP = Preprocess((224, 224), MEAN, STD)


def picture(height: int, width: int, kind: str = "photo") -> Tensor:
    """8-bit values [3, height, width] as float: smooth with grain, hard edges, or noise."""
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    noise = torch.rand(3, height, width, generator=generator)
    if kind == "noise":
        return (noise * 255).round()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    if kind == "edges":
        board = ((y // 7 + x // 11) % 2 * 255).float()
        return torch.stack([board, 255 - board, (x > width // 2) * 255.0])
    waves = torch.stack([torch.sin(x / f) * torch.cos(y / (f + 9)) for f in (13.0, 41.0, 97.0)])
    return ((waves * 0.4 + 0.5 + 0.1 * (noise - 0.5)).clamp(0, 1) * 255).round()


def as_pil(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).to(torch.uint8).numpy())


def by_pil(pixels: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    resized = as_pil(pixels).resize((width, height), Image.Resampling[mode.upper()])
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()


def off(pixels: Tensor, *size: int | str) -> Tensor:
    """How far each value of the resized picture is from Pillow's."""
    return (pil_resize(pixels[None], *size)[0] - by_pil(pixels, *size)).abs()


@pytest.mark.parametrize("kind", ["photo", "edges", "noise"])
@pytest.mark.parametrize("size", [(512, 512), (512, 768), (640, 512)])
def test_resize_equals_pillow(kind, size):
    difference = off(picture(*size, kind), 224 * size[0] // 512, 224 * size[1] // 512)
    assert difference.max() <= 1
    # a regular board of 0 and 255 meets exact halves, rounded either way, more often than pictures do
    assert (difference == 0).float().mean() >= (0.99 if kind == "edges" else 0.999)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_resize_equals_the_installed_pillow_in_the_order_of_its_passes(mode):
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(9, 400, (28, 4)).tolist(), [777, 333, 522, 224], [333, 777, 224, 522]]
    for height, width, rows, columns in sizes:  # noise, where another order is off by up to 182 levels
        difference = off(picture(height, width, "noise"), rows, columns, mode)
        assert difference.max() <= 2, (height, width, rows, columns)
        assert (difference == 0).float().mean() >= 0.95, (height, width, rows, columns)


def test_resize_upwards_and_bilinear_equal_pillow():
    assert off(picture(64, 96), 224, 336).max() <= 2
    assert off(picture(64, 96), 32, 48, "bilinear").max() <= 1


def test_halving_is_exact():
    for mode in ("bicubic", "bilinear"):  # weights make exact halves, which Pillow rounds up
        assert off(picture(500, 700), 250, 350, mode).max() == 0


def test_a_single_pass_does_not_equal_pillow():
    pixels = picture(512, 512, "edges")
    once = F.interpolate(pixels[None], size=(224, 224), mode="bicubic", antialias=True, align_corners=False)
    difference = (once[0].clamp(0, 255).round() - by_pil(pixels, 224, 224)).abs()
    assert difference.max() > 1
    assert (difference == 0).float().mean() < 0.98


@pytest.mark.parametrize("size", [(832, 1216), (1216, 832), (512, 512), (300, 403), (403, 300)])
def test_equals_open_clip_transform(size):
    from open_clip.transform import image_transform

    pixels = picture(*size)
    expected = image_transform(224, is_train=False)(as_pil(pixels))
    _assert_equal(CLIP(pixels[None] / 255)[0], expected)


@pytest.mark.parametrize(
    ("size", "mode", "interpolation", "fill"),
    [
        (96, "squash", "bicubic", 0),
        (96, "longest", "bicubic", 127),
        (96, "shortest", "bilinear", 0),
        ((64, 96), "shortest", "bicubic", 0),
        ((64, 96), "longest", "bicubic", 0),
    ],
)
def test_other_modes_equal_open_clip_transform(size, mode, interpolation, fill):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    cfg = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=fill)
    ours = Preprocess.from_open_clip(vars(cfg))
    for height, width in [(200, 301), (301, 200), (128, 128)]:
        pixels = picture(height, width)
        expected = image_transform_v2(cfg, is_train=False)(as_pil(pixels))
        _assert_equal(ours(pixels[None] / 255)[0], expected, mean=1e-4)


def test_floor_crop_equals_transformers_processor():
    import transformers

    # The PIL processor got its own name after 5.0, where it is the only one.
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)()

    floor = Preprocess((224, 224), MEAN, STD, crop="floor")
    for size in [(832, 1216), (1216, 832), (512, 512)]:
        pixels = picture(*size)
        expected = processor(as_pil(pixels), return_tensors="pt").pixel_values[0]
        _assert_equal(floor(pixels[None] / 255)[0], expected)


def test_half_a_pixel_is_cropped_by_family():
    ramp = torch.arange(327.0).expand(1, 3, 224, 327).clamp(max=255) / 255
    for crop, offset in [("round", 52), ("floor", 51)]:
        one = Preprocess((224, 224), MEAN, STD, crop=crop)
        assert one.pixels(ramp)[0, 0, 0, 0] == offset


def test_gradient_goes_through_rounding_and_resizing():
    images = (picture(300, 400)[None] / 255).requires_grad_()
    CLIP(images).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    # each output pixel is a weighted mean of input pixels, so the crop's weights sum to its size
    per_channel = images.grad.sum((0, 2, 3)) * torch.tensor(STD)
    torch.testing.assert_close(per_channel, torch.full((3,), 224.0 * 224), rtol=0.02, atol=0)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match=r"resize_mode is 'fit'; expected one of"):
        Preprocess((8, 8), MEAN, STD, resize_mode="fit")


def _assert_equal(ours: Tensor, expected: Tensor, mean: float = 1e-5) -> None:
    difference = (ours - expected).abs()
    assert difference.max() <= 0.016
    assert difference.mean() <= mean
