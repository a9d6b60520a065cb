"""HPSv2 in small: a CLIP of plain GELU with the published tokenizer, its weights in the published file's form."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIDE = 32
CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
}


def write_tiny_hps(directory: Path) -> tuple[Path, Path]:
    """Write the architecture's configuration and the weights: half precision under `state_dict`."""
    config = directory / "tiny-hps.json"
    config.write_text(json.dumps(CONFIG))
    half = {name: value.half() for name, value in tiny_weights().items()}
    weights = directory / "HPS_tiny_compressed.pt"
    torch.save({"epoch": 1, "state_dict": half}, weights)
    return config, weights


def tiny_weights() -> dict[str, Tensor]:
    """Seeded random weights, spread so that images and texts differ."""
    from open_clip import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIP(**CONFIG)
        for parameter in clip.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape)
        for block in clip.visual.transformer.resblocks:
            block.attn.out_proj.weight.data *= 20
        clip.visual.proj.data.copy_(torch.randn(clip.visual.proj.shape))
        clip.text_projection.data.copy_(torch.randn(clip.text_projection.shape))
    return {name: value.detach() for name, value in clip.state_dict().items()}
