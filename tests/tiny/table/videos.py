"""Pipelines that make clips around a transformer and a VAE of their own."""

from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tiny.footage import clip_of, photo
from tiny.pipelines import (
    DECODER,
    LENGTH,
    SHIFTED,
    byte_tokenizer,
    gemma_tokenizer,
    made,
    qwen_vl,
    t5,
    t5_tokenizer,
    vae,
    wan_vae,
)
from tiny.table.entry import Entry

SIZE = {"height": 32, "width": 32}
SAID = {"negative_prompt": "grey", "max_sequence_length": LENGTH}
CLIP = {**SIZE, **SAID, "num_frames": 5}
COG = CLIP | {"num_frames": 9}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}
COG_BETAS = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
COG_DDIM = partial(diffusers.CogVideoXDDIMScheduler, **COG_BETAS)
COG_DPM = partial(diffusers.CogVideoXDPMScheduler, **COG_BETAS)
EDM = partial(diffusers.EDMEulerScheduler, sigma_max=80.0, sigma_data=1.0, final_sigmas_type="sigma_min")
KARRAS = partial(diffusers.FlowMatchEulerDiscreteScheduler, use_karras_sigmas=True)
UNIPC = partial(diffusers.UniPCMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True)


class Harmless:
    """In place of Cosmos's checker of safety, which has weights of its own: finds all harmless."""

    def to(self, device: Any) -> None:
        """Nothing to move."""

    def check_text_safety(self, text: str) -> bool:
        """Whether the text is harmless."""
        return True

    def check_video_safety(self, frames: Any) -> Any:
        """The frames, faces blurred."""
        return frames


def levels(name: str, count: int) -> dict[str, Any]:
    """So many levels of 8 channels, of the blocks of this family."""
    down, up = (name.format(way) for way in ("Down", "Up"))
    return {"block_out_channels": (8,) * count, "down_block_types": (down,) * count, "up_block_types": (up,) * count}


def _motif(**fields: Any) -> dict[str, Any]:
    transformer = diffusers.MotifVideoTransformer3DModel(
        **HEADS, num_single_layers=1, text_embed_dim=16, rope_axes_dim=(4, 6, 6), **fields
    )
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.T5Gemma2EncoderConfig(
        text_config={**DECODER, "dropout_rate": 0.0}, vision_config={**vision, "image_size": 16, "patch_size": 8}
    )
    parts = {"transformer": transformer, "vae": wan_vae(), "guider": diffusers.ClassifierFreeGuidance(3.0)}
    return parts | {"text_encoder": transformers.T5Gemma2Encoder(config), "tokenizer": gemma_tokenizer()}


def _motif_image() -> dict[str, Any]:
    sizes = {"height": 16, "width": 16}
    return _motif(image_embed_dim=16) | {"feature_extractor": transformers.SiglipImageProcessor(size=sizes)}


def _cog(**fields: Any) -> dict[str, Any]:
    own = {"in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 8}
    own |= {"sample_height": 4, "sample_width": 4, "sample_frames": 9, "max_text_seq_length": LENGTH}
    transformer = diffusers.CogVideoXTransformer3DModel(**HEADS | own | fields)
    vae = diffusers.AutoencoderKLCogVideoX(
        **levels("CogVideoX{}Block3D", 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    return {"transformer": transformer, "vae": vae, "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _mochi() -> dict[str, Any]:
    transformer = diffusers.MochiTransformer3DModel(
        **HEADS, pooled_projection_dim=16, text_embed_dim=32, time_embed_dim=8
    )
    torch.nn.init.normal_(transformer.pos_frequencies)  # zero at birth: it would not know where it is
    vae = diffusers.AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1,) * 5,
    )
    return {"transformer": transformer, "vae": vae, "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _allegro() -> dict[str, Any]:
    transformer = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        cross_attention_dim=24,
        sample_height=4,
        sample_width=4,
        sample_frames=2,
        caption_channels=32,
    )
    vae = diffusers.AutoencoderKLAllegro(
        **levels("Allegro{}Block3D", 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    vae.enable_tiling()  # it decodes in no other way
    vae.kernel = vae.stride = (8, 32, 32)  # of a tile: one holds the whole clip
    return {"transformer": transformer, "vae": vae, "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _latte() -> dict[str, Any]:
    transformer = diffusers.LatteTransformer3DModel(
        **HEADS,
        in_channels=4,
        out_channels=8,  # a variance too
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=16,
        patch_size=2,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        num_embeds_ada_norm=1000,
        video_length=4,
    )
    return {"transformer": transformer, "vae": vae(), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _easy() -> dict[str, Any]:
    transformer = diffusers.EasyAnimateTransformer3DModel(
        **HEADS,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        mmdit_layers=1,
        time_embed_dim=8,
        text_embed_dim=16,
    )
    vae = diffusers.AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=[8] * 4,
        down_block_types=["SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3],
        up_block_types=["SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3],
        layers_per_block=1,
        norm_num_groups=2,
    )
    return {"transformer": transformer, "vae": vae, "text_encoder": qwen_vl(), "tokenizer": byte_tokenizer()}


def _cosmos(channels: int = 4, **fields: Any) -> dict[str, Any]:
    own = {"in_channels": channels, "out_channels": 4, "text_embed_dim": 32, "adaln_lora_dim": 4}
    transformer = diffusers.CosmosTransformer3DModel(**HEADS | own | {"max_size": (8, 8, 8)} | fields)
    vae = diffusers.AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 3,
        decode_block_out_channels=(8,) * 3,
        attention_resolutions=(8,),
        resolution=32,
        num_layers=1,
        latents_mean=None,
        latents_std=None,
        temporal_compression_ratio=4,
    )
    parts = {"transformer": transformer, "vae": vae, "safety_checker": Harmless()}
    return parts | {"text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _cosmos_2(channels: int = 16) -> dict[str, Any]:
    return _cosmos(channels, out_channels=16, extra_pos_embed_type=None) | {"vae": wan_vae()}


def _cosmos_3() -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|vision_start|>"]})
    transformer = diffusers.Cosmos3OmniTransformer(
        head_dim=16,
        hidden_size=32,
        intermediate_size=32,
        latent_channel=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        num_key_value_heads=2,
        patch_latent_dim=64,
        vocab_size=len(tokenizer),
        dtype="float32",
        rope_axes_dim=(4, 2, 2),
    )
    return {"transformer": transformer, "vae": wan_vae(), "text_tokenizer": tokenizer}


def _cosmos_transfer() -> dict[str, Any]:
    own = {"num_attention_heads": 2, "attention_head_dim": 16, "model_channels": 32, "adaln_lora_dim": 4}
    own |= {"text_embed_dim": 32, "encoder_hidden_states_channels": 32, "max_size": (8, 8, 8)}
    controlnet = diffusers.CosmosControlNetModel(
        n_controlnet_blocks=1,
        in_channels=18,
        latent_channels=18,
        use_crossattn_projection=True,
        crossattn_proj_in_channels=32,
        **own,
    )
    return _cosmos_2_5(controlnet_block_every_n=1) | {"controlnet": controlnet}


def _cosmos_2_5(**fields: Any) -> dict[str, Any]:
    own = {"out_channels": 16, "extra_pos_embed_type": None, "encoder_hidden_states_channels": 32}
    own |= {"use_crossattn_projection": True, "crossattn_proj_in_channels": 32}
    parts = {"vae": wan_vae(), "text_encoder": qwen_vl(), "tokenizer": byte_tokenizer()}
    return _cosmos(17, **own, **fields) | parts


_cog_turning = partial(_cog, use_rotary_positional_embeddings=True)
_cog_turning_8 = partial(_cog, use_rotary_positional_embeddings=True, in_channels=8)
_cog_later = partial(_cog_turning, patch_size_t=2, patch_bias=False)
_cog_8 = partial(_cog, in_channels=8)
_cosmos_5, _cosmos_2_17 = partial(_cosmos, 5), partial(_cosmos_2, 17)
UNCLEANED = {"clean_caption": False}

ENTRIES: dict[str, Entry] = {
    "MotifVideoPipeline": Entry(partial(made, diffusers.MotifVideoPipeline, _motif, SHIFTED), CLIP),
    "MotifVideoImage2VideoPipeline": Entry(
        partial(made, diffusers.MotifVideoImage2VideoPipeline, _motif_image, SHIFTED), CLIP | {"image": photo()}
    ),
    "CogVideoXPipeline": Entry(partial(made, diffusers.CogVideoXPipeline, _cog, COG_DDIM), COG),
    "CogVideoXPipeline, DPM": Entry(
        partial(made, diffusers.CogVideoXPipeline, _cog_turning, COG_DPM), COG | {"use_dynamic_cfg": True}
    ),
    "CogVideoXPipeline, 1.5": Entry(partial(made, diffusers.CogVideoXPipeline, _cog_later, COG_DPM), COG),
    "CogVideoXImageToVideoPipeline": Entry(
        partial(made, diffusers.CogVideoXImageToVideoPipeline, _cog_turning_8, COG_DPM), COG | {"image": photo()}
    ),
    "CogVideoXVideoToVideoPipeline": Entry(
        partial(made, diffusers.CogVideoXVideoToVideoPipeline, _cog, COG_DDIM),
        {**SIZE, **SAID, "video": clip_of(9), "strength": 0.7},
    ),
    "CogVideoXFunControlPipeline": Entry(
        partial(made, diffusers.CogVideoXFunControlPipeline, _cog_8, COG_DDIM),
        {**SIZE, **SAID, "control_video": clip_of(9)},
    ),
    "MochiPipeline": Entry(partial(made, diffusers.MochiPipeline, _mochi, SHIFTED), CLIP | {"num_frames": 7}),
    "AllegroPipeline": Entry(
        partial(made, diffusers.AllegroPipeline, _allegro, diffusers.EulerAncestralDiscreteScheduler),
        CLIP | UNCLEANED | {"num_frames": 8},
    ),
    "LattePipeline": Entry(
        partial(made, diffusers.LattePipeline, _latte, diffusers.DDIMScheduler),
        {**SIZE, **UNCLEANED, "negative_prompt": "grey", "video_length": 4},
    ),
    "EasyAnimatePipeline": Entry(
        partial(made, diffusers.EasyAnimatePipeline, _easy, SHIFTED),
        {**SIZE, "negative_prompt": "grey", "num_frames": 5},
    ),
    "CosmosTextToWorldPipeline": Entry(partial(made, diffusers.CosmosTextToWorldPipeline, _cosmos, EDM), CLIP),
    "CosmosVideoToWorldPipeline": Entry(
        partial(made, diffusers.CosmosVideoToWorldPipeline, _cosmos_5, EDM), CLIP | {"image": photo()}
    ),
    "CosmosVideoToWorldPipeline, clip": Entry(
        partial(made, diffusers.CosmosVideoToWorldPipeline, _cosmos_5, EDM),
        CLIP | {"num_frames": 9, "video": clip_of(5)},
    ),
    "Cosmos2TextToImagePipeline": Entry(
        partial(made, diffusers.Cosmos2TextToImagePipeline, _cosmos_2, KARRAS), {**SIZE, **SAID}
    ),
    "Cosmos2VideoToWorldPipeline": Entry(
        partial(made, diffusers.Cosmos2VideoToWorldPipeline, _cosmos_2_17, KARRAS), CLIP | {"image": photo()}
    ),
    "Cosmos2_5_PredictBasePipeline": Entry(
        partial(made, diffusers.Cosmos2_5_PredictBasePipeline, _cosmos_2_5, UNIPC),
        {**SIZE, "negative_prompt": "grey", "num_frames": 5},
    ),
    "Cosmos2_5_PredictBasePipeline, image": Entry(
        partial(made, diffusers.Cosmos2_5_PredictBasePipeline, _cosmos_2_5, UNIPC),
        {**SIZE, "negative_prompt": "grey", "num_frames": 5, "image": photo()},
    ),
    "Cosmos2_5_TransferPipeline": Entry(
        partial(made, diffusers.Cosmos2_5_TransferPipeline, _cosmos_transfer, UNIPC),
        {**SIZE, "negative_prompt": "grey", "controls": clip_of(5), "num_frames_per_chunk": 5},
    ),
    "Cosmos3OmniPipeline": Entry(
        partial(made, diffusers.Cosmos3OmniPipeline, _cosmos_3, UNIPC, enable_safety_checker=False),
        {**SIZE, "negative_prompt": "grey", "num_frames": 5},
    ),
}
