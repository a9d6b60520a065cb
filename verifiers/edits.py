"""How far an edit went, and whether in the right direction: CLIP's embeddings of an image, its source and captions."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.loading.tower import Tower, TowerSource

CARD = Card(
    measures="whether an image left its source as the captions do (directional similarity of CLIP, ViT-L/14 or any of "
    "open_clip's)",
    range="cosine, -1 to 1, usually 0 to 0.3; 0 where nothing was edited",
    reference="Gal et al. 2022, arXiv 2108.00946; Brooks et al. 2023, arXiv 2211.09800",
    size="1.7 GB, shared with clip",
    code_licence="MIT",
    weights_licence="MIT",
    prompt_limit="77 tokens",
    needs="images, prompts and the source image",
    weights="timm/vit_large_patch14_clip_224.openai",
)


class CLIPImage(Verifier):
    """cos(CLIP(image), CLIP(source)): how much of the source is kept, 1 where all is.

    Not a goal by itself: its best image is the source. InstructPix2Pix (Brooks et al., 2211.09800) draws it over
    `CLIPDirection`. The search hands in the source, `image` among the options of the model's call; see `Verifier`.

    Example:
        >>> CLIPImage()(images, prompts, source=source)
        tensor([0.8915, 0.7730])
    """

    name = "clip-image"
    family = "clip"
    needs = frozenset({"source"})
    prompt_agnostic = True
    card = Card(
        measures="how much of its source an image keeps (likeness of CLIP's image embeddings)",
        range="cosine, -1 to 1, usually 0.6 to 1",
        reference="Brooks et al. 2023, arXiv 2211.09800",
        size=CARD.size,
        code_licence=CARD.code_licence,
        weights_licence=CARD.weights_licence,
        needs="images and their source",
        weights=CARD.weights,
    )

    def __init__(
        self,
        model: str | Path = "ViT-L-14-quickgelu",
        pretrained: str | Path | None = "openai",
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the tower, as in `CLIPScore`; nothing is loaded yet. Raises ValueError as there."""
        self.clip = TowerSource(model, pretrained, revision=revision, precision=precision, device=device)

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights; reads a local model's files once to hash them."""
        return self.clip.label

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower now."""
        self.clip.tower(device)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the unit embeddings."""
        tower = self.clip.tower(images.device)
        return (tower.image(images) * _embedded(tower, needs["source"])).sum(-1)


class CLIPDirection(Verifier):
    """cos(CLIP(image) - CLIP(source), CLIP(target caption) - CLIP(source caption)), of unit embeddings.

    The directional similarity of StyleGAN-NADA (Gal et al., 2108.00946), by which InstructPix2Pix (Brooks et al.,
    2211.09800) is measured. Small edits have a direction, too, so hold it together with `CLIPImage`. The search hands
    in the source, `image` among the options of the model's call; see `Verifier`.

    Example:
        >>> clip = CLIPDirection(source_prompt="a red circle")
        >>> clip(images, ["a blue circle"] * len(images), source=source)
        tensor([0.2147, 0.0331])
    """

    name = "clip-direction"
    family = "clip"
    needs = frozenset({"source"})

    def __init__(
        self,
        model: str | Path = "ViT-L-14-quickgelu",
        pretrained: str | Path | None = "openai",
        *,
        source_prompt: str | None = None,
        target_prompt: str | Mapping[str, str] | None = None,
        revision: str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the tower, as in `CLIPScore`; nothing is loaded yet.

        Args:
            model, pretrained, revision, device, precision: as in `CLIPScore`.
            source_prompt: what the source shows; nothing is scored without it.
            target_prompt: what an edited image should show, one caption, or one for each prompt; None takes the prompts
                themselves, which suits models whose prompts are captions and not instructions.

        Raises:
            ValueError: as `CLIPScore`.
        """
        self.clip = TowerSource(model, pretrained, revision=revision, precision=precision, device=device)
        self.source_prompt, self.target_prompt = source_prompt, target_prompt

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights, and a hash of the captions; reads a local model's files once to hash them."""
        captions = json.dumps([self.source_prompt, self.target_prompt], sort_keys=True, default=dict)
        return f"{self.clip.label}/{hashlib.sha256(captions.encode()).hexdigest()[:8]}"

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower now."""
        self.clip.tower(device)

    def check(self, prompts: Sequence[str]) -> None:
        """Raise ValueError without a caption of the source, or one of the edited image that says something else."""
        if self.source_prompt is None:
            raise ValueError(f"verifier {self.name!r} needs a caption of the source image: give it source_prompt=")
        for prompt in prompts:
            if self._target(prompt) == self.source_prompt:
                raise ValueError(
                    f"verifier {self.name!r} has one caption of source and edited image, {self.source_prompt!r}: give "
                    "it target_prompt=, or another prompt"
                )

    def unread(self, prompt: str) -> str:
        """The end of the caption of the edited image that is cut off."""
        return self.clip.unread(self._target(prompt))

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the differences; 0 where an image is its source."""
        self.check(prompts)
        tower = self.clip.tower(images.device)
        wanted = tower.text([self._target(prompt) for prompt in prompts], self.name)
        captioned = tower.text([str(self.source_prompt)], self.name)
        return F.cosine_similarity(tower.image(images) - _embedded(tower, needs["source"]), wanted - captioned, dim=-1)

    def describe(self) -> dict[str, Any]:
        """Everything that changes scores."""
        target = dict(self.target_prompt) if isinstance(self.target_prompt, Mapping) else self.target_prompt
        return {**super().describe(), "source_prompt": self.source_prompt, "target_prompt": target}

    def _target(self, prompt: str) -> str:
        if not isinstance(self.target_prompt, Mapping):
            return prompt if self.target_prompt is None else self.target_prompt
        if prompt not in self.target_prompt:
            raise ValueError(f"verifier {self.name!r} has no target_prompt for {prompt!r}: add what it should show")
        return self.target_prompt[prompt]


def _embedded(tower: Tower, source: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "1 dim"]:
    """The source's unit embedding; the tower goes on keeping the images', which other verifiers look at, too."""
    return tower.embed(tower.preprocess.normalise(tower.preprocess.pixels(source.to(tower.device))))
