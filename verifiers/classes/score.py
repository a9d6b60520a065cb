"""Class-conditional scores: how sure a classifier is that an image shows the class that was asked for."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_dtype
from verifiers.base import Verifier
from verifiers.card import Card
from verifiers.classes.classifier import Classifier
from verifiers.classes.clip import Template, ZeroShot
from verifiers.classes.names import digest, folded
from verifiers.classes.torchvision import INCEPTION, TorchvisionClassifier
from verifiers.classes.transformers import DINO, TransformersClassifier
from verifiers.loading.tower import TowerSource

CARD = Card(
    measures="how sure a classifier is of the class asked for (CLIP zero-shot, DINOv2's linear head, Inception v3)",
    range="logits: CLIP usually 15 to 35, DINOv2 -5 to 25; log-probabilities below 0; probabilities 0 to 1",
    reference="Ma et al. 2025, arXiv 2501.09732; zero-shot: Radford et al. 2021, arXiv 2103.00020",
    size="1.7 GB, shared with clip; DINOv2 0.35 GB, Inception v3 0.11 GB",
    code_licence="MIT; DINOv2 Apache-2.0, torchvision BSD-3-Clause",
    weights_licence="CLIP MIT, DINOv2 Apache-2.0, Inception v3 not stated",
    prompt_limit="the prompt is a class's name or number",
    needs="images and a class: the prompt, or label=",
    weights=f"timm/vit_large_patch14_clip_224.openai, {DINO}, torchvision {INCEPTION}",
)

BACKENDS = {"clip": "logit", "dinov2": "logit", "inception": "probability"}
"""Classifiers, and the output that each has in Ma et al. (2501.09732)."""

OUTPUTS = ("logit", "log-probability", "probability")


class ClassScore(Verifier):
    """The score that a classifier gives the class asked for: the verifiers of Ma et al. (2501.09732) on ImageNet.

    The class is `label`, else each prompt is one: a name, in any case, or a number as text. So class-conditional
    pipelines such as DiT, whose prompts are labels, need nothing more. ImageNet's classes answer to every WordNet
    synonym; a name that several have ("crane") is refused with their numbers.

    A logit ranks the images of one class by that class alone, a probability by what else they could be: it rewards a
    clear class, but doesn't mind what no class stands for, such as a second object of the same. Near 1 probabilities
    tie in float32 long before log-probabilities do. Inception v3 is torchvision's, not the port on which FID
    and the Inception score are defined. Weights load at the first call, which raises WeightsError where they are
    missing or do not fit.

    Example:
        >>> ClassScore("dinov2")(images, ["golden retriever"] * len(images))
        tensor([14.2318, 9.0471])
        >>> ClassScore("clip", classes=["a cat", "a dog"], templates=["{}", "a photo of {}"], label="a dog")
    """

    name = "class"

    def __init__(
        self,
        backend: str = "clip",
        *,
        label: str | int | None = None,
        output: str | None = None,
        model: str | Path | None = None,
        pretrained: str | Path | None = None,
        classes: Sequence[str] | None = None,
        templates: Sequence[Template] | None = None,
        revision: str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the classifier; nothing is loaded yet.

        Args:
            backend: "clip" compares images with the texts of each class, in an open_clip tower that is shared with
                `CLIPScore`; "dinov2" is an image classifier of transformers; "inception" one of torchvision.
            label: the class of all images, by name or number; None takes each image's prompt.
            output: "logit", "log-probability" or "probability" among all classes; None for the paper's: logits, and
                the probability for Inception. With "clip", the last two encode the texts of all classes once, which
                for ImageNet's takes a GPU.
            model: None for OpenAI's ViT-L/14, `facebook/dinov2-base-imagenet1k-1-layer`, Inception v3; else an
                open_clip model as in `CLIPScore`; hub id or directory of an `AutoModelForImageClassification`;
                torchvision's name of a classifier.
            pretrained: open_clip's tag, or torchvision's; or a weight file. Not for "dinov2".
            classes: names of the classes; None for ImageNet's 1000, or those of the model of "dinov2".
            templates: of "clip", texts with "{}" for the class, or functions of it; None for OpenAI's 80.
            revision: commit, tag or branch of a hub repository. Not for "inception".
            device: where the classifier runs; default where the images are.
            precision: "fp32", "bf16" or "fp16", for "clip" also open_clip's others; the last product, and with it the
                scores, are float32 always.

        Raises:
            ValueError: an unknown backend, output or precision, options of another backend, or "clip" with a class
                that is there twice.
            TypeError: a label, classes or templates of another type.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}; expected one of {tuple(BACKENDS)}")
        output = BACKENDS[backend] if output is None else output
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}; expected one of {OUTPUTS}")
        if isinstance(label, bool) or not isinstance(label, str | int | None):
            raise TypeError(f"label is {label!r}; expected a class's name or number, or None for the prompts")
        unused = {"inception": ("templates", "revision"), "dinov2": ("templates", "pretrained")}.get(backend, ())
        given = {"templates": templates, "revision": revision, "pretrained": pretrained}
        for option in unused:
            if given[option] is not None:
                raise ValueError(f"{option}={given[option]!r:.80} does nothing with backend {backend!r}; leave it out")
        classes = None if classes is None else _listed("classes", classes, least=2)
        templates = None if templates is None else _listed("templates", templates, least=1)
        if backend == "clip" and classes is not None:
            known = [folded(name) for name in classes]  # the probability of a class that is there twice would be split
            if twice := [name for at, name in enumerate(classes) if known[at] in known[:at]]:
                raise ValueError(f"classes holds {twice[0]!r:.80} twice; expected distinct names")
        self.backend, self.label, self.output = backend, label, output
        self.family = "dino" if backend == "dinov2" else backend
        # A zero-shot classifier's own label covers its texts; the others' weights don't know what classes are called.
        self._renamed = "" if classes is None or backend == "clip" else f"/{digest(classes)}"
        self.classifier: Classifier
        if backend == "clip":
            if model is None:
                model, pretrained = "ViT-L-14-quickgelu", pretrained or "openai"
            source = TowerSource(model, pretrained, revision=revision, precision=precision, device=device)
            self.classifier = ZeroShot(source, classes, templates)
            return
        where: dict[str, Any] = {"dtype": as_dtype(precision, "precision"), "device": device}
        if backend == "dinov2":
            self.classifier = TransformersClassifier(model or DINO, classes, revision=revision, **where)
        else:
            self.classifier = TorchvisionClassifier(str(model or INCEPTION), pretrained, classes, **where)

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights, texts, output, and the label where it is fixed; reads a local model's files once to hash them."""
        fixed = "" if self.label is None else f"/label={self.label}"
        return f"{self.backend}/{self.classifier.label}{self._renamed}/{self.output}{fixed}"

    @property
    def prompt_agnostic(self) -> bool:  # type: ignore[override]
        """Whether the class is `label` for all images."""
        return self.label is not None

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the classifier now, and find the label in it where it is fixed."""
        self.classifier.load(device)
        names = self.classifier.names
        if self.label is not None:
            names.find(self.label)

    def check(self, prompts: Sequence[str]) -> None:
        """Find every prompt's class; ValueError names the nearest where it is none."""
        if self.label is None:
            for prompt in dict.fromkeys(prompts):
                self.classifier.names.find(prompt)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """What the classifier says of each image's class."""
        names = self.classifier.names
        wanted = [names.find(prompt if self.label is None else self.label) for prompt in prompts]
        if self.output == "logit":
            among = sorted(set(wanted))
            return _chosen(self.classifier.logits(images, among), [among.index(number) for number in wanted])
        log_probability = _chosen(self.classifier.logits(images).log_softmax(1), wanted)
        return log_probability if self.output == "log-probability" else log_probability.exp()


def _chosen(values: Float[Tensor, "batch classes"], columns: list[int]) -> Float[Tensor, " batch"]:
    return values.gather(1, torch.tensor(columns, device=values.device)[:, None])[:, 0]


def _listed(option: str, values: Any, least: int) -> tuple[Any, ...]:
    """The values of an option that is a list of texts; templates may be functions."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{option} is {values!r:.80}; expected a list of texts")
    if len(values) < least:
        raise ValueError(f"{option} is {list(values)!r}; expected at least {least}")
    for value in values:
        if not isinstance(value, str) and (option == "classes" or not callable(value)):
            raise TypeError(f"{option} holds {value!r:.80} of type {type(value).__name__}; expected texts")
        if option == "templates" and isinstance(value, str) and "{}" not in value:
            raise ValueError(f"template {value!r:.80} has no '{{}}' for the class; expected e.g. 'a photo of a {{}}.'")
    return tuple(values)
