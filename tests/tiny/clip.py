"""CLIPs of some 186 thousand seeded random weights: in a directory of open_clip's form, and as HPSv2 is published."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CONTEXT = 16
WIDTH = 32
SIDE = 32
WORDS = "a an the red green blue yellow circle square star of to left right above below and on photo".split()

MODEL: dict[str, Any] = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 523,
        "width": 64,
        "heads": 4,
        "layers": 2,
        "mlp_ratio": 2.0,
        "hf_tokenizer_name": "local",
    },
}
PREPROCESS = {
    "size": SIDE,
    "mode": "RGB",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


HPS_MODEL: dict[str, Any] = {
    **MODEL,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
}
"""HPSv2 in small: a CLIP of plain GELU with the published tokenizer."""


def made_lively(clip: Any) -> dict[str, Tensor]:
    """Weights so different from a new CLIP's that images and texts differ; the state dict."""
    for parameter in clip.parameters():  # biases too, which open_clip leaves at zero
        parameter.data += 0.02 * torch.randn(parameter.shape)
    # else a random tower sees all images alike, and cosines of one sign only
    for block in clip.visual.transformer.resblocks:
        block.attn.out_proj.weight.data *= 20
        block.mlp.c_fc.weight.data *= 4
    clip.visual.proj.data.copy_(torch.randn(clip.visual.proj.shape))
    text = getattr(clip, "text", clip)
    text.text_projection.data.copy_(torch.randn(text.text_projection.shape))
    return {name: value.detach().contiguous() for name, value in clip.state_dict().items()}


def write_tiny_clip(directory: Path, *, weights: str = "open_clip_model.safetensors", **model: Any) -> Path:
    """Write configuration, tokenizer and weights; `model` overrides fields of the model configuration."""
    import open_clip

    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": {**MODEL, **model}, "preprocess_cfg": PREPROCESS}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    write_tokenizer(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
        save_file(made_lively(clip), directory / weights)
    return directory


def hps_weights() -> dict[str, Tensor]:
    """The weights of an HPS in small."""
    from open_clip import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return made_lively(CLIP(**HPS_MODEL))


def write_tiny_hps(directory: Path) -> tuple[Path, Path]:
    """Write the architecture's configuration, and the weights as published: half precision under `state_dict`."""
    config = directory / "tiny-hps.json"
    config.write_text(json.dumps(HPS_MODEL))
    half = {name: value.half() for name, value in hps_weights().items()}
    weights = directory / "HPS_tiny_compressed.pt"
    torch.save({"epoch": 1, "state_dict": half}, weights)
    return config, weights


def write_tokenizer(directory: Path, pad: str = "[PAD]") -> Path:
    """A word-level tokenizer whose end token has the highest id, as pooling at the argmax needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[UNK]", *WORDS, *(f"word{i}" for i in range(400)), "[BOS]", "[EOS]"]
    ids = {name: i for i, name in enumerate(names if pad in names else [pad, *names])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, ids[name]) for name in ("[BOS]", "[EOS]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    names_of = {"bos_token": "[BOS]", "eos_token": "[EOS]", "pad_token": pad, "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names_of).save_pretrained(directory)
    return directory


def published_head(width: int, sizes: tuple[int, ...] = (1024, 128, 64, 16, 1), seed: int = 0) -> nn.Sequential:
    """Aesthetic v2 as published: Linear layers, dropout after the first three, no activations."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip((width, *sizes[:-1]), sizes, strict=True)):
            modules.append(nn.Linear(inputs, outputs))
            if i < 3:
                modules.append(nn.Dropout(0.2))
        return nn.Sequential(*modules).eval()


def save_head(head: nn.Module, path: Path, prefix: str = "layers.") -> Path:
    """Save under the published key names."""
    save_file({f"{prefix}{name}": value.contiguous() for name, value in head.state_dict().items()}, path)
    return path
