"""Stable Diffusion, SDXL and Kolors: text, images, masks, edits, upscalers, each of the usual schedulers."""

from functools import partial
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline
from diffusers.pipelines.kolors.pipeline_kolors_img2img import KolorsImg2ImgPipeline
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.pag.pipeline_pag_kolors import KolorsPAGPipeline

from tiny.pipelines import EULER, SD_BETAS, UNCHECKED, XL, byte_tokenizer, ddim, euler, sd, sdxl, unet, vae
from tiny.table.entry import Entry
from tiny.table.rows import mask, photo, row

PICTURE = photo(1)
MASKED = {"image": PICTURE, "mask_image": mask()}
EMBEDDED = {"negative_prompt_embeds": torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(3))}


def _depth() -> dict[str, Any]:
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        readout_type="project",
    )
    extractor = transformers.DPTImageProcessor(size={"height": 16, "width": 16})
    depth = {"depth_estimator": transformers.DPTForDepthEstimation(config), "feature_extractor": extractor}
    return sd(in_channels=5) | depth


def _upscaler() -> dict[str, Any]:
    by_four = vae(block_out_channels=[8, 16, 16], scaling_factor=0.08333)
    return sd(in_channels=7, num_class_embeds=1000) | {"vae": by_four}


def _latent_upscaler() -> dict[str, Any]:
    return sd(
        in_channels=8,
        out_channels=5,  # and a variance
        block_out_channels=(32, 32),
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("KCrossAttnUpBlock2D", "KUpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=None,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        time_embedding_dim=32,
        time_cond_proj_dim=160,  # 128 of a noise level, 32 of the text
        timestep_post_act="gelu",
        act_fn="gelu",
        conv_in_kernel=1,
        conv_out_kernel=1,
    )


class _Positioned(transformers.Qwen2Tokenizer):
    """Tells where words stand, as ChatGLM's tokenizer does, which needs a package more."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        told = super().__call__(*args, **kwargs)
        told["position_ids"] = (told["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return told


def _kolors() -> dict[str, Any]:
    encoder = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=262,
            hidden_size=32,
            ffn_hidden_size=32,
            kv_channels=16,
            num_attention_heads=2,
            seq_length=16,
            multi_query_attention=True,
            add_qkv_bias=True,
            original_rope=True,
        ),
        empty_init=False,
    )
    for name, weight in encoder.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.ones_(weight)  # left as memory was by the constructor
    net = unet(**XL | {"encoder_hid_dim": 32, "encoder_hid_dim_type": "text_proj"})
    return {"unet": net, "vae": vae(), "text_encoder": encoder, "tokenizer": byte_tokenizer(_Positioned)}


ALONE, XL_ALONE = partial(sd), partial(sdxl)
"""Shared with no other row: pipelines with PAG or SAG may leave their attention processors behind."""
INPAINT = partial(sd, in_channels=9)
GUIDED = partial(sd, time_cond_proj_dim=16)
EDIT = partial(sd, in_channels=8)
XL_EDIT = partial(sdxl, in_channels=8)
XL_INPAINT = partial(sdxl, in_channels=9)

SD = partial(row, **UNCHECKED)
SDXL = partial(row, add_watermarker=False)
LCM = partial(diffusers.LCMScheduler, **EULER)
SCHEDULERS = {
    "PNDM": partial(diffusers.PNDMScheduler, skip_prk_steps=True, **EULER),
    "DPM++": partial(diffusers.DPMSolverMultistepScheduler, **EULER),
    "DPM++ SDE": partial(diffusers.DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++", **EULER),
    "DPM++ single-step": partial(diffusers.DPMSolverSinglestepScheduler, **SD_BETAS),
    "Euler": partial(diffusers.EulerDiscreteScheduler, **EULER),
    "Euler ancestral": partial(diffusers.EulerAncestralDiscreteScheduler, **EULER),
    "UniPC": partial(diffusers.UniPCMultistepScheduler, **EULER),
    "Heun": partial(diffusers.HeunDiscreteScheduler, **EULER),
    "LMS": partial(diffusers.LMSDiscreteScheduler, **EULER),
    "DEIS": partial(diffusers.DEISMultistepScheduler, **EULER),
    "LCM": LCM,
    "TCD": partial(diffusers.TCDScheduler, **EULER),
    "DDPM": partial(diffusers.DDPMScheduler, clip_sample=False, **EULER),
    "DDIM linspace": partial(ddim, timestep_spacing="linspace"),
    "DDIM trailing": partial(ddim, timestep_spacing="trailing"),
}
"""Of `StableDiffusionPipeline`, besides its DDIM."""

ENTRIES: dict[str, Entry] = {
    "StableDiffusionPipeline": SD(diffusers.StableDiffusionPipeline, sd, ddim, {"negative_prompt": "blurry"}),
    "StableDiffusionXLPipeline": SDXL(diffusers.StableDiffusionXLPipeline, sdxl, euler, {"negative_prompt": "blurry"}),
    "StableDiffusionPipeline, negative embeddings": SD(diffusers.StableDiffusionPipeline, sd, ddim, EMBEDDED),
    "StableDiffusionImg2ImgPipeline": SD(diffusers.StableDiffusionImg2ImgPipeline, sd, ddim, {"image": PICTURE}),
    "StableDiffusionInpaintPipeline": SD(diffusers.StableDiffusionInpaintPipeline, INPAINT, ddim, MASKED),
    "StableDiffusionInpaintPipeline, plain UNet": SD(
        diffusers.StableDiffusionInpaintPipeline, sd, ddim, MASKED | {"strength": 0.8}
    ),
    "StableDiffusionInpaintPipeline, crop": SD(
        diffusers.StableDiffusionInpaintPipeline,
        INPAINT,
        ddim,
        {"image": photo(1, 32), "mask_image": mask(32), "padding_mask_crop": 4},
    ),
    "StableDiffusionDepth2ImgPipeline": row(
        diffusers.StableDiffusionDepth2ImgPipeline, _depth, ddim, {"image": PICTURE}
    ),
    "StableDiffusionInstructPix2PixPipeline": SD(
        diffusers.StableDiffusionInstructPix2PixPipeline, EDIT, ddim, {"image": PICTURE}
    ),
    "StableDiffusionPAGPipeline": SD(diffusers.StableDiffusionPAGPipeline, ALONE, ddim),
    "StableDiffusionPAGPipeline, without CFG": SD(
        diffusers.StableDiffusionPAGPipeline, ALONE, ddim, {"guidance_scale": 0.0}
    ),
    "StableDiffusionSAGPipeline": SD(diffusers.StableDiffusionSAGPipeline, partial(sd, attention_head_dim=4), ddim),
    "StableDiffusionPanoramaPipeline": SD(
        diffusers.StableDiffusionPanoramaPipeline, sd, ddim, {"height": 16, "width": 144}
    ),
    "StableDiffusionUpscalePipeline": row(
        diffusers.StableDiffusionUpscalePipeline,
        _upscaler,
        {"scheduler": ddim, "low_res_scheduler": diffusers.DDPMScheduler},
        {"image": PICTURE},
    ),
    "StableDiffusionLatentUpscalePipeline": row(
        diffusers.StableDiffusionLatentUpscalePipeline,
        _latent_upscaler,
        partial(diffusers.EulerDiscreteScheduler, **EULER),
        {"image": PICTURE},
    ),
    "LatentConsistencyModelPipeline": SD(diffusers.LatentConsistencyModelPipeline, GUIDED, LCM),
    "LatentConsistencyModelImg2ImgPipeline": SD(
        diffusers.LatentConsistencyModelImg2ImgPipeline, GUIDED, LCM, {"image": PICTURE}
    ),
    "StableDiffusionXLImg2ImgPipeline": SDXL(
        diffusers.StableDiffusionXLImg2ImgPipeline,
        sdxl,
        euler,
        {"image": PICTURE, "strength": 0.7, "negative_prompt": "blurry"},
    ),
    "StableDiffusionXLInpaintPipeline": SDXL(diffusers.StableDiffusionXLInpaintPipeline, sdxl, euler, MASKED),
    "StableDiffusionXLInpaintPipeline, 9 channels": SDXL(
        diffusers.StableDiffusionXLInpaintPipeline, XL_INPAINT, euler, MASKED
    ),
    "StableDiffusionXLInstructPix2PixPipeline": SDXL(
        diffusers.StableDiffusionXLInstructPix2PixPipeline,
        XL_EDIT,
        euler,
        {"image": PICTURE, "height": 16, "width": 16},
    ),
    "StableDiffusionXLPAGPipeline": SDXL(diffusers.StableDiffusionXLPAGPipeline, XL_ALONE, euler),
    "KolorsPipeline": row(KolorsPipeline, _kolors, euler, {"max_sequence_length": 16}),
    "KolorsImg2ImgPipeline": row(
        KolorsImg2ImgPipeline, _kolors, euler, {"image": PICTURE, "strength": 0.7, "max_sequence_length": 16}
    ),
    "KolorsPAGPipeline": row(KolorsPAGPipeline, partial(_kolors), euler, {"max_sequence_length": 16}),
} | {
    f"StableDiffusionPipeline, {name}": SD(diffusers.StableDiffusionPipeline, sd, scheduler, steps=5)
    for name, scheduler in SCHEDULERS.items()
}
