"""Tiny real pipelines, built from configurations with random weights: float32, CPU, a second each at most."""

import inspect
import sys
from functools import cache, wraps
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LENGTH = 12
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def seeded(build: Any) -> Any:
    """Build with the same random weights each time, and leave the global generator alone."""

    @wraps(build)
    def same_weights(*args: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(*args)

    return same_weights


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-level CLIP without merges: a letter is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(a + "</w>" for a in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=[], model_max_length=LENGTH)


def t5_tokenizer() -> T5Tokenizer:
    """A Unigram tokenizer of single letters."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -3.0)]
    return T5Tokenizer(vocab=vocab + [(c, -4.0) for c in "abcdefghijklmnopqrstuvwxyz"], extra_ids=0)


def clip_config(hidden: int = 32) -> CLIPTextConfig:
    """The configuration of every tiny CLIP text encoder."""
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=hidden,
        intermediate_size=37,
        projection_dim=hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def vae(channels: int = 4, **fields: Any) -> AutoencoderKL:
    """Two levels: 2 pixels to a latent."""
    return AutoencoderKL(
        block_out_channels=[8, 16],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
        norm_num_groups=4,
        **fields,
    )


def unet(cross: int = 32, **fields: Any) -> UNet2DConditionModel:
    """A UNet for 4 x 8 x 8 latents."""
    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        **fields,
    )


def quiet(pipe: Any) -> Any:
    """Evaluation mode, no bar."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddim(**fields: Any) -> DDIMScheduler:
    """Stable Diffusion's DDIM."""
    fixed = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **SD_BETAS}
    return DDIMScheduler(**(fixed | fields))


@cache
@seeded
def _sd_parts() -> dict[str, Any]:
    return {
        "unet": unet(),
        "vae": vae(),
        "text_encoder": CLIPTextModel(clip_config()),
        "tokenizer": clip_tokenizer(),
    }


def stable_diffusion(scheduler: Any = None) -> StableDiffusionPipeline:
    """A StableDiffusionPipeline of 16 x 16 pixels; the weights are the same at each call."""
    parts = _sd_parts() | {
        "scheduler": scheduler or ddim(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return quiet(StableDiffusionPipeline(**parts, requires_safety_checker=False))


@cache
@seeded
def _sdxl_parts() -> dict[str, Any]:
    net = unet(
        64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        use_linear_projection=True,
    )
    return {
        "unet": net,
        "vae": vae(),
        "text_encoder": CLIPTextModel(clip_config()),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": CLIPTextModelWithProjection(clip_config()),
        "tokenizer_2": clip_tokenizer(),
    }


def stable_diffusion_xl(scheduler: Any = None) -> StableDiffusionXLPipeline:
    """A StableDiffusionXLPipeline with SDXL's Euler scheduler."""
    euler = EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading")
    return quiet(StableDiffusionXLPipeline(**_sdxl_parts(), scheduler=scheduler or euler, add_watermarker=False))


@cache
@seeded
def _flux_parts(guidance_embeds: bool) -> dict[str, Any]:
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    )
    t5 = T5Config(
        vocab_size=30,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return {
        "transformer": transformer,
        "vae": vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        "text_encoder": CLIPTextModel(clip_config()),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": T5EncoderModel(t5),
        "tokenizer_2": t5_tokenizer(),
    }


def flux(guidance_embeds: bool = False, scheduler: Any = None) -> FluxPipeline:
    """A FluxPipeline; pass `max_sequence_length` to keep T5 short."""
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return quiet(FluxPipeline(**_flux_parts(guidance_embeds), scheduler=scheduler))


def stock_images(pipe: Any, prompts: list[str], seeds: list[int], **options: Any) -> torch.Tensor:
    """What the plain pipeline gives for these seeds, [0, 1]."""
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    if "negative_prompt" in options:
        options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
    assert "generator" in inspect.signature(pipe.__call__).parameters
    return pipe(prompts, generator=generators, output_type="pt", **options).images


def snapshot(pipe) -> dict:
    """Everything of a pipeline that a careless wrapper changes."""
    modules = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")
    return {
        "vars": {k: (id(v), repr(v)[:2000]) for k, v in vars(pipe).items() if not isinstance(v, torch.nn.Module)},
        "modules": {k: id(v) for k, v in modules.items()},
        "scheduler": {k: repr(v) for k, v in vars(pipe.scheduler).items()},
        "bar": dict(pipe._progress_bar_config),
        "hooks": {(k, h): list(getattr(m, h)) for k, v in modules.items() for m in v.modules() for h in hooks},
        "training": {k: [m.training for m in v.modules()] for k, v in modules.items()},
        "forward": {k: "forward" in vars(v) for k, v in modules.items()},
        "randn": id(getattr(sys.modules[type(pipe).__module__], "randn_tensor", None)),
        "prepare": id(getattr(type(pipe), "prepare_latents", None)),
        "weights": {k: float(sum(p.detach().double().sum() for p in v.parameters())) for k, v in modules.items()},
    }
