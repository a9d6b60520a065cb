"""The call options of a pipeline, from the names that samplers give them."""

from typing import Any

from samplers.guidance import check_guidance
from samplers.modular import ModularFace
from samplers.view import parameters

OWNED = (
    "prompt",
    "class_labels",
    "batch_size",
    "latents",
    "generator",
    "num_images_per_prompt",
    "num_videos_per_prompt",
    "output_type",
    "return_dict",
)
NAMED = ("steps", "guidance", "guidance_argument", "negative_prompt", "height", "width")


def call_options(pipe: Any, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, with `NAMED` under the pipeline's names and without those that are None.

    Raises:
        TypeError: `pipe` is no pipeline, or does not take one of the options.
        ValueError: an option the sampler owns, or guidance without effect.
    """
    _check_pipeline(pipe)
    twice = {"steps": "num_inference_steps", "guidance": given.get("guidance_argument") or "guidance_scale"}
    both = [f"{ours} and {theirs}" for ours, theirs in twice.items() if given.get(ours) is not None and theirs in given]
    if both:
        raise ValueError(f"{', '.join(both)} are one option by two names; give {', '.join(twice)} alone")
    named = {name: given.get(name) for name in NAMED}
    renamed = {"num_inference_steps": named["steps"], named["guidance_argument"] or "guidance_scale": named["guidance"]}
    renamed |= {name: named[name] for name in ("negative_prompt", "height", "width")}
    options = {k: v for k, v in renamed.items() if v is not None}
    options |= {k: v for k, v in given.items() if k not in NAMED}
    _check_options(pipe, options)
    check_guidance(pipe, options)
    return options


def _check_pipeline(pipe: Any) -> None:
    from diffusers import DiffusionPipeline

    if not isinstance(pipe, DiffusionPipeline | ModularFace):
        raise TypeError(f"pipe must be a loaded diffusers DiffusionPipeline, got {type(pipe).__name__}: {pipe!r:.80}")


def _check_options(pipe: Any, options: dict[str, Any]) -> None:
    """Raise ValueError for options the sampler owns, TypeError for options the pipeline does not know."""
    owned = [k for k in OWNED if k in options]
    if owned:
        raise ValueError(
            f"{', '.join(owned)} cannot be passed: the sampler sets {', '.join(OWNED)} itself; give seeds to "
            "NoiseSpace.fresh and prompts to condition()"
        )
    known = parameters(pipe)
    unknown = [k for k in options if k not in known]
    if unknown:
        raise TypeError(f"{type(pipe).__name__} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}")
