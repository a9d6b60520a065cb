"""The call options of a pipeline, from the names that samplers give them."""

import copy
import inspect
import re
from collections.abc import Mapping
from typing import Any

from samplers.base import NotDrivable
from samplers.pipelines.prompts import ASKING, asking, check_embedded
from samplers.pipelines.randn import drawing_modules
from samplers.pipelines.scheduler import COPIES
from samplers.pipelines.view import ModularFace, is_pipeline, parameters
from samplers.said import warn

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


def call_options(
    pipe: Any,
    *,
    steps: int | None = None,
    guidance: float | int | None = None,
    guidance_argument: str | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The options by the pipeline's own names, without ours that are None.

    Raises:
        TypeError: `pipe` is no pipeline, or does not take one of the options.
        ValueError: an option the sampler owns or that is given by two names, or guidance without effect.
    """
    from diffusers import DiffusionPipeline

    if not isinstance(pipe, DiffusionPipeline | ModularFace):
        raise TypeError(f"pipe must be a loaded diffusers DiffusionPipeline, got {type(pipe).__name__}: {pipe!r:.80}")
    scale = guidance_argument or "guidance_scale"
    twice = [("steps", steps, "num_inference_steps"), ("guidance", guidance, scale)]
    both = [f"{ours} and {theirs}" for ours, value, theirs in twice if value is not None and theirs in more]
    if both:
        raise ValueError(f"{', '.join(both)} are one option by two names; give steps, guidance alone")
    named: dict[str, Any] = {"num_inference_steps": steps, scale: guidance}
    named |= {"negative_prompt": negative_prompt, "height": height, "width": width}
    options = {k: v for k, v in named.items() if v is not None} | more
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
    check_embedded(options)
    _check_guidance(pipe, options)
    _check_image(pipe, options)
    return options


def _check_guidance(pipe: Any, options: dict[str, Any]) -> None:
    """Raise ValueError for true CFG without a negative prompt, and warn of a scale that the model ignores.

    Pipelines say nothing of either.
    """
    true_cfg = options.get("true_cfg_scale")
    if true_cfg is not None and true_cfg > 1 and not _has_negative(options):
        raise ValueError(
            f"true_cfg_scale = {true_cfg} has no effect without a negative prompt: pass negative_prompt=''"
        )
    scale, configs = options.get("guidance_scale"), [getattr(p, "config", None) for p in pipe.components.values()]
    embeds = [c.guidance_embeds for c in configs if c is not None and hasattr(c, "guidance_embeds")]
    given = isinstance(scale, int | float) and scale > 1
    if given and "true_cfg_scale" in parameters(pipe) and embeds and not any(embeds):
        warn(
            f"guidance_scale = {scale} is ignored by this model, which has no embedded guidance: guide it by "
            "true_cfg_scale and a negative_prompt"
        )


def _has_negative(options: Mapping[str, Any]) -> bool:
    """Whether a negative prompt is given, as a text or encoded."""
    return any(v is not None for k, v in options.items() if k.startswith("negative_prompt"))


def _check_image(pipe: Any, options: Mapping[str, Any]) -> None:
    """Raise ValueError for several images of image to image, which the rows of a batch would share out."""
    image = options.get("image")
    batch = isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4
    if image is not None and batch and len(image) > 1 and "strength" in parameters(pipe):
        raise ValueError(
            f"image holds {len(image)} images, and {type(pipe).__name__} begins each candidate from one of them: give "
            "one, and search the others by themselves"
        )


def estimated_rows(pipe: Any, options: dict[str, Any]) -> int:
    """Denoiser rows per NFE before anything ran: 2 where guidance is on, as the pipeline itself decides it."""
    chosen = {k: p.default for k, p in parameters(pipe).items()} | options
    true_cfg = chosen.get("true_cfg_scale")
    if true_cfg is not None:
        return 2 if true_cfg > 1 and _has_negative(chosen) else 1
    scale = chosen.get("guidance_scale")
    rows = 2 if isinstance(scale, int | float) and _guided(pipe, scale) else 1
    perturbed = hasattr(type(pipe), "do_perturbed_attention_guidance") and chosen.get("pag_scale", 0) > 0
    return rows + int(perturbed)


def _guided(pipe: Any, scale: float | int) -> bool:
    """Whether a guidance scale makes the pipeline evaluate a second, unconditional row.

    Asked of its own `do_classifier_free_guidance`, whose threshold is not always 1. A pipeline that has none, and
    whose `encode_prompt` is not told either, feeds the scale to its denoiser (FLUX.2).
    """
    if isinstance(getattr(type(pipe), "do_classifier_free_guidance", None), property):
        view = copy.copy(pipe)
        vars(view)["_guidance_scale"] = scale
        try:
            return bool(view.do_classifier_free_guidance)
        except AttributeError:  # decided by more than the scale, which only a call sets
            return scale > 1
    encode = getattr(pipe, "encode_prompt", None)
    return scale > 1 and (encode is None or "do_classifier_free_guidance" in inspect.signature(encode).parameters)


INDEX_KEYED = {  # options that count loop steps: right only for whole runs
    "skip_guidance_layers",
    "skip_layer_guidance_start",
    "skip_layer_guidance_stop",
    "cfg_trunc_ratio",
    "control_guidance_start",
    "control_guidance_end",
    "adapter_conditioning_factor",
    "strength",
    "mask_image",
    "callback_on_step_end",
}

SPLITTING = {"denoising_start", "denoising_end"}
"""Options that run a part of the grid only."""

COPYING = re.compile(r"\w+_scheduler\w* = (copy\.)?deepcopy\(self\.scheduler\)")


def check_drivable(pipe: Any, options: Mapping[str, Any], kept: bool) -> None:
    """Raise NotDrivable for a pipeline that takes no noise, ValueError for options that cut its grid."""
    name = type(pipe).__name__
    if asking(pipe) is None:
        raise NotDrivable(f"{name} takes none of {', '.join(ASKING)}, so rows cannot be asked for")
    inner = [k for k, v in vars(pipe).items() if is_pipeline(v)]
    if inner:
        raise NotDrivable(f"{name} runs pipelines of its own ({', '.join(inner)}), each with its own noise")
    if getattr(pipe, "scheduler", None) is None:
        raise NotDrivable(f"{name} has no scheduler")
    if "latents" not in parameters(pipe) and not drawing_modules(type(pipe)):
        raise NotDrivable(f"{name} takes no latents and draws its noise by itself, so none can be handed to it")
    if not kept and copies_scheduler(type(pipe)):
        raise NotDrivable(COPIES, keep=True)
    splitting = sorted(SPLITTING & {k for k, v in options.items() if v is not None})
    if splitting:
        raise ValueError(
            f"{', '.join(splitting)} cannot be passed: the sampler itself stops and resumes anywhere on the grid"
        )


def warn_of_overrides(pipe: Any) -> None:
    """Warn of methods that a tool replaced on the object by functions that cannot be bound to a copy of it."""
    functions = [name for name, value in vars(pipe).items() if inspect.isfunction(value)]
    replaced = [name for name in functions if inspect.isfunction(getattr(type(pipe), name, None))]
    if replaced:
        warn(
            f"{', '.join(replaced)} of this {type(pipe).__name__} was replaced by a function that may work on this "
            "very object, while a search works on copies of it: compare an image with the plain pipeline's"
        )


def copies_scheduler(cls: type) -> bool:
    """Whether a pipeline's call steps a deep copy of its scheduler (LTX2's audio, Cosmos, Kandinsky 6)."""
    try:
        source = inspect.getsource(vars(next(c for c in cls.__mro__ if "__call__" in vars(c)))["__call__"])
    except (OSError, TypeError):  # no source to read: the copy is refused when it is made
        return False
    return COPYING.search(source) is not None


def index_keyed_options(pipe: Any, options: Mapping[str, Any]) -> list[str]:
    """Those of the options that allow whole runs only; `strength` does not where the pipeline asks itself."""
    asks = hasattr(pipe, "get_timesteps")
    return [k for k in options if k in INDEX_KEYED and not (k == "strength" and asks)]
