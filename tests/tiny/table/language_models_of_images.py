"""Pipelines around a transformer that make images from text, which a language model reads."""

from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tiny.pipelines import (
    DECODER,
    DYNAMIC,
    FLUX,
    PAIR,
    SHIFTED,
    _flux2,
    _sana,
    _sd3,
    awake,
    byte_tokenizer,
    gemma_tokenizer,
    lively,
    parts,
    tiny,
    vae,
)
from tiny.table.entry import Entry
from tiny.table.rows import row

SIZE = {"height": 16, "width": 16}
BAD = {"negative_prompt": "bad"}
GUIDED = {"guidance_scale": 5.0}
UNBINNED = {"use_resolution_binning": False, "clean_caption": False}
SANA = {"height": 32, "width": 32, "max_sequence_length": 24, **UNBINNED}
SANA |= {"complex_human_instruction": ["draw", "well", "this"]}
FLOW_DPM = partial(
    diffusers.DPMSolverMultistepScheduler, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
)
LUMINA = {"height": 32, "width": 32, "guidance_scale": 4.0, **BAD}
FLUX2 = FLUX | {"text_encoder_out_layers": (0, 1, 2)}
INVERTED = partial(diffusers.FlowMatchEulerDiscreteScheduler, invert_sigmas=True, num_train_timesteps=1)
GEMMA = DECODER | {"sliding_window": 512}
SPRINT = partial(_sana, guidance_embeds=True, qk_norm="rms_norm_across_heads")


def _gemma() -> dict[str, Any]:
    encoder = transformers.Gemma2Model(transformers.Gemma2Config(**GEMMA))
    return {"text_encoder": encoder, "tokenizer": gemma_tokenizer()}


def _lumina() -> dict[str, Any]:
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=16,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=16,
    )
    torch.nn.init.normal_(transformer.pad_token)  # left as memory was by the constructor
    return {"transformer": awake(transformer), "vae": vae(flow=True, levels=4), **_gemma()}


def _lumina2() -> dict[str, Any]:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=32,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 4, 4),
        axes_lens=(300, 16, 16),
        cap_feat_dim=16,
    )
    return {"transformer": awake(transformer), "vae": vae(flow=True, levels=4), **_gemma()}


def _cogview4(in_channels: int = 4) -> dict[str, Any]:
    transformer = diffusers.CogView4Transformer2DModel(
        in_channels=in_channels,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=4,
        sample_size=8,
    )
    encoder = transformers.GlmModel(transformers.GlmConfig(**DECODER))
    return {"transformer": lively(transformer), "vae": vae(), "text_encoder": encoder, "tokenizer": byte_tokenizer()}


def _prx() -> dict[str, Any]:
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=4, context_in_dim=16, hidden_size=16, mlp_ratio=2.0, num_heads=2, depth=1, axes_dim=[4, 4]
    )
    encoder = transformers.T5GemmaEncoder(transformers.T5GemmaConfig(encoder=GEMMA, decoder=GEMMA).encoder)
    return {
        "transformer": awake(transformer),
        "vae": vae(flow=True),
        "text_encoder": encoder,
        "tokenizer": gemma_tokenizer(),
    }


def _hidream() -> dict[str, Any]:
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[32, 16],
        text_emb_dim=64,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(8, 8),
        llama_layers=[0, 1],
    )
    parts = _sd3() | {"transformer": transformer, "tokenizer_4": byte_tokenizer()}
    config = transformers.LlamaConfig(**DECODER, attn_implementation="eager")
    return parts | {"text_encoder_4": transformers.LlamaForCausalLM(config)}


def _qwen3(model: type = transformers.Qwen3Model) -> dict[str, Any]:
    return {"text_encoder": model(transformers.Qwen3Config(**DECODER)), "tokenizer": byte_tokenizer()}


def _ovis() -> dict[str, Any]:
    transformer = diffusers.OvisImageTransformer2DModel(
        **PAIR, in_channels=16, out_channels=16, num_single_layers=1, joint_attention_dim=16, axes_dims_rope=(4, 4, 8)
    )
    return {"transformer": transformer, "vae": vae(flow=True), **_qwen3()}


def _ernie() -> dict[str, Any]:
    transformer = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 4, 8),
    )
    flux2 = parts(_flux2)
    reader = {"text_encoder": flux2["text_encoder"].model, "tokenizer": flux2["tokenizer"]}
    return {"transformer": awake(transformer), "vae": flux2["vae"], **reader}


def _bria_fibo() -> dict[str, Any]:
    transformer = diffusers.BriaFiboTransformer2DModel(
        **PAIR,
        in_channels=4,
        num_single_layers=1,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        text_encoder_dim=16,
    )
    vae = diffusers.AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, False, False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.0, 1.2],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    encoder = transformers.SmolLM3ForCausalLM(transformers.SmolLM3Config(**DECODER))
    return {"transformer": transformer, "vae": vae, "text_encoder": encoder, "tokenizer": byte_tokenizer()}


def _omnigen() -> dict[str, Any]:
    transformer = diffusers.OmniGenTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        num_layers=1,
        pad_token_id=0,
        vocab_size=262,
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        rope_scaling={"short_factor": [1.0] * 4, "long_factor": [1.0] * 4},
        pos_embed_max_size=8,
        time_step_dim=16,
    )
    return {"transformer": awake(transformer), "vae": vae(levels=4), "tokenizer": byte_tokenizer()}


def _prx_pixel() -> dict[str, Any]:
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=3,
        patch_size=4,
        context_in_dim=16,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[4, 4],
        bottleneck_size=8,
        resolution_embeds=True,
    )
    return {"transformer": awake(transformer), **_qwen3()}


ENTRIES: dict[str, Entry] = {
    "SanaPipeline": Entry(lambda: tiny("sana", FLOW_DPM()), SANA | BAD | GUIDED),
    "SanaPAGPipeline": row(diffusers.SanaPAGPipeline, _sana, SHIFTED, SANA | BAD | {"pag_scale": 2.0}),
    "SanaSprintPipeline": row(
        diffusers.SanaSprintPipeline, SPRINT, diffusers.SCMScheduler, SANA | {"intermediate_timesteps": None}
    ),
    "LuminaPipeline": row(diffusers.LuminaPipeline, _lumina, SHIFTED, LUMINA | {"clean_caption": False}),
    "Lumina2Pipeline": row(diffusers.Lumina2Pipeline, _lumina2, SHIFTED, LUMINA),
    "CogView4Pipeline": row(diffusers.CogView4Pipeline, _cogview4, DYNAMIC, SIZE | BAD | GUIDED),
    "PRXPipeline": row(
        diffusers.PRXPipeline, _prx, SHIFTED, SIZE | BAD | {"use_resolution_binning": False, "tokenizer_max_length": 24}
    ),
    "HiDreamImagePipeline": row(
        diffusers.HiDreamImagePipeline,
        _hidream,
        SHIFTED,
        FLUX | BAD | GUIDED,
        attributes={"default_sample_size": 8},  # to its area any size is scaled
    ),
    "OvisImagePipeline": row(diffusers.OvisImagePipeline, _ovis, DYNAMIC, SIZE | BAD | GUIDED),
    "ErnieImagePipeline": row(diffusers.ErnieImagePipeline, _ernie, SHIFTED, SIZE | BAD | GUIDED),
    "BriaFiboPipeline": row(
        diffusers.BriaFiboPipeline, _bria_fibo, DYNAMIC, {"height": 64, "width": 64} | BAD | GUIDED
    ),
    "OmniGenPipeline": row(
        diffusers.OmniGenPipeline, _omnigen, INVERTED, {"height": 32, "width": 32, "guidance_scale": 2.5}
    ),
    "PRXPixelPipeline": row(
        diffusers.PRXPixelPipeline,
        _prx_pixel,
        SHIFTED,
        SIZE | BAD | {"use_resolution_binning": False},
        prompt_max_tokens=24,
    ),
    "Flux2Pipeline": Entry(partial(tiny, "flux2"), FLUX2 | GUIDED),
    "Flux2KleinPipeline": Entry(partial(tiny, "flux2-klein"), FLUX2 | GUIDED),
    "ZImagePipeline": Entry(partial(tiny, "z-image"), SIZE | {"max_sequence_length": 64, "guidance_scale": 5.0}),
    "ZImagePipeline, turbo": Entry(partial(tiny, "z-image"), SIZE | {"max_sequence_length": 64, "guidance_scale": 0.0}),
}
