"""Guidance of a pipeline: which of its settings have an effect, and how many denoiser rows it takes."""

import copy
import inspect
import warnings
from typing import Any

from samplers.view import parameters


def check_guidance(pipe: Any, options: dict[str, Any]) -> None:
    """Raise ValueError for true CFG without a negative prompt, and warn of a scale that the model ignores.

    Pipelines say nothing of either.
    """
    true_cfg = options.get("true_cfg_scale")
    if true_cfg is not None and true_cfg > 1 and options.get("negative_prompt") is None:
        raise ValueError(
            f"true_cfg_scale = {true_cfg} has no effect without a negative prompt: pass negative_prompt=''"
        )
    scale, configs = options.get("guidance_scale"), [getattr(p, "config", None) for p in pipe.components.values()]
    embeds = [c.guidance_embeds for c in configs if c is not None and hasattr(c, "guidance_embeds")]
    if (
        isinstance(scale, int | float)
        and scale > 1
        and "true_cfg_scale" in parameters(pipe)
        and embeds
        and not any(embeds)
    ):
        warnings.warn(
            f"guidance_scale = {scale} is ignored by this model, which has no embedded guidance: guide it by "
            "true_cfg_scale and a negative_prompt",
            stacklevel=4,
        )


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
