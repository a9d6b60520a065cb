"""Views: shallow copies of a user's pipeline, one per call, on which everything of ours is put."""

import copy
import hashlib
import inspect
import warnings
from types import MethodType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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


def check_options(pipe: Any, options: dict[str, Any]) -> None:
    """Raise ValueError for options the sampler owns, TypeError for options the pipeline does not know.

    Warns of a guidance scale that the model ignores.
    """
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
    scale, configs = options.get("guidance_scale"), [getattr(p, "config", None) for p in pipe.components.values()]
    embeds = [c.guidance_embeds for c in configs if c is not None and hasattr(c, "guidance_embeds")]
    if isinstance(scale, int | float) and scale > 1 and "true_cfg_scale" in known and embeds and not any(embeds):
        warnings.warn(
            f"guidance_scale = {scale} is ignored by this model, which has no embedded guidance: guide it by "
            "true_cfg_scale and a negative_prompt",
            stacklevel=3,
        )


def check_guidance(options: dict[str, Any]) -> None:
    """Raise ValueError for true CFG without a negative prompt, which pipelines ignore silently."""
    scale = options.get("true_cfg_scale")
    if scale is not None and scale > 1 and options.get("negative_prompt") is None:
        raise ValueError(f"true_cfg_scale = {scale} has no effect without a negative prompt: pass negative_prompt=''")


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


def as_images(output: Any) -> Float[Tensor, " batch *frames 3 height width"]:
    """A pipeline's images, or clips, as float32 in [0, 1].

    From tensors `[batch, 3, h, w]` or `[batch, frames, 3, h, w]`, numpy arrays with the channels last, or (lists of)
    PIL images; a clip of one frame is an image. Raises ValueError for other shapes.
    """
    pixels = _tensor(output)
    if pixels.ndim == 5 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    if pixels.ndim not in (4, 5) or pixels.shape[-3] != 3:
        raise ValueError(
            "expected images of shape [batch, 3, height, width] or clips of shape [batch, frames, 3, height, width], "
            f"the pipeline gave {tuple(pixels.shape)}"
        )
    return pixels.detach().float().clamp(0, 1)


def _tensor(output: Any) -> Tensor:
    """Stacked pixels, channels before height and width."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, list):
        return torch.stack([_tensor(image) for image in output])
    if hasattr(output, "convert"):
        return torch.from_numpy(np.asarray(output.convert("RGB")).copy()).movedim(-1, 0) / 255
    return torch.as_tensor(output).movedim(-1, -3)


def estimated_rows(pipe: Any, options: dict[str, Any]) -> int:
    """Denoiser rows per NFE before anything ran: 2 where guidance is on, as the pipeline itself decides it."""
    chosen = {k: p.default for k, p in parameters(pipe).items()} | options
    true_cfg = chosen.get("true_cfg_scale")
    if true_cfg is not None:
        return 2 if true_cfg > 1 and chosen.get("negative_prompt") is not None else 1
    scale = chosen.get("guidance_scale")
    rows = 2 if isinstance(scale, int | float) and _guided(pipe, scale) else 1
    perturbed = hasattr(type(pipe), "do_perturbed_attention_guidance") and chosen.get("pag_scale", 0) > 0
    return rows + int(perturbed)


def _guided(pipe: Any, scale: float) -> bool:
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


def plain(value: Any) -> Any:
    """A value as plain JSON: pixels by their content, functions by their name, anything else by its repr."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Tensor) or hasattr(value, "__array_interface__"):
        pixels = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        return f"{type(value).__name__}{pixels.shape} {hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
