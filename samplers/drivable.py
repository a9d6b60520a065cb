"""Which pipelines can be taken step by step, with which options: told from class and options alone."""

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Any

from samplers.base import NotDrivable
from samplers.prompting import ASKING, asking
from samplers.randn import drawing_modules
from samplers.scheduler import COPIES
from samplers.view import is_pipeline, parameters

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
SPLITTING = {  # options that run a part of the grid only
    "denoising_start",
    "denoising_end",
}
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
    replaced = [
        name
        for name, value in vars(pipe).items()
        if inspect.isfunction(value) and inspect.isfunction(getattr(type(pipe), name, None))
    ]
    if replaced:
        warnings.warn(
            f"{', '.join(replaced)} of this {type(pipe).__name__} was replaced by a function that may work on this "
            "very object, while a search works on copies of it: compare an image with the plain pipeline's",
            stacklevel=4,
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
