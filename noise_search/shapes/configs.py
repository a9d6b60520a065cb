"""Configurations and tokenizers of the embedded models: stock classes of diffusers, transformers and open_clip."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    UNet2DConditionModel,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from noise_search.shapes.captions import NUMBERS, PHRASES, plural
from noise_search.shapes.scenes import COLOURS, SHAPES

LENGTH = 16
"""Tokens per prompt of every text encoder; the world's longest caption has 13."""
WIDTH, SMALL_WIDTH = 128, 64

_EXTRA_WORDS = "one photo of image picture painting drawing with on the background white black gray grey light dark"


def write_clip_tokenizer(captions: Iterable[str], directory: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's file format, trained on the captions so that the world's words are single tokens."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *[_EXTRA_WORDS] * 50], trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(directory))
    lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
    merged = ["".join(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    # CLIP's order: bytes, bytes that end a word, merges, and the end token last, where argmax pooling finds it.
    names = [*alphabet, *(a + "</w>" for a in alphabet), *merged, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return clip_tokenizer(directory)


def clip_tokenizer(directory: Path) -> CLIPTokenizer:
    """The tokenizer whose `vocab.json` and `merges.txt` lie in the directory."""
    return CLIPTokenizer(
        str(directory / "vocab.json"),
        str(directory / "merges.txt"),
        model_max_length=LENGTH,
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def t5_tokenizer() -> T5Tokenizer:
    """A unigram tokenizer of the world's words, with single letters for everything else; captions are lowercased."""
    words = {word for phrases in PHRASES.values() for phrase in phrases for word in phrase.split()}
    words |= {"a", "an", "and", "small", "large", *NUMBERS, *COLOURS, *SHAPES, *map(plural, SHAPES)}
    words |= set(_EXTRA_WORDS.split())
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -3.0)]
    pieces += [("▁" + word, -2.0) for word in sorted(words)]
    pieces += [(",", -2.0), (".", -2.0), *((c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz0123456789'-")]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=LENGTH)
    backend = tokenizer._tokenizer
    steps = [normalizers.Lowercase()] + ([backend.normalizer] if backend.normalizer is not None else [])
    backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


def vae() -> AutoencoderKL:
    """Four-fold downsampling to 4 channels: 16 x 16 latents of a 64 x 64 image."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 64],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
        shift_factor=0.0,
    )


def clip_text(vocabulary: int) -> CLIPTextModel:
    """The text encoder of the UNet, and the pooled one of the FLUX transformer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
            hidden_act="quick_gelu",
        )
    )


def t5(vocabulary: int) -> T5EncoderModel:
    """The sequence text encoder of the FLUX transformer."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def unet() -> UNet2DConditionModel:
    """The denoiser of `shapes-ddim`; attention where the latents are 8 x 8 and 4 x 4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=[32, 96, 128],
        layers_per_block=1,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def flux(width: int = WIDTH) -> FluxTransformer2DModel:
    """The denoiser of `shapes-flow`: 64 image tokens of 2 x 2 latents, 16 text tokens; a narrower one costs less."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=width // 32,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


def ddim_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, epsilon prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )


def flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching with the static shift 1: the grid is the one that the pipeline asks for."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


def open_clip_config(vocabulary: int) -> dict[str, Any]:
    """The embedded CLIP in open_clip's form, tokenizer beside it."""
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {"image_size": 64, "patch_size": 8, "width": WIDTH, "layers": 4, "head_width": 32},
            "text_cfg": {
                "context_length": LENGTH,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "tokenizer",
                "width": WIDTH,
                "heads": 4,
                "layers": 3,
            },
        },
        "preprocess_cfg": {
            "size": 64,
            "mode": "RGB",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def parameters(module: torch.nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())
