"""Measures of the image alone, without weights: brightness, saturation, sharpness, JPEG size.

For tests, demos and diagnostics: their best images are known beforehand.
"""

import io
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card


class Brightness(Verifier):
    """Mean of 0.299 R + 0.587 G + 0.114 B over the pixels, in [0, 1].

    Does not depend on the image's size. Differentiable everywhere, and its best image is white: a search by it shows
    at a glance whether anything is searched at all.

    Example:
        >>> Brightness()(torch.ones(1, 3, 8, 8), [""])
        tensor([1.])
    """

    name = "brightness"
    family = "pixels"
    prompt_agnostic = True
    version = "1"
    card = Card(
        measures="brightness: mean luma, whatever the prompt; for tests, demos and diagnostics",
        range="0 (black) to 1 (white)",
        reference="luma of ITU-R Rec. 601",
        code_licence="a formula",
        needs="images",
    )

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Mean luma."""
        return luma(images).mean((1, 2))


class Saturation(Verifier):
    """Mean over the pixels of (max - min) / max of red, green and blue, 0 where a pixel is black; in [0, 1].

    Does not depend on the image's size. Near-black pixels count as much as bright ones, and their hue is mostly noise.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)
        >>> Saturation()(torch.stack([red, torch.ones_like(red)]), ["", ""])
        tensor([1., 0.])
    """

    name = "saturation"
    family = "pixels"
    prompt_agnostic = True
    version = "1"
    card = Card(
        measures="saturation: how far colours are from grey, whatever the prompt; for tests, demos and diagnostics",
        range="0 (grey) to 1 (pure colours)",
        reference="saturation of the HSV hexcone, Smith 1978",
        code_licence="a formula",
        needs="images",
    )

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Mean saturation."""
        pixels = images.clamp(0, 1)
        most, least = pixels.amax(1), pixels.amin(1)
        # A divisor of 0 would give black pixels a gradient that isn't finite, though another value is chosen there.
        divisor = torch.where(most > 0, most, 1.0)
        return ((most - least) / divisor).mean((1, 2))


class Sharpness(Verifier):
    """Variance over the pixels of the Laplacian of the luma (LAP4 / "variance of Laplacian" of focus measures).

    The Laplacian is the sum of the four neighbours less four times the pixel, the border repeated outwards; the
    variance divides by the number of pixels. Luma (Rec. 601) is in [0, 1]: multiply by 255² = 65025 for what tools of
    8-bit images print. It depends on the image's size: the same picture enlarged is less sharp per pixel, so compare
    images of one size. Noise and artefacts raise it.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy: a comparative study (ICPR 2000).

    Example:
        >>> Sharpness()(torch.full((1, 3, 8, 8), 0.5), [""])
        tensor([0.])
    """

    name = "sharpness"
    family = "pixels"
    prompt_agnostic = True
    version = "1"
    card = Card(
        measures="sharpness: variance of the Laplacian of the luma, whatever the prompt; for tests, demos and "
        "diagnostics",
        range="0 (flat) to about 16 (a checkerboard of pixels); noise counts as sharpness",
        reference="Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy",
        code_licence="a formula",
        needs="images",
    )

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Variance of the Laplacian."""
        y = luma(images)
        padded = F.pad(y[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        neighbours = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
        return (neighbours - 4 * y).flatten(1).var(1, unbiased=False)


class JPEGSize(Verifier):
    """Kilobytes (bytes / 1000) of the image as JPEG, negative for compressibility, as in DDPO (2305.13301).

    The file is Pillow's, of the image rounded to 8 bits, quality 95, chroma subsampled 4:2:0, without metadata. Sizes
    grow with the area of the image and differ between encoders, so `version` names Pillow and its JPEG library: compare
    images of one size and scores of one version. Not differentiable.

    Example:
        >>> JPEGSize("incompressibility")(images, [""])
        tensor([5.3920])
    """

    name = "jpeg"
    family = "pixels"
    prompt_agnostic = True
    card = Card(
        measures="compressibility (the smaller the JPEG the better) or incompressibility, whatever the prompt; for "
        "tests, demos and diagnostics",
        range="minus the kilobytes of the file, or plus; grows with the image's area",
        reference="DDPO, Black et al. 2023, arXiv 2305.13301",
        code_licence="MIT",
        needs="images",
        differentiable=False,
    )

    def __init__(
        self, reward: Literal["compressibility", "incompressibility"] = "compressibility", quality: int = 95
    ) -> None:
        """Say what is better.

        Args:
            reward: "compressibility" likes small files, "incompressibility" large ones.
            quality: of the JPEG, 1 to 95; 95 is the published one.

        Raises:
            ValueError: another reward or quality.
            TypeError: a quality that is no whole number.
        """
        if reward not in ("compressibility", "incompressibility"):
            raise ValueError(f"reward is {reward!r}; expected 'compressibility' or 'incompressibility'")
        given: Any = quality
        if isinstance(given, bool) or not isinstance(given, Integral):
            raise TypeError(f"quality is {quality!r:.80}; expected a whole number from 1 to 95")
        if not 1 <= quality <= 95:
            raise ValueError(f"quality is {quality}; expected 1 to 95: beyond, JPEG hardly compresses")
        self.reward, self.quality = reward, int(quality)

    @property
    def version(self) -> str:  # type: ignore[override]  # asks the encoder, which importing this file must not load
        """Reward, quality and encoder."""
        import PIL
        from PIL import features

        library = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
        return f"{self.reward}/q{self.quality}/pillow-{PIL.__version__}/jpeg-{library}"

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Size of every image's file."""
        pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        sign = -1 if self.reward == "compressibility" else 1
        return torch.tensor([sign * self._bytes(one) / 1000 for one in pixels], device=images.device)

    def _bytes(self, pixels: np.ndarray) -> int:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=self.quality)
        return stream.tell()


def luma(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch height width"]:
    """Y = 0.299 R + 0.587 G + 0.114 B (ITU-R Rec. 601) of gamma-encoded values, in [0, 1] where they are."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor((0.299, 0.587, 0.114)))
