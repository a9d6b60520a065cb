"""Random weights of the verifiers' published architectures, saved as the published ones are.

Sizes are those of the published configurations: open_clip's own for its models; OpenAI's ViT-L/14, LAION's ViT-H/14,
DINOv2-base, BLIP-large's towers (arXiv 2304.05977), Qwen3-VL-2B-Instruct and Qwen2-VL-7B-Instruct for the others.
Tokenizers, where none is in a library, are word-level: they change how many tokens a prompt has, by some per cent of
all tokens of `vlm` and `hpsv3`, and nothing else.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tiny.classes import save_torchvision, torchvision_model
from tiny.clip import published_head, save_head
from tiny.hpsv3 import write_base
from tiny.rewards import reward_tensors, write_bert_tokenizer, write_clip_tokenizer
from tiny.vlm import QWEN, QWEN_CHAT
from tiny.vlm import tokenizer as vlm_tokenizer

VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VIT_H = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
SQUARE = {"image_size": 224, "patch_size": 14}
HPSV3_DEPTHS = (28, 32)
"""Layers of Qwen2-VL-7B's language model and of its vision tower."""


def write_open_clip(directory: Path, model: str) -> None:
    import open_clip

    save_file(open_clip.create_model(model).state_dict(), directory / "model.safetensors")


def write_tower_and_head(directory: Path) -> None:
    write_open_clip(directory, "ViT-L-14-quickgelu")
    save_head(published_head(768), directory / "head.safetensors")


def write_hps(directory: Path) -> None:
    import open_clip

    half = {name: value.half() for name, value in open_clip.create_model("ViT-H-14").state_dict().items()}
    torch.save({"epoch": 1, "state_dict": half}, directory / "HPS.pt")


def write_image_reward(directory: Path) -> None:
    sizes = {"width": 1024, "hidden": 768, "layers": 24, "side": 14, "patch": 16, "mlp": 4}
    tensors = reward_tensors(**sizes, vocabulary=30524, positions=512)
    beyond = tuple(f"blip.text_encoder.encoder.layer.{i}." for i in range(12, 24))  # BERT-base has 12 layers
    torch.save({k: v for k, v in tensors.items() if not k.startswith(beyond)}, directory / "ImageReward.pt")
    write_bert_tokenizer(directory / "tokenizer")


def write_pickscore(directory: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {**VIT_L, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 1024, "hidden_act": "gelu"}
    vision = {**VIT_H, **SQUARE, "projection_dim": 1024, "hidden_act": "gelu"}
    write_clip_tokenizer(directory)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=1024)).save_pretrained(directory)


def write_safety(directory: Path) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    config = CLIPConfig(vision_config={**VIT_L, **SQUARE, "projection_dim": 768}, projection_dim=768)
    StableDiffusionSafetyChecker(config).save_pretrained(directory)


def write_dino(directory: Path, labels: int = 0) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2ForImageClassification, Dinov2Model

    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518}
    config = Dinov2Config(**sizes, patch_size=14, num_labels=labels or 2)
    (Dinov2ForImageClassification if labels else Dinov2Model)(config).save_pretrained(directory)
    sides = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    BitImageProcessor(**sides, **imagenet).save_pretrained(directory)


def write_inception(directory: Path) -> None:
    save_torchvision(torchvision_model("inception_v3", 1000, init_weights=False), directory / "inception.pth")


def write_vlm(directory: Path) -> None:
    import transformers as t

    words = vlm_tokenizer(QWEN)
    ids = words.get_vocab()
    area = {"shortest_edge": 256**2, "longest_edge": 4096**2}
    images, videos = t.Qwen2VLImageProcessor(patch_size=16, size=area), t.Qwen3VLVideoProcessor(patch_size=16)
    t.Qwen3VLProcessor(images, words, videos, chat_template=QWEN_CHAT).save_pretrained(directory)
    text = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    text |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2048}
    vision |= {"patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}
    config = t.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    in_bfloat16(t.Qwen3VLForConditionalGeneration, config).save_pretrained(directory)


def write_hpsv3(directory: Path, depths: tuple[int, int] = HPSV3_DEPTHS) -> None:
    """Qwen2-VL-7B and the reward head, with as many layers of the language model and of the vision tower."""
    from transformers import AutoConfig, Qwen2VLModel

    config = AutoConfig.from_pretrained(write_base(directory))
    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": depths[0]}
    text |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 151658}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text["layer_types"] = ["full_attention"] * depths[0]
    vision = {"depth": depths[1], "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4}
    for part, values in ((config.text_config, text), (config.vision_config, vision)):
        for name, value in values.items():
            setattr(part, name, value)
    config.save_pretrained(directory)
    weights = {f"model.{name}": value for name, value in in_bfloat16(Qwen2VLModel, config).state_dict().items()}
    head = {0: torch.nn.Linear(3584, 1024), 3: torch.nn.Linear(1024, 16), 5: torch.nn.Linear(16, 2)}
    for i, layer in head.items():
        weights |= {f"rm_head.{i}.{name}": value for name, value in layer.state_dict().items()}
    save_file(weights, directory / "HPSv3.safetensors")


def in_bfloat16(model, config):
    """A model as large language models are published; half as much to write."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        return model(config)
    finally:
        torch.set_default_dtype(torch.float32)
