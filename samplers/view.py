"""Views: shallow copies of a user's pipeline, one per call, on which everything of ours is put."""

import copy
import inspect
from types import MethodType
from typing import Any


def make_view(pipe: Any, scheduler: Any, made: dict[int, Any] | None = None) -> Any:
    """A shallow copy with a scheduler of ours, no progress bar, no safety checker or watermark.

    Attribute writes stay on the view; modules are shared. Hooks of model offload are not freed after each
    call (`PipelineSampler.close` frees them once), but step caches are reset. Pipelines inside become views too,
    with copies of their schedulers; those that share one with `pipe` share `scheduler`. `made` is a deep copy's
    memo of both.
    """
    made = {} if made is None else made
    view = made[id(pipe)] = copy.copy(pipe)
    own = vars(view)
    if scheduler is not None:
        if own.get("scheduler") is not None:
            made[id(own["scheduler"])] = scheduler
        own["scheduler"] = scheduler
    for name, value in list(own.items()):
        if inspect.ismethod(value) and value.__self__ is pipe:  # a tool's override, bound to the user's object
            own[name] = MethodType(value.__func__, view)
        if is_pipeline(value):
            inner = copy.deepcopy(getattr(value, "scheduler", None), made)
            own[name] = made[id(value)] if id(value) in made else make_view(value, inner, made)
    own["_progress_bar_config"] = {**own.get("_progress_bar_config", {}), "disable": True}
    own["maybe_free_model_hooks"] = lambda: reset_caches(view)
    for judge in ("safety_checker", "watermark"):
        if own.get(judge) is not None:
            own[judge] = None
    return view


def is_pipeline(value: Any) -> bool:
    """Whether a value is a diffusers pipeline, told without importing diffusers."""
    return any(c.__name__ == "DiffusionPipeline" for c in type(value).__mro__)


def reset_caches(view: Any) -> None:
    """Reset the step caches of all components, as the end of every pipeline call does."""
    for component in view.components.values():
        if hasattr(component, "_reset_stateful_cache"):
            component._reset_stateful_cache()


def call_view(view: Any, options: dict[str, Any]) -> Any:
    """Call the pipeline and return its first output.

    Whatever happens, step caches are reset and tokenizers pad on their own side again (Sana changes it).
    """
    options = {k: dict(v) if isinstance(v, dict) else v for k, v in options.items()}  # FLUX writes into its dicts
    sides = [(part, part.padding_side) for part in view.components.values() if hasattr(part, "padding_side")]
    try:
        return view(**options, return_dict=False)[0]
    finally:
        reset_caches(view)
        for tokenizer, side in sides:
            tokenizer.padding_side = side


def parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of the pipeline's call; of its bases' too, as far as it passes keywords on."""
    found: dict[str, inspect.Parameter] = {}
    for call in (vars(c)["__call__"] for c in type(pipe).__mro__ if "__call__" in vars(c)):
        named = list(inspect.signature(call).parameters.values())[1:]
        passed_on = [p for p in named if p.kind is p.VAR_KEYWORD]
        found |= {p.name: p for p in named if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in found}
        if not passed_on:
            break
    return found
