"""JPEG size, sharpness, saturation and brightness: closed forms, and other implementations of them."""

import io

import matplotlib.colors
import numpy as np
import PIL
import pytest
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

from contracts.verifier import VerifierContract
from verifiers import Brightness, JPEGSize, Saturation, Sharpness

ONE = [""]


class TestJPEGSize(VerifierContract):
    differentiable = False

    @pytest.fixture
    def verifier(self):
        return JPEGSize()


@pytest.mark.parametrize("verifier", [Sharpness(), Saturation(), Brightness()], ids=lambda one: one.name)
class TestMeasures(VerifierContract):
    pass


@pytest.fixture
def noise():
    """Four images whose values 8 bits hold exactly, 24 x 31."""
    return torch.randint(0, 256, (4, 3, 24, 31), generator=torch.Generator().manual_seed(0)) / 255


def eight_bit(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def flat(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 6, 5)


def test_brightness_of_colours_and_against_pillow(noise):
    images = flat((0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    np.testing.assert_allclose(Brightness()(images, ONE * 5), [0, 1, 0.299, 0.587, 0.114], atol=1e-6)
    pillow = [np.asarray(eight_bit(one).convert("L"), np.float64).mean() / 255 for one in noise]
    np.testing.assert_allclose(Brightness()(noise, ONE * 4), pillow, atol=1 / 255)


def test_brightness_does_not_depend_on_the_size(noise):
    large = torch.nn.functional.interpolate(noise, scale_factor=3, mode="nearest")
    for measure in (Brightness(), Saturation()):
        np.testing.assert_allclose(measure(large, ONE * 4), measure(noise, ONE * 4), atol=1e-6)


def test_saturation_of_colours_and_against_matplotlib(noise):
    images = flat((0, 0, 0), (0.5, 0.5, 0.5), (1, 0, 0), (0.2, 0.2, 0.1), (0.8, 0.6, 0.4))
    np.testing.assert_allclose(Saturation()(images, ONE * 5), [0, 0, 1, 0.5, 0.5], atol=1e-6)
    hsv = matplotlib.colors.rgb_to_hsv(noise.permute(0, 2, 3, 1).double().numpy())
    np.testing.assert_allclose(Saturation()(noise, ONE * 4), hsv[..., 1].mean((1, 2)), atol=1e-6)
    pillow = [np.asarray(eight_bit(one).convert("HSV"), np.float64)[..., 1].mean() / 255 for one in noise]
    np.testing.assert_allclose(Saturation()(noise, ONE * 4), pillow, atol=1 / 255)


def test_black_pixels_have_a_finite_gradient_of_saturation():
    images = torch.zeros(1, 3, 4, 4).requires_grad_()
    Saturation()(images, ONE, grad=True).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()


def test_sharpness_of_patterns_and_against_scipy(noise):
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = ((rows + columns) % 2).float().expand(1, 3, 64, 64)
    stripe = (columns == 20).float().expand(1, 3, 64, 64)
    # Laplacian -2 on the stripe, 1 on either side: mean 0, mean square (4 + 1 + 1) / 64
    np.testing.assert_allclose(Sharpness()(stripe, ONE), [6 / 64], atol=1e-6)
    # Inside, the checkerboard's is +-4; at the border a repeated pixel takes 1 away, in corners 2.
    square = (62**2 * 16 + 4 * 62 * 9 + 4 * 4) / 64**2
    np.testing.assert_allclose(Sharpness()(board, ONE), [square], atol=1e-4)
    assert Sharpness()(flat((0.3, 0.6, 0.9)), ONE).item() == pytest.approx(0, abs=1e-12)
    y = np.einsum("bchw,c->bhw", noise.double().numpy(), [0.299, 0.587, 0.114])
    expected = [scipy.ndimage.laplace(one, mode="nearest").var() for one in y]
    np.testing.assert_allclose(Sharpness()(noise, ONE * 4), expected, atol=1e-5)


def test_blur_lowers_sharpness(noise):
    blurred = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    assert (Sharpness()(blurred, ONE * 4) < 0.2 * Sharpness()(noise, ONE * 4)).all()


@pytest.mark.parametrize("quality", [95, 50])
def test_jpeg_is_pillows_file_with_the_sign_of_the_reward(noise, quality):
    sizes = []
    for one in noise:
        stream = io.BytesIO()
        eight_bit(one).save(stream, format="JPEG", quality=quality)
        sizes.append(len(stream.getvalue()) / 1000)
    np.testing.assert_allclose(JPEGSize("incompressibility", quality)(noise, ONE * 4), sizes, rtol=1e-6)
    np.testing.assert_allclose(JPEGSize(quality=quality)(noise, ONE * 4), [-size for size in sizes], rtol=1e-6)


def test_a_flat_image_compresses_best_and_a_larger_one_worse(noise):
    images = torch.cat([noise, torch.full((1, 3, 24, 31), 0.5)])
    assert JPEGSize()(images, ONE * 5).argmax() == 4
    assert JPEGSize("incompressibility")(images, ONE * 5).argmin() == 4
    large = torch.nn.functional.interpolate(noise, scale_factor=3, mode="nearest")
    assert (JPEGSize()(large, ONE * 4) < JPEGSize()(noise, ONE * 4)).all()


def test_jpeg_names_its_encoder():
    assert f"compressibility/q95/pillow-{PIL.__version__}/jpeg-" in JPEGSize().version
    assert JPEGSize().key != JPEGSize("incompressibility").key
