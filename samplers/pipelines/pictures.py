"""Which arguments of a pipeline's call are pictures, by the names that diffusers gives them."""

import inspect
import re
from typing import Literal

from samplers.pipelines.view import parameters

Picture = Literal["image", "mask", "control image"]

_IMAGE = re.compile(r"((input|init|reference|ref|cond|original|example)_)?images?|image_reference|video")
_MASKS = ("mask_image", "mask")
_CONTROLS = {"controlnet", "adapter"}
"""Parts of pipelines whose `image` is what they are controlled by."""


def picture_argument(kind: type, what: Picture) -> str | None:
    """What a class of pipelines calls that picture; None where it takes none."""
    names = list(parameters(kind))
    if what == "image":
        return "image" if "image" in names else next((name for name in names if _IMAGE.fullmatch(name)), None)
    if what == "mask":
        return next((name for name in _MASKS if name in names), None)
    if "control_image" in names:
        return "control_image"
    controlled = _CONTROLS & inspect.signature(kind).parameters.keys()
    return "image" if controlled and "image" in names else None


def takes_list(name: str) -> bool:
    """Whether an argument is a list of pictures also where there is one."""
    return name.endswith("s") or name == "video"
