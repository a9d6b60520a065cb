"""The model of a record, opened with exactly the settings that were recorded, or refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noise_search.lora import find
from noise_search.models import LoadedModel, check_unplaced, load_model, open_pipeline, pipeline_class, usable_device
from noise_search.replays.reading import Record
from noise_search.results.record import model_differences
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from samplers.base import Sampler
from samplers.contents import describe, recorded, restored
from samplers.space import NoiseSpace


def open_recorded(
    record: Record,
    model: Any,
    asked: ModelSettings,
) -> LoadedModel:
    """The model that a record names, or the one given in its place, set up as recorded.

    Raises:
        ValueError: the model isn't there, or has another pipeline, or an option that JSON can't hold is missing.
    """
    assert record.settings is not None
    known = record.settings["model"]
    _check_recorded(known.get("options", {}))
    if isinstance(model, Sampler):
        check_unplaced(asked)
        if asked.options:
            raise ValueError(
                f"model_options {', '.join(asked.options)}: a {type(model).__name__} object brings its own"
            )
        _refuse(record, [] if known.get("sampler") == type(model).__name__ else [_other_sampler(known, model)])
        return load_model(model)
    if "pipeline" not in known:
        raise ValueError(
            f"{record.origin} was made with a {known.get('sampler')} object ({known.get('name')!r}): pass it as model="
        )
    model = _by_name(record.origin, str(known.get("name"))) if model is None else model
    if isinstance(model, str | Path):
        asked = _loaded_as(record.origin, known, str(model), asked)
    name, pipe, card, loading = open_pipeline(model, asked)
    if type(pipe).__name__ != known["pipeline"]:
        _refuse(record, [f"the pipeline is {type(pipe).__name__} here, {known['pipeline']} recorded"])
    settings = _options(record.origin, known.get("options", {}), asked.options)
    return LoadedModel(name, _sampler(pipe, known, settings), card, str(pipe._execution_device), loading)


def _loaded_as(origin: str, known: Mapping[str, Any], model: str, asked: ModelSettings) -> ModelSettings:
    """What is asked for, and else what was recorded of the loading; of a model given in place only its LoRAs."""
    recorded = known.get("loading", {})
    if not isinstance(recorded, Mapping):
        raise ValueError(f"{origin} has {recorded!r:.40} for how its model was loaded; expected what a search writes")
    given: dict[str, Any] = {"dtype": asked.dtype or _dtype(known)}
    if model == known.get("name"):
        given["revision"] = asked.revision or recorded.get("commit")
        given["variant"] = asked.variant or recorded.get("variant")
    if torch.device(usable_device(asked.device)).type != "cpu":
        given["offload"] = asked.offload or recorded.get("offload")
    asked = replace(asked, **given)
    return replace(asked, lora=_loras(origin, recorded, model, asked))


def _loras(origin: str, recorded: Mapping[str, Any], model: str, asked: ModelSettings) -> list[str]:
    """Those recorded, as they are to be asked for; those given must be the same.

    Because a file names them, no more than safetensors files of this machine with the recorded hash are opened.
    """
    known = recorded.get("lora", [])
    try:
        wanted = [(str(one["source"]), float(one["scale"]), str(one["sha256"])) for one in known]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{origin} has {known!r:.40} for its LoRAs; expected what a search writes") from error
    again = [f"{source}:{scale!r}" for source, scale, _ in wanted]
    if asked.loras and len(asked.loras) != len(wanted):
        raise ValueError(
            f"lora={list(asked.loras)}: {origin} was made with {', '.join(again) or 'none'}; give the same"
        )
    for (source, *_), whole in zip(wanted, again, strict=True):
        if not asked.loras and not Path(source).expanduser().exists():
            raise ValueError(f"{origin} was made with the LoRA {source!r}, which isn't here: pass lora={whole!r} again")
    texts = list(asked.loras) or again
    for lora, (_, scale, sha256) in zip(find(texts, pipeline_class(model, asked.revision)), wanted, strict=True):
        if (lora.scale, lora.sha256) != (scale, sha256):
            differs = "has other contents" if lora.scale == scale else f"has scale {lora.scale:g}, recorded {scale:g}"
            raise ValueError(f"lora={lora.source!r} is not what {origin} was made with: it {differs}")
    return texts


def _check_recorded(options: Mapping[str, Any]) -> None:
    """Refuse options that were edited into what no model can take."""
    steps = options.get("num_inference_steps")
    own: dict[str, Any] = {
        name: options[name] for name in ("guidance", "negative_prompt", "height", "width", "eta") if name in options
    }
    ModelSettings(steps=steps, **own)


def recorded_grids(record: Record, sampler: Sampler, here: Mapping[str, Any]) -> list[NoiseSpace]:
    """The grid of a sampler described by `here`, then the recorded ones that the recipe runs on.

    Raises:
        ValueError: the model differs from the one recorded, or gives other grids.
    """
    assert record.settings is not None
    _refuse(record, model_differences(record.settings["model"], here))
    spaces = [sampler.space()]
    grids = record.settings.get("grids", {})
    for grid in dict.fromkeys(op["grid"] for op in record.recipe.operations if "grid" in op):
        asked = grids.get(grid)
        if asked is not None:
            space = sampler.space(**{name: asked[name] for name in ("steps", "levels", "points") if name in asked})
            _refuse(record, [] if space.id == grid else [f"the grid is {space.id} here, {grid} recorded"])
            spaces.append(space)
    return spaces


def _sampler(pipe: Any, known: Mapping[str, Any], settings: Mapping[str, Any]) -> Sampler:
    """The kind of sampler recorded, not the one that would be chosen for the pipeline today."""
    from samplers.pipelines.sampler import PipelineSampler
    from samplers.pipelines.whole_call import WholeCallSampler

    if known.get("sampler") == WholeCallSampler.__name__:
        return WholeCallSampler(pipe, reason=str(known.get("limitation")), **settings)
    how: Any = "keep" if known.get("rule") == "kept" else "first-order"
    return PipelineSampler(pipe, eta=known.get("eta", 0.0), scheduler=how, **settings)


def _refuse(record: Record, differences: list[str]) -> None:
    if differences:
        raise ValueError(f"{record.origin} belongs to another model: {'; '.join(differences)}")


def _other_sampler(known: Mapping[str, Any], model: Sampler) -> str:
    return f"the sampler is a {type(model).__name__} here, {known.get('sampler')} recorded"


def _by_name(origin: str, name: str) -> str:
    """Embedded models are opened by name; no file decides what else is downloaded or opened."""
    if name in EMBEDDED_MODELS:
        return name
    if name.count("/") == 1 or Path(name).is_dir():
        raise ValueError(
            f"{origin} was made with {name!r}, and only embedded models are opened because a file names them: pass "
            f"model={name!r} if you trust it"
        )
    raise ValueError(
        f"{origin} was made with {name!r}, which is no model that can be loaded by this name: pass the pipeline, or "
        "its directory, as model="
    )


def _dtype(known: Mapping[str, Any]) -> torch.dtype | None:
    found = getattr(torch, str(known.get("dtype")), None)
    return found if isinstance(found, torch.dtype) else None


def _options(origin: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options; what JSON can't hold comes from those given, which must be what was recorded."""
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(f"model_options has {', '.join(unknown)}, and {origin} was made without: leave it out")
    for name, value in given.items():
        if recorded(value) != known[name]:
            raise ValueError(
                f"model_options {name!r} is not what {origin} was made with: got {describe(recorded(value))}, "
                f"recorded {describe(known[name])}"
            )
    found = dict(given)
    for name in known.keys() - given.keys():
        try:
            found[name] = restored(known[name])
        except ValueError as error:
            raise ValueError(
                f"{origin} was made with an option {name!r} ({describe(known[name])}) that JSON can't hold: pass it "
                f"again as model_options={{{name!r}: ...}}"
            ) from error
    return found
