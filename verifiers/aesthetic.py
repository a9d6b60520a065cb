"""LAION's aesthetic predictors: an affine map on the unit image embedding of a CLIP tower."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier, WeightsError
from verifiers.card import Card
from verifiers.loading.tower import Tower, TowerSource
from verifiers.loading.weights import Head, WeightFile, collapsed_head, linear_head

CARD = Card(
    measures="visual appeal whatever the prompt (LAION aesthetic predictor v2 on OpenAI's ViT-L/14)",
    range="about 1 to 10, generated images 4.5 to 7",
    reference="github.com/christophschuhmann/improved-aesthetic-predictor",
    size="1.7 GB, shared with clip, and 3.7 MB",
    code_licence="Apache-2.0",
    weights_licence="tower MIT; head v1 MIT, v2 not stated",
    needs="images",
    weights="timm/vit_large_patch14_clip_224.openai, trl-lib/ddpo-aesthetic-predictor",
)

V2 = WeightFile(
    "aesthetic-model.pth",
    "trl-lib/ddpo-aesthetic-predictor",
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    size=3_714_759,
)
"""The head of christophschuhmann/improved-aesthetic-predictor, sac+logos+ava1-l14-linearMSE.pth, under another name."""

_V1 = {
    "ViT-L-14": ("l_14", "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba"),
    "ViT-B-32": ("b_32", "c7b14cead230694acc7b9447974d3cad78003c72da032e402a303b6c2429e85f"),
    "ViT-B-16": ("b_16", "8ad3923d7ecf019df20ecd2ab5542a3075fbba0278d239c0371345f3d7fcbde0"),
}


def v1(tower: str) -> WeightFile:
    """The published v1 head of OpenAI's tower with this open_clip name; ValueError where there is none."""
    if (name := tower.removesuffix("-quickgelu")) not in _V1:
        raise ValueError(f"no v1 head is published for tower {tower!r}; expected one of {sorted(_V1)}, or pass weights")
    short, sha256 = _V1[name]
    file = f"sa_0_4_vit_{short}_linear.pth"
    return WeightFile(file, sha256=sha256, address=f"https://github.com/LAION-AI/aesthetic-predictor/raw/main/{file}")


class Aesthetic(Verifier):
    """How pleasing an image is, whatever the prompt; about 1 to 10, generated images 4.5 to 7.

    "v2" is the `sac+logos+ava1-l14-linearMSE` head: five Linear layers without activations between them,
    which are one affine map (collapsed here in float64). "v1" is one Linear layer. On the tower of a
    `CLIPScore` it shares that one's image encoding. Prompt-free, hence easily hacked: judge with another.
    Weights load at the first call, which raises WeightsError where they are missing or do not fit.

    Source: christophschuhmann/improved-aesthetic-predictor and LAION-AI/aesthetic-predictor.

    Example:
        >>> Aesthetic()(images, prompts)
        tensor([5.31, 6.02])
    """

    name = "aesthetic"
    family = "clip"
    prompt_agnostic = True

    def __init__(
        self,
        weights: str | Path | None = None,
        version: str = "v2",
        *,
        model: str | Path = "ViT-L-14-quickgelu",
        pretrained: str | Path | None = "openai",
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the head and its tower; nothing is loaded yet.

        Args:
            weights: the head, a `.safetensors` or `.pth` file; by default the published one (v2 from
                `trl-lib/ddpo-aesthetic-predictor` on the Hugging Face hub, v1 from LAION-AI/aesthetic-predictor on
                GitHub), checked against its hash.
            version: "v2" a chain of Linear layers (keys `layers.{0,2,4,6,7}.{weight,bias}` or a shorter chain
                without activations), "v1" one Linear layer (keys `weight`, `bias`).
            model: the tower, as in `CLIPScore`; the published heads belong to the default one.
            pretrained: the tower's weights, as in `CLIPScore`.
            device: where the tower runs; default where the images are.
            precision: of the tower, open_clip's name; the head is float32 always.

        Raises:
            ValueError: an unknown version, a tower without a published v1 head, or what the tower refuses.
        """
        if version not in ("v1", "v2"):
            raise ValueError(f"version is {version!r}; expected 'v1' (one Linear layer) or 'v2' (a chain of them)")
        self.source = TowerSource(model, pretrained, precision=precision, device=device)
        self.head_version = version
        if weights is not None:
            self.file = WeightFile.local(weights)
        else:
            self.file = V2 if version == "v2" else v1(str(model))

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing files must not burden construction
        """Head and tower; reads local files once to hash them."""
        return f"{self.head_version}/{self.file.label}/{self.source.label}"

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower and the head now."""
        self._fitting_head(self.source.tower(device))

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """The affine map of the unit embeddings."""
        tower = self.source.tower(images.device)
        head = self._fitting_head(tower)
        return tower.image(images) @ head.weight.to(tower.device) + head.bias.to(tower.device)

    def describe(self) -> dict[str, Any]:
        """Everything that changes scores."""
        return {**super().describe(), "weights_sha256": self.file.hash}

    @cached_property
    def _head(self) -> Head:
        with torch.inference_mode(False):  # kept tensors must also serve a later gradient
            tensors = self.file.tensors()
            head = linear_head(tensors) if self.head_version == "v1" else collapsed_head(tensors)
        return head

    def _fitting_head(self, tower: Tower) -> Head:
        width = tower.image_width
        if len(self._head.weight) != width:
            raise WeightsError(
                f"the head of {self.file.path.name!r} takes embeddings of width {len(self._head.weight)}, but "
                f"tower {self.source.label!r} makes {width}; use the tower that the head was trained on"
            )
        return self._head
