"""Vision-language models of some ten thousand seeded random weights in directories as transformers saves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

WORDS = "Yes yes No no Does does this image show figure Please answer Answer or is there Is a an red green blue circle"
WORDS += " square star above to the left of in Describe ASSISTANT USER word1 and"
QWEN = "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>".split()
LLAVA = "<|endoftext|> <image> <video>".split()
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_CHAT = (
    "{% for m in messages %}USER:{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
QWEN_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
KINDS = ("qwen2_5_vl", "qwen3_vl", "llava")
WHOLE = ("llava_onevision", "llava_padded")
"""Whose processors see the whole original: to cut it into tiles by its shape, or to pad it to a square."""
PINPOINTS = [[32, 64], [64, 32], [64, 64], [32, 96], [96, 32]]


def tokenizer(special: list[str], words: str = WORDS, **options: Any) -> Any:
    """One token per known word; the rest is unknown."""
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", *special, *'.,?!":\n', "user", "assistant", *words.split()]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w ]"), behavior="removed", invert=True)
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<|endoftext|>", "padding_side": "right"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=special[1:], **{**named, **options})


def write_tiny_vlm(
    directory: Path, kind: str, words: str = WORDS, chat: str | None = None, added: Sequence[str] = ()
) -> Path:
    """Write configuration, processor and weights of one of `KINDS` or `WHOLE`; `added` are tokens, but not special."""
    qwen = kind.startswith("qwen")
    made = tokenizer(QWEN if qwen else LLAVA, words)
    made.add_tokens(list(added))
    _processor(kind, made, chat or (QWEN_CHAT if qwen else LLAVA_CHAT)).save_pretrained(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _model(kind, made)
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn(parameter.shape)
        model.save_pretrained(directory)
    return directory


def _processor(kind: str, words: Any, chat: str) -> Any:
    import transformers as t

    if kind == "llava_onevision":
        images = t.LlavaOnevisionImageProcessor(size={"height": 32, "width": 32}, image_grid_pinpoints=PINPOINTS)
        video = t.LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32})
        options = {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
        return t.LlavaOnevisionProcessor(
            images, words, video, num_image_tokens=16, chat_template=chat, video_token="<video>", **options
        )
    if kind.startswith("llava"):
        kinds = {"llava": t.CLIPImageProcessor, "llava_padded": t.LlavaImageProcessor}
        sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        images = kinds[kind](**sizes, **({"do_pad": True} if kind == "llava_padded" else {}))
        options = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return t.LlavaProcessor(images, words, patch_size=8, chat_template=chat, **options)
    patch = 14 if kind == "qwen2_5_vl" else 16
    factor = 2 * patch
    size = {"shortest_edge": factor**2, "longest_edge": 16 * factor**2}
    images = t.Qwen2VLImageProcessor(patch_size=patch, size=size)
    if kind == "qwen2_5_vl":
        return t.Qwen2_5_VLProcessor(images, words, t.Qwen2VLVideoProcessor(patch_size=patch), chat_template=chat)
    return t.Qwen3VLProcessor(images, words, t.Qwen3VLVideoProcessor(patch_size=patch), chat_template=chat)


def _model(kind: str, words: Any) -> Any:
    import transformers as t

    ids = words.get_vocab()
    text = {**TEXT, "vocab_size": len(words), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    if kind == "llava_onevision":
        config = t.LlavaOnevisionConfig(
            vision_config=t.SiglipVisionConfig(**VISION),
            text_config=t.Qwen2Config(**text),
            image_token_index=ids["<image>"],
            video_token_index=ids["<video>"],
            image_grid_pinpoints=PINPOINTS,
            vision_feature_select_strategy="full",
        )
        return t.LlavaOnevisionForConditionalGeneration(config)
    if kind.startswith("llava"):
        vision = t.CLIPVisionConfig(**VISION, projection_dim=32)
        config = t.LlavaConfig(
            vision_config=vision, text_config=t.LlamaConfig(**text), image_token_index=ids["<image>"]
        )
        return t.LlavaForConditionalGeneration(config)
    tokens = token_ids(words)
    rope = {"rope_type": "default", "rope_theta": 1e4}
    if kind == "qwen2_5_vl":
        vision = {**QWEN_VISION, "fullatt_block_indexes": [1], "window_size": 56}
        text["rope_parameters"] = {**rope, "mrope_section": [2, 3, 3]}
        return t.Qwen2_5_VLForConditionalGeneration(
            t.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **tokens)
        )
    vision = {**QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text |= {"head_dim": 16, "rope_parameters": {**rope, "mrope_section": [4, 2, 2]}}
    return t.Qwen3VLForConditionalGeneration(t.Qwen3VLConfig(vision_config=vision, text_config=text, **tokens))


def token_ids(words: Any) -> dict[str, int]:
    """What Qwen-VL's configurations call the tokenizer's control tokens."""
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {option: words.convert_tokens_to_ids(name) for option, name in names.items()}
