"""Tiny real pipelines that are asked for, or take noise, in other ways: DiT, image to image, ControlNet, DDPM."""

from functools import cache
from typing import Any

import diffusers
import torch

from tiny import pipelines as tiny

LABELS = {0: "a cat, tabby", 1: "two dogs on a red sofa", 207: "golden retriever"}


@cache
@tiny.seeded
def _dit_parts() -> dict[str, Any]:
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
    )
    return {"transformer": transformer, "vae": tiny.vae()}


def dit(scheduler: Any = None) -> diffusers.DiTPipeline:
    """A DiTPipeline that learned its variance, with a few labels."""
    scheduler = scheduler or diffusers.DDIMScheduler(clip_sample=False)
    return tiny.quiet(diffusers.DiTPipeline(**_dit_parts(), scheduler=scheduler, id2label=LABELS))


def image_to_image(scheduler: Any = None) -> diffusers.StableDiffusionImg2ImgPipeline:
    """A StableDiffusionImg2ImgPipeline with the weights of `tiny.stable_diffusion`."""
    parts = tiny.stable_diffusion(scheduler).components
    return tiny.quiet(diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))


def image_latents() -> torch.Tensor:
    """One encoded image, of the size of latents."""
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(77)) * 0.7


def picture() -> torch.Tensor:
    """One image of 16 x 16 pixels."""
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(78))


@cache
@tiny.seeded
def _controlnet() -> diffusers.ControlNetModel:
    net = diffusers.ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        conditioning_embedding_out_channels=(8, 16),
    )
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):  # zero at birth: it would say nothing
        torch.nn.init.normal_(block.weight, std=0.5)
    return net


def controlnet(scheduler: Any = None) -> diffusers.StableDiffusionControlNetPipeline:
    """A StableDiffusionControlNetPipeline; its condition embedding halves the size once."""
    parts = tiny.stable_diffusion(scheduler).components | {"controlnet": _controlnet()}
    return tiny.quiet(diffusers.StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False))


@cache
@tiny.seeded
def _pixel_unet() -> diffusers.UNet2DModel:
    return diffusers.UNet2DModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )


def unconditional() -> diffusers.DDIMPipeline:
    """A DDIMPipeline over pixels, without a prompt."""
    return tiny.quiet(diffusers.DDIMPipeline(unet=_pixel_unet(), scheduler=diffusers.DDIMScheduler()))


@cache
@tiny.seeded
def _flux_image_parts() -> dict[str, Any]:
    return dict(tiny.flux().components)


def flux_image_to_image() -> diffusers.FluxImg2ImgPipeline:
    """A FluxImg2ImgPipeline with the weights of `tiny.flux`."""
    parts = _flux_image_parts() | {"scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)}
    parts = {k: v for k, v in parts.items() if k not in ("image_encoder", "feature_extractor")}
    return tiny.quiet(diffusers.FluxImg2ImgPipeline(**parts))


class DrawsByItself(diffusers.DiffusionPipeline):
    """An unconditional pipeline that draws by torch alone."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, batch_size=1, num_inference_steps=3, generator=None, output_type="pt", return_dict=True):
        generators = generator if isinstance(generator, list) else [generator] * batch_size
        x = torch.cat([torch.randn(1, 3, 8, 8, generator=g) for g in generators])
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.unet(x, t).sample, t, x).prev_sample
        return ((x / 2 + 0.5).clamp(0, 1),)


def by_itself():
    return tiny.quiet(DrawsByItself(unconditional().unet, diffusers.DDIMScheduler(clip_sample=False)))
