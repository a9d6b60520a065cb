"""Pipelines that make clips around the transformers of HunyuanVideo, and Kandinsky 5 with the same VAE."""

from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tiny.footage import photo
from tiny.pipelines import (
    DECODER,
    QWEN_TEXT,
    SHIFTED,
    byte_tokenizer,
    clip,
    clip_tokenizer,
    made,
    qwen_vl,
    t5,
)
from tiny.table.entry import Entry
from tiny.table.videos import levels

SIZE = {"height": 32, "width": 32}
TEMPLATE = {"template": "{}", "crop_start": 0}
CLIP = {**SIZE, "num_frames": 5, "prompt_template": TEMPLATE, "max_sequence_length": 64}
SEEN = "<image>{}<|end_header_id|>"
"""Of a prompt that an image goes with: its 4 tokens, the text, and the end of a header, after which it looks."""
SEEN_CLIP = CLIP | {
    "prompt_template": {
        "template": SEEN,
        "crop_start": 1,
        "image_emb_len": 4,
        "image_emb_start": 0,
        "image_emb_end": 4,
    },
    "image_embed_interleave": 2,
}
TRUE_CFG = {"negative_prompt": "grey", "true_cfg_scale": 3.0}
HUNYUAN = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "text_embed_dim": 16,
    "rope_axes_dim": (4, 6, 6),
}
SEER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SEER |= {"image_size": 16, "patch_size": 8}


def _vae() -> diffusers.AutoencoderKLHunyuanVideo:
    return diffusers.AutoencoderKLHunyuanVideo(
        **levels("HunyuanVideo{}Block3D", 4), latent_channels=4, layers_per_block=1, norm_num_groups=4
    )


def _hunyuan(transformer: type = diffusers.HunyuanVideoTransformer3DModel, **fields: Any) -> dict[str, Any]:
    denoiser = transformer(**HUNYUAN | {"num_single_layers": 1, "pooled_projection_dim": 32} | fields)
    encoder = transformers.LlamaModel(transformers.LlamaConfig(**DECODER))
    parts = {"transformer": denoiser, "vae": _vae(), "text_encoder": encoder, "tokenizer": byte_tokenizer()}
    return parts | {"text_encoder_2": clip(length=77), "tokenizer_2": clip_tokenizer()}


def _hunyuan_image(**fields: Any) -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<|end_header_id|>"]})
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **DECODER, "vocab_size": len(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **SEER},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    parts = {"text_encoder": transformers.LlavaForConditionalGeneration(config), "image_processor": processor}
    return _hunyuan(**fields) | parts | {"tokenizer": tokenizer}


def siglip(image_size: int = 16) -> dict[str, Any]:
    """A SigLIP image encoder with its preprocessing."""
    encoder = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SEER | {"image_size": image_size}))
    sizes = {"height": image_size, "width": image_size}
    return {"image_encoder": encoder, "feature_extractor": transformers.SiglipImageProcessor(size=sizes)}


def _framepack() -> dict[str, Any]:
    own = {"has_image_proj": True, "image_proj_dim": 16, "has_clean_x_embedder": True, "patch_size": 2}
    return _hunyuan(diffusers.HunyuanVideoFramepackTransformer3DModel, **own) | siglip()


def _hunyuan_15(task: str = "t2v", meanflow: bool = False) -> dict[str, Any]:
    own = {"in_channels": 9, "text_embed_2_dim": 32, "image_embed_dim": 16, "target_size": 32}
    transformer = diffusers.HunyuanVideo15Transformer3DModel(**HUNYUAN | own, task_type=task, use_meanflow=meanflow)
    vae = diffusers.AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1)
    encoder = transformers.Qwen2_5_VLTextModel(transformers.Qwen2_5_VLTextConfig(**QWEN_TEXT))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ '.' * 108 }}{{ messages[-1].content }}<|im_end|>"  # 108 tokens of system, dropped
    glyphs = transformers.T5EncoderModel(transformers.T5Config(**t5().config.to_dict() | {"vocab_size": 384}))
    parts = {"transformer": transformer, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer}
    parts |= {"text_encoder_2": glyphs, "tokenizer_2": transformers.ByT5Tokenizer()}
    return parts | {"guider": diffusers.ClassifierFreeGuidance(guidance_scale=3.0)}


def _hunyuan_15_image() -> dict[str, Any]:
    return _hunyuan_15("i2v") | siglip()


def _kandinsky(visual_cond: bool = True) -> dict[str, Any]:
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_text_dim=16,
        in_text_dim2=32,
        time_dim=16,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 6, 6),
        visual_cond=visual_cond,
    )
    for name, parameter in transformer.named_parameters():
        if "modulation" in name:  # zero at birth: its blocks would say nothing
            torch.nn.init.normal_(parameter, std=0.3)
    reads = byte_tokenizer()
    reads.add_special_tokens({"additional_special_tokens": ["<|image_pad|>", "<|video_pad|>"]})
    processor = transformers.Qwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(),
        tokenizer=reads,
        video_processor=transformers.Qwen2VLVideoProcessor(),
        chat_template=reads.chat_template,
    )
    parts = {"transformer": transformer, "vae": _vae(), "text_encoder": qwen_vl(), "tokenizer": processor}
    return parts | {"text_encoder_2": clip(length=77), "tokenizer_2": clip_tokenizer()}


def _kandinsky_6() -> dict[str, Any]:
    transformer = diffusers.Kandinsky6Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=32,
        time_dim=16,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 6, 6),
        in_audio_dim=4,
        out_audio_dim=4,
        ca_rope=True,
        cross_gates=True,
        fix_modulation=True,
        visual_token_type_num_embeddings=2,
    )
    hears = diffusers.MMAudioVAE(
        mel_bins=8, latent_channels=4, hidden_channels=8, channel_multipliers=(1, 2), layers_per_block=1
    )
    speaks = diffusers.MMAudioVocoder(
        num_mels=8,
        upsample_initial_channel=16,
        upsample_rates=(4, 2),
        upsample_kernel_sizes=(8, 4),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
    )
    return _kandinsky() | {"transformer": transformer, "audio_vae": hears, "vocoder": speaks}


_hunyuan_concat = partial(_hunyuan_image, in_channels=9, image_condition_type="latent_concat", guidance_embeds=False)
_hunyuan_replace = partial(_hunyuan_image, image_condition_type="token_replace")
_skyreels = partial(_hunyuan, in_channels=8, guidance_embeds=False)
KANDINSKY = {**SIZE, "num_frames": 5, "negative_prompt": "grey", "max_sequence_length": 1000}

ENTRIES: dict[str, Entry] = {
    "HunyuanVideoPipeline": Entry(partial(made, diffusers.HunyuanVideoPipeline, _hunyuan, SHIFTED), CLIP),
    "HunyuanVideoPipeline, true CFG": Entry(
        partial(made, diffusers.HunyuanVideoPipeline, _hunyuan, SHIFTED), CLIP | TRUE_CFG
    ),
    "HunyuanVideoImageToVideoPipeline": Entry(
        partial(made, diffusers.HunyuanVideoImageToVideoPipeline, _hunyuan_concat, SHIFTED),
        SEEN_CLIP | TRUE_CFG | {"image": photo(), "num_frames": 9},
    ),
    "HunyuanVideoImageToVideoPipeline, token replaced": Entry(
        partial(made, diffusers.HunyuanVideoImageToVideoPipeline, _hunyuan_replace, SHIFTED),
        SEEN_CLIP | {"image": photo(), "guidance_scale": 6.0},
    ),
    "HunyuanSkyreelsImageToVideoPipeline": Entry(
        partial(made, diffusers.HunyuanSkyreelsImageToVideoPipeline, _skyreels, SHIFTED),
        CLIP | TRUE_CFG | {"image": photo()},
    ),
    "HunyuanVideoFramepackPipeline": Entry(
        partial(made, diffusers.HunyuanVideoFramepackPipeline, _framepack, SHIFTED),
        CLIP | {"image": photo(), "latent_window_size": 2},
    ),
    "HunyuanVideoFramepackPipeline, two sections": Entry(
        partial(made, diffusers.HunyuanVideoFramepackPipeline, _framepack, SHIFTED),
        CLIP | TRUE_CFG | {"image": photo(), "last_image": photo(seed=1), "latent_window_size": 2, "num_frames": 9},
    ),
    "HunyuanVideo15Pipeline": Entry(
        partial(made, diffusers.HunyuanVideo15Pipeline, _hunyuan_15, SHIFTED),
        {**SIZE, "num_frames": 5, "negative_prompt": "grey"},
        steps=2,
    ),
    "HunyuanVideo15ImageToVideoPipeline": Entry(
        partial(made, diffusers.HunyuanVideo15ImageToVideoPipeline, _hunyuan_15_image, SHIFTED),
        {"image": photo(), "num_frames": 5, "negative_prompt": "grey"},
        steps=2,
    ),
    "Kandinsky5T2VPipeline": Entry(partial(made, diffusers.Kandinsky5T2VPipeline, _kandinsky, SHIFTED), KANDINSKY),
    "Kandinsky5I2VPipeline": Entry(
        partial(made, diffusers.Kandinsky5I2VPipeline, _kandinsky, SHIFTED),
        KANDINSKY | {"image": photo(), "num_frames": 17},
    ),
    "Kandinsky6TI2VAPipeline": Entry(
        partial(made, diffusers.Kandinsky6TI2VAPipeline, _kandinsky_6, SHIFTED), KANDINSKY
    ),
    "Kandinsky6TI2VAPipeline, image": Entry(
        partial(made, diffusers.Kandinsky6TI2VAPipeline, _kandinsky_6, SHIFTED),
        KANDINSKY | {"image": photo(), "sample_audio": False},
    ),
}
