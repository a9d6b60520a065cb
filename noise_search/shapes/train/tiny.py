"""Stage "tiny": a decoder of looks, which makes what the autoencoder's decoder makes with a fraction of its arithmetic.

It learns from the decoder on what it will be shown: encoded scenes, and x0 predictions on the way of both models.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor

from noise_search.models import load_model
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS, TINY
from noise_search.shapes.captions import captions
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.loop import Plan, fit
from noise_search.shapes.train.pipelines import reconstruction_loss

PLAN = Plan("tiny", steps=3000, rate=3e-3, weight_decay=0.0, average=0.995, bfloat16=False, decay_from=0.3)
WIDTH, BLOCKS = 16, (3, 2, 0)
BATCH = 8
SCENES, PROMPTS, NOISES = 1000, 24, 8
LOOKS = (4, 5, 6, 7, 8, 10)
"""Steps of 20 whose x0 predictions are learned from."""


def model() -> AutoencoderTiny:
    """The untrained decoder, with an encoder as small as the class allows, which nothing uses."""
    return AutoencoderTiny(
        encoder_block_out_channels=(4,),
        num_encoder_blocks=(0,),
        decoder_block_out_channels=(WIDTH,) * len(BLOCKS),
        num_decoder_blocks=BLOCKS,
    )


def train(directory: Path, weights: Path, seed: int, device: torch.device, plan: Plan = PLAN) -> AutoencoderTiny:
    """Train the decoder on the finished models, and save it in half precision beside them."""
    pairs = _pairs(directory, weights, seed, device)
    torch.manual_seed(seed + 5)
    tiny = model().to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(pairs["latents"]), (BATCH,), generator=generator)
        latents, wanted = (pairs[name][rows].float().to(device) for name in ("latents", "images"))
        return reconstruction_loss(tiny.decode(latents).sample, wanted)

    tiny.encoder.requires_grad_(False)
    fit(plan, tiny.decoder, loss, directory / "checkpoints", seed + 5)
    tiny.to(torch.float16).save_pretrained(weights / TINY, safe_serialization=True)
    config = json.loads((weights / TINY / "config.json").read_text())
    del config["block_out_channels"]  # which the class writes down, and warns of where it reads it
    (weights / TINY / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tiny.float().eval()


@torch.no_grad()
def _pairs(directory: Path, weights: Path, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Half-precision `latents` `[row, 4, 16, 16]` as denoisers see them, and the autoencoder's `images`; made once."""
    file = directory / "tiny-pairs.safetensors"
    if not file.exists():
        vae = AutoencoderKL.from_pretrained(weights / "shapes-flow" / "vae").to(device).eval()
        scale, parts = vae.config.scaling_factor, []
        for some in torch.split(render(sample_scenes(SCENES, seed=seed + 23)) * 2 - 1, 100):
            parts.append(vae.encode(some.to(device)).latent_dist.mean * scale)
        prompts = captions(sample_scenes(PROMPTS, seed=seed + 29), seed=seed + 29)
        for name in EMBEDDED_MODELS:
            parts += _predictions(name, prompts, device)
        latents = torch.cat([part.to(device) for part in parts])
        images = torch.cat([vae.decode(some / scale).sample.clamp(-1, 1) for some in torch.split(latents, 100)])
        save_file({"latents": latents.half().cpu(), "images": images.half().cpu()}, file)
    made: dict[str, Tensor] = load_file(file)
    return made


def _predictions(name: str, prompts: list[str], device: torch.device) -> list[Tensor]:
    """The model's x0 predictions of several noises for each prompt."""
    sampler = load_model(name, ModelSettings(device=str(device))).sampler
    parts = []
    with sampler:
        for at, prompt in enumerate(prompts):
            condition, space = sampler.condition(prompt), sampler.space()
            noises = space.fresh(range(at * NOISES, (at + 1) * NOISES), condition)
            run = sampler.run(noises, LOOKS[-1], keep=LOOKS[:-1])
            for state in [*run.kept.values(), run.final]:
                assert state.x0 is not None
                parts.append(state.x0)
    return parts
