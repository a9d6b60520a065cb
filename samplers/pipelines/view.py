"""Views: shallow copies of a user's pipeline, one per call, on which everything of ours is put."""

import copy
import inspect
import re
from collections.abc import Callable
from functools import wraps
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
        if own.get(judge) is not None and not _insists(type(pipe), judge):
            own[judge] = None
    return view


def _insists(cls: type, part: str) -> bool:
    """Whether a pipeline's call refuses to run without a part (Cosmos and its safety checker)."""
    try:
        source = inspect.getsource(cls.__call__)
    except (OSError, TypeError):
        return False
    return re.search(rf"if self\.{part} is None:\s*raise", source) is not None


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
        output = view(**options, return_dict=False)
        if hasattr(output, "to_tuple"):  # as SDXL's inpainting returns latents, whatever it was asked for
            output = output.to_tuple()
        return output[0] if isinstance(output, tuple) else output  # some return their frames bare (SVD)
    finally:
        reset_caches(view)
        for tokenizer, side in sides:
            tokenizer.padding_side = side


def parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of the call of a pipeline, or of a class of them; of its bases' too, as far as it passes
    keywords on.
    """
    found: dict[str, inspect.Parameter] = {}
    kind = pipe if isinstance(pipe, type) else type(pipe)
    for call in (vars(c)["__call__"] for c in kind.__mro__ if "__call__" in vars(c)):
        named = list(inspect.signature(call).parameters.values())[1:]
        passed_on = [p for p in named if p.kind is p.VAR_KEYWORD]
        found |= {p.name: p for p in named if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in found}
        if not passed_on:
            break
    return found


SHADOWED = ("encode_prompt", "prepare_latents")
"""Functions of blocks that a sampler watches or replaces: here they are methods of the face."""


class ModularFace:
    """What samplers ask of a pipeline, answered by a modular one; subclassed once for each object.

    A copy of the face runs a copy of the modular pipeline, with the components put on the face in place of its
    own and with copies of those blocks that are changed. The user's pipeline, its blocks and its specifications
    (which copies share) stay as they are.
    """

    block_modules: tuple[str, ...] = ()

    def __init__(self, modular: Any) -> None:
        """Stand before `modular`."""
        self._modular = modular

    def __getattr__(self, name: str) -> Any:
        """What is not here, from the modular pipeline."""
        if name == "_modular" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._modular, name)

    def running(self) -> Any:
        """A copy of the modular pipeline with the components of this face."""
        modular = copy.copy(self._modular)
        vars(modular).update({k: v for k, v in vars(self).items() if k in modular.component_names})
        return modular

    def call(self, options: dict[str, Any]) -> tuple[Any]:
        """Run the blocks that lead from a prompt to images."""
        modular, face = self.running(), self
        blocks = copy.copy(_blocks(modular))
        blocks.sub_blocks = copy.copy(blocks.sub_blocks)
        for name, block in blocks.sub_blocks.items():
            blocks.sub_blocks[name] = own = copy.copy(block)
            if hasattr(own, "progress_bar"):
                vars(own)["_progress_bar_config"] = {"disable": True}
            for function in SHADOWED:
                if hasattr(own, function):
                    vars(own)[function] = _without_components(face, function)
        vars(modular)["_blocks"] = blocks
        return (modular(**options, output="images"),)


def as_pipeline(pipe: Any) -> Any:
    """`pipe`, or the face of a modular pipeline.

    Raises TypeError for a modular pipeline that does not lead from a prompt to images by blocks like those of a
    standard pipeline, or whose guider counts steps.
    """
    if not any(c.__name__ == "ModularPipeline" for c in type(pipe).__mro__):
        return pipe
    blocks = list(_blocks(pipe).sub_blocks.values())
    found = {name: [b for b in blocks if hasattr(b, name)] for name in SHADOWED}
    if any(len(owners) != 1 for owners in found.values()) or "guider" in pipe.component_names:
        raise TypeError(
            f"{type(pipe).__name__} is modular, with a guider or with other blocks than one each for "
            f"{' and '.join(SHADOWED)}: give the standard pipeline with the same components, such as "
            "FluxPipeline(**pipe.components)"
        )
    methods = {name: _method(getattr(owners[0], name)) for name, owners in found.items()}
    modules = tuple(dict.fromkeys(c.__module__ for block in blocks for c in type(block).__mro__))
    fields = {"__call__": _caller(pipe), "block_modules": modules, **methods}
    return type(type(pipe).__name__, (ModularFace,), fields)(pipe)


def _blocks(modular: Any) -> Any:
    """The blocks of a call with a prompt and no image, in order."""
    return modular.blocks.get_execution_blocks(prompt=True)


def _caller(modular: Any) -> Callable[..., Any]:
    """A `__call__` with the inputs of the blocks for its signature."""

    def call(self: ModularFace, return_dict: bool = True, **options: Any) -> Any:
        return self.call(options)

    kind = inspect.Parameter.KEYWORD_ONLY
    inputs = {i.name: i.default for i in _blocks(modular).inputs if i.name}
    named = [inspect.Parameter(name, kind, default=default) for name, default in inputs.items()]
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = inspect.Signature([itself, *named])  # type: ignore[attr-defined]
    return call


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A block's function of (components, ...) as a method of the face."""

    @wraps(function)
    def method(self: ModularFace, *args: Any, **kwargs: Any) -> Any:
        return function(self.running(), *args, **kwargs)

    return method


def _without_components(face: Any, name: str) -> Callable[..., Any]:
    """A block's function that asks the face, where it may be shadowed."""
    return lambda components, *args, **kwargs: getattr(face, name)(*args, **kwargs)
