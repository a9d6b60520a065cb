"""Pipelines that encode or lay out differently from the two main families: subclasses of real ones."""

import diffusers
import pytest
import torch

from samplers import PipelineSampler, State
from samplers.pipelines.calls import as_images
from tiny import pipelines as tiny

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}


class UnequalText(diffusers.FluxPipeline):
    """Text as long as its prompt, as Qwen-Image and others have it."""

    def encode_prompt(self, prompt, *args, **kwargs):
        text, pooled, ids = super().encode_prompt(prompt, *args, **kwargs)
        length = len(prompt[0])
        return text[:, :length], pooled, ids[:length]


class UnpackedInput(diffusers.FluxPipeline):
    """Takes `latents=` as drawn and packs them inside, as FLUX.2 does."""

    def prepare_latents(self, batch_size, channels, height, width, dtype, device, generator, latents=None):
        if latents is not None:
            latents = self._pack_latents(latents, batch_size, channels, *latents.shape[-2:])
        return super().prepare_latents(batch_size, channels, height, width, dtype, device, generator, latents)


def made(cls):
    return tiny.quiet(cls(**tiny.flux().components))


def test_prompts_of_unequal_encodings_run_in_groups_and_keep_their_order():
    pipe = made(UnequalText)
    sampler = PipelineSampler(pipe, steps=3, **FLUX)
    space, cat, dogs = sampler.space(), sampler.condition("a cat"), sampler.condition("two dogs")
    rows = [space.fresh([s], c) for s, c in ((1, cat), (2, dogs), (3, cat), (4, dogs))]
    run = sampler.run(State.cat(rows), 3, keep=[2])
    assert run.denoiser_rows == 4 * 3 == sampler.denoiser_rows and sampler.text_encodings == 2
    for i, row in enumerate(rows):
        alone = sampler.run(row, 3, keep=[2])
        torch.testing.assert_close(run.final[i].x, alone.final.x, atol=1e-5, rtol=0)
        torch.testing.assert_close(run.kept[2][i].x0, alone.kept[2].x0, atol=1e-5, rtol=0)
        assert run.final[i].conditions == row.conditions
    stock = tiny.stock_images(pipe, ["two dogs"], [2], num_inference_steps=3, **FLUX)
    torch.testing.assert_close(sampler.decode(run.final)[1:2], stock, atol=1e-5, rtol=0)


def test_a_pipeline_that_packs_given_latents_itself():
    pipe = made(UnpackedInput)
    sampler = PipelineSampler(pipe, steps=3, **FLUX)
    noise = sampler.space().fresh([1, 2], sampler.condition("a cat"))
    stock = tiny.stock_images(tiny.flux(), ["a cat"] * 2, [1, 2], num_inference_steps=3, **FLUX)
    middle = sampler.run(noise, 1).final
    images = sampler.decode(sampler.run(middle, 3).final)
    torch.testing.assert_close(images, stock, atol=1e-6, rtol=0)


def test_a_row_gone_bad_does_not_stop_the_others():
    sampler = PipelineSampler(tiny.stable_diffusion(), steps=3)
    stopped = sampler.run(sampler.space().fresh([1, 2], sampler.condition("a cat")), 1).final
    broken = stopped.x.clone()
    broken[0] = float("nan")
    bad = State(broken, 1, stopped.x0, stopped.recipes, stopped.conditions, stopped.grid)
    ends = [sampler.run(s, 3).final.x for s in (stopped, bad)]
    assert ends[1][0].isnan().any()
    torch.testing.assert_close(ends[1][1], ends[0][1], atol=1e-5, rtol=0)


def test_images_of_every_kind_are_read():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    eight = (images * 255).round() / 255
    pil = diffusers.image_processor.VaeImageProcessor.numpy_to_pil(eight.movedim(1, -1).numpy())
    for given in (eight, eight.movedim(1, -1).numpy(), pil):
        torch.testing.assert_close(as_images(given), eight, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="expected images of shape"):
        as_images(torch.zeros(2, 4, 4, 4))


def test_only_pure_noise_is_brought_to_the_schedulers_scale():
    """Euler with trailing spacing starts a little below its first sigma; what was re-noised there is there already."""
    euler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **tiny.SD_BETAS)
    pipe = tiny.stable_diffusion(euler)
    sampler = PipelineSampler(pipe, steps=3, guidance=1.0)
    space, entered = sampler.space(), []
    noise = space.fresh([1], sampler.condition("a cat"))
    again = space.renoise(sampler.run(noise, 3).final, 0, [2])
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: entered.append(args[0].clone()))
    for state in (noise, again):
        sampler.run(state, 1)
    handle.remove()
    assert 0.99 < float((entered[0] / noise.x).mean()) < 0.999
    assert torch.equal(entered[1], again.x)
