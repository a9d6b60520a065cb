"""Safety: a constraint that images must pass to win, never a reward."""

from collections.abc import Sequence
from functools import cached_property
from math import isfinite, log
from numbers import Real
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Kind, Verifier, WeightsError
from verifiers.card import Card
from verifiers.inputs.classifier import ClassifierInput
from verifiers.inputs.preprocess import clip_input
from verifiers.loading.pretrained import Pretrained

CARD = Card(
    measures="whether an image passes Stable Diffusion's safety checker, or a classifier of unsafe images",
    range="a margin: 0 and above passes, below 0 is rejected; usually -0.1 to 0.1",
    reference="CompVis/stable-diffusion-safety-checker; arXiv 2210.04610 on what it flags",
    size="1.2 GB",
    code_licence="Apache-2.0",
    weights_licence="not stated on its card; CreativeML OpenRAIL-M where it ships with Stable Diffusion",
    needs="images",
    weights="CompVis/stable-diffusion-safety-checker",
)

MODEL = "CompVis/stable-diffusion-safety-checker"
SIZE = 1_216_067_303
UNSAFE = frozenset({"nsfw", "unsafe"})
SPECIAL_CARE = 0.01
"""What the checker adds to every similarity of an image that needs special care."""

BLACK = -1.0
"""The value of an all-black image."""

MICRO_BATCH = 32


class Safety(Verifier):
    """A constraint: images with a value below zero cannot win a search.

    With Stable Diffusion's safety checker, the margin to its nearest concept: -max(cos(image, concept) - threshold),
    0.01 stricter for images near a concept that needs special care. The checker itself rounds to three decimals, so
    within 0.0005 its flags can differ. With a classifier, the log-odds by which P(unsafe) stays under `threshold`.

    Pipelines that check their own images return black ones in place of those they reject, so all-black images are
    rejected with the value -1. The images given are never changed. Weights load at the first call, which raises
    WeightsError where they are missing or do not fit.

    Example:
        >>> noise_search.search(prompt, verifier=["clip", Safety()])
    """

    name = "safety"
    kind: Kind = "constraint"
    prompt_agnostic = True

    def __init__(
        self,
        model: str | Path = MODEL,
        *,
        labels: Sequence[str] = tuple(sorted(UNSAFE)),
        threshold: float = 0.5,
        strictness: float = 0.0,
        reject_black: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Name the model; nothing is loaded yet.

        Args:
            model: hub id or directory of a safety checker, or of an image classifier of transformers, such as
                "Falconsai/nsfw_image_detection".
            labels: a classifier's unsafe classes, in any case; classes of these names that it lacks are ignored.
            threshold: the probability of them from which an image is rejected, in (0, 1).
            strictness: added to the checker's similarities; above 0 rejects more, as its authors suggest.
            reject_black: reject all-black images; False where a prompt asks for them.
            revision: commit, tag or branch of the hub repository; a pinned commit for the checker.
            dtype: of the weights; the checker's similarities and thresholds are float32 always, a classifier's logits
                are rounded to it.
            device: where the model runs; default where the images are.

        Raises:
            ValueError: a threshold outside (0, 1), a strictness that isn't finite, or no labels.
            TypeError: values of another type.
        """
        for option, value in (("threshold", threshold), ("strictness", strictness)):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{option} is {value!r:.80}; expected a number")
        if not isinstance(reject_black, bool):
            raise TypeError(f"reject_black is {reject_black!r:.80}; expected True or False")
        if not isfinite(strictness):
            raise ValueError(f"strictness is {strictness!r}; expected a finite number, such as 0.01")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold!r}; expected a probability between 0 and 1")
        if isinstance(labels, str) or not labels or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels is {labels!r}; expected the names of unsafe classes, such as ['nsfw']")
        self._published = str(model) == MODEL
        self._model_name, self._device, self._dtype = model, device, dtype
        self._revision = revision
        self.labels = tuple(sorted({label.lower() for label in labels}))
        self.threshold, self.strictness, self.reject_black = threshold, strictness, reject_black

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing files must not burden construction
        """Weights, thresholds, labels and the handling of black; reads local files once to hash them."""
        label = self._source("AutoModel").label
        how = f"{'+'.join(self.labels)}<{self.threshold:g}/{self.strictness:+g}"
        return f"{label}/{how}" + ("" if self.reject_black else "/black")

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the model now."""
        if self._is_checker:
            self._checker.model(device)
        else:
            _ = self._classifier.model(device), self._unsafe, self._input

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """The margin of each image, whatever the prompt."""
        margin = self._checked if self._is_checker else self._classified
        margins = torch.cat([margin(part) for part in torch.split(images, MICRO_BATCH)])
        if not self.reject_black:
            return margins
        black = images.detach().flatten(1).amax(1) < 0.5 / 255  # in every pixel, once it has 8 bits
        return margins.where(~black.to(margins.device), BLACK)

    def _checked(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """-max(cos - threshold + 0.01 where a special concept is over its own)."""
        checker = self._checker.model(images.device)
        inputs = clip_input(int(checker.config.vision_config.image_size), crop="floor")(images)
        inputs = inputs.to(checker.concept_embeds.device, checker.visual_projection.weight.dtype)
        embeddings = F.normalize(checker.visual_projection(checker.vision_model(inputs).pooler_output).float(), dim=-1)

        def over(concepts: Tensor, thresholds: Tensor) -> Tensor:
            return embeddings @ F.normalize(concepts.float(), dim=-1).T - thresholds.float() + self.strictness

        special = over(checker.special_care_embeds, checker.special_care_embeds_weights)
        care = SPECIAL_CARE * (special > 0).any(1)
        return -(over(checker.concept_embeds, checker.concept_embeds_weights).amax(1) + care)

    def _classified(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """Log-odds of the threshold less those of the unsafe classes, which unlike P neither saturate nor tie."""
        classifier = self._classifier.model(images.device)
        inputs = self._input(images).to(classifier.device, classifier.dtype)
        logits: Tensor = classifier(pixel_values=inputs).logits.float()
        safe = [i for i in range(logits.shape[1]) if i not in self._unsafe]
        limit = log(self.threshold / (1 - self.threshold))
        return limit + logits[:, safe].logsumexp(1) - logits[:, self._unsafe].logsumexp(1)

    @cached_property
    def _is_checker(self) -> bool:
        if self._published:
            return True
        source = self._source("AutoModel")
        names = source.config.architectures or []
        if any(name.endswith("SafetyChecker") for name in names):
            return True
        if any(name.endswith("ForImageClassification") for name in names):
            return False
        raise WeightsError(
            f"{source.model_id!r} is of class {', '.join(names) or 'none'}; expected StableDiffusionSafetyChecker or "
            "an image classifier"
        )

    @cached_property
    def _checker(self) -> Pretrained:
        size = SIZE if self._published else None
        return self._source("verifiers.loading.exact_models.SafetyChecker", safetensors=False, size=size)

    @cached_property
    def _classifier(self) -> Pretrained:
        return self._source("AutoModelForImageClassification")

    @cached_property
    def _unsafe(self) -> list[int]:
        known = {int(i): str(label) for i, label in self._classifier.config.id2label.items()}
        unsafe = [i for i, label in known.items() if label.lower() in self.labels]
        if not unsafe or len(unsafe) == len(known):
            raise WeightsError(
                f"{self._classifier.model_id!r} has the classes {sorted(known.values())}, of which "
                f"{'all' if unsafe else 'none'} are among {list(self.labels)}; name its unsafe ones as labels="
            )
        return unsafe

    @cached_property
    def _input(self) -> ClassifierInput:
        return ClassifierInput.of_transformers(self._classifier.part("AutoImageProcessor"))

    def _source(self, loader: str, **options: Any) -> Pretrained:
        return Pretrained(
            self._model_name, loader, revision=self._revision, dtype=self._dtype, device=self._device, **options
        )
