"""The rows of `verifier_costs.py`: each verifier on random weights of its published architecture, and what it uses.

Sizes are those of the published configurations: open_clip's own for its models; OpenAI's ViT-L/14, LAION's ViT-H/14,
DINOv2-base, BLIP-large's towers (arXiv 2304.05977), Qwen3-VL-2B-Instruct and Qwen2-VL-7B-Instruct for the others.
Weights are saved as the published ones are, and the verifiers load them by their own code. Tokenizers, where none is in
a library, are word-level: they change how many tokens a prompt has, by some per cent of all tokens of the `vlm` and
`hpsv3` rows, and nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

import verifiers
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


@dataclass
class Subject:
    """What is called and counted: verifiers in turn, on the same images.

    Attributes:
        verifiers: called one after the other.
        loaded: the modules in memory, after loading.
        used: the modules whose parameters a call with a new prompt uses; None for all that are loaded.
        text: encodes the text of a prompt that is not cached, given its number; None without a text tower of its own.
        prompt: of every image.
    """

    verifiers: Sequence[verifiers.Verifier]
    loaded: Callable[[], list[torch.nn.Module]] = list
    used: Callable[[], list[torch.nn.Module]] | None = None
    text: Callable[[int], object] | None = None
    prompt: str = "a red circle to the left of a blue square"


@dataclass(frozen=True)
class Row:
    """How to write the weights into a directory, how to open the verifiers on them, and what is special."""

    write: Callable[[Path], object]
    open: Callable[[Path], Subject]
    model: str
    batch: int = 4
    note: str = ""
    depths: tuple[int, int] | None = field(default=None)


def new_prompt(number: int) -> str:
    return f"a photo of {number} red circles to the left of a blue square"


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


def open_clip_score(directory: Path, model: str) -> Subject:
    clip = verifiers.CLIPScore(model, directory / "model.safetensors")
    return Subject(
        [clip], lambda: [clip.source.tower().model], text=lambda i: clip.source.tower().text([new_prompt(i)])
    )


def open_aesthetic(directory: Path, with_clip: bool = False) -> Subject:
    files = {"model": "ViT-L-14-quickgelu", "pretrained": directory / "model.safetensors"}
    head = verifiers.Aesthetic(directory / "head.safetensors", **files)
    if with_clip:
        subject = open_clip_score(directory, files["model"])
        subject.verifiers = [*subject.verifiers, head]
        return subject
    return Subject([head], lambda: [head.source.tower().model], lambda: [head.source.tower().model.visual])


def open_image_reward(directory: Path) -> Subject:
    reward = verifiers.ImageReward(directory / "ImageReward.pt", tokenizer=directory / "tokenizer")
    return Subject([reward], lambda: [reward._model("cpu")])


def open_pickscore(directory: Path) -> Subject:
    pick = verifiers.PickScore(directory)
    model = partial(pick.source.model, "cpu")
    return Subject([pick], lambda: [model()], text=lambda i: pick._text(model(), [new_prompt(i)]))


def open_hps(directory: Path) -> Subject:
    hps = verifiers.HPS(weights=directory / "HPS.pt")
    return Subject([hps], lambda: [hps.source.tower().model], text=lambda i: hps.source.tower().text([new_prompt(i)]))


def open_vlm(directory: Path) -> Subject:
    vlm = verifiers.VLM(directory)
    return Subject([vlm], lambda: [vlm.source.model("cpu")])


def open_hpsv3(directory: Path) -> Subject:
    hps = verifiers.HPSv3(directory / "HPSv3.safetensors", base=directory)
    return Subject([hps], lambda: [hps._model(torch.device("cpu"))])


def open_class(directory: Path) -> Subject:
    score = verifiers.ClassScore("clip", model="ViT-L-14-quickgelu", pretrained=directory / "model.safetensors")
    tower = score.classifier.source.tower
    return Subject(
        [score],
        lambda: [tower().model],
        text=lambda i: score.classifier.columns(tower(), [100 + i]),
        prompt="golden retriever",
    )


def open_class_dino(directory: Path) -> Subject:
    score = verifiers.ClassScore("dinov2", model=directory)
    return Subject([score], lambda: [score.classifier.source.model("cpu")], prompt="207")


def open_class_inception(directory: Path) -> Subject:
    score = verifiers.ClassScore("inception", pretrained=directory / "inception.pth")

    def used() -> list[torch.nn.Module]:
        return [m for name, m in score.classifier._model("cpu").named_children() if name != "AuxLogits"]

    return Subject([score], lambda: [score.classifier._model("cpu")], used, prompt="golden retriever")


def open_consistency(directory: Path) -> Subject:
    same = verifiers.Consistency(model=directory)
    return Subject([same], lambda: [same.source.model("cpu")])


def open_safety(directory: Path) -> Subject:
    safety = verifiers.Safety(directory)
    return Subject([safety], lambda: [safety._checker.model("cpu")])


def no_weights(directory: Path) -> None:
    """There are none to write."""


def denoisers() -> Iterator[tuple[str, Callable[[], object]]]:
    """One forward pass of each of three denoisers without weights, to count; guidance with two passes doubles it."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    xl = {"sample_size": 128, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": [1, 2, 10]}
    xl |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")}
    xl |= {"up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True}
    xl |= {"attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "addition_embed_type": "text_time"}
    xl |= {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}
    patches = 64 * 64
    with torch.device("meta"):
        old = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        text = torch.empty(1, 77, 768)
        yield "Stable Diffusion 1.5 at 512²", lambda: old(torch.empty(1, 4, 64, 64), torch.ones(1), text)
        new = UNet2DConditionModel(**xl)
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        inputs = (torch.empty(1, 4, 128, 128), torch.ones(1), torch.empty(1, 77, 2048))
        yield "SDXL at 1024²", lambda: new(*inputs, added_cond_kwargs=added)
        flux = FluxTransformer2DModel(guidance_embeds=True)
        inputs = (torch.empty(1, patches, 64), torch.empty(1, 512, 4096), torch.empty(1, 768), torch.ones(1))
        where = {"img_ids": torch.zeros(patches, 3), "txt_ids": torch.zeros(512, 3), "guidance": torch.ones(1)}
        yield "FLUX.1 at 1024²", lambda: flux(*inputs, **where)


def of_clip(model: str, told: str) -> Row:
    return Row(partial(write_open_clip, model=model), partial(open_clip_score, model=model), told)


def of_formula(name: str) -> Row:
    return Row(no_weights, lambda directory: Subject([verifiers.load(name)]), "a formula")


ROWS = {
    "clip: ViT-B-32": of_clip("ViT-B-32-quickgelu", "CLIP ViT-B/32"),
    "clip": of_clip("ViT-L-14-quickgelu", "CLIP ViT-L/14"),
    "clip: ViT-H-14": of_clip("ViT-H-14", "CLIP ViT-H/14"),
    "aesthetic": Row(write_tower_and_head, open_aesthetic, "CLIP ViT-L/14, image tower"),
    "clip + aesthetic": Row(write_tower_and_head, partial(open_aesthetic, with_clip=True), "CLIP ViT-L/14, shared"),
    "image-reward": Row(write_image_reward, open_image_reward, "BLIP ViT-L/16 and BERT", note="text in every image"),
    "pickscore": Row(write_pickscore, open_pickscore, "CLIP ViT-H/14"),
    "hps": Row(write_hps, open_hps, "CLIP ViT-H/14"),
    "vlm": Row(write_vlm, open_vlm, "Qwen3-VL-2B", batch=1),
    "hpsv3": Row(write_hpsv3, open_hpsv3, "Qwen2-VL-7B, bfloat16", batch=1, depths=HPSV3_DEPTHS),
    "class": Row(
        partial(write_open_clip, model="ViT-L-14-quickgelu"), open_class, "CLIP ViT-L/14", note="80 texts a class"
    ),
    "class: dinov2": Row(partial(write_dino, labels=1000), open_class_dino, "DINOv2-base, linear head"),
    "class: inception": Row(write_inception, open_class_inception, "Inception v3"),
    "consistency": Row(write_dino, open_consistency, "DINOv2-base", note="two images: x0 and the finished one"),
    "safety": Row(write_safety, open_safety, "CLIP ViT-L/14, image tower"),
    **{name: of_formula(name) for name in ("jpeg", "sharpness", "saturation", "brightness")},
}
