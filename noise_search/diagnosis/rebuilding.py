"""The step-0 noise of candidates, drawn again from their recipes; the model takes no step for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noise_search.replays.opening import open_recorded, recorded_grids
from noise_search.replays.reading import read
from noise_search.results.result import SearchResult
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import first_line
from samplers.base import Sampler
from samplers.recipe import Recipe
from samplers.replay import replay
from samplers.space import NoiseSpace


@dataclass(frozen=True)
class Noises:
    """Step-0 noises `[*latent]` of candidates, and the names of their axes; or why there are none."""

    rows: tuple[Tensor, ...] = ()
    axes: tuple[str, ...] = ()
    skipped: str = ""


def rebuild(
    result: SearchResult, recipes: Sequence[Recipe], model: Any = None, model_options: Mapping[str, Any] | None = None
) -> Noises:
    """The noises with which the recipes begin.

    The model says what shape they have and which recipes are its own. An embedded one is opened by its name.

    Raises:
        ValueError: the `model` given is not the one recorded.
    """
    known = result.settings["model"]
    if model is None and known.get("name") not in EMBEDDED_MODELS:
        return Noises(skipped=f"the noise lies in the space of {known.get('name')}: pass it as model=")
    try:
        return _rebuilt(result, recipes, model, model_options or {})
    except ValueError as error:
        if model is not None:
            raise
        return Noises(skipped=first_line(error))


def _rebuilt(result: SearchResult, recipes: Sequence[Recipe], model: Any, options: Mapping[str, Any]) -> Noises:
    record = read(result)
    loaded = open_recorded(record, model, ModelSettings(options=options))
    with loaded.sampler as sampler:
        if not sampler.can_move:
            return Noises(skipped=f"the model draws its noise itself ({sampler.limitation})")
        sampler.condition(result.prompt)  # a sampler may look at its grid through a call with a prompt
        space = recorded_grids(record, sampler, sampler.describe())[0]
        return Noises(tuple(_step0(sampler, recipe, space) for recipe in recipes), space.axes)


def pure(recipe: Recipe) -> Recipe:
    """The operations before the first run: draws and moves of pure noise."""
    runs = [index for index, op in enumerate(recipe.operations) if op["op"] == "run"]
    return Recipe(recipe.operations[: runs[0]]) if runs else recipe


def renoised(recipe: Recipe) -> int:
    """How often new noise came in after the first step: what a check of the step-0 noise can't see."""
    stochastic = [op for op in recipe.operations if op["op"] == "run" and op.get("rho") != 1]
    renoising = [op for op in recipe.operations if op["op"] == "renoise"]
    return len(stochastic) + len(renoising)


def _step0(sampler: Sampler, recipe: Recipe, space: NoiseSpace) -> Tensor:
    return replay(sampler, pure(recipe), [space]).noise.x[0]
