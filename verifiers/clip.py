"""CLIPScore: how well an image matches its prompt, by the angle between two embeddings."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Verifier
from .card import Card
from .tower import TowerSource

CARD = Card(
    measures="match of image and prompt (CLIPScore; OpenAI's ViT-L/14, or any open_clip model)",
    range="0 to 2.5, usually 0.5 to 1",
    reference="Hessel et al. 2021, arXiv 2104.08718",
    size="1.7 GB",
    code_licence="MIT",
    weights_licence="MIT",
    prompt_limit="77 tokens",
    weights="timm/vit_large_patch14_clip_224.openai",
)


class CLIPScore(Verifier):
    """CLIPScore of Hessel et al. (2104.08718), without their prompt prefix: 2.5 max(cos(image, text), 0).

    Any open_clip model; usual cosines are 0.2 to 0.4. Prompts beyond the tower's token limit are cut with a
    warning. Weights load at the first call, which raises WeightsError where they are missing or do not fit.

    Example:
        >>> clip = CLIPScore("ViT-L-14-quickgelu", "openai")
        >>> clip(images, ["a red circle"] * len(images))
        tensor([0.6403, 0.7127])
    """

    name = "clip"

    def __init__(
        self,
        model: str | Path = "ViT-L-14-quickgelu",
        pretrained: str | Path | None = "openai",
        *,
        raw: bool = False,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the tower; nothing is loaded yet.

        Args:
            model: open_clip's model name, `hf-hub:org/repository`, `local-dir:/path`, or such a directory.
            pretrained: open_clip's tag or a weight file; used with a model name only.
            raw: return the cosine itself, in [-1, 1]: the clamp at 0 also stops gradients.
            device: where the tower runs; default where the images are.
            precision: of the tower, open_clip's name; embeddings and their product are float32 always.

        Raises:
            ValueError: OpenAI's weights without QuickGELU, or an unknown precision.
        """
        self.source = TowerSource(model, pretrained, precision=precision, device=device)
        self.raw = raw

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights and scale; reads a local model's files once to hash them."""
        return f"{self.source.label}/{'cos' if self.raw else '2.5'}"

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower now."""
        self.source.tower(device)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the unit embeddings, scaled unless raw."""
        tower = self.source.tower(images.device)
        cosine = (tower.image(images) * tower.text(prompts)).sum(-1)
        return cosine if self.raw else 2.5 * cosine.clamp(min=0)
