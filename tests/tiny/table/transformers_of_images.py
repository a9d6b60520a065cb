"""Pipelines around a transformer that make images from text, which CLIP and T5 read, or from class labels."""

from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tiny.pipelines import (
    FLUX,
    LENGTH,
    PAIR,
    SHIFTED,
    T5,
    UNCHECKED,
    _flux,
    _pixart,
    _sd3,
    _unconditional,
    awake,
    clip,
    clip_tokenizer,
    lively,
    t5,
    t5_tokenizer,
    tiny,
    vae,
    wan_vae,
)
from tiny.table.entry import Entry
from tiny.table.rows import row

SIZE = {"height": 16, "width": 16}
BAD = {"negative_prompt": "bad"}
UNBINNED = {"use_resolution_binning": False, "clean_caption": False}
PIXART = FLUX | BAD | UNBINNED
HUNYUAN = {"use_resolution_binning": False, "guidance_scale": 5.0}
BAD_EMBEDDED = {
    "negative_prompt_embeds": torch.randn(1, LENGTH, 32, generator=torch.Generator().manual_seed(71)),
    "negative_pooled_prompt_embeds": torch.randn(1, 32, generator=torch.Generator().manual_seed(72)),
}
KARRAS = partial(diffusers.FlowMatchEulerDiscreteScheduler, use_karras_sigmas=True)
GUIDED = {"guidance_scale": 5.0}
DPM = diffusers.DPMSolverMultistepScheduler
V_DDIM = partial(
    diffusers.CogVideoXDDIMScheduler,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)


def _aura() -> dict[str, Any]:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**T5))
    return {"transformer": lively(transformer), "vae": vae(), "text_encoder": encoder, "tokenizer": t5_tokenizer()}


def _chroma() -> dict[str, Any]:
    transformer = diffusers.ChromaTransformer2DModel(
        **PAIR,
        in_channels=16,
        num_single_layers=1,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return {"transformer": transformer, "vae": vae(flow=True), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _cogview3() -> dict[str, Any]:
    transformer = diffusers.CogView3PlusTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=32,
        time_embed_dim=16,
        condition_dim=4,
        pos_embed_max_size=8,
        sample_size=8,
    )
    return {"transformer": transformer, "vae": vae(), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _bria() -> dict[str, Any]:
    transformer = diffusers.BriaTransformer2DModel(
        **PAIR, in_channels=16, num_single_layers=1, joint_attention_dim=32, axes_dims_rope=[0, 8, 8]
    )
    return {"transformer": transformer, "vae": vae(), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _hunyuan_dit() -> dict[str, Any]:
    transformer = diffusers.HunyuanDiT2DModel(
        sample_size=8,
        num_layers=4,  # the first is skipped to the last
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
    )
    words = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "bad", "ok"])}
    bert = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1}
    encoder = transformers.BertModel(transformers.BertConfig(**bert, num_attention_heads=4, max_position_embeddings=77))
    parts = {"transformer": transformer, "vae": vae(), "text_encoder": encoder, "text_encoder_2": t5()}
    return parts | {"tokenizer": transformers.BertTokenizer(vocab=words), "tokenizer_2": t5_tokenizer()}


def _amused() -> dict[str, Any]:
    transformer = diffusers.UVit2DModel(
        hidden_size=16,
        cond_embed_dim=32,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=32,
        vocab_size=9,
        codebook_size=8,
        in_channels=8,
        block_out_channels=8,
        num_res_blocks=1,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        sample_size=8,
    )
    vqvae = diffusers.VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=8,
        num_vq_embeddings=8,
        norm_num_groups=4,
        layers_per_block=1,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    return {
        "transformer": transformer,
        "vqvae": vqvae,
        "text_encoder": clip(projected=True),
        "tokenizer": clip_tokenizer(),
    }


def _cosmos2() -> dict[str, Any]:
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        extra_pos_embed_type=None,
    )
    return {
        "transformer": lively(awake(transformer)),
        "vae": lively(wan_vae()),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
    }


class Permissive:
    """A safety check that passes everything: the true one is a download of gigabytes."""

    def to(self, device: Any) -> "Permissive":
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


ENTRIES: dict[str, Entry] = {
    "StableDiffusion3Pipeline": Entry(partial(tiny, "sd3"), FLUX | BAD | GUIDED),
    "StableDiffusion3Pipeline, Heun": Entry(
        lambda: tiny("sd3", diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)), FLUX | BAD | GUIDED
    ),
    "StableDiffusion3Pipeline, skipped layers": Entry(
        partial(tiny, "sd3"),
        FLUX | BAD | {"guidance_scale": 5.0, "skip_guidance_layers": [1], "skip_layer_guidance_stop": 0.9},
    ),
    "StableDiffusion3PAGPipeline": row(
        diffusers.StableDiffusion3PAGPipeline, _sd3, SHIFTED, FLUX | BAD | {"guidance_scale": 5.0, "pag_scale": 2.0}
    ),
    "FluxPipeline": Entry(partial(tiny, "flux-guided"), FLUX | GUIDED),
    "FluxPipeline, true CFG": Entry(partial(tiny, "flux"), FLUX | BAD | {"true_cfg_scale": 4.0}),
    "FluxPipeline, true CFG by embeddings": Entry(partial(tiny, "flux"), FLUX | BAD_EMBEDDED | {"true_cfg_scale": 4.0}),
    "FluxPipeline, stochastic": row(diffusers.FluxPipeline, _flux, partial(SHIFTED, stochastic_sampling=True), FLUX),
    "AuraFlowPipeline": row(diffusers.AuraFlowPipeline, _aura, SHIFTED, FLUX | BAD | {"guidance_scale": 3.5}),
    "ChromaPipeline": row(diffusers.ChromaPipeline, _chroma, SHIFTED, FLUX | BAD | GUIDED),
    "CogView3PlusPipeline": row(diffusers.CogView3PlusPipeline, _cogview3, V_DDIM, FLUX | BAD | GUIDED),
    "BriaPipeline": row(diffusers.BriaPipeline, _bria, SHIFTED, FLUX | BAD | GUIDED),
    "Cosmos2TextToImagePipeline": row(
        diffusers.Cosmos2TextToImagePipeline, _cosmos2, KARRAS, FLUX | BAD | GUIDED, safety_checker=Permissive()
    ),
    "PixArtSigmaPipeline": Entry(lambda: tiny("pixart", DPM()), PIXART | {"guidance_scale": 4.5}),
    "PixArtSigmaPAGPipeline": row(
        diffusers.PixArtSigmaPAGPipeline, _pixart, DPM, PIXART | {"pag_scale": 2.0}, pag_applied_layers="blocks.0"
    ),
    "PixArtAlphaPipeline": row(diffusers.PixArtAlphaPipeline, _pixart, DPM, PIXART | {"guidance_scale": 4.5}),
    "HunyuanDiTPipeline": row(
        diffusers.HunyuanDiTPipeline, _hunyuan_dit, diffusers.DDPMScheduler, SIZE | BAD | HUNYUAN, **UNCHECKED
    ),
    "HunyuanDiTPAGPipeline": row(
        diffusers.HunyuanDiTPAGPipeline,
        _hunyuan_dit,
        diffusers.DDPMScheduler,
        SIZE | BAD | HUNYUAN | {"pag_scale": 2.0},
        **UNCHECKED,
    ),
    "DiTPipeline": Entry(partial(tiny, "dit"), {"guidance_scale": 4.0}, prompt="207"),
    "ConsistencyModelPipeline": row(
        diffusers.ConsistencyModelPipeline,
        _unconditional,
        diffusers.CMStochasticIterativeScheduler,
        {},
        prompt="",
    ),
    "ConsistencyModelPipeline, classes": row(
        diffusers.ConsistencyModelPipeline,
        partial(_unconditional, num_class_embeds=10),
        diffusers.CMStochasticIterativeScheduler,
        {},
        prompt="3",
    ),
    "AmusedPipeline": row(
        diffusers.AmusedPipeline, _amused, partial(diffusers.AmusedScheduler, mask_token_id=8), SIZE | BAD
    ),
}
