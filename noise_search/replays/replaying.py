"""`replay()`: any candidate of any search made again, alone, and how close it came."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise_search.engine.scoring import Scorer, check_frames
from noise_search.engine.sources import edited_sources
from noise_search.engine.x0_predictions import points_on_way
from noise_search.models import LoadedModel, load_model
from noise_search.previews import recorded_preview
from noise_search.replays.opening import open_recorded, recorded_grids
from noise_search.replays.reading import Record, Source, known_scores, read
from noise_search.replays.replay import Replay
from noise_search.resolve import resolve_aggregator
from noise_search.results.candidate import as_pixels, middle
from noise_search.results.record import (
    RECORD_VERSION,
    computed_otherwise,
    differences,
    environment,
    grid_record,
    model_record,
    same_bits,
)
from noise_search.settings import ModelSettings, Offload, Scheduler, spelt
from samplers.recipe import Recipe
from samplers.replay import Replayed, check_recipe, cost, keyed
from samplers.replay import replay as run_recipe
from samplers.said import first_line
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier

EXACT, CLOSE = "bit for bit", "within 1e-5"

_LEVEL = 1 / 255
"""Images within 1e-4 may round to neighbouring levels."""


@spelt
def replay(
    source: Source,
    *,
    model: Any = None,
    prompt: str | None = None,
    candidate: int | None = None,
    model_options: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    lora: str | Path | Sequence[str | Path] | None = None,
    offload: Offload | None = None,
    variant: str | None = None,
    revision: str | None = None,
    verifier: str | Verifier | Aggregator | Callable[..., Any] | Sequence[Any] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    eta: float | None = None,
    scheduler: Scheduler | None = None,
    progress: bool = True,
) -> Replay:
    """Make a candidate of a search again, alone.

    Its noise is the same bit for bit for an equal torch version and CPU capability, else within 1e-5, and the result
    says which. Its image is the same within 1e-4 on the same device. An unfinished candidate gives the x0 prediction
    that it was scored by.

    Args:
        source: a PNG with a recipe inside (path or image), a result.json or its directory, a `SearchResult`, or a
            recipe (object or JSON). Files and results are replayed with the settings recorded in them.
        model: as in `search()`. By default the one recorded, if that is an embedded model; others must be passed
            again, since no file should decide what is downloaded. Bare recipes need one.
        prompt: needed with a bare recipe; with others, in place of the one recorded.
        candidate: the id of a candidate of a result or result.json; the best when None.
        model_options: further arguments of the pipeline's call. With files and results, those that JSON can't hold,
            such as a ControlNet's image; another content than the one recorded is refused.
        device, dtype: of a model that is loaded here; the dtype recorded when None.
        lora, variant, revision: as in `search()`; those recorded when None, where they are here. Files and results want
            the LoRAs that they were made with.
        offload: as in `search()`, recorded or not; the one recorded when None, where there is an accelerator.
        verifier: scores the image; one that needs an x0 prediction gets that of the recipe's last run, one that needs a
            source the image among the model's options.
        steps, guidance, negative_prompt, height, width, eta, scheduler: as in `search()`, for bare recipes only.
        progress: say on standard error what is being run.

    Raises:
        ValueError: there is no recipe, it belongs to another model, or it needs something that is missing.
        TypeError: `source` is nothing that can be replayed.

    Example:
        again = noise_search.replay("runs/circle/best.png")
        again.image, again.noise, again.difference
    """
    record = read(source, candidate)
    asked = ModelSettings(
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        eta=eta,
        scheduler=scheduler,
        device=device,
        dtype=dtype,
        lora=lora,
        offload=offload,
        variant=variant,
        revision=revision,
        options=model_options or {},
    )
    text = record.prompt if prompt is None else prompt
    if text is None:
        raise ValueError(f"{record.origin} alone says nothing of the prompt: pass prompt=, and model=")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"prompt={text!r} is no text that says what the image should show")
    if record.settings is None:
        if model is None:
            raise ValueError(f"{record.origin} alone says nothing of the model: pass model= and its settings")
        loaded = load_model(model, asked, first_prompt=text)
    else:
        if asked.given:
            raise ValueError(f"{', '.join(asked.given)}: {record.origin} records its own settings; leave them out")
        with _settings_that_run(record):
            loaded = open_recorded(record, model, asked)
    scoring = () if verifier is None else resolve_aggregator(verifier, loaded).verifiers
    sources = edited_sources(scoring, loaded.sampler.options)
    for needed in scoring:
        needed.load(loaded.device)
    with loaded.sampler as sampler:
        condition = sampler.condition(text)
        with _settings_that_run(record):
            known = sampler.describe()
            spaces = [sampler.space()] if record.settings is None else recorded_grids(record, sampler, known)
        check_frames(scoring, spaces[0], loaded.name)
        recipe = _whole(record.recipe, spaces[0], known.get("eta"))
        check_recipe(recipe, spaces)
        points = points_on_way(recipe, spaces, sampler, scoring)
        if progress:
            print(f"replaying {record.origin} on {loaded.name}: {cost(recipe)} NFE", file=sys.stderr)
        with _settings_that_run(record):
            done = run_recipe(sampler, recipe, spaces, condition, sorted({at + 1 for at in points.values()}))
            images, note = _shown(done.state, record, loaded, spaces)
            x0 = {level: sampler.decode(done.kept[at + 1]) for level, at in points.items()}
        settings = _settings(record, loaded, known, spaces[0])
    scores = Scorer(scoring, sources).score(images, [text], x0)[0]
    found = {k: float(v[0]) for k, v in scores.items()}
    return _replay(record, text, settings, done, images[0], found, note)


def _shown(state: State, record: Record, loaded: LoadedModel, spaces: Sequence[NoiseSpace]) -> tuple[Tensor, str]:
    """The image, an x0 prediction as it was scored by; and what is to be said of it."""
    ends = {space.id: space.end for space in spaces}
    if state.step == ends.get(state.grid) or state.x0 is None:
        return loaded.sampler.decode(state), ""
    preview, note = recorded_preview((record.settings or {}).get("preview"), loaded, spaces[0])
    return (loaded.sampler.decode(state) if preview is None else preview(state.x0)), note


@contextmanager
def _settings_that_run(record: Record) -> Iterator[None]:
    """Settings that the model can't take are the file's fault, not the caller's."""
    try:
        yield
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        if record.settings is None:
            raise
        raise ValueError(f"{record.origin} has settings that its model can't run: {first_line(error)}") from error


def _whole(recipe: Recipe, space: NoiseSpace, eta: float | None) -> Recipe:
    """Noise alone is run to the end, so that there is something to see."""
    if recipe.grid_bound:
        return recipe
    return recipe.then_run(0, space.end, space.id, None if eta else 1.0, eta or 0.0)


def _settings(record: Record, loaded: LoadedModel, known: Mapping[str, Any], space: NoiseSpace) -> dict[str, Any]:
    """The settings recorded, with the model and the environment as they are here."""
    recorded = dict(record.settings or {})
    return recorded | {
        "record_version": RECORD_VERSION,
        "model": model_record(loaded, known),
        "environment": environment(),
        "grids": recorded.get("grids") or grid_record(space),
    }


def _replay(
    record: Record,
    prompt: str,
    settings: Mapping[str, Any],
    done: Replayed,
    image: Tensor,
    scores: Mapping[str, float],
    note: str = "",
) -> Replay:
    here, before = settings["environment"], (record.settings or {}).get("environment", {})
    recipe, raw = done.state.recipes[0], as_pixels(image)
    shown = raw[middle(len(raw))] if raw.ndim == 4 else raw
    stored = record.pixels if prompt == record.prompt else None
    alike = None if stored is None else raw if stored.ndim == raw.ndim else shown
    difference = None if stored is None or alike is None else _apart(stored, alike)
    notes = () if record.settings is None else tuple(computed_otherwise(record.settings["model"], settings["model"]))
    notes += (note,) if note else ()
    exact = settings["model"].get("dtype", "float32") == "float32" and not notes
    if stored is not None and difference is None:
        notes += (f"{record.stored} has another size, and isn't compared",)
    return Replay(
        prompt=prompt,
        recipe=recipe,
        pixels=shown,
        clip=raw if raw.ndim == 4 else None,
        tensor=image.detach().float().cpu(),
        nfe=done.nfe,
        noise=EXACT if same_bits(before, here, keyed(recipe)) else CLOSE,
        noise_sha256=done.noise_sha256,
        environment=tuple(differences(before, here)),
        notes=notes,
        difference=difference,
        promised=_LEVEL if exact and difference is not None else None,
        stored="" if difference is None else record.stored,
        copies=record.copies,
        candidate=record.candidate,
        scores=scores,
        recorded=known_scores(record) if prompt == record.prompt else {},
        settings=settings,
    )


def _apart(stored: np.ndarray, here: np.ndarray) -> float | None:
    """The largest absolute difference in [0, 1] of 8-bit pictures; None where one was cut or scaled since."""
    if stored.shape != here.shape:
        return None
    return float(np.abs(stored.astype(np.int16) - here.astype(np.int16)).max()) / 255
