"""Networks beside a UNet of Stable Diffusion or SDXL that tell it what to draw where: controls, adapters, boxes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch

from tiny.pipelines import UNCHECKED, XL, controlnet, ddim, euler, sd, sdxl
from tiny.table.entry import Entry
from tiny.table.rows import mask, photo, row

PICTURE, CONTROL, OTHER_CONTROL = photo(1), photo(2), photo(3)
CONTROLLED = {"image": PICTURE, "control_image": CONTROL}
SOFTLY = {"controlnet_conditioning_scale": 0.1}
MASKED = CONTROLLED | {"mask_image": mask()}


def _beside(build: Callable[[], dict[str, Any]], **nets: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: build() | {name: net() for name, net in nets.items()}


def _two() -> Any:
    return diffusers.MultiControlNetModel([controlnet(), controlnet()])


def _union() -> Any:
    dims = {"num_trans_channel": 16, "num_trans_head": 2, "num_proj_channel": 16, "num_control_type": 3}
    return controlnet(diffusers.ControlNetUnionModel, **XL, **dims)


def _adapter(kind: str, channels: list[int], downscale: int) -> Any:
    return diffusers.T2IAdapter(channels=channels, num_res_blocks=1, downscale_factor=downscale, adapter_type=kind)


def _attending_first() -> dict[str, Any]:
    """An adapter adds what it sees before a level with attention shrinks it, but after one without."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    return sd(down_block_types=down, up_block_types=up)


def _boxes() -> dict[str, Any]:
    made = sd(attention_type="gated")
    for name, weight in made["unet"].named_parameters():
        if ".fuser." in name or "position_net." in name:  # gates are zero at birth, the rest whispers
            torch.nn.init.normal_(weight, std=0.5)
    return made


SD_CONTROL = _beside(sd, controlnet=controlnet)
XL_CONTROL = _beside(sdxl, controlnet=partial(controlnet, **XL))
XL_UNION = _beside(sdxl, controlnet=_union)

SD = partial(row, **UNCHECKED)
SDXL = partial(row, add_watermarker=False)

ENTRIES: dict[str, Entry] = {
    "StableDiffusionControlNetPipeline": SD(
        diffusers.StableDiffusionControlNetPipeline, SD_CONTROL, ddim, {"image": CONTROL}
    ),
    "StableDiffusionControlNetPipeline, two": SD(
        diffusers.StableDiffusionControlNetPipeline,
        _beside(sd, controlnet=_two),
        ddim,
        {"image": [CONTROL, OTHER_CONTROL], "controlnet_conditioning_scale": [1.0, 0.5]},
    ),
    "StableDiffusionControlNetPipeline, guessing": SD(
        diffusers.StableDiffusionControlNetPipeline, SD_CONTROL, ddim, {"image": CONTROL, "guess_mode": True}
    ),
    "StableDiffusionControlNetImg2ImgPipeline": SD(
        diffusers.StableDiffusionControlNetImg2ImgPipeline, SD_CONTROL, ddim, CONTROLLED
    ),
    "StableDiffusionControlNetInpaintPipeline": SD(
        diffusers.StableDiffusionControlNetInpaintPipeline, SD_CONTROL, ddim, MASKED
    ),
    "StableDiffusionControlNetPAGPipeline": SD(
        diffusers.StableDiffusionControlNetPAGPipeline, _beside(sd, controlnet=controlnet), ddim, {"image": CONTROL}
    ),
    "StableDiffusionXLControlNetPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetPipeline, XL_CONTROL, euler, {"image": CONTROL}
    ),
    "StableDiffusionXLControlNetImg2ImgPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline, XL_CONTROL, euler, CONTROLLED
    ),
    "StableDiffusionXLControlNetInpaintPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetInpaintPipeline, XL_CONTROL, euler, MASKED
    ),
    "StableDiffusionXLControlNetUnionPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetUnionPipeline,
        XL_UNION,
        euler,
        {"control_image": [CONTROL], "control_mode": [1], **SOFTLY},
    ),
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline,
        XL_UNION,
        euler,
        {"image": PICTURE, "control_image": [CONTROL], "control_mode": [1], **SOFTLY},
    ),
    "StableDiffusionXLControlNetUnionInpaintPipeline": SDXL(
        diffusers.StableDiffusionXLControlNetUnionInpaintPipeline,
        XL_UNION,
        euler,
        {"image": PICTURE, "mask_image": mask(), "control_image": [CONTROL], "control_mode": [1], **SOFTLY},
    ),
    "StableDiffusionAdapterPipeline": SD(
        diffusers.StableDiffusionAdapterPipeline,
        _beside(_attending_first, adapter=partial(_adapter, "full_adapter", [16, 32], 2)),
        ddim,
        {"image": CONTROL},
    ),
    "StableDiffusionXLAdapterPipeline": row(
        diffusers.StableDiffusionXLAdapterPipeline,
        _beside(sdxl, adapter=partial(_adapter, "full_adapter_xl", [16, 32, 32, 32], 4)),
        euler,
        {"image": CONTROL},
    ),
    "StableDiffusionGLIGENPipeline": SD(
        diffusers.StableDiffusionGLIGENPipeline,
        _boxes,
        ddim,
        {
            "gligen_phrases": ["a cat"],
            "gligen_boxes": [[0.1, 0.2, 0.6, 0.7]],
            "gligen_scheduled_sampling_beta": 1.0,
        },
    ),
}
