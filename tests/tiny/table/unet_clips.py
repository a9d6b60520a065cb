"""UNets that make clips: motion between the layers of Stable Diffusion, or three dimensions from birth."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch

from tiny.pipelines import (
    EULER,
    UNET,
    clip_pictures,
    clip_vision,
    controlnet,
    ddim,
    euler,
    sd,
    sdxl,
    vae,
)
from tiny.table.entry import Entry
from tiny.table.rows import photo, row

PICTURE = photo(1)
FRAMES = [photo(seed) for seed in (1, 2, 3)]
THREE = {"num_frames": 3}
SMALL = {"height": 16, "width": 16}
DOWN, UP = ("CrossAttnDownBlock3D", "DownBlock3D"), ("UpBlock3D", "CrossAttnUpBlock3D")
SOLID = {name: UNET[name] for name in ("block_out_channels", "layers_per_block", "cross_attention_dim")}
SOLID |= {"norm_num_groups": 4, "attention_head_dim": 4, "down_block_types": DOWN, "up_block_types": UP}


def _motion(**fields: Any) -> diffusers.MotionAdapter:
    dims = {"motion_layers_per_block": 1, "motion_norm_num_groups": 4, "motion_num_attention_heads": 2}
    return diffusers.MotionAdapter(block_out_channels=UNET["block_out_channels"], **dims, **fields)


def _animated(build: Callable[[], dict[str, Any]] = sd, **fields: Any) -> dict[str, Any]:
    made, motion = build(), _motion(**fields)
    moving = diffusers.UNetMotionModel.from_unet2d(made["unet"], motion)  # as pipelines do when they get a flat one
    return made | {"unet": moving, "motion_adapter": motion}


def _sharp() -> diffusers.AutoencoderKL:
    """A VAE whose posterior is its mean: some pipelines sample it from torch's own generator, which nobody seeds."""
    made = vae()
    torch.nn.init.zeros_(made.quant_conv.weight[4:])
    torch.nn.init.constant_(made.quant_conv.bias[4:], -30.0)
    return made


def _controlled() -> dict[str, Any]:
    return _animated() | {"controlnet": controlnet()}


def _sparsely() -> dict[str, Any]:
    dims = {"down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion"), "motion_num_attention_heads": 2}
    return _animated() | {"controlnet": controlnet(diffusers.SparseControlNetModel, **dims), "vae": _sharp()}


def _solid() -> dict[str, Any]:
    return sd() | {"unet": diffusers.UNet3DConditionModel(**SOLID, sample_size=8)}


def _from_image() -> dict[str, Any]:
    net = diffusers.I2VGenXLUNet(**SOLID, sample_size=8)
    for name, weight in net.named_parameters():
        if name.startswith(("context_embedding", "image_latents")) and weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)  # what the image says is whispered as they are born
    seen = {"image_encoder": clip_vision(), "feature_extractor": clip_pictures()}
    return sd() | seen | {"unet": net, "vae": _sharp()}


def _stable_video() -> dict[str, Any]:
    net = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    decoder = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2
    )
    seen = {"image_encoder": clip_vision(224), "feature_extractor": clip_pictures()}
    return {"unet": net, "vae": decoder} | seen


ALONE = partial(_animated, sd)
"""Shared with no other row: some pipelines leave their attention processors behind."""
LINEAR = partial(ddim, beta_schedule="linear")
CONTINUOUS = partial(
    diffusers.EulerDiscreteScheduler,
    **EULER,
    prediction_type="v_prediction",
    timestep_type="continuous",
    timestep_spacing="leading",
    use_karras_sigmas=True,
    sigma_min=0.002,
    sigma_max=700.0,
)

ENTRIES: dict[str, Entry] = {
    "AnimateDiffPipeline": row(diffusers.AnimateDiffPipeline, _animated, LINEAR, THREE),
    "AnimateDiffVideoToVideoPipeline": row(
        diffusers.AnimateDiffVideoToVideoPipeline, _animated, LINEAR, {"video": FRAMES}
    ),
    "AnimateDiffControlNetPipeline": row(
        diffusers.AnimateDiffControlNetPipeline, _controlled, LINEAR, THREE | {"conditioning_frames": FRAMES}
    ),
    "AnimateDiffSparseControlNetPipeline": row(
        diffusers.AnimateDiffSparseControlNetPipeline,
        _sparsely,
        LINEAR,
        THREE | {"conditioning_frames": FRAMES[:1], "controlnet_frame_indices": [0]},
    ),
    "AnimateDiffPAGPipeline": row(diffusers.AnimateDiffPAGPipeline, ALONE, LINEAR, THREE),
    "AnimateDiffSDXLPipeline": row(
        diffusers.AnimateDiffSDXLPipeline, partial(_animated, sdxl, use_motion_mid_block=False), euler, THREE
    ),
    "PIAPipeline": row(
        diffusers.PIAPipeline, partial(_animated, conv_in_channels=9), LINEAR, THREE | {"image": PICTURE}
    ),
    "TextToVideoSDPipeline": row(diffusers.TextToVideoSDPipeline, _solid, ddim, THREE),
    "I2VGenXLPipeline": row(
        diffusers.I2VGenXLPipeline, _from_image, ddim, SMALL | THREE | {"image": PICTURE, "clip_skip": None}, steps=2
    ),
    "StableVideoDiffusionPipeline": row(
        diffusers.StableVideoDiffusionPipeline, _stable_video, CONTINUOUS, SMALL | THREE | {"image": PICTURE}, steps=2
    ),
}
