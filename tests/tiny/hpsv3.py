"""HPSv3 in small: a base model's directory without weights, and a weight file under the original's names."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny.vlm import QWEN, QWEN_CHAT, TEXT, token_ids, tokenizer

HIDDEN = TEXT["hidden_size"]
WORDS = "a an the red green blue yellow circle square star above below left right of "
WORDS += " ".join(f"word{number}" for number in range(80))


def write_base(directory: Path, spare: int = 8) -> Path:
    """Configuration, tokenizer and processor; the tokenizer is shorter than the configuration's embeddings."""
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    words = tokenizer(QWEN, WORDS, pad_token=QWEN[0], padding_side="left")  # as the published one pads
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    heads = {"num_attention_heads": 4, "rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 0}
    config = Qwen2VLConfig(
        text_config={**TEXT, **heads, "vocab_size": len(words) + spare, "max_position_embeddings": 4096},
        vision_config={
            "depth": 2,
            "embed_dim": HIDDEN,
            "hidden_size": HIDDEN,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        **token_ids(words),
    )
    config.save_pretrained(directory)
    Qwen2VLProcessor(Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor(), QWEN_CHAT).save_pretrained(directory)
    return directory


def original_weights(base: Path, rows: int) -> dict[str, Tensor]:
    """Seeded random weights under the names and with the shapes of the published file."""
    from transformers import AutoConfig, Qwen2VLForConditionalGeneration

    config = AutoConfig.from_pretrained(base)
    config.text_config.vocab_size = rows
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = Qwen2VLForConditionalGeneration(config)
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn(parameter.shape)
        head = nn.Sequential(nn.Linear(HIDDEN, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 16), nn.ReLU())
        head.append(nn.Linear(16, 2))
    weights = {_original(name): value for name, value in model.state_dict().items()}
    weights |= {f"rm_head.{name}": value for name, value in head.state_dict().items()}
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def write_weights(path: Path, weights: dict[str, Tensor]) -> Path:
    save_file(weights, path)
    return path


def tokens(base: Path) -> Any:
    """The tokenizer with the reward token added, as the original adds it."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(base)
    words.add_tokens(["<|Reward|>"], special_tokens=True)
    return words


def _original(name: str) -> str:
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.")
