"""A tiny image-text model of transformers that says what it is built to say."""

from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def write_chat_model(directory: Path, answer: str | None, template: str | None = TEMPLATE) -> Path:
    """Save a model that gives `answer` to everything, or whatever random weights give where it is None.

    With an answer, attention and MLPs add nothing, embeddings are unit vectors and the head is a permutation, so a
    token is followed by one that depends on it alone: <answer>, the whole answer as one token, the end.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<pad>", "<image>", "<answer>", answer or "nothing", "<end>", *(f"word{i}" for i in range(10))]
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens.add_special_tokens(["<unk>", "<pad>", "<image>", "<answer>", "<end>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="<unk>", pad_token="<pad>", eos_token="<end>", image_token="<image>"
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=5, pad_token_id=1, bos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=2))
    if answer is not None:
        _say(model)
    model.generation_config.eos_token_id = 5
    model.generation_config.pad_token_id = 1
    model.save_pretrained(directory)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(directory)
    return directory


def _say(model: LlavaForConditionalGeneration) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "language_model" in name and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(16))
        head = model.get_output_embeddings().weight.zero_()
        for index in range(16):
            head[(index + 1) % 16, index] = 1
