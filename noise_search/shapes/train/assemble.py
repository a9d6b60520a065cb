"""Stage "assemble": put trained weights into stock pipelines on disk, in half precision, with the model's card."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel, StableDiffusionPipeline
from torch import Tensor, nn

from noise_search.shapes import DECLARED_VERIFIERS, configs
from noise_search.shapes.small import SMALL
from noise_search.shapes.train.clip import tokenizer
from noise_search.shapes.train.denoisers import ddim_modules, flow_modules
from noise_search.shapes.train.loop import averaged

STEPS = 20
GUIDANCE = {"shapes-ddim": 4.0, "shapes-flow": 2.5}


def _fill(modules: nn.ModuleDict, weights: dict[str, Tensor]) -> nn.ModuleDict:
    with torch.no_grad():
        for name, weight in modules.named_parameters():
            weight.copy_(weights[name])
    return modules.eval()


def ddim_pipeline(directory: Path, seed: int) -> StableDiffusionPipeline:
    """`shapes-ddim` from the checkpoint of the stage "ddim", in float32."""
    words = tokenizer(directory, seed)
    modules = _fill(ddim_modules(len(words), seed), averaged(directory / "checkpoints" / "ddim"))
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(directory / "vae"),
        text_encoder=modules["text_encoder"],
        tokenizer=words,
        unet=modules["unet"],
        scheduler=configs.ddim_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(directory: Path, seed: int) -> FluxPipeline:
    """`shapes-flow` from the checkpoint of the stage "flow", in float32."""
    words, t5_words = tokenizer(directory, seed), configs.t5_tokenizer()
    modules = _fill(flow_modules(len(words), len(t5_words), seed), averaged(directory / "checkpoints" / "flow"))
    return FluxPipeline(
        scheduler=configs.flow_scheduler(),
        vae=AutoencoderKL.from_pretrained(directory / "vae"),
        text_encoder=modules["text_encoder"],
        tokenizer=words,
        text_encoder_2=modules["text_encoder_2"],
        tokenizer_2=t5_words,
        transformer=modules["transformer"],
    )


def call_arguments(name: str) -> dict[str, Any]:
    """The keyword arguments with which a plain call of the pipeline does what the card says."""
    card = card_of(name)
    return {
        "height": card["height"],
        "width": card["width"],
        "num_inference_steps": card["steps"],
        card["guidance_argument"]: card["guidance"],
        "negative_prompt": card["negative_prompt"],
        **card["options"],
    }


def card_of(name: str) -> dict[str, Any]:
    """The content of `noise_search.json` for an embedded model."""
    flow = name == "shapes-flow"
    return {
        "version": 1,
        "height": 64,
        "width": 64,
        "steps": STEPS,
        "guidance_argument": "true_cfg_scale" if flow else "guidance_scale",
        "guidance": GUIDANCE[name],
        "negative_prompt": "",
        "options": {"max_sequence_length": configs.LENGTH} if flow else {},
        "verifiers": dict(DECLARED_VERIFIERS),
    }


def save(pipe: StableDiffusionPipeline | FluxPipeline, name: str, weights: Path) -> None:
    """Save a pipeline in half precision with its card."""
    folder = weights / name
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    _clean(folder)
    (folder / "noise_search.json").write_text(json.dumps(card_of(name), indent=2) + "\n", encoding="utf-8")


def text_encoders(folder: Path) -> nn.ModuleDict:
    """The text encoders of a finished FLUX pipeline, in float32."""
    pipe = FluxPipeline.from_pretrained(folder, transformer=None, vae=None)
    return nn.ModuleDict({"text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2})


def save_small(transformer: FluxTransformer2DModel, weights: Path) -> None:
    """Save the narrower denoiser in half precision; all else is `shapes-flow`'s."""
    transformer.to(torch.float16).save_pretrained(weights / SMALL / "transformer", safe_serialization=True)
    _clean(weights / SMALL)


def _clean(folder: Path) -> None:
    for file in folder.glob("*/config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where the part lay during training
        if file.parent.name.startswith("text_encoder"):
            # transformers loads in the dtype that the configuration names, diffusers in float32: make them agree.
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
