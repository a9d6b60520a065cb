"""Tiny models of the true architectures, seeded and random, saved in the form in which the real ones are published."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiny.clip import WORDS, write_tokenizer

HEAD_SIZES = (1024, 128, 64, 16, 1)


def reward_tensors(
    *,
    width: int = 128,
    hidden: int = 128,
    layers: int = 2,
    side: int = 4,
    patch: int = 8,
    mlp: int = 2,
    vocabulary: int = 523,
    positions: int = 64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """An ImageReward checkpoint under the original's key names; `side` counts patches."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def normal(name: str, *shape: int, scale: float) -> None:
        tensors[name] = scale * torch.randn(shape, generator=generator)

    def linear(name: str, inputs: int, outputs: int, gain: float = 1.0) -> None:
        normal(f"{name}.weight", outputs, inputs, scale=gain * inputs**-0.5)
        normal(f"{name}.bias", outputs, scale=0.1)

    def norm(name: str, size: int) -> None:
        normal(f"{name}.weight", size, scale=0.1)
        tensors[f"{name}.weight"] += 1
        normal(f"{name}.bias", size, scale=0.1)

    image = "blip.visual_encoder"
    normal(f"{image}.cls_token", 1, 1, width, scale=1)
    normal(f"{image}.pos_embed", 1, side**2 + 1, width, scale=0.5)
    normal(f"{image}.patch_embed.proj.weight", width, 3, patch, patch, scale=(3 * patch**2) ** -0.5)
    normal(f"{image}.patch_embed.proj.bias", width, scale=0.1)
    for i in range(layers):
        block = f"{image}.blocks.{i}"
        norm(f"{block}.norm1", width)
        norm(f"{block}.norm2", width)
        linear(f"{block}.attn.qkv", width, 3 * width)
        linear(f"{block}.attn.proj", width, width)
        linear(f"{block}.mlp.fc1", width, mlp * width)
        linear(f"{block}.mlp.fc2", mlp * width, width)
    norm(f"{image}.norm", width)

    text = "blip.text_encoder"
    tensors[f"{text}.embeddings.position_ids"] = torch.arange(positions)[None]
    normal(f"{text}.embeddings.word_embeddings.weight", vocabulary, hidden, scale=1)
    normal(f"{text}.embeddings.position_embeddings.weight", positions, hidden, scale=0.5)
    norm(f"{text}.embeddings.LayerNorm", hidden)
    for i in range(layers):
        layer = f"{text}.encoder.layer.{i}"
        for attention, source in (("attention", hidden), ("crossattention", width)):
            linear(f"{layer}.{attention}.self.query", hidden, hidden)
            linear(f"{layer}.{attention}.self.key", source, hidden)
            linear(f"{layer}.{attention}.self.value", source, hidden, gain=2)
            linear(f"{layer}.{attention}.output.dense", hidden, hidden)
            norm(f"{layer}.{attention}.output.LayerNorm", hidden)
        linear(f"{layer}.intermediate.dense", hidden, mlp * hidden)
        linear(f"{layer}.output.dense", mlp * hidden, hidden)
        norm(f"{layer}.output.LayerNorm", hidden)
    linear("blip.vision_proj", width, 16)
    linear("blip.text_proj", hidden, 16)
    for index, inputs, outputs in zip((0, 2, 4, 6, 7), (hidden, *HEAD_SIZES[:-1]), HEAD_SIZES, strict=True):
        linear(f"mlp.layers.{index}", inputs, outputs)
    return tensors


def write_bert_tokenizer(directory: Path) -> Path:
    """A tokenizer of BERT's kind, `[CLS] text [SEP]`, padded with id 0."""
    from transformers import BertTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"word{i}" for i in range(400))]
    (directory / "vocab.txt").write_text("\n".join(names) + "\n")
    ids = {name: i for i, name in enumerate(names)}
    BertTokenizerFast(vocab=ids, do_lower_case=True).save_pretrained(directory)
    return directory


def write_clip_tokenizer(directory: Path) -> Path:
    """A word-level tokenizer that, as CLIP's, ends with the highest id and pads with it."""
    return write_tokenizer(directory, pad="[EOS]")


def clip_config(**text: Any) -> Any:
    """A CLIP of transformers with 32-pixel images and the vocabulary of `write_clip_tokenizer`."""
    from transformers import CLIPConfig

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    vocabulary = len(WORDS) + 403
    return CLIPConfig(
        text_config={
            **small,
            "vocab_size": vocabulary,
            "max_position_embeddings": 16,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
            "projection_dim": 32,
            **text,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": 32},
        projection_dim=32,
    )


def made_lively(model: torch.nn.Module) -> torch.nn.Module:
    """Weights so large that different images and texts give clearly different embeddings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "concept" not in name and "care" not in name:
                parameter.data.copy_(torch.randn(parameter.shape) * parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                parameter.data.copy_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def write_pickscore(directory: Path, **text: Any) -> Path:
    """A tiny PickScore: `CLIPModel` and its tokenizer."""
    from transformers import CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made_lively(CLIPModel(clip_config(**text))).save_pretrained(directory)
    return write_clip_tokenizer(directory)


def safety_checker(seed: int = 0, threshold: float = 1.0) -> Any:
    """A tiny checker of random concepts with one threshold, 1 flags nothing; nothing needs special care."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        checker: Any = made_lively(StableDiffusionSafetyChecker(clip_config()))
        checker.concept_embeds.data.normal_()
        checker.special_care_embeds.data.normal_()
        checker.concept_embeds_weights.data.fill_(threshold)
        checker.special_care_embeds_weights.data.fill_(1.0)
    return checker


def write_classifier(directory: Path, labels: tuple[str, ...] = ("normal", "nsfw"), **processor: Any) -> Path:
    """A tiny ViT that classifies images, and its processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
        made_lively(ViTForImageClassification(config)).save_pretrained(directory)
    ViTImageProcessor(size={"height": 32, "width": 32}, **processor).save_pretrained(directory)
    return directory
