"""Pipelines that make clips around the transformer of Wan and its relatives."""

from functools import partial
from typing import Any

import diffusers
import transformers

from tiny.footage import clip_of, mask, photo
from tiny.pipelines import LENGTH, SHIFTED, WAN, WAN_PAIR, gemma, gemma_tokenizer, made, wan, wan_vae
from tiny.table.entry import Entry

SIZE = {"height": 32, "width": 32}
SAID = {"negative_prompt": "grey", "max_sequence_length": LENGTH}
CLIP = {**SIZE, **SAID, "num_frames": 5}
FORCED = {"base_num_frames": 9, "num_frames": 9}
CHUNK = {"num_latent_frames_per_chunk": 2, "history_sizes": [4, 2, 1]}
PYRAMID = {"height": 64, "width": 64, "pyramid_num_inference_steps_list": [2, 2, 2]}
SANA = {**SIZE, **SAID, "frames": 5, "use_resolution_binning": False, "complex_human_instruction": None}
ONE_STAGE = partial(diffusers.HeliosScheduler, stages=1, stage_range=[0, 1])
STAGES = partial(diffusers.HeliosScheduler, gamma=0.25)  # at 1/3 its noise has a singular covariance
DISTILLED_STAGES = partial(diffusers.HeliosDMDScheduler, gamma=0.25)
FLOW_MAP = partial(diffusers.FlowMapEulerDiscreteScheduler, shift=3.0)
SOLVER = partial(
    diffusers.DPMSolverMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
)
UNIPC = partial(
    diffusers.UniPCMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
)


def seer(cls: type = transformers.CLIPVisionModel) -> dict[str, Any]:
    """A CLIP image encoder with its preprocessing."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=16)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return {"image_encoder": cls(config), "image_processor": processor}


def _wan_image(transformer: type = diffusers.WanTransformer3DModel, **fields: Any) -> dict[str, Any]:
    return wan(transformer, in_channels=36, image_dim=16, added_kv_proj_dim=24, **fields) | seer()


def _animate() -> dict[str, Any]:
    motion = {"motion_encoder_channel_sizes": {"4": 8, "8": 8, "16": 8}, "motion_encoder_size": 16}
    motion |= {"motion_style_dim": 8, "motion_dim": 4, "motion_encoder_dim": 16}
    face = {"face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2, "inject_face_latents_blocks": 1}
    return _wan_image(diffusers.WanAnimateTransformer3DModel, **motion, **face)


def _vace() -> dict[str, Any]:
    parts = wan(diffusers.WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=96)
    parts["transformer"].vace_patch_embedding.weight.data *= 10  # else it sees masks alone
    return parts


_wan_ends = partial(_wan_image, pos_embed_seq_len=10)  # two images of 5 tokens
_wan_unseen = partial(wan, pair=True, in_channels=36)
_lucy = partial(wan, in_channels=32)
_chrono = partial(_wan_image, diffusers.ChronoEditTransformer3DModel)
_any = partial(wan, diffusers.AnyFlowTransformer3DModel)
_sky = partial(wan, diffusers.SkyReelsV2Transformer3DModel)
_sky_forced = partial(_sky, inject_sample_info=True)


def _sky_image() -> dict[str, Any]:
    seen = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}
    return _sky(**seen) | seer(transformers.CLIPVisionModelWithProjection)


def _helios() -> dict[str, Any]:
    transformer = diffusers.HeliosTransformer3DModel(**WAN, rope_dim=(4, 4, 4))
    return wan() | {"transformer": transformer}


def _sana() -> dict[str, Any]:
    transformer = diffusers.SanaVideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        sample_size=4,
        rope_max_seq_len=32,
    )
    return {"transformer": transformer, "vae": wan_vae(), "text_encoder": gemma(), "tokenizer": gemma_tokenizer()}


ENTRIES: dict[str, Entry] = {
    "WanPipeline": Entry(partial(made, diffusers.WanPipeline, wan, UNIPC), CLIP),
    "WanPipeline, two denoisers": Entry(
        partial(made, diffusers.WanPipeline, WAN_PAIR, UNIPC, boundary_ratio=0.875), CLIP | {"guidance_scale_2": 3.0}
    ),
    "WanPipeline, timesteps expanded": Entry(
        partial(made, diffusers.WanPipeline, wan, UNIPC, expand_timesteps=True), CLIP
    ),
    "WanImageToVideoPipeline": Entry(
        partial(made, diffusers.WanImageToVideoPipeline, _wan_image, UNIPC), CLIP | {"image": photo()}
    ),
    "WanImageToVideoPipeline, last image": Entry(
        partial(made, diffusers.WanImageToVideoPipeline, _wan_ends, UNIPC),
        CLIP | {"image": photo(), "last_image": photo(seed=1)},
    ),
    "WanImageToVideoPipeline, two denoisers": Entry(
        partial(made, diffusers.WanImageToVideoPipeline, _wan_unseen, UNIPC, boundary_ratio=0.9),
        CLIP | {"image": photo()},
    ),
    "WanImageToVideoPipeline, timesteps expanded": Entry(
        partial(made, diffusers.WanImageToVideoPipeline, wan, UNIPC, expand_timesteps=True),
        CLIP | {"image": photo()},
    ),
    "WanVideoToVideoPipeline": Entry(
        partial(made, diffusers.WanVideoToVideoPipeline, wan, SHIFTED),
        {**SIZE, **SAID, "video": clip_of(5), "strength": 0.7},
    ),
    "WanVACEPipeline": Entry(
        partial(made, diffusers.WanVACEPipeline, _vace, UNIPC),
        CLIP | {"video": clip_of(5), "mask": [mask()] * 5, "reference_images": [photo(seed=2)]},
    ),
    "WanAnimatePipeline": Entry(
        partial(made, diffusers.WanAnimatePipeline, _animate, UNIPC),
        {**SIZE, **SAID, "image": photo(), "pose_video": clip_of(5), "face_video": clip_of(5, 16, 16)}
        | {"segment_frame_length": 5, "guidance_scale": 3.0},
    ),
    "LucyEditPipeline": Entry(partial(made, diffusers.LucyEditPipeline, _lucy, UNIPC), CLIP | {"video": clip_of(5)}),
    "ChronoEditPipeline": Entry(partial(made, diffusers.ChronoEditPipeline, _chrono, UNIPC), CLIP | {"image": photo()}),
    "ChronoEditPipeline, temporal reasoning": Entry(
        partial(made, diffusers.ChronoEditPipeline, _chrono, UNIPC),
        CLIP
        | {"image": photo(), "num_frames": 9, "enable_temporal_reasoning": True, "num_temporal_reasoning_steps": 2},
    ),
    "AnyFlowPipeline": Entry(partial(made, diffusers.AnyFlowPipeline, _any, FLOW_MAP), CLIP | {"guidance_scale": 3.0}),
    "AnyFlowPipeline, goes on": Entry(
        partial(made, diffusers.AnyFlowPipeline, _any, FLOW_MAP), CLIP | {"num_frames": 9, "video": clip_of(5)}
    ),
    "SkyReelsV2Pipeline": Entry(partial(made, diffusers.SkyReelsV2Pipeline, _sky, UNIPC), CLIP),
    "SkyReelsV2ImageToVideoPipeline": Entry(
        partial(made, diffusers.SkyReelsV2ImageToVideoPipeline, _sky_image, UNIPC), CLIP | {"image": photo()}
    ),
    "SkyReelsV2DiffusionForcingPipeline": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingPipeline, _sky, UNIPC), CLIP | FORCED
    ),
    "SkyReelsV2DiffusionForcingPipeline, in turns": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingPipeline, _sky, UNIPC),
        CLIP | FORCED | {"ar_step": 1, "causal_block_size": 1},
    ),
    "SkyReelsV2DiffusionForcingPipeline, frame rate told": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingPipeline, _sky_forced, UNIPC), CLIP | FORCED | {"fps": 16}
    ),
    "SkyReelsV2DiffusionForcingPipeline, long": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingPipeline, _sky, UNIPC),
        CLIP | FORCED | {"num_frames": 17, "overlap_history": 5},
    ),
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingImageToVideoPipeline, _sky, UNIPC),
        CLIP | FORCED | {"image": photo()},
    ),
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": Entry(
        partial(made, diffusers.SkyReelsV2DiffusionForcingVideoToVideoPipeline, _sky, UNIPC),
        CLIP | FORCED | {"video": clip_of(5), "num_frames": 13, "overlap_history": 5},
    ),
    "HeliosPipeline": Entry(partial(made, diffusers.HeliosPipeline, _helios, ONE_STAGE), CLIP | CHUNK),
    "HeliosPipeline, image, two chunks": Entry(
        partial(made, diffusers.HeliosPipeline, _helios, ONE_STAGE),
        CLIP | CHUNK | {"image": photo(), "num_frames": 10},
    ),
    "HeliosPyramidPipeline": Entry(
        partial(made, diffusers.HeliosPyramidPipeline, _helios, STAGES),
        CLIP | CHUNK | PYRAMID,
    ),
    "HeliosPyramidPipeline, distilled": Entry(
        partial(made, diffusers.HeliosPyramidPipeline, _helios, DISTILLED_STAGES, is_distilled=True),
        CLIP | CHUNK | PYRAMID | {"negative_prompt": None, "guidance_scale": 1.0},
    ),
    "SanaVideoPipeline": Entry(partial(made, diffusers.SanaVideoPipeline, _sana, SOLVER), SANA),
    "SanaImageToVideoPipeline": Entry(
        partial(made, diffusers.SanaImageToVideoPipeline, _sana, SHIFTED), SANA | {"image": photo()}
    ),
}
