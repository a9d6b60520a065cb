"""PickScore: human preference as the angle between image and prompt in a CLIP-H/14 fine-tuned on people's picks."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.inputs.preprocess import clip_input
from verifiers.inputs.tokens import TextCache, TokenLimit
from verifiers.loading.pretrained import Pretrained, TokenizerSource

CARD = Card(
    measures="human preference for an image of its prompt (PickScore, on CLIP ViT-H/14)",
    range="usually 18 to 25; only weakly comparable between prompts",
    reference="Kirstain et al. 2023, arXiv 2305.01569",
    size="3.9 GB",
    code_licence="MIT",
    weights_licence="not stated",
    prompt_limit="77 tokens",
    weights="yuvalkirstain/PickScore_v1",
    agreement=58.6,
)

MODEL = "yuvalkirstain/PickScore_v1"
SIZE = 3_940_000_000
MICRO_BATCH = 32
OUTPUTS = ("logit", "cosine")


class PickScore(Verifier):
    """PickScore of Kirstain et al. (2305.01569): exp(logit_scale) cos(image, text), usually 18 to 25.

    Prompts beyond 77 tokens are cut with a warning. Weights load at the first call, which raises WeightsError where
    they are missing or do not fit.

    Example:
        >>> PickScore()(images, ["a red circle"] * len(images))
        tensor([21.3142, 22.0418])
    """

    name = "pickscore"
    family = "clip"

    def __init__(
        self,
        model: str | Path = MODEL,
        *,
        output: str = "logit",
        tokenizer: str | Path | None = None,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Name the model; nothing is loaded yet.

        Args:
            model: hub id or directory of a `CLIPModel` of transformers.
            output: "logit", the published score, or "cosine", in [-1, 1].
            tokenizer: hub id or directory of the tokenizer; the model's own when None.
            revision: commit, tag or branch of the hub repository; a pinned commit for the published model.
            dtype: of the towers; embeddings, their product and the scale are float32 always.
            device: where the model runs; default where the images are.

        Raises:
            ValueError: another output or dtype.
        """
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}; expected one of {OUTPUTS}")
        self.source = Pretrained(
            model,
            "verifiers.loading.exact_models.ScaledCLIP",
            revision=revision,
            dtype=dtype,
            device=device,
            size=SIZE if str(model) == MODEL else None,
        )
        self.tokenizer = TokenizerSource(tokenizer or model, None if tokenizer else revision)
        self.output = output
        self.texts_encoded = 0
        self._own_tokenizer = tokenizer is None
        self._texts: dict[torch.device, TextCache] = {}

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing files must not burden construction
        """Weights, tokenizer where it is another one, and scale; reads local files once to hash them."""
        parts = [self.source.label] if self._own_tokenizer else [self.source.label, self.tokenizer.label]
        return "/".join([*parts, "cos" if self.output == "cosine" else "scaled"])

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the model and the tokenizer now."""
        self._model(device)

    def unread(self, prompt: str) -> str:
        """The end of the prompt that is cut off."""
        return self._limit.dropped(prompt)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the unit embeddings, scaled unless that itself is asked for."""
        model = self._model(images.device)
        embeddings = torch.cat([self._image(model, part) for part in torch.split(images, MICRO_BATCH)])
        cosine = (embeddings * self._text(model, prompts)).sum(-1)
        return cosine if self.output == "cosine" else cosine * model.logit_scale.float().exp()

    def _image(self, model: Any, images: Tensor) -> Tensor:
        inputs = clip_input(int(model.config.vision_config.image_size), crop="floor")(images)
        return _unit(model.get_image_features(pixel_values=inputs.to(model.device)))

    def _text(self, model: Any, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings; each distinct prompt is encoded once per device and kept."""
        texts = self._texts.setdefault(model.device, TextCache())
        return texts.get(prompts, lambda new: self._encode(model, new), MICRO_BATCH)

    def _encode(self, model: Any, prompts: list[str]) -> Tensor:
        for prompt in prompts:
            self._limit.check(prompt, self.name)
        self.texts_encoded += len(prompts)
        tokens = self.tokenizer.padded(prompts, self._limit.limit, model.device)
        with torch.no_grad():
            features = model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            return _unit(features)

    @cached_property
    def _limit(self) -> TokenLimit:
        text = getattr(self.source.config, "text_config", self.source.config)
        return TokenLimit.of(self.tokenizer.loaded, int(text.max_position_embeddings))

    def _model(self, device: torch.device | str | None) -> Any:
        model = self.source.model(device)
        self.tokenizer.check_fits(model.config.text_config.vocab_size, repr(self.source.label))
        return model


def _unit(features: Any) -> Tensor:
    # A tensor before transformers 5, then an output that holds it; products in half precision would tie.
    embeddings = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(embeddings.float(), dim=-1)
