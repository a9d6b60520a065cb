"""ImageReward: human preference, learned from rankings of images of one prompt."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_device, as_dtype
from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.inputs.preprocess import clip_input
from verifiers.inputs.tokens import TokenLimit
from verifiers.loading import blip
from verifiers.loading.blip import BlipReward
from verifiers.loading.devices import indexed
from verifiers.loading.pretrained import TokenizerSource
from verifiers.loading.weights import WeightFile

CARD = Card(
    measures="human preference for an image of its prompt (ImageReward 1.0, on BLIP)",
    range="about -2.3 to 2; only weakly comparable between prompts",
    reference="Xu et al. 2023, arXiv 2304.05977",
    size="1.8 GB",
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    prompt_limit="35 tokens",
    weights="THUDM/ImageReward, google-bert/bert-base-uncased (tokenizer)",
    agreement=54.0,
)

PUBLISHED = WeightFile(
    "ImageReward.pt",
    "THUDM/ImageReward",
    sha256="d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6",
    size=1_786_880_927,
)
TOKENIZER = "google-bert/bert-base-uncased"
TOKENS = 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw reward; the published score is (raw - MEAN) / STD."""

MICRO_BATCH = 32


class ImageReward(Verifier):
    """ImageReward of Xu et al. (2304.05977): a reward trained on people's rankings of images of one prompt.

    About -2.3 to 2. Of the prompt it reads 35 tokens, about 25 words; longer ones are cut with a warning. Within a
    micro-batch, equal images go through the image tower once, and then together with each prompt. Weights load at the
    first call, which raises WeightsError where they are missing or do not fit.

    Example:
        >>> ImageReward()(images, ["a red circle"] * len(images))
        tensor([0.5812, -1.4132])
    """

    name = "image-reward"
    family = "blip"

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        tokenizer: str | Path = TOKENIZER,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Name the weights; nothing is loaded yet.

        Args:
            weights: a local `.pt` or `.safetensors` file with the original's key names; by default `ImageReward.pt` of
                `THUDM/ImageReward` at a pinned revision, checked by its hash.
            tokenizer: hub id or directory of the tokenizer; the published weights belong to BERT's, uncased.
            revision: another commit, tag or branch of `THUDM/ImageReward`.
            dtype: of both towers; the head is float32 always.
            device: where the model runs; default where the images are.

        Raises:
            ValueError: a revision of a local file.
        """
        if weights is not None and revision is not None:
            raise ValueError(f"revision {revision!r} is one of {PUBLISHED.repository}, but weights is a local file")
        if weights is not None:
            self.file = WeightFile.local(weights)
        elif revision is not None:
            self.file = WeightFile(PUBLISHED.filename, PUBLISHED.repository, revision)
        else:
            self.file = PUBLISHED
        self.tokenizer = TokenizerSource(tokenizer)
        self.dtype = as_dtype(dtype)
        self.device = None if device is None else as_device(device)
        self.images_encoded = 0
        self._models: dict[torch.device, BlipReward] = {}

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing files must not burden construction
        """Weights, tokenizer and dtype; reads local files once to hash them."""
        parts = [self.file.label, self.tokenizer.label]
        return "/".join(parts + ([str(self.dtype).removeprefix("torch.")] if self.dtype != torch.float32 else []))

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tokenizer and the weights now."""
        self._model(device)

    def unread(self, prompt: str) -> str:
        """The end of the prompt that is cut off."""
        return self._limit.dropped(prompt)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """The normalised reward of each image with its prompt."""
        model = self._model(images.device)
        for prompt in dict.fromkeys(prompts):
            self._limit.check(prompt, self.name)
        parts = range(0, len(images), MICRO_BATCH)
        rewards = [self._rewards(model, images[at : at + MICRO_BATCH], prompts[at : at + MICRO_BATCH]) for at in parts]
        return (torch.cat(rewards) - MEAN) / STD

    def _rewards(self, model: BlipReward, images: Tensor, prompts: Sequence[str]) -> Tensor:
        preprocess = clip_input(model.size, crop="round")
        pixels = preprocess.pixels(images).to(model.device)
        rows: Tensor | None = None
        if not pixels.requires_grad:
            pixels, rows = torch.unique(pixels, dim=0, return_inverse=True)
        self.images_encoded += len(pixels)
        tokens = model.image(preprocess.normalise(pixels))
        text = self.tokenizer.padded(prompts, TOKENS, model.device)
        return model.fuse(tokens if rows is None else tokens[rows], text.input_ids, text.attention_mask)

    @cached_property
    def _limit(self) -> TokenLimit:
        return TokenLimit.of(self.tokenizer.loaded, TOKENS)

    def _model(self, device: torch.device | str | None) -> BlipReward:
        where = indexed(self.device or device)
        if where not in self._models:
            model = blip.shared(self.file, self.dtype, where)
            self.tokenizer.check_fits(model.text.config.vocab_size, "the weights")
            self._models[where] = model
        return self._models[where]
