"""What every sampler must do, on the two main families; and on pipelines that encode or lay out differently."""

from contextlib import contextmanager
from dataclasses import replace

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, DOGS, denoisers, fresh, gap, half, hooked
from contracts.sampler import SamplerContract
from samplers import PipelineSampler, State
from samplers.pipelines.calls import as_images
from tiny.pipelines import FLUX, SD_BETAS, stock_images, tiny

CASES = {
    "sd-guided": ("sd", {"guidance": 5.0, "negative_prompt": "bad"}),
    "sd-unguided": ("sd", {"guidance": 1.0}),
    "sdxl": ("sdxl", {"guidance": 5.0}),
    "flux": ("flux", FLUX),
    "flux-true-cfg": (
        "flux",
        FLUX | {"guidance": 4.0, "guidance_argument": "true_cfg_scale", "negative_prompt": "bad"},
    ),
}


class TestPipelineSampler(SamplerContract):
    tolerance = 5e-5

    @pytest.fixture(params=CASES)
    def sampler(self, request):
        name, options = CASES[request.param]
        return PipelineSampler(tiny(name), steps=3, **options)

    @pytest.fixture
    def of_eta(self):
        return lambda eta: PipelineSampler(tiny("flux"), steps=3, eta=eta, **FLUX)

    @pytest.fixture
    def counting(self, sampler):
        @contextmanager
        def counted():
            rows: list[int] = []
            with hooked(denoisers(sampler._calls.pipe), rows.append):
                yield rows

        return counted

    def test_rows_per_evaluation_is_known_before_the_first_run(self, sampler, noise):
        estimated = sampler.rows_per_evaluation
        sampler.run(noise, 1)
        assert sampler.rows_per_evaluation == estimated

    def test_moved_noise_and_renoised_states_run(self, sampler, noise):
        space = sampler.space()
        near = space.neighbour(noise, [1, 2, 3], 0.999999)
        far = space.neighbour(noise, [1, 2, 3], 0.5)
        ends = [sampler.run(s, space.end).final.x for s in (noise, near, far)]
        assert (ends[0] - ends[1]).abs().max() < 0.2 * (ends[0] - ends[2]).abs().max()
        back = space.renoise(sampler.run(noise, space.end).final, 1, [4, 5, 6])
        assert sampler.run(back, space.end).final.x.isfinite().all()

    def test_space_is_the_unpacked_latent(self, sampler):
        space = sampler.space()
        assert space.shape == (4, 8, 8) and space.axes == ("channel", "height", "width") and space.end == 3


def test_a_bfloat16_pipeline_keeps_its_noise_in_float32():
    pipe = half(tiny("flux"))
    sampler = PipelineSampler(pipe, steps=3, **FLUX)
    noise = fresh(sampler, [1, 2])
    end = sampler.run(noise, 3).final
    found = sampler.decode(end)
    assert noise.x.dtype == end.x.dtype == found.dtype == torch.float32 and sampler.describe()["dtype"] == "bfloat16"
    first = noise.x[:1]
    drawn = torch.randn(first.shape, generator=torch.Generator().manual_seed(1), dtype=torch.bfloat16)
    if not torch.equal(first.bfloat16(), drawn):
        pytest.skip("this torch draws bfloat16 noise that is not its rounded float32 noise: a seed means another image")
    assert gap(found, stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=3, **FLUX).float()) <= 2e-2


class UnequalText(diffusers.FluxPipeline):
    """Text as long as its prompt, as Qwen-Image and others have it."""

    def encode_prompt(self, prompt, *args, **kwargs):
        text, pooled, ids = super().encode_prompt(prompt, *args, **kwargs)
        length = len(prompt if isinstance(prompt, str) else prompt[0])
        return text[:, :length], pooled, ids[:length]


class UnpackedInput(diffusers.FluxPipeline):
    """Takes `latents=` as drawn and packs them inside, as FLUX.2 does."""

    def prepare_latents(self, batch_size, channels, height, width, dtype, device, generator, latents=None):
        if latents is not None:
            latents = self._pack_latents(latents, batch_size, channels, *latents.shape[-2:])
        return super().prepare_latents(batch_size, channels, height, width, dtype, device, generator, latents)


def test_prompts_of_unequal_encodings_run_in_groups_and_keep_their_order():
    pipe = tiny("flux", cls=UnequalText)
    sampler = PipelineSampler(pipe, steps=3, **FLUX)
    rows = [fresh(sampler, [s], p) for s, p in ((1, CAT), (2, DOGS), (3, CAT), (4, DOGS))]
    run = sampler.run(State.cat(rows), 3, keep=[2])
    assert run.denoiser_rows == 4 * 3 == sampler.denoiser_rows and sampler.text_encodings == 2
    for i, row in enumerate(rows):
        alone = sampler.run(row, 3, keep=[2])
        assert gap(run.final[i].x, alone.final.x) < 1e-5 and gap(run.kept[2][i].x0, alone.kept[2].x0) < 1e-5
        assert run.final[i].conditions == row.conditions
    stock = stock_images(pipe, [DOGS], [2], num_inference_steps=3, **FLUX)
    assert gap(sampler.decode(run.final)[1:2], stock) < 1e-5


def test_a_pipeline_that_packs_given_latents_itself():
    sampler = PipelineSampler(tiny("flux", cls=UnpackedInput), steps=3, **FLUX)
    stock = stock_images(tiny("flux"), [CAT] * 2, [1, 2], num_inference_steps=3, **FLUX)
    middle = sampler.run(fresh(sampler, [1, 2]), 1).final
    assert gap(sampler.decode(sampler.run(middle, 3).final), stock) <= 1e-6


def test_a_row_gone_bad_does_not_stop_the_others():
    sampler = PipelineSampler(tiny("sd"), steps=3)
    stopped = sampler.run(fresh(sampler, [1, 2]), 1).final
    broken = stopped.x.clone()
    broken[0] = float("nan")
    ends = [sampler.run(s, 3).final.x for s in (stopped, replace(stopped, x=broken))]
    assert ends[1][0].isnan().any() and gap(ends[1][1], ends[0][1]) < 1e-5


def test_images_of_every_kind_are_read():
    drawn = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    eight = (drawn * 255).round() / 255
    pil = diffusers.image_processor.VaeImageProcessor.numpy_to_pil(eight.movedim(1, -1).numpy())
    for given in (eight, eight.movedim(1, -1).numpy(), pil):
        assert gap(as_images(given, 2), eight) < 1e-6
    transparent = torch.cat([eight, eight[:, :1]], 1)
    for given in (eight * 2 - 1, transparent):
        assert gap(as_images(given, 2), eight) < 1e-6
    clip = eight[None]
    for given in (clip, clip.movedim(1, 2), eight):
        assert as_images(given, 1).shape == clip.shape and gap(as_images(given, 1), clip) < 1e-6
    with pytest.raises(ValueError, match="expected 2 images of shape"):
        as_images(torch.zeros(2, 5, 4, 4), 2)


def test_only_pure_noise_is_brought_to_the_schedulers_scale():
    """Euler with trailing spacing starts a little below its first sigma; what was re-noised there is there already."""
    pipe = tiny("sd", diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **SD_BETAS))
    sampler, entered = PipelineSampler(pipe, steps=3, guidance=1.0), []
    noise = fresh(sampler, [1])
    again = sampler.space().renoise(sampler.run(noise, 3).final, 0, [2])
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: entered.append(args[0].clone()))
    for state in (noise, again):
        sampler.run(state, 1)
    handle.remove()
    assert 0.99 < float((entered[0] / noise.x).mean()) < 0.999
    assert torch.equal(entered[1], again.x)
