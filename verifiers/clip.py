"""CLIPScore: how well an image matches its prompt, by the angle between two embeddings."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.loading.tower import TowerSource

CARD = Card(
    measures="match of image and prompt (CLIPScore; OpenAI's ViT-L/14, or any open_clip model)",
    range="0 to 2.5, usually 0.5 to 1",
    reference="Hessel et al. 2021, arXiv 2104.08718",
    size="1.7 GB",
    code_licence="MIT",
    weights_licence="MIT",
    prompt_limit="77 tokens",
    weights="timm/vit_large_patch14_clip_224.openai",
    agreement=51.0,
)

OUTPUTS = ("clipscore", "cosine", "logit")


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
    family = "clip"

    def __init__(
        self,
        model: str | Path = "ViT-L-14-quickgelu",
        pretrained: str | Path | None = "openai",
        *,
        output: str = "clipscore",
        chunks: bool = False,
        revision: str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the tower; nothing is loaded yet.

        Args:
            model: open_clip's model name, `hf-hub:org/repository`, `local-dir:/path`, or such a directory.
            pretrained: open_clip's tag or a weight file; used with a model name only.
            output: "clipscore" is 2.5 max(cos, 0); "cosine" the cosine itself, in [-1, 1], whose gradient doesn't stop
                at 0; "logit" exp(scale) cos + bias, what the model was trained with (SigLIP's is the log-odds of a
                match). All rank the images of one prompt alike, where the cosine is positive.
            chunks: a prompt beyond the token limit is cut at sentences and commas, each part is scored, and the
                cosines are averaged, instead of ignoring what is beyond the limit. Not the published score.
            revision: commit, tag or branch of the hub repository behind a tag or `hf-hub:` name; None for a pinned
                commit where one is known, else the main branch.
            device: where the tower runs; default where the images are.
            precision: of the tower, open_clip's name; embeddings and their product are float32 always.

        Raises:
            ValueError: an unknown output or precision, or OpenAI's weights without QuickGELU.
        """
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}; expected one of {OUTPUTS}")
        self.source = TowerSource(model, pretrained, revision=revision, precision=precision, device=device)
        self.output = output
        self.chunks = chunks

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights and scale; reads a local model's files once to hash them."""
        scale = {"clipscore": "2.5", "cosine": "cos", "logit": "logit"}[self.output]
        return f"{self.source.label}/{scale}" + ("/chunks" if self.chunks else "")

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower now."""
        self.source.tower(device)

    def unread(self, prompt: str) -> str:
        """The end of the prompt that is cut off."""
        return "" if self.chunks else self.source.unread(prompt)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the unit embeddings, on the scale of `output`."""
        tower = self.source.tower(images.device)
        texts = tower.chunked(prompts) if self.chunks else tower.text(prompts, self.name)
        cosine = (tower.image(images) * texts).sum(-1)
        if self.output == "cosine":
            return cosine
        if self.output == "clipscore":
            return 2.5 * cosine.clamp(min=0)
        scale, bias = tower.logit
        return scale * cosine + bias
