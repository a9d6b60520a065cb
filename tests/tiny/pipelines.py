"""Tiny real pipelines with random weights, `tiny(name)`: float32, CPU, a second each at most."""

import sys
from functools import cache, partial, wraps
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

LENGTH = 12
LABELS = {0: "a cat, tabby", 1: "two dogs on a red sofa", 207: "golden retriever"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EULER = {"steps_offset": 1, **SD_BETAS}
FLUX = {"height": 16, "width": 16, "max_sequence_length": LENGTH}
"""Options of FLUX's call that keep it small."""

CLIP = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 37,
    "projection_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}
T5 = {"vocab_size": 30, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_heads": 4}
T5 |= {"num_layers": 1, "is_encoder_decoder": False, "use_cache": False}
DECODER = {
    "vocab_size": 262,
    "hidden_size": 16,
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
CHAT = "{% set said = messages[-1].content %}{{ said if said is string else said[0].text }}<|im_end|>"
PAIR = {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}


def seeded(build: Any) -> Any:
    """Build with the same random weights each time, and leave the global generator alone."""

    @wraps(build)
    def same_weights(*args: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(*args)

    return same_weights


def quiet(pipe: Any) -> Any:
    """Evaluation mode, no bar."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def clip_tokenizer() -> transformers.CLIPTokenizer:
    """Byte-level CLIP without merges: a letter is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(a + "</w>" for a in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=[], model_max_length=LENGTH)


def t5_tokenizer() -> transformers.T5Tokenizer:
    """A Unigram tokenizer of single letters."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -3.0)]
    return transformers.T5Tokenizer(vocab=vocab + [(c, -4.0) for c in LETTERS], extra_ids=0)


def byte_tokenizer(cls: Any = transformers.Qwen2Tokenizer) -> transformers.Qwen2Tokenizer:
    """Qwen's byte-level BPE without merges, with a chat template: a byte is a token."""
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return cls(vocab={n: i for i, n in enumerate(names)}, merges=[], chat_template=CHAT)


def gemma_tokenizer() -> transformers.GemmaTokenizer:
    """Gemma's BPE of single letters."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
    return transformers.GemmaTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=[])


def clip_config(length: int = LENGTH) -> transformers.CLIPTextConfig:
    """The configuration of every tiny CLIP text encoder."""
    return transformers.CLIPTextConfig(**CLIP | {"max_position_embeddings": length})


def clip(projected: bool = False, length: int = LENGTH) -> Any:
    """A CLIP text encoder of so many tokens."""
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(clip_config(length))


def clip_vision(side: int = 16) -> transformers.CLIPVisionModelWithProjection:
    """A CLIP image encoder: `side` x `side` pixels in 16 patches to 32 numbers."""
    dims = {"hidden_size": 32, "intermediate_size": 37, "projection_dim": 32, "num_attention_heads": 4}
    config = transformers.CLIPVisionConfig(**dims, num_hidden_layers=2, image_size=side, patch_size=side // 4)
    return transformers.CLIPVisionModelWithProjection(config)


def clip_pictures() -> transformers.CLIPImageProcessor:
    """Prepares pictures for `clip_vision`."""
    return transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def t5(layers: int = 1) -> transformers.T5EncoderModel:
    """A T5 encoder."""
    return transformers.T5EncoderModel(transformers.T5Config(**T5 | {"num_layers": layers}))


def gemma() -> transformers.Gemma2Model:
    """A Gemma 2."""
    return transformers.Gemma2Model(transformers.Gemma2Config(**DECODER, sliding_window=512))


def vae(flow: bool = False, channels: int = 4, levels: int = 2, **fields: Any) -> diffusers.AutoencoderKL:
    """Two levels are 2 pixels to a latent, four are 8; `block_out_channels` may say which."""
    flows = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06, "scaling_factor": 1.5}
    blocks = fields.pop("block_out_channels", [8, 16, 16, 16][:levels])
    return diffusers.AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=["DownEncoderBlock2D"] * len(blocks),
        up_block_types=["UpDecoderBlock2D"] * len(blocks),
        latent_channels=channels,
        norm_num_groups=4,
        **(flows if flow else {}) | fields,
    )


def certain(vae: Any) -> Any:
    """The same autoencoder; what it encodes hardly varies, as a trained one's: some pipelines sample it unseeded."""
    last = getattr(vae, "quant_conv", None) or vae.encoder.conv_out
    torch.nn.init.zeros_(last.weight[len(last.weight) // 2 :])
    torch.nn.init.constant_(last.bias[len(last.bias) // 2 :], -30.0)
    return vae


def awake(net: Any) -> Any:
    """The same network; what is zero at birth (a controlnet's last layers) is random, for it would say nothing."""
    for weight in net.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.5)
    return net


def lively(net: Any) -> Any:
    """The same network; its matrices are twice as large: with small ones it hardly hears the prompt."""
    for weight in net.parameters():
        if weight.ndim > 1:
            weight.data.mul_(2)
    return net


def loud(encoder: Any) -> Any:
    """The same language model; its tokens are far apart, as a trained one's: pictures tell their prompts."""
    encoder.get_input_embeddings().weight.data.mul_(50)
    return encoder


def pointwise(net: Any) -> Any:
    """The same network; its causal convolutions see a pixel alone: a picture of a million pixels takes no seconds."""
    for conv in net.modules():
        if isinstance(conv, torch.nn.Conv3d):
            conv.weight = torch.nn.Parameter(torch.randn(*conv.weight.shape[:2], 1, 1, 1) / conv.weight.shape[1] ** 0.5)
            conv._padding = (0,) * 6
    return net


UNET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "in_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": 32,
    "norm_num_groups": 4,
    "attention_head_dim": (2, 4),
}


def unet(**fields: Any) -> diffusers.UNet2DConditionModel:
    """A UNet for 4 x 8 x 8 latents."""
    up = ("CrossAttnUpBlock2D", "UpBlock2D")
    return diffusers.UNet2DConditionModel(**UNET | {"sample_size": 8, "out_channels": 4, "up_block_types": up} | fields)


XL = {
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 80,
    "use_linear_projection": True,
}
"""Fields by which a UNet of SDXL differs."""


def sd(**fields: Any) -> dict[str, Any]:
    """The parts of Stable Diffusion, its UNet with these fields."""
    return {"unet": unet(**fields), "vae": vae(), "text_encoder": clip(), "tokenizer": clip_tokenizer()}


def sdxl(**fields: Any) -> dict[str, Any]:
    """The parts of SDXL, its UNet with these fields."""
    second = {"text_encoder_2": clip(projected=True), "tokenizer_2": clip_tokenizer()}
    return sd(**XL | fields) | second


SD3 = {
    "sample_size": 8,
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "caption_projection_dim": 32,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 64,
    "pos_embed_max_size": 8,
}


def _sd3(channels: int = 4) -> dict[str, Any]:
    transformer = diffusers.SD3Transformer2DModel(**SD3 | {"in_channels": channels, "out_channels": channels})
    parts = {"transformer": transformer, "vae": vae(True, channels), "text_encoder": clip(projected=True)}
    parts |= {"text_encoder_2": clip(projected=True), "text_encoder_3": t5()}
    return parts | {"tokenizer": clip_tokenizer(), "tokenizer_2": clip_tokenizer(), "tokenizer_3": t5_tokenizer()}


FLUX_NET = {**PAIR, "num_single_layers": 1, "in_channels": 16}
FLUX_NET |= {"joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)}


def _flux(guidance_embeds: bool = False, in_channels: int = 16) -> dict[str, Any]:
    channels = {"in_channels": in_channels, "out_channels": 16, "guidance_embeds": guidance_embeds}
    transformer = diffusers.FluxTransformer2DModel(**FLUX_NET | channels)
    parts = {"transformer": transformer, "vae": vae(flow=True), "text_encoder": clip(), "tokenizer": clip_tokenizer()}
    return parts | {"text_encoder_2": t5(layers=2), "tokenizer_2": t5_tokenizer()}


def _flux2(klein: bool = False) -> dict[str, Any]:
    dims = {"in_channels": 16, "joint_attention_dim": 48, "axes_dims_rope": (4, 4, 4, 4)}
    transformer = diffusers.Flux2Transformer2DModel(
        **PAIR, **dims, num_single_layers=1, timestep_guidance_channels=32, guidance_embeds=not klein
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
    encoder = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER)) if klein else _mistral()
    return {"transformer": transformer, "vae": vae, "text_encoder": encoder, "tokenizer": byte_tokenizer()}


def _mistral() -> transformers.Mistral3ForConditionalGeneration:
    vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = transformers.Mistral3Config(text_config={"model_type": "mistral", **DECODER}, vision_config=vision)
    return transformers.Mistral3ForConditionalGeneration(config)


QWEN_TEXT = {**DECODER, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
QWEN_NET = {**PAIR, "patch_size": 2, "in_channels": 16, "out_channels": 4}
QWEN_NET |= {"joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4)}


SEEN = {"vision_start_token_id": 259, "vision_end_token_id": 260, "image_token_id": 261}
"""Where the ids of `seeing_processor` stand for a picture."""


def qwen_vl() -> transformers.Qwen2_5_VLForConditionalGeneration:
    """A text encoder that sees pictures."""
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(text_config=QWEN_TEXT, vision_config=vision, **SEEN)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def seeing_processor(cls: type = transformers.Qwen2VLProcessor) -> Any:
    """Qwen's byte-level tokenizer and four tokens for a picture, whatever its size."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], special_tokens=True)
    pictures = transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56)
    return cls(pictures, tokenizer, transformers.Qwen2VLVideoProcessor(), CHAT)


def qwen_vae(
    widths: tuple[int, ...] = (1, 2), blocks: int = 1, channels: int = 4, colours: int = 3
) -> diffusers.AutoencoderKLQwenImage:
    """Its levels have these widths, times 4, and this many blocks each."""
    return diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=channels,
        dim_mult=list(widths),
        num_res_blocks=blocks,
        temperal_downsample=[False] * (len(widths) - 1),
        latents_mean=[0.1, -0.2, 0.3, 0.0] * (channels // 4),
        latents_std=[1.5, 0.8, 1.0, 1.2] * (channels // 4),
        input_channels=colours,
    )


def _qwen_image(**net: Any) -> dict[str, Any]:
    transformer = diffusers.QwenImageTransformer2DModel(**QWEN_NET | net)
    return {"transformer": transformer, "vae": qwen_vae(), "text_encoder": qwen_vl(), "tokenizer": byte_tokenizer()}


def _z_image(siglip_feat_dim: int | None = None) -> dict[str, Any]:
    transformer = diffusers.ZImageTransformer2DModel(
        siglip_feat_dim=siglip_feat_dim,
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token, transformer.siglip_pad_token):
        if token is not None:
            torch.nn.init.normal_(token)  # zero, or left as memory was, by the constructor
    parts = {"transformer": transformer, "vae": vae(flow=True), "tokenizer": byte_tokenizer()}
    return parts | {"text_encoder": transformers.Qwen3Model(transformers.Qwen3Config(**DECODER))}


SANA_NET = {
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 4,
    "cross_attention_dim": 8,
    "caption_channels": 16,
    "sample_size": 32,
    "patch_size": 1,
}


def _sana(**fields: Any) -> dict[str, Any]:
    transformer = diffusers.SanaTransformer2DModel(**SANA_NET | fields)
    levels = {"block_out_channels": (8, 8), "block_types": ("ResBlock", "EfficientViTBlock")}
    levels |= {"layers_per_block": (1, 1), "qkv_multiscales": ((), (5,))}
    both = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in levels.items()}
    vae = diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=2, **both, scaling_factor=0.41)
    return {"transformer": transformer, "vae": vae, "text_encoder": gemma(), "tokenizer": gemma_tokenizer()}


def _pixart() -> dict[str, Any]:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=32,
        out_channels=8,  # a variance too
        use_additional_conditions=False,
    )
    return {"transformer": transformer, "vae": vae(), "text_encoder": t5(), "tokenizer": t5_tokenizer()}


WAN = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 1,
}


def wan_vae() -> diffusers.AutoencoderKLWan:
    """8 pixels to a latent, 4 frames after the first to one."""
    levels = {"dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [False, True, True]}
    vae = diffusers.AutoencoderKLWan(base_dim=3, z_dim=16, **levels)
    vae.quant_conv.weight.data *= 10  # random weights, to which all images look the same, else
    return vae


def wan(transformer: type = diffusers.WanTransformer3DModel, pair: bool = False, **fields: Any) -> dict[str, Any]:
    """A denoiser of this class with these fields, or a pair of them, and what all around it share."""
    parts = {"vae": wan_vae()}
    for name in ("transformer", "transformer_2") if pair else ("transformer",):
        parts[name] = transformer(**WAN | {"rope_max_seq_len": 32} | fields)
    encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**T5))
    return parts | {"text_encoder": encoder, "tokenizer": t5_tokenizer()}


WAN_PAIR = partial(wan, pair=True)


def _dit() -> dict[str, Any]:
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,  # a variance too
        num_embeds_ada_norm=1000,
    )
    return {"transformer": transformer, "vae": vae()}


def controlnet(cls: Any = diffusers.ControlNetModel, **fields: Any) -> Any:
    """A controlnet for `unet`, with these fields."""
    return awake(cls(**UNET | fields, conditioning_embedding_out_channels=(8, 16)))  # halves the size once


def _controlnet() -> dict[str, Any]:
    return parts(sd) | {"controlnet": controlnet()}


def _unconditional(**fields: Any) -> dict[str, Any]:
    net = diffusers.UNet2DModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **fields,
    )
    return {"unet": net}


class DrawsByItself(diffusers.DiffusionPipeline):
    """An unconditional pipeline that draws by torch alone."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, batch_size=1, num_inference_steps=3, generator=None, output_type="pt", return_dict=True):
        generators = generator if isinstance(generator, list) else [generator] * batch_size
        x = torch.cat([torch.randn(1, 3, 8, 8, generator=g) for g in generators])
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.unet(x, t).sample, t, x).prev_sample
        return ((x / 2 + 0.5).clamp(0, 1),)


def ddim(**fields: Any) -> diffusers.DDIMScheduler:
    """Stable Diffusion's DDIM."""
    fixed = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **SD_BETAS}
    return diffusers.DDIMScheduler(**(fixed | fields))


def euler() -> diffusers.EulerDiscreteScheduler:
    """SDXL's."""
    return diffusers.EulerDiscreteScheduler(**EULER, timestep_spacing="leading")


DDIM = partial(diffusers.DDIMScheduler, clip_sample=False)
SHIFTED = partial(diffusers.FlowMatchEulerDiscreteScheduler, shift=3.0)
DYNAMIC = partial(diffusers.FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=True)
UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
PIPELINES: dict[str, tuple[type, Any, Any, dict[str, Any]]] = {  # class, parts, scheduler, other fields
    "sd": (diffusers.StableDiffusionPipeline, sd, ddim, UNCHECKED),
    "sd-image": (diffusers.StableDiffusionImg2ImgPipeline, sd, ddim, UNCHECKED),
    "sd-controlnet": (diffusers.StableDiffusionControlNetPipeline, _controlnet, ddim, UNCHECKED),
    "sdxl": (diffusers.StableDiffusionXLPipeline, sdxl, euler, {"add_watermarker": False}),
    "sd3": (diffusers.StableDiffusion3Pipeline, _sd3, SHIFTED, {}),
    "flux": (diffusers.FluxPipeline, _flux, DYNAMIC, {}),
    "flux-guided": (diffusers.FluxPipeline, partial(_flux, True), DYNAMIC, {}),
    "flux-image": (diffusers.FluxImg2ImgPipeline, _flux, SHIFTED, {}),
    "flux2": (diffusers.Flux2Pipeline, _flux2, DYNAMIC, {}),
    "flux2-klein": (diffusers.Flux2KleinPipeline, partial(_flux2, True), DYNAMIC, {"is_distilled": False}),
    "qwen-image": (diffusers.QwenImagePipeline, _qwen_image, partial(DYNAMIC, shift_terminal=0.02), {}),
    "z-image": (diffusers.ZImagePipeline, _z_image, SHIFTED, {}),
    "sana": (diffusers.SanaPipeline, _sana, SHIFTED, {}),
    "pixart": (diffusers.PixArtSigmaPipeline, _pixart, partial(DDIM, beta_end=0.02, steps_offset=1), {}),
    "wan": (diffusers.WanPipeline, wan, SHIFTED, {}),
    "wan-two-denoisers": (diffusers.WanPipeline, WAN_PAIR, SHIFTED, {"boundary_ratio": 0.875}),
    "dit": (diffusers.DiTPipeline, _dit, DDIM, {"id2label": LABELS}),
    "unconditional": (diffusers.DDIMPipeline, _unconditional, diffusers.DDIMScheduler, {}),
    "by-itself": (DrawsByItself, _unconditional, DDIM, {}),
}


@cache
@seeded
def parts(build: Any) -> dict[str, Any]:
    """The components that pipelines share: the weights are the same at each call."""
    return build()


def tiny(name: str, scheduler: Any = None, cls: type | None = None, **fields: Any) -> Any:
    """The pipeline of this name, with another scheduler, fields, or (sub)class where given."""
    own, shared, default, fixed = PIPELINES[name]
    return quiet((cls or own)(**parts(shared) | fixed | {"scheduler": scheduler or default()} | fields))


def made(cls: type, build: Any, scheduler: Any, **fields: Any) -> Any:
    """A pipeline of this class around the components of `build`, other fields in place of theirs."""
    return quiet(cls(**parts(build) | {"scheduler": scheduler()} | fields))


def image_latents() -> torch.Tensor:
    """One encoded image, of the size of latents."""
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(77)) * 0.7


def picture() -> torch.Tensor:
    """One image of 16 x 16 pixels."""
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(78))


def stock_images(pipe: Any, prompts: list[str], seeds: list[int], **options: Any) -> torch.Tensor:
    """What the plain pipeline gives for these seeds, [0, 1]."""
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    if "negative_prompt" in options:
        options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
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
