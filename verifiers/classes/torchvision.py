"""Image classifiers of torchvision, such as Inception v3."""

import difflib
import importlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_device
from verifiers.base import WeightsError
from verifiers.classes.classifier import Classifier, batched_logits
from verifiers.classes.names import ClassNames, with_wordnet
from verifiers.inputs.classifier import ClassifierInput
from verifiers.loading import hub, notices
from verifiers.loading.devices import indexed
from verifiers.loading.weights import WeightFile, file_sha256, read_tensors

INCEPTION = "inception_v3"
_PORTS = ("inception_v3", "googlenet")
"""Models ported from TensorFlow: published weights have an auxiliary head and want its range of inputs."""


class TorchvisionClassifier(Classifier):
    """The logits of a classification model of torchvision, with its published weights or a file of one's own.

    A published file is checked by what torchvision knows of its hash: the first digits, in its name.
    """

    def __init__(
        self,
        model: str = INCEPTION,
        pretrained: str | Path | None = None,
        classes: Sequence[str] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Name the model.

        Args:
            model: torchvision's name, such as "inception_v3" or "resnet50".
            pretrained: torchvision's tag, such as "IMAGENET1K_V1", or a weight file; None for the best published.
            classes: names in place of ImageNet's; as many as a weight file has outputs.
            dtype: of the weights.
            device: where the model runs; default where the images are.
        """
        self.model_name, self._pretrained, self._classes = model, pretrained, classes
        self.dtype = dtype
        self.device = None if device is None else as_device(device)
        self._models: dict[torch.device, torch.nn.Module] = {}

    @cached_property
    def label(self) -> str:
        """Name, tag and the known digits of the hash; a file's name and hash."""
        half = "" if self.dtype == torch.float32 else f"/{str(self.dtype).removeprefix('torch.')}"
        if self._file is not None:
            return f"{self.model_name}/{self._file.label}{half}"
        return f"{self.model_name}/{self._published.name}@{_digits(self._published.url)[:8]}{half}"

    @cached_property
    def names(self) -> ClassNames:
        """ImageNet's, with WordNet's synonyms, unless they were given."""
        if self._classes is None:
            return with_wordnet(self._published.meta["categories"])
        return ClassNames((name,) for name in self._classes)

    def load(self, device: torch.device | str | None) -> None:
        """Load the model now."""
        self._model(device)

    def logits(
        self, images: Float[Tensor, "batch 3 height width"], among: Sequence[int] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """What the model gives for images prepared as its weights' own transform does to PIL images."""
        model = self._model(images.device)
        return batched_logits(model, model, self._input, images, among)

    @cached_property
    def _input(self) -> ClassifierInput:
        return ClassifierInput.of_torchvision(self._published.transforms())

    @cached_property
    def _file(self) -> WeightFile | None:
        """The user's own file, where one was given."""
        given = self._pretrained
        named = isinstance(given, Path) or (given is not None and ("/" in given or Path(given).suffix != ""))
        return WeightFile.local(given) if given is not None and named else None

    @cached_property
    def _published(self) -> Any:
        """The entry of torchvision's published weights; of the default ones where the file is the user's own."""
        models = importlib.import_module("torchvision.models")
        known = models.list_models(module=models)
        if self.model_name not in known:
            near = difflib.get_close_matches(self.model_name, known, n=3) or [INCEPTION, "resnet50"]
            raise WeightsError(f"torchvision has no classifier {self.model_name!r}; expected e.g. {', '.join(near)}")
        tags = models.get_model_weights(self.model_name)
        tag = "DEFAULT" if self._pretrained is None or self._file is not None else str(self._pretrained)
        if tag not in tags.__members__:
            raise WeightsError(
                f"{tag!r} is neither weights of {self.model_name!r} nor a file; expected one of "
                f"{', '.join(name for name in tags.__members__ if name != 'DEFAULT')}"
            )
        return tags[tag]

    def _model(self, device: torch.device | str | None) -> Any:
        where = indexed(self.device or device)
        if where not in self._models:
            with torch.inference_mode(False):  # weights made or moved in inference mode could serve no gradient later
                self._models[where] = self._loaded().to(where, self.dtype)
        return self._models[where]

    def _loaded(self) -> torch.nn.Module:
        published = self._published
        path = self._file.path if self._file is not None else fetch(published)
        tensors = read_tensors(path)
        options = {"aux_logits": True, "transform_input": True, "init_weights": False}
        # Random initial values would otherwise move the caller's random stream.
        with torch.random.fork_rng(devices=[]):
            model: torch.nn.Module = importlib.import_module("torchvision.models").get_model(
                self.model_name,
                weights=None,
                num_classes=len(self.names),
                **(options if self.model_name in _PORTS else {}),
            )
            try:
                model.load_state_dict(tensors)
            except RuntimeError as error:  # names or shapes; its second line is the first that tells which
                reason = " ".join(str(error).split("\n")[1:2]).strip()
                raise WeightsError(
                    f"{path.name!r} does not fit {self.model_name} with {len(self.names)} classes: {reason:.200}"
                ) from error
        return model.eval().requires_grad_(False)


def fetch(published: Any) -> Path:
    """The file of an entry of torchvision's weights, from torchvision's own cache, ours, or downloaded.

    Raises:
        WeightsError: it is not reachable, or another file.
    """
    name = str(published.url).rsplit("/", 1)[-1]
    digits = _digits(published.url)
    path: Path = Path(torch.hub.get_dir()) / "checkpoints" / name
    size = round(published.meta["_file_size"] * 2**20) if "_file_size" in published.meta else None
    if not path.is_file():
        notices.loading(name, size, download=True)
        path = hub.fetch_address(published.url, digits)
    notices.flag(name)
    found = file_sha256(path)
    if not found.startswith(digits):
        raise WeightsError(
            f"{name} has sha256 {found[:12]}..., expected {digits}...: the file is damaged or another one; delete it "
            "and download it again"
        )
    notices.loading(name, path.stat().st_size)
    return path


def _digits(address: str) -> str:
    """The first digits of a file's sha256, as the end of its name says."""
    found = re.search(r"-([0-9a-f]{8,})\.pth$", address)
    if found is None:
        raise WeightsError(f"{address.rsplit('/', 1)[-1]} has no hash in its name; download it and pass its path")
    return found.group(1)
