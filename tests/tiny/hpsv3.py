"""HPSv3 in small: a base model's directory without weights, and a weight file under the original's names."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HIDDEN = 32
LAYERS = 2
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
CONTROL += ["<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COLOURS = "a an the red green blue yellow circle square star above below left right of".split()


def write_base(directory: Path, spare: int = 8) -> Path:
    """Configuration, tokenizer and processor; the tokenizer is shorter than the configuration's embeddings."""
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    tokenizer = _tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in CONTROL}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + spare,
            "hidden_size": HIDDEN,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "embed_dim": HIDDEN,
            "hidden_size": HIDDEN,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    config.save_pretrained(directory)
    Qwen2VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), TEMPLATE).save_pretrained(directory)
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

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|Reward|>"], special_tokens=True)
    return tokenizer


def _original(name: str) -> str:
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.")


def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["[UNK]", *COLOURS, *(f"word{i}" for i in range(80)), *".,:*-()\n"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\n|[^\w\s]"), "removed", invert=True)
    options = {"unk_token": "[UNK]", "pad_token": CONTROL[0], "padding_side": "left"}  # as the published one pads
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)
    made.add_tokens(CONTROL[1:], special_tokens=True)
    return made
