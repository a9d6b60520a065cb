"""Pipelines around a transformer that make images from images: edits, masks, controls, references."""

from dataclasses import replace
from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tiny.pipelines import (
    DYNAMIC,
    FLUX,
    FLUX_NET,
    QWEN_NET,
    SANA_NET,
    SD3,
    SHIFTED,
    UNCHECKED,
    _flux,
    _flux2,
    _qwen_image,
    _sana,
    _sd3,
    _z_image,
    awake,
    certain,
    pointwise,
)
from tiny.table.entry import Entry
from tiny.table.language_models_of_images import SANA, SPRINT, _bria_fibo, _cogview4
from tiny.table.rows import mask, photo, row
from tiny.table.transformers_of_images import _chroma, _hunyuan_dit


def _with(build: Any, net: Any) -> Any:
    return lambda: build() | {"controlnet": awake(net())}


def _certain(build: Any) -> Any:
    def sure() -> dict[str, Any]:
        parts = build()
        return parts | {"vae": certain(parts["vae"])}

    return sure


def _attentive(build: Any) -> dict[str, Any]:
    """The same parts; what the transformer attends to weighs more, so that the reference among it does."""
    parts = build()
    for name, weight in parts["transformer"].named_parameters():
        if name.endswith(("to_v.weight", "add_v_proj.weight")):
            weight.data.mul_(10)
    return parts


PICTURE, OTHER, MASK = photo(1), photo(2), mask()
MASKED = {"image": PICTURE, "mask_image": MASK}
FLUX_DEV = partial(_flux, True)
FLUX_FILL = partial(_flux, True, in_channels=48)  # of the latents, the masked picture, and the mask, 4 x 4 a channel
FLUX_CONTROL = partial(_flux, True, in_channels=32)
_flux_controlnet = partial(diffusers.FluxControlNetModel, **FLUX_NET, guidance_embeds=True)
FLUX_CONTROLNET = _with(FLUX_DEV, _flux_controlnet)
FLUX_CONTROLNETS = _with(FLUX_DEV, lambda: diffusers.FluxMultiControlNetModel([_flux_controlnet(), _flux_controlnet()]))
KONTEXT_DEV = partial(_attentive, FLUX_DEV)
KONTEXT = FLUX | {"max_area": 16 * 16, "_auto_resize": False}
SD3_16 = partial(_sd3, 16)  # its inpainting asks for this number of channels
SD3_CONTROLNET = _with(_certain(_sd3), partial(diffusers.SD3ControlNetModel, **SD3))
SD3_MASK_CONTROLNET = _with(_certain(_sd3), partial(diffusers.SD3ControlNetModel, **SD3, extra_conditioning_channels=1))
FLUX2 = FLUX | {"text_encoder_out_layers": (0, 1, 2)}
KLEIN = partial(_attentive, partial(_flux2, True))
FLUX2_DEV = partial(_attentive, _flux2)
PHOTO64, OTHER64 = photo(1, 64), photo(2, 64)  # FLUX.2 takes none with fewer pixels

_FLUX = {
    "FluxImg2ImgPipeline": row(
        diffusers.FluxImg2ImgPipeline, FLUX_DEV, DYNAMIC, FLUX | {"image": PICTURE, "strength": 0.6}
    ),
    "FluxInpaintPipeline": row(diffusers.FluxInpaintPipeline, FLUX_DEV, DYNAMIC, FLUX | MASKED | {"strength": 0.9}),
    "FluxInpaintPipeline, cropped": replace(
        row(
            diffusers.FluxInpaintPipeline,
            FLUX_DEV,
            DYNAMIC,
            FLUX | {"image": photo(1, 32), "mask_image": mask(32), "padding_mask_crop": 2, "strength": 0.9},
        ),
    ),
    "FluxFillPipeline": row(diffusers.FluxFillPipeline, FLUX_FILL, DYNAMIC, FLUX | MASKED | {"guidance_scale": 30.0}),
    "FluxControlPipeline": row(
        diffusers.FluxControlPipeline, FLUX_CONTROL, DYNAMIC, FLUX | {"control_image": OTHER, "guidance_scale": 10.0}
    ),
    "FluxControlImg2ImgPipeline": row(
        diffusers.FluxControlImg2ImgPipeline,
        FLUX_CONTROL,
        DYNAMIC,
        FLUX | {"image": PICTURE, "control_image": OTHER, "strength": 0.6},
    ),
    "FluxControlInpaintPipeline": row(
        diffusers.FluxControlInpaintPipeline,
        FLUX_CONTROL,
        DYNAMIC,
        FLUX | MASKED | {"control_image": OTHER, "strength": 0.9},
    ),
    "FluxControlNetPipeline": row(
        diffusers.FluxControlNetPipeline,
        FLUX_CONTROLNET,
        DYNAMIC,
        FLUX | {"control_image": OTHER, "controlnet_conditioning_scale": 0.6},
    ),
    "FluxControlNetPipeline, for half of the steps": row(
        diffusers.FluxControlNetPipeline,
        FLUX_CONTROLNET,
        DYNAMIC,
        FLUX | {"control_image": OTHER, "control_guidance_end": 0.5},
    ),
    "FluxControlNetPipeline, two controls": row(
        diffusers.FluxControlNetPipeline,
        FLUX_CONTROLNETS,
        DYNAMIC,
        FLUX | {"control_image": [OTHER, PICTURE], "controlnet_conditioning_scale": [0.6, 0.3]},
    ),
    "FluxControlNetImg2ImgPipeline": row(
        diffusers.FluxControlNetImg2ImgPipeline,
        FLUX_CONTROLNET,
        DYNAMIC,
        FLUX | {"image": PICTURE, "control_image": OTHER, "strength": 0.6},
    ),
    "FluxControlNetInpaintPipeline": row(
        diffusers.FluxControlNetInpaintPipeline,
        FLUX_CONTROLNET,
        DYNAMIC,
        FLUX | MASKED | {"control_image": OTHER, "strength": 0.6},
    ),
    "FluxKontextPipeline": row(diffusers.FluxKontextPipeline, KONTEXT_DEV, DYNAMIC, KONTEXT | {"image": PICTURE}),
    "FluxKontextPipeline, true CFG": row(
        diffusers.FluxKontextPipeline,
        KONTEXT_DEV,
        DYNAMIC,
        KONTEXT | {"image": PICTURE, "negative_prompt": "blurry", "true_cfg_scale": 2.0},
    ),
    "FluxKontextInpaintPipeline": row(
        diffusers.FluxKontextInpaintPipeline, KONTEXT_DEV, DYNAMIC, KONTEXT | MASKED | {"image_reference": OTHER}
    ),
    "Flux2Pipeline, one picture": row(diffusers.Flux2Pipeline, FLUX2_DEV, DYNAMIC, FLUX2 | {"image": PHOTO64}),
    "Flux2KleinPipeline, one picture": row(
        diffusers.Flux2KleinPipeline, KLEIN, DYNAMIC, FLUX2 | {"image": PHOTO64}, is_distilled=False
    ),
    "Flux2KleinPipeline, two pictures": row(
        diffusers.Flux2KleinPipeline, KLEIN, DYNAMIC, FLUX2 | {"image": [PHOTO64, OTHER64]}, is_distilled=False
    ),
    "Flux2KleinKVPipeline": row(diffusers.Flux2KleinKVPipeline, KLEIN, DYNAMIC, FLUX2 | {"image": PHOTO64}),
    "Flux2KleinInpaintPipeline": row(
        diffusers.Flux2KleinInpaintPipeline,
        KLEIN,
        DYNAMIC,
        FLUX2 | {"image": PHOTO64, "mask_image": mask(64), "height": 64, "width": 64},
        is_distilled=False,
    ),
}
_SD3 = {
    "StableDiffusion3Img2ImgPipeline": row(
        diffusers.StableDiffusion3Img2ImgPipeline, _sd3, SHIFTED, FLUX | {"image": PICTURE, "strength": 0.6}
    ),
    "StableDiffusion3InpaintPipeline": row(
        diffusers.StableDiffusion3InpaintPipeline, SD3_16, SHIFTED, FLUX | MASKED | {"strength": 0.9}
    ),
    "StableDiffusion3ControlNetPipeline": row(
        diffusers.StableDiffusion3ControlNetPipeline,
        SD3_CONTROLNET,
        SHIFTED,
        FLUX | {"control_image": OTHER, "controlnet_conditioning_scale": 0.7},
    ),
    "StableDiffusion3ControlNetInpaintingPipeline": row(
        diffusers.StableDiffusion3ControlNetInpaintingPipeline,
        SD3_MASK_CONTROLNET,
        SHIFTED,
        FLUX | {"control_image": PICTURE, "control_mask": MASK},
    ),
}

QWEN = partial(DYNAMIC, shift_terminal=0.02)
GUIDED = {"negative_prompt": "blurry", "true_cfg_scale": 4.0}
SMALL = {"height": 16, "width": 16} | GUIDED
QWEN_CONTROLNET = _with(_qwen_image, partial(diffusers.QwenImageControlNetModel, **QWEN_NET))
QWEN_MASK_CONTROLNET = _with(
    _certain(_qwen_image), partial(diffusers.QwenImageControlNetModel, **QWEN_NET, extra_condition_channels=4)
)


_QWEN = {
    "QwenImageImg2ImgPipeline": row(
        diffusers.QwenImageImg2ImgPipeline, _qwen_image, QWEN, SMALL | {"image": PICTURE, "strength": 0.6}
    ),
    "QwenImageInpaintPipeline": row(
        diffusers.QwenImageInpaintPipeline, _qwen_image, QWEN, SMALL | MASKED | {"strength": 0.9}
    ),
    "QwenImageControlNetPipeline": row(
        diffusers.QwenImageControlNetPipeline, QWEN_CONTROLNET, QWEN, SMALL | {"control_image": OTHER}
    ),
    "QwenImageControlNetInpaintPipeline": row(
        diffusers.QwenImageControlNetInpaintPipeline,
        QWEN_MASK_CONTROLNET,
        QWEN,
        SMALL | {"control_image": PICTURE, "control_mask": MASK},
    ),
}


def _z_controlnet() -> dict[str, Any]:
    heads = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    net = diffusers.ZImageControlNetModel(control_layers_places=[0], control_in_dim=9, **heads)
    return _z_image() | {"controlnet": awake(net)}


_Z_IMAGE = {
    "ZImageImg2ImgPipeline": row(
        diffusers.ZImageImg2ImgPipeline, _z_image, SHIFTED, FLUX | {"image": PICTURE, "strength": 0.6}
    ),
    "ZImageInpaintPipeline": row(diffusers.ZImageInpaintPipeline, _z_image, SHIFTED, FLUX | MASKED),
    "ZImageControlNetPipeline": row(
        diffusers.ZImageControlNetPipeline, _z_controlnet, SHIFTED, FLUX | {"control_image": OTHER}
    ),
    "ZImageControlNetInpaintPipeline": row(
        diffusers.ZImageControlNetInpaintPipeline,
        _z_controlnet,
        SHIFTED,
        FLUX | MASKED | {"control_image": OTHER},
    ),
}

BAD = {"negative_prompt": "blurry"}
SANA_CONTROLNET = _with(
    partial(_sana, num_layers=2),  # it speaks to all but the first
    partial(diffusers.SanaControlNetModel, **SANA_NET),
)
HUNYUAN_CONTROLNET = _with(
    _certain(_hunyuan_dit),
    partial(
        diffusers.HunyuanDiT2DControlNetModel,
        sample_size=8,
        transformer_num_layers=4,  # it speaks to the first half of them
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
    ),
)
COGVIEW_CONTROL = _certain(partial(_cogview4, in_channels=8))
EDIT = '{"edit_instruction": "make it a cat"}'
CLOZE = [[photo(1, 32), photo(2, 32)], [photo(3, 32), None]]  # as the second is of the first, so is the one to make


def _omni() -> dict[str, Any]:
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    siglip = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**vision, num_patches=16))
    parts = _z_image(16)
    parts["vae"].to(torch.bfloat16)  # to which it casts its pictures
    return parts | {"siglip": siglip, "siglip_processor": transformers.Siglip2ImageProcessorPil(max_num_patches=16)}


def _fibo_edit() -> dict[str, Any]:
    parts = _bria_fibo()
    return parts | {"vae": pointwise(parts["vae"])}


_OTHERS = {
    "ChromaImg2ImgPipeline": row(
        diffusers.ChromaImg2ImgPipeline, _chroma, SHIFTED, FLUX | BAD | {"image": PICTURE, "strength": 0.6}
    ),
    "SanaControlNetPipeline": row(
        diffusers.SanaControlNetPipeline, SANA_CONTROLNET, SHIFTED, SANA | BAD | {"control_image": photo(2, 32)}
    ),
    "SanaSprintImg2ImgPipeline": row(
        diffusers.SanaSprintImg2ImgPipeline,
        SPRINT,
        diffusers.SCMScheduler,
        SANA | {"image": photo(1, 32), "strength": 0.6, "intermediate_timesteps": None},
    ),
    "HunyuanDiTControlNetPipeline": row(
        diffusers.HunyuanDiTControlNetPipeline,
        HUNYUAN_CONTROLNET,
        diffusers.DDPMScheduler,
        {"height": 16, "width": 16, "control_image": OTHER, "use_resolution_binning": False},
        **UNCHECKED,
    ),
    "CogView4ControlPipeline": row(
        diffusers.CogView4ControlPipeline,
        COGVIEW_CONTROL,
        DYNAMIC,
        {"height": 16, "width": 16, "control_image": OTHER, **BAD},
    ),
    "VisualClozeGenerationPipeline": row(
        diffusers.VisualClozeGenerationPipeline,
        FLUX_FILL,
        DYNAMIC,
        {"task_prompt": "draw", "content_prompt": "a cat", "image": CLOZE, "max_sequence_length": 12},
        resolution=32,
    ),
    "VisualClozePipeline": row(
        diffusers.VisualClozePipeline,
        FLUX_FILL,
        DYNAMIC,
        {
            "task_prompt": "draw",
            "content_prompt": "a cat",
            "image": CLOZE,
            "max_sequence_length": 12,
            "upsampling_height": 64,
            "upsampling_width": 64,
            "upsampling_strength": 0.4,
        },
        resolution=32,
    ),
    "BriaFiboEditPipeline, one picture": row(
        diffusers.BriaFiboEditPipeline, _fibo_edit, DYNAMIC, BAD | {"image": PHOTO64, "height": 64, "width": 64}, EDIT
    ),
    "BriaFiboEditPipeline, a mask": row(
        diffusers.BriaFiboEditPipeline,
        _fibo_edit,
        DYNAMIC,
        BAD | {"image": PHOTO64, "mask": mask(64), "height": 64, "width": 64},
        EDIT,
    ),
    "StableDiffusion3PAGImg2ImgPipeline": row(
        diffusers.StableDiffusion3PAGImg2ImgPipeline,
        _sd3,
        SHIFTED,
        FLUX | BAD | {"image": PICTURE, "strength": 0.6, "pag_scale": 2.0},
    ),
    "ZImageOmniPipeline, one picture": row(
        diffusers.ZImageOmniPipeline,
        _omni,
        SHIFTED,
        {"height": 32, "width": 32, "image": PHOTO64, "max_sequence_length": 64},
    ),
    "ZImageOmniPipeline, two pictures": row(
        diffusers.ZImageOmniPipeline,
        _omni,
        SHIFTED,
        {"height": 32, "width": 32, "image": [PHOTO64, OTHER64], "max_sequence_length": 64},
    ),
}

ENTRIES: dict[str, Entry] = {**_FLUX, **_SD3, **_QWEN, **_Z_IMAGE, **_OTHERS}
