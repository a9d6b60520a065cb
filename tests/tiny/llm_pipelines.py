"""Tiny real pipelines that read their prompts with a language model: FLUX.2, Qwen-Image, Z-Image, Sana."""

from functools import cache
from typing import Any

import diffusers
import torch
from tokenizers import pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from tiny import pipelines as tiny

HIDDEN = 16
CHAT = "{% set said = messages[-1].content %}{{ said if said is string else said[0].text }}<|im_end|>"
DECODER = {
    "vocab_size": 262,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}


def byte_tokenizer() -> Qwen2Tokenizer:
    """Qwen's byte-level BPE without merges, with a chat template: a byte is a token."""
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return Qwen2Tokenizer(vocab={n: i for i, n in enumerate(names)}, merges=[], chat_template=CHAT)


def gemma_tokenizer() -> GemmaTokenizer:
    """Gemma's BPE of single letters."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    return GemmaTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=[])


@cache
@tiny.seeded
def _flux2_parts(klein: bool) -> dict[str, Any]:
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * HIDDEN,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=not klein,
    )
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": Qwen3ForCausalLM(Qwen3Config(**DECODER)) if klein else _mistral(),
        "tokenizer": byte_tokenizer(),
    }


def _mistral() -> Mistral3ForConditionalGeneration:
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config={"model_type": "mistral", **DECODER}, vision_config=vision)
    )


def flux2(scheduler: Any = None) -> diffusers.Flux2Pipeline:
    """A Flux2Pipeline (dev): guidance is embedded. Pass `text_encoder_out_layers` of at most 2."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return tiny.quiet(diffusers.Flux2Pipeline(**_flux2_parts(False), scheduler=scheduler))


def flux2_klein(scheduler: Any = None) -> diffusers.Flux2KleinPipeline:
    """A Flux2KleinPipeline: guidance takes two calls."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return tiny.quiet(diffusers.Flux2KleinPipeline(**_flux2_parts(True), scheduler=scheduler, is_distilled=False))


@cache
@tiny.seeded
def _qwen_parts() -> dict[str, Any]:
    text = {**DECODER, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": HIDDEN}
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.0, 1.2],
    )
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        "tokenizer": byte_tokenizer(),
    }


def qwen_image(scheduler: Any = None) -> diffusers.QwenImagePipeline:
    """A QwenImagePipeline; its prompts are as long as their template and text, with a mask in a batch."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    return tiny.quiet(diffusers.QwenImagePipeline(**_qwen_parts(), scheduler=scheduler))


@cache
@tiny.seeded
def _z_image_parts() -> dict[str, Any]:
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=HIDDEN,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token)  # left as memory was by the constructor
    return {
        "transformer": transformer,
        "vae": tiny.vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        "text_encoder": Qwen3Model(Qwen3Config(**DECODER)),
        "tokenizer": byte_tokenizer(),
    }


def z_image(scheduler: Any = None) -> diffusers.ZImagePipeline:
    """A ZImagePipeline: lists of latents and of prompt embeddings, each as long as its prompt."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return tiny.quiet(diffusers.ZImagePipeline(**_z_image_parts(), scheduler=scheduler))


@cache
@tiny.seeded
def _sana_parts() -> dict[str, Any]:
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=HIDDEN,
        sample_size=32,
        patch_size=1,
    )
    levels = {
        "block_out_channels": (8, 8),
        "block_types": ("ResBlock", "EfficientViTBlock"),
        "layers_per_block": (1, 1),
        "qkv_multiscales": ((), (5,)),
    }
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        **{f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in levels.items()},
        scaling_factor=0.41,
    )
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": Gemma2Model(Gemma2Config(**DECODER, sliding_window=512)),
        "tokenizer": gemma_tokenizer(),
    }


def sana(scheduler: Any = None) -> diffusers.SanaPipeline:
    """A SanaPipeline; its prompts follow a fixed instruction."""
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return tiny.quiet(diffusers.SanaPipeline(**_sana_parts(), scheduler=scheduler))
