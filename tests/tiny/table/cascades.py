"""UNets that a prior precedes or an upscaler follows, and those that work on pixels or without words."""

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from tiny.pipelines import (
    UNCHECKED,
    awake,
    clip,
    clip_pictures,
    clip_tokenizer,
    clip_vision,
    ddim,
    sd,
    t5,
    t5_tokenizer,
    unet,
    vae,
)
from tiny.table.entry import Entry
from tiny.table.rows import mask, photo, row

PICTURE = photo(1)
SMALL = {"height": 16, "width": 16}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
PRIOR_STEPS = {"prior_num_inference_steps": 2}
UNCLIP = partial(diffusers.UnCLIPScheduler, clip_sample_range=5.0)
PRIOR = partial(UNCLIP, variance_type="fixed_small_log", prediction_type="sample")
LEARNED = partial(diffusers.DDPMScheduler, variance_type="learned_range", clip_sample_range=2.0)
NOISING = partial(diffusers.DDPMScheduler, **COSINE)
PIXELS = partial(
    diffusers.DDPMScheduler, variance_type="learned_range", thresholding=True, sample_max_value=1.5, **COSINE
)


def _numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def _prior() -> Any:
    dims = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}
    net = diffusers.PriorTransformer(**dims, embedding_dim=32, num_embeddings=12)
    torch.nn.init.ones_(net.clip_std)  # zero at birth, as embeddings would be
    return net


def _stable_unclip() -> dict[str, Any]:
    made = sd(class_embed_type="projection", projection_class_embeddings_input_dim=64)
    return made | {"image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=32)}


def _stable_unclip_text() -> dict[str, Any]:
    prior = {"prior": _prior(), "prior_text_encoder": clip(projected=True), "prior_tokenizer": clip_tokenizer()}
    return _stable_unclip() | prior


def _stable_unclip_image() -> dict[str, Any]:
    return _stable_unclip() | {"image_encoder": clip_vision(), "feature_extractor": clip_pictures()}


def _upscaling() -> diffusers.UNet2DModel:
    return diffusers.UNet2DModel(
        sample_size=32,
        in_channels=6,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    )


def _unclip() -> dict[str, Any]:
    proj = UnCLIPTextProjModel(clip_embeddings_dim=32, time_embed_dim=64, cross_attention_dim=32)
    decoder = unet(
        sample_size=16,
        in_channels=3,
        out_channels=6,  # a variance too
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        attention_head_dim=8,
    )
    made = {"decoder": decoder, "text_encoder": clip(projected=True), "tokenizer": clip_tokenizer(), "text_proj": proj}
    return made | {"super_res_first": _upscaling(), "super_res_last": _upscaling()}


def _unclip_text() -> dict[str, Any]:
    return _unclip() | {"prior": _prior()}


def _unclip_image() -> dict[str, Any]:
    return _unclip() | {"image_encoder": clip_vision(), "feature_extractor": clip_pictures()}


def _variation() -> dict[str, Any]:
    return {"unet": unet(), "vae": vae(), "image_encoder": clip_vision(), "feature_extractor": clip_pictures()}


def _movq() -> diffusers.VQModel:
    return diffusers.VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=16,
        norm_num_groups=4,
        norm_type="spatial",
    )


def _kandinsky(kind: str = "image", in_channels: int = 4) -> dict[str, Any]:
    net = unet(
        in_channels=in_channels,
        out_channels=8,  # a variance too
        addition_embed_type=kind,
        encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj",
    )
    return {"unet": net, "movq": _movq()}


def _kandinsky_hint() -> dict[str, Any]:
    made = _kandinsky("image_hint", 8)
    for layer in made["unet"].add_embedding.input_hint_block:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)  # eight layers whisper as they are born
    return made


def _kandinsky_prior() -> dict[str, Any]:
    made = {"prior": _prior(), "image_encoder": clip_vision(), "text_encoder": clip(projected=True)}
    made |= {"tokenizer": clip_tokenizer(), "image_processor": clip_pictures()}
    return {f"prior_{name}": part for name, part in made.items()}


def _kandinsky_both(in_channels: int = 4) -> dict[str, Any]:
    return _kandinsky(in_channels=in_channels) | _kandinsky_prior()


def _kandinsky3() -> dict[str, Any]:
    net = diffusers.Kandinsky3UNet(
        time_embedding_dim=16,
        groups=4,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(16, 32),
        cross_attention_dim=16,
        encoder_hid_dim=32,
    )
    return {"unet": net, "movq": _movq(), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _pixels(in_channels: int = 3, **fields: Any) -> dict[str, Any]:
    net = unet(
        sample_size=16,
        in_channels=in_channels,
        out_channels=6,  # a variance too
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        **fields,
    )
    return {"unet": net, "text_encoder": t5(), "tokenizer": t5_tokenizer()}


def _cascade_net(**fields: Any) -> Any:
    net = diffusers.StableCascadeUNet(
        timestep_ratio_embedding_dim=8,
        conditioning_dim=16,
        block_out_channels=(16, 16),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_text_pooled_in_channels=32,
        **fields,
    )
    return awake(net)


def _paella(spread: float) -> Any:
    """A decoder whose pixels are neither grey nor black and white, with this spread of its last weights."""
    net = PaellaVQModel(levels=2, bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=16)
    torch.nn.init.normal_(net.out_block[0].weight, std=spread)
    torch.nn.init.constant_(net.out_block[0].bias, 0.5)
    return net


def _cascade_prior() -> dict[str, Any]:
    net = _cascade_net(in_channels=4, out_channels=4, clip_text_in_channels=32, clip_image_in_channels=32)
    return {"prior": net, "text_encoder": clip(projected=True), "tokenizer": clip_tokenizer()}


def _cascade_decoder() -> dict[str, Any]:
    net = _cascade_net(in_channels=4, out_channels=4, effnet_in_channels=4)
    return {
        "decoder": net,
        "vqgan": _paella(0.005),
        "text_encoder": clip(projected=True),
        "tokenizer": clip_tokenizer(),
    }


def _cascade() -> dict[str, Any]:
    return _cascade_decoder() | {f"prior_{name}": part for name, part in _cascade_prior().items()}


def _wuerstchen() -> dict[str, Any]:
    net = WuerstchenDiffNeXt(
        c_r=8,
        c_cond=32,
        c_hidden=[16, 32],
        nhead=[-1, 2],
        blocks=[1, 1],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        clip_embd=32,
        patch_size=1,
    )
    torch.nn.init.normal_(net.clf[1].weight, std=0.02)  # zero at birth, and half of it is divided by
    prior = WuerstchenPrior(c_in=16, c=16, c_cond=32, c_r=8, depth=1, nhead=2)
    made = {"decoder": net, "vqgan": _paella(0.3), "text_encoder": clip(), "tokenizer": clip_tokenizer()}
    return made | {"prior_prior": prior, "prior_text_encoder": clip(), "prior_tokenizer": clip_tokenizer()}


def _unconditional(**fields: Any) -> diffusers.UNet2DModel:
    fixed = {"sample_size": 16, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "norm_num_groups": 4}
    fixed |= {"block_out_channels": (16, 32), "down_block_types": ("DownBlock2D",) * 2}
    return diffusers.UNet2DModel(**fixed | {"up_block_types": ("UpBlock2D",) * 2} | fields)


def _vq() -> diffusers.VQModel:
    return diffusers.VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        num_vq_embeddings=16,
        norm_num_groups=4,
    )


def _words() -> dict[str, Any]:
    dims = {"vocab_size": 514, "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 37, "encoder_attention_heads": 2}
    bert = LDMBertModel(LDMBertConfig(**dims, head_dim=16, max_position_embeddings=77))
    return {"vqvae": vae(), "bert": bert, "tokenizer": clip_tokenizer(), "unet": unet()}


EMBEDS = {"image_embeds": _numbers(1, 32), "negative_image_embeds": _numbers(2, 32)}
TWO = {
    "decoder_scheduler": partial(UNCLIP, variance_type="learned_range", prediction_type="sample"),
    "super_res_scheduler": PRIOR,
}
THREE = TWO | {"prior_scheduler": PRIOR}
BOTH = {"scheduler": LEARNED, "prior_scheduler": PRIOR}
FEW = {"decoder_num_inference_steps": 3, "super_res_num_inference_steps": 2}
CASCADE = diffusers.DDPMWuerstchenScheduler
KANDINSKY = partial(row)
IF = partial(row, **UNCHECKED, watermarker=None)

ENTRIES: dict[str, Entry] = {
    "StableUnCLIPPipeline": row(
        diffusers.StableUnCLIPPipeline,
        _stable_unclip_text,
        {"scheduler": ddim, "prior_scheduler": PRIOR, "image_noising_scheduler": NOISING},
        PRIOR_STEPS,
    ),
    "StableUnCLIPImg2ImgPipeline": row(
        diffusers.StableUnCLIPImg2ImgPipeline,
        _stable_unclip_image,
        {"scheduler": ddim, "image_noising_scheduler": NOISING},
        {"image": PICTURE},
    ),
    "UnCLIPPipeline": row(diffusers.UnCLIPPipeline, _unclip_text, THREE, PRIOR_STEPS | FEW),
    "UnCLIPImageVariationPipeline": row(
        diffusers.UnCLIPImageVariationPipeline, _unclip_image, TWO, {"image": PICTURE} | FEW
    ),
    "StableDiffusionImageVariationPipeline": row(
        diffusers.StableDiffusionImageVariationPipeline,
        _variation,
        ddim,
        {"image": PICTURE},
        safety_checker=None,
        requires_safety_checker=False,
    ),
    "KandinskyV22Pipeline": KANDINSKY(diffusers.KandinskyV22Pipeline, _kandinsky, LEARNED, SMALL | EMBEDS),
    "KandinskyV22Img2ImgPipeline": row(
        diffusers.KandinskyV22Img2ImgPipeline, _kandinsky, LEARNED, SMALL | EMBEDS | {"image": PICTURE, "strength": 0.7}
    ),
    "KandinskyV22InpaintPipeline": KANDINSKY(
        diffusers.KandinskyV22InpaintPipeline,
        partial(_kandinsky, in_channels=9),
        LEARNED,
        SMALL | EMBEDS | {"image": PICTURE, "mask_image": mask()},
    ),
    "KandinskyV22ControlnetPipeline": KANDINSKY(
        diffusers.KandinskyV22ControlnetPipeline,
        _kandinsky_hint,
        LEARNED,
        SMALL | EMBEDS | {"hint": _numbers(3, 3, 64, 64)},
    ),
    "KandinskyV22CombinedPipeline": KANDINSKY(
        diffusers.KandinskyV22CombinedPipeline, _kandinsky_both, BOTH, SMALL | PRIOR_STEPS
    ),
    "KandinskyV22Img2ImgCombinedPipeline": row(
        diffusers.KandinskyV22Img2ImgCombinedPipeline,
        _kandinsky_both,
        BOTH,
        SMALL | PRIOR_STEPS | {"image": PICTURE, "strength": 0.7},
    ),
    "KandinskyV22InpaintCombinedPipeline": KANDINSKY(
        diffusers.KandinskyV22InpaintCombinedPipeline,
        partial(_kandinsky_both, 9),
        BOTH,
        SMALL | PRIOR_STEPS | {"image": PICTURE, "mask_image": mask()},
    ),
    "Kandinsky3Pipeline": KANDINSKY(diffusers.Kandinsky3Pipeline, _kandinsky3, diffusers.DDPMScheduler, SMALL),
    "Kandinsky3Img2ImgPipeline": row(
        diffusers.Kandinsky3Img2ImgPipeline,
        _kandinsky3,
        diffusers.DDPMScheduler,
        {"image": PICTURE, "strength": 0.7},
    ),
    "StableCascadeDecoderPipeline": row(
        diffusers.StableCascadeDecoderPipeline,
        _cascade_decoder,
        CASCADE,
        {"image_embeddings": _numbers(1, 4, 2, 2), "guidance_scale": 2.0},
        latent_dim_scale=4.0,
    ),
    "StableCascadeCombinedPipeline": row(
        diffusers.StableCascadeCombinedPipeline,
        _cascade,
        {"scheduler": CASCADE, "prior_scheduler": CASCADE},
        {"height": 64, "width": 64} | PRIOR_STEPS,
    ),
    "WuerstchenCombinedPipeline": row(
        diffusers.WuerstchenCombinedPipeline,
        _wuerstchen,
        {"scheduler": CASCADE, "prior_scheduler": CASCADE},
        {"height": 96, "width": 96} | PRIOR_STEPS,
    ),
    "IFPipeline": IF(diffusers.IFPipeline, _pixels, PIXELS),
    "IFImg2ImgPipeline": IF(diffusers.IFImg2ImgPipeline, _pixels, PIXELS, {"image": PICTURE}),
    "IFInpaintingPipeline": IF(
        diffusers.IFInpaintingPipeline, _pixels, PIXELS, {"image": PICTURE, "mask_image": mask()}
    ),
    "IFSuperResolutionPipeline": IF(
        diffusers.IFSuperResolutionPipeline,
        partial(_pixels, 6, class_embed_type="timestep"),
        {"scheduler": PIXELS, "image_noising_scheduler": NOISING},
        {"image": photo(1, 8)},
    ),
    "DDPMPipeline": row(diffusers.DDPMPipeline, lambda: {"unet": _unconditional()}, diffusers.DDPMScheduler),
    "ConsistencyModelPipeline": row(
        diffusers.ConsistencyModelPipeline,
        lambda: {"unet": _unconditional()},
        diffusers.CMStochasticIterativeScheduler,
    ),
    "LDMPipeline": row(
        diffusers.LDMPipeline, lambda: {"unet": _unconditional(sample_size=8), "vqvae": _vq()}, diffusers.DDIMScheduler
    ),
    "LDMTextToImagePipeline": row(
        diffusers.LDMTextToImagePipeline, _words, ddim, {"height": 64, "width": 64, "guidance_scale": 5.0}
    ),
    "LDMSuperResolutionPipeline": row(
        diffusers.LDMSuperResolutionPipeline,
        lambda: {"unet": _upscaling(), "vqvae": _vq()},
        diffusers.DDIMScheduler,
        {"image": photo(1, 32)},
    ),
}
