"""Image classifiers of transformers, such as the linear head that DINOv2 was published with."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import WeightsError
from verifiers.classes.classifier import Classifier, batched_logits
from verifiers.classes.names import ClassNames, split
from verifiers.inputs.classifier import ClassifierInput
from verifiers.loading.pretrained import Pretrained

DINO = "facebook/dinov2-base-imagenet1k-1-layer"
"""DINOv2's ViT-B/14 with one linear layer on its class token and the mean of its patches (2304.07193)."""


class TransformersClassifier(Classifier):
    """The logits of any `AutoModelForImageClassification`; its classes are called as its configuration says."""

    def __init__(
        self,
        model: str | Path = DINO,
        classes: Sequence[str] | None = None,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Name the model: a hub id or a directory; `classes` replaces the names in its configuration."""
        self.source = Pretrained(
            model, "AutoModelForImageClassification", revision=revision, dtype=dtype, device=device
        )
        self._classes = classes

    @property
    def label(self) -> str:
        """The model's."""
        return self.source.label

    @cached_property
    def names(self) -> ClassNames:
        """Commas part the synonyms of a class in a configuration, as in ImageNet's "tench, Tinca tinca"."""
        known = {int(number): str(name) for number, name in self.source.config.id2label.items()}
        if self._classes is None:
            return ClassNames(split(known[number]) for number in sorted(known))
        if len(self._classes) != len(known):
            raise WeightsError(f"{self.label} has {len(known)} classes but {len(self._classes)} names were given")
        return ClassNames((name,) for name in self._classes)

    def load(self, device: torch.device | str | None) -> None:
        """Load the model now."""
        _ = self._input, self.source.model(device)

    def logits(
        self, images: Float[Tensor, "batch 3 height width"], among: Sequence[int] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """What the model gives for images prepared as its own processor does."""
        model = self.source.model(images.device)
        return batched_logits(model, lambda inputs: model(pixel_values=inputs).logits, self._input, images, among)

    @cached_property
    def _input(self) -> ClassifierInput:
        return ClassifierInput.of_transformers(self.source.part("AutoImageProcessor"))
