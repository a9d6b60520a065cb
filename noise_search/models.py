"""From what a user calls a model to a sampler with its defaults and the verifiers that it declares."""

import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from noise_search.algorithms.knowledge import ModelFacts
from noise_search.lora import Lora, find, put_on
from noise_search.settings import ModelSettings, Whole
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import unknown
from samplers.base import Sampler
from samplers.said import first_line
from verifiers.loading import hub, notices

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
    "preview",
}


ELSEWHERE = {"versions", "device", "dtype", "fingerprint", "loading"}
"""Of a model's description: where, how and from what it ran, not what it is."""


@dataclass(frozen=True)
class ModelCard:
    """Defaults of a model: keyword arguments of the sampler, options of the pipeline's call, declared verifiers.

    And the directory of a small decoder of its latents.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    verifiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preview: str | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be searched.

    Attributes:
        name: to be shown.
        sampler: over it.
        card: its defaults and verifiers.
        device: where its images will be, if known.
        loading: what it was loaded with beside device and dtype, as plain JSON.
        shown: what the trust in its sampler rests on, as plain JSON.
        check_nfe: denoiser evaluations that it took to show it.
        stepped: whether the sampler's own steps were asked for: by `scheduler="first-order"`, or as a sampler object.
    """

    name: str
    sampler: Sampler
    card: ModelCard
    device: str | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    check_nfe: int = 0
    stepped: bool = False

    @functools.cached_property
    def fingerprint(self) -> str:
        """A short hash of everything about the model that changes results, weights included."""
        return _short_hash(self.described)

    @functools.cached_property
    def facts(self) -> ModelFacts:
        """What an algorithm may know of it, but for the price of a look, which takes counting: see `priced`."""
        identity = _short_hash({name: value for name, value in self.described.items() if name not in ELSEWHERE})
        own_steps = self.stepped or self.sampler.own_steps
        return ModelFacts(self.name, identity, self.sampler.can_stop, own_steps, self.sampler.can_mix)

    @functools.cached_property
    def priced(self) -> ModelFacts:
        """The facts, with the price of a look."""
        return replace(self.facts, look_price=self.sampler.look_price)

    @functools.cached_property
    def described(self) -> dict[str, Any]:
        """What the sampler says of itself, asked once: it reads a sample of all weights."""
        return self.sampler.describe()


def _short_hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


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
    options, declared = content.get("options", {}), content.get("verifiers", {})
    return ModelCard(defaults, options, declared, content.get("preview"), directory)


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
        check_unplaced(settings)
        return LoadedModel(type(model).__name__, model, ModelCard(), stepped=True)
    from noise_search.claims import Shown
    from samplers.pipelines.choose import sampler_for

    name, pipe, card, loading = open_pipeline(model, settings)
    known = Shown(first_prompt)
    how: dict[str, Any] = {"shown": known} if settings.check else {}
    asked = arguments_of(settings, card)
    sampler = sampler_for(pipe, first_prompt=first_prompt, stops=stops, **how, **asked)
    device, stepped = str(pipe._execution_device), settings.scheduler == "first-order"
    return LoadedModel(name, sampler, card, device, loading, known.record, known.nfe, stepped)


def arguments_of(settings: ModelSettings, card: ModelCard) -> dict[str, Any]:
    """What a sampler is told: a card's defaults, and the settings and options given.

    Raises:
        ValueError: an option that is a setting by another name, or of its own.
    """
    given, options = settings.given, settings.options
    renamed = {"steps": "num_inference_steps", "guidance": card.defaults.get("guidance_argument", "guidance_scale")}
    for name_here, name_there in renamed.items():
        if options.get(name_there) is not None:
            raise ValueError(
                f"model_options has {name_there!r}; give it as {name_here}={options[name_there]!r} instead"
            )
    twice = sorted(set(ModelSettings.names()) & options.keys())
    if twice:
        raise ValueError(f"model_options has {', '.join(twice)}, which are arguments of their own; give them there")
    return {**card.defaults, **given, **card.options, **options}


_loading = threading.Lock()
"""Two threads that ask for one model get one."""


def open_pipeline(model: Any, settings: ModelSettings = DEFAULTS) -> tuple[str, Any, ModelCard, dict[str, Any]]:
    """Display name, pipeline, card and `loading` of a pipeline object, or of one that is loaded by its name."""
    if isinstance(model, str | Path):
        with _loading:
            pipe, loading = _load_pipeline(str(model), settings)
        return str(model), pipe, _card_of(pipe), loading
    check_unplaced(settings)
    return type(model).__name__, model, _card_of(model), {}


def check_unplaced(settings: ModelSettings) -> None:
    """Refuse settings of loading for an object that is loaded already."""
    if settings.loading:
        raise ValueError(
            f"{' and '.join(settings.loading)}: only for models that are loaded by name; set up the pipeline itself, "
            "as by pipe.to(...) or pipe.load_lora_weights(...)"
        )


def _card_of(pipe: Any) -> ModelCard:
    origin = getattr(pipe, "name_or_path", None)
    if isinstance(origin, str | Path) and str(origin) and Path(origin).is_dir():
        return read_card(Path(origin))
    return ModelCard()


@dataclass(frozen=True)
class _How:
    """What a pipeline is loaded with; hashable."""

    device: str
    dtype: torch.dtype | None
    variant: str | None = None
    offload: str | None = None
    loras: tuple[Lora, ...] = ()
    compiled: Whole | None = None
    revision: str | None = None


def _load_pipeline(name: str, settings: ModelSettings) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and what it was loaded with."""
    target, dtype = usable_device(settings.device), settings.dtype
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype {dtype!r} is a {type(dtype).__name__}; expected a torch dtype such as torch.bfloat16")
    if settings.offload is not None and torch.device(target).type == "cpu":
        raise ValueError(
            f"offload={settings.offload!r} moves parts of a model to an accelerator in their turn, and the device here "
            "is the CPU: leave it out"
        )
    loras = find(settings.loras, pipeline_class(name, settings.revision))
    how = _How(target, dtype or torch.float32, settings.variant, settings.offload, loras, settings.compiled)
    recorded: dict[str, Any] = {"variant": how.variant, "offload": how.offload, "compile": how.compiled}
    recorded["lora"] = [one.to_json() for one in loras] or None
    place = EMBEDDED_MODELS.get(name, Path(name))
    if name in EMBEDDED_MODELS or place.is_dir():
        _check_weights(name, [file.relative_to(place).as_posix() for file in place.rglob("*")], how)
        pipe = _from_pretrained(str(place), how, _stamp(place))
    else:
        how = replace(how, dtype=dtype, revision=_index(name, settings.revision).parent.name)
        recorded |= {"revision": settings.revision, "commit": how.revision}
        pipe = _of_hub(name, how)
    return pipe, {what: value for what, value in recorded.items() if value is not None}


def pipeline_class(name: str, revision: str | None = None) -> type:
    """The class of the pipeline of a model that is loaded by its name; of one on the hub only its index is fetched.

    Raises:
        ValueError: there is no such model, or it comes with code of its own.
    """
    import diffusers

    stated = _content(name, revision).get("_class_name")
    if isinstance(stated, list):
        raise ValueError(_own_code(name, stated[0]))
    kind = getattr(diffusers, str(stated), None)
    if not isinstance(kind, type) or not issubclass(kind, diffusers.DiffusionPipeline):
        raise ValueError(
            f"model {name!r} could not be loaded: diffusers {diffusers.__version__} has no pipeline {stated!r}"
        )
    return kind


def _content(name: str, revision: str | None) -> dict[str, Any]:
    """What a model's index holds: the class, and its parts by name."""
    index = _index(name, revision)
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"model {name!r} could not be loaded: {index} is no valid JSON object: {error}") from error


def _own_code(name: str, where: object) -> str:
    return (
        f"model {name!r} comes with code of its own ({where}), and no model's code is run: load it yourself, where you "
        "trust it, and pass the pipeline as model="
    )


_INDEX = "model_index.json"


def _index(name: str, revision: str | None) -> Path:
    """The file that names a pipeline's class and parts; on the hub its folder is named by the commit."""
    if name in EMBEDDED_MODELS or (name and Path(name).is_dir()):
        if revision is not None:
            raise ValueError(
                f"revision={revision!r} is of models of the hub, and {name!r} is a directory: leave it out"
            )
        index = EMBEDDED_MODELS.get(name, Path(name)) / _INDEX
        if not index.exists():
            raise ValueError(f"model directory {name!r} holds no {_INDEX}; expected a saved diffusers pipeline")
        return index
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import constants

        return _index_of_hub(name, revision or "main", constants.HF_HUB_CACHE)
    raise unknown("model", name, EMBEDDED_MODELS, more=", a saved pipeline's directory or a hub id (owner/name)")


@functools.lru_cache(maxsize=8)
def _index_of_hub(name: str, revision: str, cache: str) -> Path:
    """From the hub's cache, or from the hub; in one line, at once, where it is in neither. A process asks once."""
    from huggingface_hub import hf_hub_download

    online = hub.reachable()
    try:
        return Path(hf_hub_download(name, _INDEX, revision=revision, cache_dir=cache, local_files_only=not online))
    except Exception as error:  # network, hub and file system errors share no base class
        if not online:
            raise ValueError(_elsewhere(name)) from error
        raise ValueError(f"model {name!r} could not be loaded: {_why_not(error, name, revision)}") from error


def _why_not(error: Exception, name: str, revision: str) -> str:
    """Why the hub doesn't give a model's index, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision!r} of it"
    if isinstance(error, errors.RepositoryNotFoundError) and not isinstance(error, errors.GatedRepoError):
        return "the hub has no model of this name, or it is private; log in with `hf auth login` where it is yours"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"it holds no {_INDEX}; expected a diffusers pipeline"
    return f"{hub.why(error)}; {hub.advice(error, name)}"


def _elsewhere(name: str) -> str:
    return (
        f"model {name!r} isn't in the hub's cache here, and the hub can't be reached; check the network, or pass the "
        "directory of a copy"
    )


def _of_hub(name: str, how: _How) -> Any:
    """From the hub's cache, or from the hub, which is said before, with a licence that restricts its use."""
    if not hub.reachable():
        return _from_pretrained(name, how, known_only=True)
    assert how.revision is not None
    wanted = "*.safetensors" if how.variant is None else f"*.{how.variant}*.safetensors"
    if not any(_index(name, how.revision).parent.rglob(wanted)):
        _check_weights(name, hub.files(name, how.revision), how)
        notices.licensed(name, hub.licence(name, how.revision))
        notices.loading(f"{name}@{how.revision[:8]}", download=True)
    return _from_pretrained(name, how)


_PICKLE = {".bin", ".pt", ".pth", ".ckpt"}
_VARIANT = re.compile(r"\.([\w-]+?)(?:-\d{5}-of-\d{5})?\.safetensors$")


def _check_weights(name: str, files: Sequence[str], how: _How) -> None:
    """Refuse, before anything is downloaded or read, a variant that isn't there and parts that are pickles alone."""
    kinds: dict[str, set[str]] = {part: set() for part in _content(name, how.revision)}
    for file in files:
        if (part := file.rpartition("/")[0]) in kinds:
            kinds[part].add(Path(file).suffix)
    pickled = [part for part, found in kinds.items() if found & _PICKLE and ".safetensors" not in found]
    if pickled:
        raise ValueError(
            f"model {name!r} has its {' and '.join(pickled)} as pickle alone, which isn't read as it can run code: "
            "convert it where you trust it, by DiffusionPipeline.from_pretrained(...).save_pretrained(directory)"
        )
    weights = [file for file in files if file.rpartition("/")[0] in kinds and file.endswith(".safetensors")]
    named = [match[1] for file in weights if (match := _VARIANT.search(file))]
    there = ", ".join(sorted({*named}))
    if how.variant is not None and how.variant not in named:
        raise ValueError(f"model {name!r} has no variant {how.variant!r}: it has {there or 'none, leave it out'}")
    if how.variant is None and named and len(named) == len(weights):
        raise ValueError(f"model {name!r} has its weights as variant alone: give variant={named[0]!r} (it has {there})")


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
def quiet_loading() -> Iterator[None]:
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
def _from_pretrained(place: str, how: _How, stamp: int = 0, known_only: bool = False) -> Any:
    import diffusers
    from diffusers import DiffusionPipeline

    from samplers.pipelines import denoisers
    from samplers.pipelines.compiling import compile_denoisers

    named = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
    asked = {named: how.dtype, "variant": how.variant, "revision": how.revision}
    given = {name: value for name, value in asked.items() if value is not None}
    with quiet_loading():
        try:
            pipe = DiffusionPipeline.from_pretrained(place, use_safetensors=True, local_files_only=known_only, **given)
        except (OSError, KeyError, ValueError, AttributeError) as error:
            if "custom code" in str(error):
                raise ValueError(_own_code(place, "in its parts")) from error
            if known_only:
                raise ValueError(_elsewhere(place)) from error
            raise ValueError(f"model {place!r} could not be loaded: {first_line(error)}") from error
        put_on(pipe, how.loras)
    if how.compiled is not None:  # before anything is offloaded, whose hooks then stay outside
        compile_denoisers(denoisers.find(pipe).values(), how.compiled)
    pipe.set_progress_bar_config(disable=True)
    return _placed(pipe, how)


def _placed(pipe: Any, how: _How) -> Any:
    """The pipeline on its device, or with what is offloaded in turn; such a pipeline is never moved itself."""
    if how.offload == "model":
        pipe.enable_model_cpu_offload(device=how.device)
    elif how.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=how.device)
    elif how.offload == "group":
        pipe.enable_group_offload(torch.device(how.device), offload_type="leaf_level")
    else:
        pipe.to(how.device)
    return pipe
