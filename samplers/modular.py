"""`as_pipeline`: a modular pipeline from text to images, behind the face of a standard one."""

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

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
