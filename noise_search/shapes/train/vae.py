"""Stage "vae": the autoencoder that both pipelines share."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from noise_search.shapes import configs
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.loop import Plan, fit

PLAN = Plan("vae", steps=6000, rate=2e-3)
WHOLE_FROM = 0.85
"""Share of the steps after which whole canvases replace quarter crops: group norms see the statistics of use."""


def _pixels(step: int, seed: int, scenes: int) -> Tensor:
    return render(sample_scenes(scenes, seed=seed * 100_003 + step)) * 2 - 1


def quarters(images: Tensor, generator: torch.Generator) -> Tensor:
    """Four 32 x 32 crops of each 64 x 64 canvas, rolled by a random whole number of pixels."""
    down, right = (int(v) for v in torch.randint(0, 32, (2,), generator=generator))
    tiles = images.roll((down, right), (2, 3)).unfold(2, 32, 32).unfold(3, 32, 32)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Pixel and gradient error, object pixels weighted up: they cover a few per cent of a canvas."""
    background = wanted.flatten(2).median(2).values[:, :, None, None]
    objects = ((wanted - background).abs().amax(1, keepdim=True) > 0.2).float()
    weight = 1 + 12 * F.max_pool2d(objects, 3, 1, 1)
    error = made - wanted
    across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    return (weight * (error.square() + 0.3 * error.abs())).mean() + 0.2 * (across + down)


def train(directory: Path, seed: int, device: torch.device, plan: Plan = PLAN) -> AutoencoderKL:
    """Train the autoencoder, set its scaling factor, and save it under `vae/`."""
    torch.manual_seed(seed)
    model = configs.vae().to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = _pixels(step, seed, 16)
        if step < WHOLE_FROM * plan.steps:
            images = quarters(images, generator)
        images = images.to(device)
        posterior = model.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        latents = posterior.mean + posterior.std * noise
        made = model.decode(latents).sample.float()
        divergence: Tensor = posterior.kl().mean() / latents[0].numel()
        return reconstruction_loss(made, images) + 2e-3 * divergence

    fit(plan, model, loss, directory / "checkpoints", seed)
    return finish(model, directory)


@torch.no_grad()
def finish(model: AutoencoderKL, directory: Path) -> AutoencoderKL:
    """Set the scaling factor so that latents have unit variance, and save the model."""
    images = render(sample_scenes(256, seed=7)).to(model.device) * 2 - 1
    latents = torch.cat([model.encode(part).latent_dist.mean for part in torch.split(images, 64)])
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    model.save_pretrained(directory / "vae")
    return model.eval()
