"""From what a user calls a model to a sampler with its defaults and the verifiers that it declares."""

import functools
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import unknown
from samplers.base import Sampler
from verifiers.loading.hub import reachable

CARD = "noise_search.json"
"""A file beside `model_index.json` that states a model's defaults and verifiers; any local model may carry one."""

_CARD_KEYS = {
    "version",
    "height",
    "width",
    "steps",
    "guidance",
    "guidance_argument",
    "negative_prompt",
    "options",
    "verifiers",
}


@dataclass(frozen=True)
class ModelCard:
    """Defaults of a model: keyword arguments of the sampler, options of the pipeline's call, declared verifiers."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    verifiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    directory: Path | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be searched.

    Attributes:
        name: as it is shown.
        sampler: over it.
        card: what it declares.
        device: where its images will be, if known.
        shown: what the trust in its sampler rests on, as plain JSON.
        check_nfe: denoiser evaluations that it took to show it.
    """

    name: str
    sampler: Sampler
    card: ModelCard
    device: str | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    check_nfe: int = 0

    @functools.cached_property
    def fingerprint(self) -> str:
        """A short hash of everything about the model that changes results, weights included."""
        content = json.dumps(self.sampler.describe(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]


DEFAULTS = ModelSettings()


def read_card(directory: Path) -> ModelCard:
    """The card in a model's directory; an empty one when there is none.

    Raises:
        ValueError: the file is no JSON object or has unknown keys.
    """
    file = directory / CARD
    if not file.exists():
        return ModelCard(directory=directory)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    strange = set(content) - _CARD_KEYS if isinstance(content, dict) else {"(no object)"}
    if strange:
        raise ValueError(f"{file} has unknown keys {sorted(strange)}; expected {', '.join(sorted(_CARD_KEYS))}")
    kept = {"height", "width", "steps", "guidance", "guidance_argument", "negative_prompt"}
    defaults = {k: content[k] for k in kept if k in content}
    return ModelCard(defaults, content.get("options", {}), content.get("verifiers", {}), directory)


def load_model(
    model: Any, settings: ModelSettings = DEFAULTS, first_prompt: str | None = None, stops: bool = True
) -> LoadedModel:
    """Resolve a model.

    Args:
        model: a `Sampler`, a diffusers pipeline object, an embedded model's name, a directory or a hub id.
        settings: how it is run.
        first_prompt, stops: of `sampler_for`.

    Raises:
        ValueError: an unknown name, or a sampler with settings of its own.
        TypeError: an object that is none of the above.
    """
    given, options = settings.given, settings.options
    if isinstance(model, Sampler):
        own = {k: v for k, v in given.items() if (k, v) not in (("eta", 0.0), ("scheduler", "auto"))}
        if own or options:
            names = ", ".join([*own, *options])
            raise ValueError(f"{names}: a Sampler object brings its own settings; set them on {type(model).__name__}")
        check_unplaced(settings.device, settings.dtype)
        return LoadedModel(type(model).__name__, model, ModelCard())
    from noise_search.claims import Shown
    from samplers.pipelines.choose import sampler_for

    name, pipe, card = open_pipeline(model, settings.device, settings.dtype)
    renamed = {"steps": "num_inference_steps", "guidance": card.defaults.get("guidance_argument", "guidance_scale")}
    for name_here, name_there in renamed.items():
        if name_there in options:
            raise ValueError(
                f"model_options has {name_there!r}; give it as {name_here}={options[name_there]!r} instead"
            )
    twice = sorted(set(ModelSettings.names()) & options.keys())
    if twice:
        raise ValueError(f"model_options has {', '.join(twice)}, which are arguments of their own; give them there")
    known = Shown(first_prompt)
    how: dict[str, Any] = {"shown": known} if settings.check else {}
    asked = {**card.defaults, **given, **card.options, **options}
    sampler = sampler_for(pipe, first_prompt=first_prompt, stops=stops, **how, **asked)
    return LoadedModel(name, sampler, card, str(pipe._execution_device), known.record, known.nfe)


_loading = threading.Lock()
"""Two threads that ask for one model get one."""


def open_pipeline(
    model: Any, device: str | torch.device | None, dtype: torch.dtype | None
) -> tuple[str, Any, ModelCard]:
    """Display name, pipeline and card of a pipeline object, or of one that is loaded by its name."""
    if isinstance(model, str | Path):
        with _loading:
            pipe = _load_pipeline(str(model), device, dtype)
        return str(model), pipe, _card_of(pipe)
    check_unplaced(device, dtype)
    return type(model).__name__, model, _card_of(model)


def check_unplaced(device: Any, dtype: Any) -> None:
    """Refuse a device or dtype for an object that has its own."""
    if device is not None or dtype is not None:
        raise ValueError(
            "device and dtype belong to models that are loaded by name; move the pipeline itself with pipe.to(...)"
        )


def _card_of(pipe: Any) -> ModelCard:
    origin = getattr(pipe, "name_or_path", None)
    if isinstance(origin, str | Path) and str(origin) and Path(origin).is_dir():
        return read_card(Path(origin))
    return ModelCard()


def _load_pipeline(name: str, device: str | torch.device | None, dtype: torch.dtype | None) -> Any:
    target = usable_device(device)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype {dtype!r} is a {type(dtype).__name__}; expected a torch dtype such as torch.bfloat16")
    if name in EMBEDDED_MODELS:
        return _from_pretrained(str(EMBEDDED_MODELS[name]), target, dtype or torch.float32)
    if name and Path(name).is_dir():
        if not (Path(name) / "model_index.json").exists():
            raise ValueError(f"model directory {name!r} holds no model_index.json; expected a saved diffusers pipeline")
        return _from_pretrained(name, target, dtype or torch.float32, _stamp(Path(name)))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _of_hub(name, target, dtype)
    raise unknown("model", name, EMBEDDED_MODELS, more=", a saved pipeline's directory or a hub id (owner/name)")


def _of_hub(name: str, device: str, dtype: torch.dtype | None) -> Any:
    """From the hub's cache, or from the hub; in one line, at once, where it is in neither."""
    if reachable():
        return _from_pretrained(name, device, dtype)
    try:
        return _from_pretrained(name, device, dtype, known_only=True)
    except ValueError as error:
        raise ValueError(
            f"model {name!r} isn't in the hub's cache here, and the hub can't be reached; check the network, or pass "
            "the directory of a copy"
        ) from error


def usable_device(device: str | torch.device | None) -> str:
    """The device asked for, or a GPU if there is one; ValueError where it can't be used."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"device {str(device)!r} can't be used here ({first}); expected cpu, cuda or mps") from error
    return str(device)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Both libraries draw a bar for every file they load; ours shows the search."""
    import diffusers.utils.logging
    import transformers.utils.logging

    modules = (diffusers.utils.logging, transformers.utils.logging)
    shown = [module for module in modules if module.is_progress_bar_enabled()]
    for module in shown:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module in shown:
            module.enable_progress_bar()


def _stamp(directory: Path) -> int:
    """When the directory's newest file was written: a model that was saved again is loaded again."""
    return max(file.stat().st_mtime_ns for file in directory.rglob("*"))


@functools.lru_cache(maxsize=2)
def _from_pretrained(
    name: str, device: str, dtype: torch.dtype | None, stamp: int = 0, known_only: bool = False
) -> Any:
    import diffusers
    from diffusers import DiffusionPipeline

    named = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
    try:
        with _quiet_loading():
            how = {"local_files_only": known_only} if known_only else {}
            pipe = DiffusionPipeline.from_pretrained(name, **how, **({} if dtype is None else {named: dtype}))
    except (OSError, KeyError, ValueError, AttributeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"model {name!r} could not be loaded: {first}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
