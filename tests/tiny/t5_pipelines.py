"""Tiny real pipelines that read their prompts with T5: SD3, PixArt-Sigma, Wan."""

from functools import cache
from typing import Any

import diffusers
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from tiny import pipelines as tiny

HIDDEN = 32
T5 = {
    "vocab_size": 30,
    "d_model": HIDDEN,
    "d_kv": 8,
    "d_ff": 37,
    "num_layers": 1,
    "num_heads": 4,
    "is_encoder_decoder": False,
    "use_cache": False,
}


@cache
@tiny.seeded
def _sd3_parts() -> dict[str, Any]:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=HIDDEN,
        pooled_projection_dim=64,
        pos_embed_max_size=8,
    )
    return {
        "transformer": transformer,
        "vae": tiny.vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        "text_encoder": CLIPTextModelWithProjection(tiny.clip_config()),
        "tokenizer": tiny.clip_tokenizer(),
        "text_encoder_2": CLIPTextModelWithProjection(tiny.clip_config()),
        "tokenizer_2": tiny.clip_tokenizer(),
        "text_encoder_3": T5EncoderModel(T5Config(**T5)),
        "tokenizer_3": tiny.t5_tokenizer(),
    }


def stable_diffusion_3(scheduler: Any = None) -> diffusers.StableDiffusion3Pipeline:
    """A StableDiffusion3Pipeline with SD3's static shift."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return tiny.quiet(diffusers.StableDiffusion3Pipeline(**_sd3_parts(), scheduler=scheduler))


@cache
@tiny.seeded
def _pixart_parts() -> dict[str, Any]:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=HIDDEN,
        in_channels=4,
        cross_attention_dim=32,
        out_channels=8,
        use_additional_conditions=False,
    )
    return {
        "transformer": transformer,
        "vae": tiny.vae(),
        "text_encoder": T5EncoderModel(T5Config(**T5)),
        "tokenizer": tiny.t5_tokenizer(),
    }


def pixart_sigma(scheduler: Any = None) -> diffusers.PixArtSigmaPipeline:
    """A PixArtSigmaPipeline, whose transformer predicts a variance too; the schedule is a DDIM's."""
    scheduler = scheduler or diffusers.DDIMScheduler(clip_sample=False, beta_end=0.02, steps_offset=1)
    return tiny.quiet(diffusers.PixArtSigmaPipeline(**_pixart_parts(), scheduler=scheduler))


def _wan_transformer() -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=HIDDEN,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )


@cache
@tiny.seeded
def _wan_parts() -> dict[str, Any]:
    vae = diffusers.AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    return {
        "transformer": _wan_transformer(),
        "transformer_2": _wan_transformer(),
        "vae": vae,
        "text_encoder": UMT5EncoderModel(UMT5Config(**T5)),
        "tokenizer": tiny.t5_tokenizer(),
    }


def wan(boundary: float | None = None, scheduler: Any = None, **fields: Any) -> diffusers.WanPipeline:
    """A WanPipeline (text to video); with a `boundary` ratio, a second denoiser takes over below it, as in Wan 2.2."""
    parts = _wan_parts() | ({} if boundary else {"transformer_2": None})
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return tiny.quiet(diffusers.WanPipeline(**parts, scheduler=scheduler, boundary_ratio=boundary, **fields))
