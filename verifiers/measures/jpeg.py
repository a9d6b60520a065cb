"""JPEG size: how well an image compresses, or how badly."""

import io
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card

CARD = Card(
    measures="compressibility (the smaller the JPEG the better) or incompressibility, whatever the prompt; for tests, "
    "demos and diagnostics",
    range="minus the kilobytes of the file, or plus; grows with the image's area",
    reference="DDPO, Black et al. 2023, arXiv 2305.13301",
    code_licence="MIT",
    needs="images",
    differentiable=False,
)


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
