"""Self-supervised consistency: the angle between features of an x0 prediction on the way and of the finished image."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_dtype
from verifiers.base import Verifier, WeightsError, check_images
from verifiers.card import Card
from verifiers.inputs.classifier import ClassifierInput
from verifiers.loading import tower as towers
from verifiers.loading.pretrained import Pretrained
from verifiers.loading.tower import TowerSource

CARD = Card(
    measures="likeness of the finished image to the x0 prediction on its way (self-supervised, DINOv2 features)",
    range="cosine, -1 to 1",
    reference="Ma et al. 2025, arXiv 2501.09732",
    size="0.35 GB",
    code_licence="not published",
    weights_licence="Apache-2.0",
    needs="images and their x0 predictions at a noise level",
    weights="facebook/dinov2-base",
)

DINO = "facebook/dinov2-base"
DINO_INPUT = ClassifierInput(
    resize=256,
    crop=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    centre="floor",
)
"""DINOv2's preprocessing: shortest side to 256 pixels, bicubic, the middle 224 of them, normalised."""

DINO_KINDS, OTHER_KINDS = ("dinov2", "dinov2_with_registers"), ("vit", "deit", "dinov3_vit")
"""Models of transformers whose first token is a class token: with DINOv2's preprocessing, and with one of their own."""


class Consistency(Verifier):
    """cos(features of the x0 prediction at a noise level, features of the finished image), 1 where they are equal.

    Needs no label, no prompt and no reward model: samples whose outcome shows early score high. In the paper it follows
    a supervised logit on ImageNet, and gains next to nothing on text-to-image (Ma et al., 2501.09732, table 8). The
    backbone there is not published; here DINOv2's class token, or the embedding of a CLIP. The search hands in the x0
    prediction of the same trajectory, made at the grid point nearest to the noise level; that costs one more decode.

    Example:
        >>> Consistency()(images, prompts, x0=predictions)
        tensor([0.8312, 0.9047])
    """

    name = "consistency"
    needs = frozenset({"x0"})
    prompt_agnostic = True

    def __init__(
        self,
        noise_level: float = 0.4,
        features: str = "dino",
        *,
        model: str | Path | None = None,
        pretrained: str | Path | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
        revision: str | None = None,
    ) -> None:
        """Name the features; nothing is loaded yet.

        Args:
            noise_level: sigma / (alpha + sigma) of the x0 prediction, which for flow matching is t.
            features: "dino" for the class token of a vision model of transformers, or "clip" for the image embedding of
                an open_clip tower, which is shared with `CLIPScore` and its encoding of the finished image with it.
            model: the vision model as hub id or directory, or the tower as in `CLIPScore`; None for
                `facebook/dinov2-base`, and for OpenAI's ViT-L/14.
            pretrained: of the tower, as in `CLIPScore`.
            device: where the features are computed; default where the images are.
            precision: "fp32", "bf16" or "fp16" (of a tower, any of open_clip's names); features and their product are
                float32 always.
            revision: commit, tag or branch of the hub repository; None for the pinned commit, where one is known.

        Raises:
            ValueError: a noise level outside (0, 1), other features, or what the tower refuses.
        """
        if not isinstance(noise_level, int | float) or not 0 < noise_level < 1:
            raise ValueError(
                f"noise_level is {noise_level!r}; expected a number between 0 (clean) and 1 (pure noise), such as 0.4"
            )
        if features not in ("dino", "clip"):
            raise ValueError(
                f"features is {features!r}; expected 'dino' (a model of transformers) or 'clip' (open_clip)"
            )
        if features == "dino" and pretrained is not None:
            raise ValueError(f"pretrained={pretrained!r} belongs to features='clip'; name the model alone")
        self.noise_level, self.family = float(noise_level), features
        where: dict[str, Any] = {"device": device, "revision": revision}
        self.source: TowerSource | Pretrained
        if features == "dino":
            self.source = Pretrained(model or DINO, "AutoModel", dtype=as_dtype(precision, "precision"), **where)
        elif model is None:
            self.source = TowerSource("ViT-L-14-quickgelu", pretrained or "openai", precision=precision, **where)
        else:
            self.source = TowerSource(model, pretrained, precision=precision, **where)

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Noise level and features; reads a local model's files once to hash them."""
        return f"{self.noise_level:g}/{self.source.label}"

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the model now; WeightsError where it has no class token, or an input that isn't known."""
        if isinstance(self.source, Pretrained):
            _ = self._input, self.source.model(device)
        else:
            self.source.tower(device)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the features; NaN where the x0 prediction is not finite."""
        x0, finite = _checked(needs["x0"], images)
        # The finished images last, so that a tower that keeps its last batch has them for the next verifier.
        before = self._features(x0.to(images.device))
        cosine = (before * self._features(images)).sum(-1)
        return cosine.masked_fill(~finite.to(cosine.device), torch.nan)

    def describe(self) -> dict[str, Any]:
        """Everything that changes scores."""
        return {**super().describe(), "noise_level": self.noise_level}

    def _features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Unit embeddings of a tower, or unit class tokens after the last norm; float32."""
        if isinstance(self.source, TowerSource):
            return self.source.tower(images.device).image(images)
        model = self.source.model(images.device)
        weights = next(model.parameters())  # its device and dtype
        parts = (self._input(part).to(weights) for part in torch.split(images, towers.MICRO_BATCH))
        return torch.cat([F.normalize(model(part).last_hidden_state[:, 0].float(), dim=-1) for part in parts])

    @cached_property
    def _input(self) -> ClassifierInput:
        assert isinstance(self.source, Pretrained)
        kind = str(self.source.config.model_type)
        if kind in DINO_KINDS:
            return DINO_INPUT
        if kind not in OTHER_KINDS:
            raise WeightsError(
                f"{self.source.model_id} is a {kind!r}; its first token may be no class token: expected one of "
                f"{', '.join((*DINO_KINDS, *OTHER_KINDS))}, or features='clip'"
            )
        return ClassifierInput.of_transformers(self.source.part("AutoImageProcessor"))


def _checked(x0: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """The x0 predictions with grey for those that are not finite, and which are; ValueError, TypeError for others."""
    try:
        finite = check_images(x0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"x0: {error}") from None
    if len(x0) != len(images):
        raise ValueError(f"{len(images)} images but {len(x0)} x0 predictions; expected one per image")
    return torch.where(finite[:, None, None, None], x0, 0.5).float(), finite
