"""Zero-shot classification with an open_clip model: the texts of each class, averaged over templates."""

import importlib
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.classes.classifier import Classifier
from verifiers.classes.names import ClassNames, digest, with_wordnet
from verifiers.loading import notices
from verifiers.loading.tower import Tower, TowerSource

MICRO_BATCH = 64
SAID_FROM = 4096
"""Texts beyond which a notice says what is being waited for."""

Template = str | Callable[[str], str]


class ZeroShot(Classifier):
    """The prompt-engineered classifier of Radford et al. (2103.00020), as open_clip builds it.

    A class's column is the mean over templates of its texts' unit embeddings, made a unit vector; its logit is
    exp(logit_scale) times its cosine with the image (100 in OpenAI's models), and SigLIP's bias.

    Columns are encoded when they are first asked for, so one class costs one text per template (80 texts take ViT-L/14
    10 s on one CPU core): the 80 000 texts of all of ImageNet's are needed for probabilities only.
    """

    def __init__(
        self, source: TowerSource, classes: Sequence[str] | None = None, templates: Sequence[Template] | None = None
    ) -> None:
        """Take the tower, the classes (None for ImageNet's 1000) and the templates (None for OpenAI's 80)."""
        self.source = source
        self._classes = None if classes is None else tuple(classes)
        self._templates = None if templates is None else tuple(templates)
        self._blocks: dict[torch.device, dict[int, Tensor]] = {}

    @cached_property
    def label(self) -> str:
        """The tower, and a hash of every text."""
        texts = (text for number in range(len(self.classes)) for text in self.texts(number))
        return f"{self.source.label}/{len(self.classes)}x{len(self.templates)}/{digest(texts)}"

    @cached_property
    def names(self) -> ClassNames:
        """A class of the user's own is called as it is written; ImageNet's have WordNet's names too."""
        return with_wordnet(self.classes) if self._classes is None else ClassNames((name,) for name in self._classes)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What the templates are filled with."""
        return self._classes or tuple(importlib.import_module("open_clip").IMAGENET_CLASSNAMES)

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """Texts with "{}" for the class, or functions of it."""
        return self._templates or tuple(importlib.import_module("open_clip").OPENAI_IMAGENET_TEMPLATES)

    def texts(self, number: int) -> list[str]:
        """What is encoded for a class, one text per template."""
        name = self.classes[number]
        return [fill.replace("{}", name) if isinstance(fill, str) else fill(name) for fill in self.templates]

    def load(self, device: torch.device | str | None) -> None:
        """Load the tower now."""
        self.source.tower(device)

    def logits(
        self, images: Float[Tensor, "batch 3 height width"], among: Sequence[int] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Scaled cosines of the images with the classes' columns."""
        tower = self.source.tower(images.device)
        scale, bias = tower.logit
        return scale * (tower.image(images) @ self.columns(tower, among).T) + bias

    def columns(self, tower: Tower, among: Sequence[int] | None = None) -> Float[Tensor, "classes dim"]:
        """The unit columns of the classes `among`, or of all, as rows; each is encoded once per device."""
        wanted = range(len(self.classes)) if among is None else among
        # Blocks of classes are fixed, so that a column never depends on which others are asked for.
        size = max(1, MICRO_BATCH // len(self.templates))
        known = self._blocks.setdefault(tower.device, {})
        missing = sorted({number // size for number in wanted} - known.keys())
        numbers = {block: range(len(self.classes))[block * size : (block + 1) * size] for block in missing}
        if (texts := sum(map(len, numbers.values())) * len(self.templates)) > SAID_FROM:
            notices.loading(f"a zero-shot classifier: encoding {texts} texts")
        with torch.inference_mode(False), torch.no_grad():
            for block in missing:
                known[block] = self._encoded(tower, numbers[block])
        return torch.stack([known[number // size][number % size] for number in wanted])

    def _encoded(self, tower: Tower, numbers: Sequence[int]) -> Float[Tensor, "block dim"]:
        texts = [text for number in numbers for text in self.texts(number)]
        parts = [texts[start : start + MICRO_BATCH] for start in range(0, len(texts), MICRO_BATCH)]
        units = torch.cat([_units(tower, part) for part in parts])
        return F.normalize(units.view(len(numbers), len(self.templates), -1).mean(1), dim=-1)


def _units(tower: Tower, texts: list[str]) -> Tensor:
    # Past the tower's cache of prompts, which these many texts would empty.
    for text in texts:
        tower.limit.check(text)
    tower.texts_encoded += len(texts)
    return F.normalize(tower.model.encode_text(tower.tokenizer(texts).to(tower.device)).float(), dim=-1)
