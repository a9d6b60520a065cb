"""Pipelines around a transformer that make images from text, which a language model that can see reads."""

from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from tiny.pipelines import (
    CLIP,
    DECODER,
    DYNAMIC,
    PAIR,
    SEEN,
    SHIFTED,
    T5,
    _flux2,
    _qwen_image,
    awake,
    byte_tokenizer,
    clip_tokenizer,
    lively,
    parts,
    seeing_processor,
    tiny,
    vae,
)
from tiny.table.entry import Entry
from tiny.table.rows import row

SIZE = {"height": 16, "width": 16}
BAD = {"negative_prompt": "bad"}
GUIDED = {"guidance_scale": 5.0}
APG = diffusers.guiders.AdaptiveProjectedMixGuidance
HUNYUAN = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "num_single_layers": 1}
HUNYUAN |= {"num_refiner_layers": 1, "text_embed_dim": 16}
BRIEF = {"tokenizer_max_length": 200}
PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def _qwen2_vl() -> dict[str, Any]:
    return {"text_encoder": parts(_qwen_image)["text_encoder"], "tokenizer": byte_tokenizer()}


def _qwen3_vl(layers: int = 2) -> transformers.Qwen3VLConfig:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16}
    vision |= {"patch_size": 14, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text = DECODER | {"num_hidden_layers": layers, "rope_parameters": rope}
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **SEEN)


def _seeing() -> dict[str, Any]:
    encoder = transformers.Qwen3VLForConditionalGeneration(_qwen3_vl())
    return {"text_encoder": encoder, "processor": seeing_processor(transformers.Qwen3VLProcessor)}


def _hunyuan_image() -> dict[str, Any]:
    transformer = diffusers.HunyuanImageTransformer2DModel(
        **HUNYUAN, in_channels=4, out_channels=4, text_embed_2_dim=32, rope_axes_dim=(8, 8)
    )
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=16,
        scaling_factor=0.75,
    )
    glyphs = transformers.T5EncoderModel(transformers.T5Config(**T5 | {"vocab_size": 384}))
    reader = {"text_encoder_2": glyphs, "tokenizer_2": transformers.ByT5Tokenizer()}
    return {"transformer": lively(transformer), "vae": vae, **_qwen2_vl(), **reader}


def _hunyuan_refiner() -> dict[str, Any]:
    transformer = diffusers.HunyuanImageTransformer2DModel(
        **HUNYUAN, in_channels=16, out_channels=8, patch_size=(1, 1, 1), guidance_embeds=True, rope_axes_dim=(4, 6, 6)
    )
    vae = diffusers.AutoencoderKLHunyuanImageRefiner(
        latent_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=1,
    )
    return {"transformer": lively(transformer), "vae": vae, **_qwen2_vl()}


def _longcat() -> dict[str, Any]:
    transformer = diffusers.LongCatImageTransformer2DModel(
        **PAIR,
        in_channels=64,
        num_single_layers=1,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    return {"transformer": transformer, "vae": vae(True, 16), **_qwen2_vl(), "text_processor": None}


def _krea2() -> dict[str, Any]:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=24,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 4, 8),
    )
    parts_ = {"transformer": awake(transformer), "vae": parts(_qwen_image)["vae"], "tokenizer": byte_tokenizer()}
    return parts_ | {"text_encoder": transformers.Qwen3VLModel(_qwen3_vl())}


def _nucleus() -> dict[str, Any]:
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        dense_moe_strategy="none",
        num_experts=2,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    for name, weight in transformer.named_parameters():
        if "experts" in name:
            torch.nn.init.normal_(weight, std=0.2)  # left as memory was by the constructor
    return {"transformer": awake(transformer), "vae": parts(_qwen_image)["vae"], **_seeing()}


def _ideogram() -> dict[str, Any]:
    layers = 36  # it reads thirteen of them
    nets = [
        awake(
            diffusers.Ideogram4Transformer2DModel(
                in_channels=16,
                num_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                intermediate_size=32,
                adaln_dim=16,
                llm_features_dim=13 * 16,
                mrope_section=(4, 2, 2),
            )
        )
        for _ in range(2)
    ]
    reader = {"text_encoder": transformers.Qwen3VLModel(_qwen3_vl(layers)), "tokenizer": byte_tokenizer()}
    return {"transformer": nets[0], "unconditional_transformer": nets[1], "vae": parts(_flux2)["vae"], **reader}


def _kandinsky5(visual_cond: bool = False) -> dict[str, Any]:
    transformer = diffusers.Kandinsky5Transformer3DModel(
        visual_cond=visual_cond,
        in_text_dim=16,
        in_text_dim2=32,
        time_dim=16,
        model_dim=16,
        ff_dim=24,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 2, 2),
    )
    long_clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP | {"max_position_embeddings": 77}))
    first = _qwen2_vl() | {"tokenizer": seeing_processor(transformers.Qwen2VLProcessor)}
    second = {"text_encoder_2": long_clip, "tokenizer_2": clip_tokenizer()}
    return {"transformer": awake(transformer), "vae": vae(levels=4), **first, **second}


def _dreamlite() -> dict[str, Any]:
    kinds = ["DreamLiteCrossAttnNoSelfAttn{}Block2D", "DreamLiteCrossAttn{}Block2D"]
    unet = diffusers.DreamLiteUNetModel(
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
        addition_embed_type="time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16,
        ff_mult=1,
    )
    ends = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    return {"unet": unet, "vae": diffusers.AutoencoderTiny(**ends, **blocks), "tokenizer": byte_tokenizer()} | _seeing()


def _qwen_image21() -> dict[str, Any]:
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False] * 4,
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.0, 1.2],
    )
    return {"transformer": awake(transformer), "vae": vae, **_seeing()}


def _bria_fibo2() -> dict[str, Any]:
    transformer = diffusers.BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=5,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=48,
        injection_layer_ids=(0, 1, 2, 3, 4),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=4,
        gist_min_text_len=8,
        axes_dims=(8, 4, 4),
        axes_lens=(2048, 16, 16),
    )
    return {"transformer": awake(transformer), "vae": parts(_flux2)["vae"], **_seeing()}


ENTRIES: dict[str, Entry] = {
    "HunyuanImagePipeline": row(
        diffusers.HunyuanImagePipeline, _hunyuan_image, SHIFTED, SIZE | BAD, attributes=BRIEF, guider=APG()
    ),
    "HunyuanImagePipeline, distilled": row(
        diffusers.HunyuanImagePipeline, _hunyuan_image, SHIFTED, SIZE, attributes=BRIEF
    ),
    "HunyuanImagePipeline, words": row(
        diffusers.HunyuanImagePipeline, _hunyuan_image, SHIFTED, SIZE, 'a sign that says "ok"', BRIEF
    ),
    "HunyuanImageRefinerPipeline": row(
        diffusers.HunyuanImageRefinerPipeline, _hunyuan_refiner, SHIFTED, SIZE | {"image": PICTURE}
    ),
    "LongCatImagePipeline": row(
        diffusers.LongCatImagePipeline, _longcat, DYNAMIC, SIZE | BAD | GUIDED | {"enable_prompt_rewrite": False}
    ),
    "Krea2Pipeline": row(
        diffusers.Krea2Pipeline, _krea2, DYNAMIC, SIZE | BAD | GUIDED, text_encoder_select_layers=(0, 1)
    ),
    "NucleusMoEImagePipeline": row(
        diffusers.NucleusMoEImagePipeline, _nucleus, DYNAMIC, SIZE | BAD | GUIDED | {"return_index": -1}
    ),
    "Ideogram4Pipeline": row(
        diffusers.Ideogram4Pipeline,
        _ideogram,
        SHIFTED,
        SIZE | GUIDED | {"guidance_schedule": None, "max_sequence_length": 64},
    ),
    "Kandinsky5T2IPipeline": row(
        diffusers.Kandinsky5T2IPipeline,
        _kandinsky5,
        SHIFTED,
        {"height": 32, "width": 32, **BAD, **GUIDED},
        attributes={"resolutions": [(32, 32)]},  # the nearest of them is made
    ),
    "DreamLitePipeline": row(diffusers.DreamLitePipeline, _dreamlite, DYNAMIC, SIZE | BAD | {"guidance_scale": 3.5}),
    "DreamLiteMobilePipeline": row(diffusers.DreamLiteMobilePipeline, _dreamlite, DYNAMIC, SIZE),
    "QwenImage21Pipeline": row(
        diffusers.QwenImage21Pipeline,
        _qwen_image21,
        DYNAMIC,
        {"height": 64, "width": 64, "negative_prompt": " ", "true_cfg_scale": 4.0},
    ),
    "BriaFibo2Pipeline": row(
        diffusers.BriaFibo2Pipeline,
        _bria_fibo2,
        DYNAMIC,
        SIZE | BAD | GUIDED,
        attributes={"text_encoder_out_layers": ((0, 1, 2),) * 6},
    ),
    "QwenImagePipeline": Entry(partial(tiny, "qwen-image"), SIZE | {"negative_prompt": " ", "true_cfg_scale": 4.0}),
}
