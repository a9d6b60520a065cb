"""Pipelines that make clips around the transformers of LTX and LTX 2, the latter with sound."""

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

from tiny.footage import clip_of, photo
from tiny.pipelines import DYNAMIC, LENGTH, SHIFTED, gemma, gemma_tokenizer, made, t5, t5_tokenizer
from tiny.table.entry import Entry

CLIP = {"height": 32, "width": 32, "num_frames": 5, "negative_prompt": "grey", "max_sequence_length": LENGTH}
HEARD = {"spatio_temporal_guidance_blocks": [0]}
"""Of LTX 2: which blocks are perturbed for its guidance, since it has but one."""
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}
LONG = {"temporal_tile_size": 8, "temporal_overlap": 4, "decode_horizontal_tiles": 1, "decode_vertical_tiles": 1}
LONG |= {"guidance_scale": 3.0, "seed": None}  # else it draws from a seed of its own, 0, whatever the generator
STRETCHED = partial(DYNAMIC, shift_terminal=0.1)
LTX_BLOCKS = ("LTXVideoDownBlock3D",) * 2


def _ltx(timestep_conditioning: bool = False) -> dict[str, Any]:
    transformer = diffusers.LTXVideoTransformer3DModel(
        **HEADS, in_channels=8, out_channels=8, cross_attention_dim=32, caption_channels=32
    )
    two = {"block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    two |= {"spatio_temporal_scaling": (True, True), "decoder_spatio_temporal_scaling": (True, True)}
    two |= {"layers_per_block": (1, 1, 1), "decoder_layers_per_block": (1, 1, 1), "down_block_types": LTX_BLOCKS}
    two |= {"downsample_type": ("conv",) * 2, "upsample_residual": (False,) * 2, "upsample_factor": (1, 1)}
    vae = diffusers.AutoencoderKLLTXVideo(
        **two,
        latent_channels=8,
        patch_size=2,
        decoder_inject_noise=(False,) * 3,
        timestep_conditioning=timestep_conditioning,
    )
    return {"transformer": transformer, "vae": vae, "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _ltx_2() -> dict[str, Any]:
    audio = {"audio_in_channels": 4, "audio_out_channels": 4, "audio_num_attention_heads": 2}
    audio |= {"audio_attention_head_dim": 8, "audio_cross_attention_dim": 16}
    transformer = diffusers.LTX2VideoTransformer3DModel(
        **HEADS,
        **audio,
        in_channels=8,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=16,
        vae_scale_factors=(2, 4, 4),
        perturbed_attn=True,
    )
    one = {"block_out_channels": (8,), "decoder_block_out_channels": (8,), "layers_per_block": (1, 1)}
    one |= {"decoder_layers_per_block": (1, 1), "spatio_temporal_scaling": (True,), "upsample_factor": (1,)}
    one |= {"decoder_spatio_temporal_scaling": (True,), "downsample_type": ("spatiotemporal",)}
    one |= {"upsample_type": ("spatiotemporal",), "upsample_residual": (False,), "decoder_inject_noise": (False,) * 2}
    vae = diffusers.AutoencoderKLLTX2Video(
        **one, down_block_types=("LTX2VideoDownBlock3D",), latent_channels=8, patch_size=2
    )
    hears = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1, 2, 2), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    sides = ("video", "audio")
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=3,  # the outputs of all layers of the text encoder
        **{f"{side}_connector_num_attention_heads": 2 for side in sides},
        **{f"{side}_connector_attention_head_dim": 8 for side in sides},
        **{f"{side}_connector_num_layers": 1 for side in sides},
        **{f"{side}_connector_num_learnable_registers": 4 for side in sides},
        connector_rope_base_seq_len=32,
    )
    speaks = LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3]],
    )
    parts = {"transformer": transformer, "vae": vae, "audio_vae": hears, "connectors": connectors, "vocoder": speaks}
    return parts | {"text_encoder": gemma(), "tokenizer": gemma_tokenizer()}


def _sana_world() -> dict[str, Any]:
    transformer = diffusers.SanaWMTransformer3DModel(
        in_channels=8,
        num_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=16,
        chunk_plucker_channels=12,  # of a ray, 6 in each of the 2 frames of a latent
        chunk_plucker_post_attn_blocks=2,
        image_size=32,
        caption_channels=16,
    )
    for parameter in transformer.parameters():
        if not parameter.any():  # zero at birth: it would not see the camera
            torch.nn.init.normal_(parameter, std=0.3)
    parts = _ltx_2()
    return {"transformer": transformer} | {name: parts[name] for name in ("vae", "text_encoder", "tokenizer")}


_ltx_timed = partial(_ltx, True)

ENTRIES: dict[str, Entry] = {
    "LTXPipeline": Entry(partial(made, diffusers.LTXPipeline, _ltx, STRETCHED), CLIP),
    "LTXPipeline, timed decoder": Entry(
        partial(made, diffusers.LTXPipeline, _ltx_timed, STRETCHED),
        CLIP | {"decode_timestep": 0.05, "decode_noise_scale": 0.025, "guidance_rescale": 0.7},
    ),
    "LTXImageToVideoPipeline": Entry(
        partial(made, diffusers.LTXImageToVideoPipeline, _ltx, STRETCHED), CLIP | {"image": photo()}
    ),
    "LTXConditionPipeline": Entry(
        partial(made, diffusers.LTXConditionPipeline, _ltx, SHIFTED),
        CLIP | {"conditions": [LTXVideoCondition(image=photo(), frame_index=0)]},
    ),
    "LTXConditionPipeline, clip": Entry(
        partial(made, diffusers.LTXConditionPipeline, _ltx, SHIFTED),
        CLIP | {"video": clip_of(5), "denoise_strength": 0.7},
    ),
    "LTX2Pipeline": Entry(partial(made, diffusers.LTX2Pipeline, _ltx_2, STRETCHED), CLIP | HEARD),
    "LTX2ImageToVideoPipeline": Entry(
        partial(made, diffusers.LTX2ImageToVideoPipeline, _ltx_2, STRETCHED),
        CLIP | HEARD | {"image": photo(), "image_crf": 0},
    ),
    "LTXI2VLongMultiPromptPipeline": Entry(
        partial(made, diffusers.LTXI2VLongMultiPromptPipeline, _ltx, diffusers.LTXEulerAncestralRFScheduler),
        CLIP | LONG | {"num_frames": 13, "cond_image": photo()},  # "pt" is in [-1, 1], channels first
    ),
    "LTX2ConditionPipeline": Entry(
        partial(made, diffusers.LTX2ConditionPipeline, _ltx_2, STRETCHED),
        CLIP | HEARD | {"conditions": [LTX2VideoCondition(frames=photo(), index=0, crf=0)]},
    ),
    "LTX2InContextPipeline": Entry(
        partial(made, diffusers.LTX2InContextPipeline, _ltx_2, STRETCHED),
        CLIP | HEARD | {"reference_conditions": [LTX2ReferenceCondition(frames=clip_of(5))]},
    ),
    "SanaWMPipeline": Entry(
        partial(made, diffusers.SanaWMPipeline, _sana_world, SHIFTED),
        CLIP | {"image": photo(), "action": "w-4", "intrinsics": [30.0, 30.0, 16.0, 16.0], "chi_prompt": ["a "]},
    ),
}
