"""How schedulers differ from what their names, configurations and steps suggest."""

import inspect

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, fresh, gap, images, own
from samplers import NotDrivable, PipelineSampler, WholeCallSampler, sampler_for
from samplers.pipelines import grids
from samplers.pipelines.scheduler import SearchScheduler, Walk
from tiny.pipelines import EULER, FLUX, SD_BETAS, ddim, picture, quiet, seeded, stock_images, tiny, unet

STEPS = 4


def in_a_step(user, steps=STEPS, stop=1, **fields):
    """A scheduler of ours in a pipeline's hands."""
    scheduler = SearchScheduler(user, Walk(0, stop, **fields))
    scheduler.set_timesteps(steps, device="cpu")
    return scheduler


@pytest.mark.filterwarnings("ignore:.*is replaced by its first-order")
def test_values_are_copied_and_not_configurations():
    """SD patches steps_offset into the configuration, where `from_config` would drop it: 980...0, not 981...1."""
    pndm = diffusers.PNDMScheduler(skip_prk_steps=True, **SD_BETAS)
    pipe = tiny("sd", pndm)
    assert "steps_offset" in pipe.scheduler.config._use_default_values and pipe.scheduler.config.steps_offset == 1
    sampler = PipelineSampler(pipe, steps=50)
    told = sampler._probes.known(sampler.space().id).grid.timesteps
    assert told[0] == 981 and told[-1] == 1


def test_nothing_is_clipped_that_the_users_scheduler_does_not_clip():
    """`DDIMScheduler.from_config` of an Euler scheduler made in code turns clip_sample and set_alpha_to_one on."""
    euler = diffusers.EulerDiscreteScheduler(**EULER)
    assert diffusers.DDIMScheduler.from_config(euler.config).config.clip_sample
    grid = grids.build(euler, {"num_inference_steps": STEPS})
    assert grid.rule.clip is None and grid.rule.threshold is None and grid.alphas[-1] == 1.0
    sd = grids.build(ddim(), {"num_inference_steps": STEPS})
    assert sd.alphas[-1] == pytest.approx(0.99915**0.5, abs=1e-5), "set_alpha_to_one=False ends at A_0"


@pytest.mark.parametrize("steps", [61, 103, 121, 122])
def test_trailing_spacing_that_ends_below_zero(steps):
    grid = grids.build(ddim(timestep_spacing="trailing"), {"num_inference_steps": steps})
    assert grid.timesteps.min() >= 0 and len(grid.timesteps) == len(grid.alphas) - 1


def test_steps_lead_to_the_next_grid_point():
    """DDIMScheduler steps to t - T // n instead, which `linspace` does not hit."""
    user = ddim(timestep_spacing="linspace")
    grid = grids.build(user, {"num_inference_steps": 7})
    for i, t in enumerate(grid.timesteps.tolist()):
        assert grid.alphas[i] == pytest.approx(float(user.alphas_cumprod[t]) ** 0.5, abs=1e-7)
    sampler = PipelineSampler(tiny("sd", user), steps=7)
    hook = sampler._calls.pipe.unet.register_forward_hook(lambda m, args, out: (torch.zeros_like(out[0]),))
    noise = fresh(sampler, [1])
    end = sampler.run(noise, 3).final
    hook.remove()
    torch.testing.assert_close(end.x, noise.x * grid.alphas[3] / grid.alphas[0], atol=1e-5, rtol=1e-5)


def test_flow_timesteps_that_are_cut_to_integers_leave_the_sigmas_exact():
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    user = diffusers.DPMSolverMultistepScheduler(**flow)
    grid = grids.build(user, {"num_inference_steps": 5})
    user.set_timesteps(5)
    assert not grid.timesteps.is_floating_point() and list(grid.sigmas) == pytest.approx(user.sigmas.tolist())
    assert any(abs(s * 1000 - t) > 0.1 for s, t in zip(grid.sigmas, grid.timesteps.tolist(), strict=False))


def test_zero_terminal_snr_of_a_scheduler_that_clamps_its_sigma():
    euler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", **EULER
    )
    pipe = tiny("sd", euler)
    expected = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS, guidance_scale=5.0)
    assert gap(images(PipelineSampler(pipe, steps=STEPS, guidance=5.0), [1]), expected) < 1e-4


def test_a_schedulers_own_noise_is_replaced_by_reproducible_noise():
    """FlowMatchEuler with stochastic_sampling draws from the global generator: no seed repeats its images."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    pipe = tiny("flux", scheduler)
    with pytest.warns(UserWarning, match="replaced by its first-order deterministic rule"):
        sampler = PipelineSampler(pipe, steps=STEPS, **FLUX)
        sampler.space()
    plain = diffusers.FlowMatchEulerDiscreteScheduler()
    expected = stock_images(tiny("flux", plain), [CAT], [1], num_inference_steps=STEPS, **FLUX)
    assert gap(images(sampler, [1]), expected) < 1e-6
    kept = PipelineSampler(pipe, steps=STEPS, scheduler="keep", **FLUX)
    assert gap(images(kept, [1]), images(kept, [1])) == 0 and gap(images(kept, [1]), expected) > 1e-3


def test_a_learned_variance_is_dropped():
    x, output = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    both = torch.cat([output, torch.full_like(output, 9.0)], 1)
    steps = [in_a_step(ddim()).step(m, 0, x).prev_sample for m in (output, both)]
    assert torch.equal(*steps)


def test_both_guidance_halves_are_stepped():
    x, output = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    alone = in_a_step(ddim(), injected=x).step(output, 0, x).prev_sample
    scheduler = in_a_step(ddim(), injected=x)
    doubled = scheduler.step(torch.cat([output] * 2), 0, torch.cat([x] * 2)).prev_sample
    assert torch.equal(doubled, torch.cat([alone] * 2)) and len(scheduler.walk.seen[1][0]) == 1


@pytest.mark.parametrize("user", [ddim, diffusers.FlowMatchEulerDiscreteScheduler])
def test_what_pipelines_ask_of_a_scheduler_is_there(user):
    user = user()
    scheduler = in_a_step(user, stop=3)
    assert isinstance(scheduler, type(user)) and isinstance(scheduler, SearchScheduler)
    assert {"timesteps", "sigmas", "mu"} <= set(inspect.signature(scheduler.set_timesteps).parameters)
    assert {"eta", "generator"} <= set(inspect.signature(scheduler.step).parameters)
    assert scheduler.config is user.config and scheduler.config["num_train_timesteps"] == len(scheduler) == 1000
    assert scheduler.order == 1 and scheduler.init_noise_sigma == 1.0 and scheduler.num_inference_steps == 3
    assert isinstance(scheduler.timesteps, torch.Tensor) and len(scheduler.timesteps) == 3
    assert scheduler.sigmas.device.type == "cpu" and len(scheduler.sigmas) == 4
    x = torch.ones(1, 4, 2, 2)
    assert scheduler.scale_model_input(x, scheduler.timesteps[0]) is x
    before = scheduler.timesteps
    scheduler.set_begin_index(2)
    assert scheduler.timesteps is before
    prev, x0 = in_a_step(user).step(x, before[0], x, eta=1.0, generator=None, return_dict=False)
    named = in_a_step(user).step(x, before[0], x)
    assert torch.equal(named.prev_sample, prev) and torch.equal(named[0], prev)
    assert torch.equal(named.pred_original_sample, x0) and torch.equal(named.denoised, x0)


def test_steps_are_counted_and_not_looked_up():
    """Two points with one timestep: a look-up by its value would find the second (and wait for the device)."""
    scheduler = in_a_step(diffusers.FlowMatchEulerDiscreteScheduler(), steps=2, stop=2)
    scheduler.timesteps[:] = 500.0
    x = torch.ones(1, 4, 2, 2)
    for _ in range(2):
        x = scheduler.step(torch.ones_like(x), scheduler.timesteps[0], x).prev_sample
    assert torch.allclose(x, torch.zeros_like(x), atol=1e-6), "sigma went from 1 to 0"


def test_the_step_count_reaches_the_shift_whole():
    """Dynamic shifting is asked for with all the steps, and the slice is cut inside: a tail is the tail."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    asked = {"sigmas": [1.0, 0.75, 0.5, 0.25], "mu": 0.9}
    whole = SearchScheduler(scheduler, Walk(0, 4))
    tail = SearchScheduler(scheduler, Walk(2, 4))
    for one in (whole, tail):
        one.set_timesteps(device="cpu", **asked)
    assert torch.equal(tail.timesteps, whole.timesteps[2:]) and torch.equal(tail.sigmas, whole.sigmas[2:])


@seeded
def lcm():
    scheduler = diffusers.LCMScheduler(**SD_BETAS)
    parts = tiny("sd", scheduler).components | {"unet": unet(time_cond_proj_dim=8)}
    parts.pop("image_encoder", None)
    return quiet(diffusers.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False))


def test_a_pipeline_that_needs_a_step_is_searched_by_seeds():
    """LCM's own pipeline decodes what its loop leaves behind: it cannot be called without steps."""
    pipe = lcm()
    with pytest.warns(UserWarning, match=r"LCMScheduler has no .* cannot be called without steps .*seeds of whole"):
        sampler = sampler_for(pipe, steps=STEPS)
    assert isinstance(sampler, WholeCallSampler)
    with torch.random.fork_rng():
        expected = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(sampler, [1]), expected) < 1e-6 and sampler.rows_per_evaluation == 1
    pipe.scheduler = ddim()
    with pytest.raises(NotDrivable, match="cannot be called without steps"):
        PipelineSampler(pipe, steps=STEPS).space()
    with pytest.raises(TypeError, match="original_inference_steps"):  # so says the pipeline itself, of a DDIM scheduler
        sampler_for(pipe, steps=STEPS)


class NeedsAStep(diffusers.StableDiffusionPipeline):
    """Looks at its timesteps by `look` before its loop."""

    def prepare_extra_step_kwargs(self, generator, eta):
        self.look(self.scheduler.timesteps)
        return super().prepare_extra_step_kwargs(generator, eta)


def _exhausted(timesteps):
    raise torch.OutOfMemoryError("of 80 GiB none is left")


LOOKS = {"first": lambda timesteps: timesteps.tolist()[0], "length": lambda timesteps: 1000 // len(timesteps)}


def needing(look):
    pipe = tiny("sd", cls=NeedsAStep)
    pipe.look = look
    return pipe


@pytest.mark.parametrize("look", LOOKS)
def test_whatever_a_pipeline_needs_a_step_for_it_is_told(look):
    pipe = needing(LOOKS[look])
    with pytest.raises(NotDrivable, match=r"NeedsAStep cannot be called without steps .*WholeCallSampler"):
        PipelineSampler(pipe, steps=STEPS).space()
    expected = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(WholeCallSampler(pipe, steps=STEPS), [1]), expected) < 1e-6


def test_out_of_memory_is_no_limit_of_the_pipeline():
    with pytest.raises(torch.OutOfMemoryError, match="none is left"):
        PipelineSampler(needing(_exhausted), steps=STEPS).space()


@pytest.mark.parametrize("scheduler", [ddim, lambda: diffusers.EulerDiscreteScheduler(**EULER)], ids=["ddim", "euler"])
def test_inpainting_blends_at_the_grids_own_noise_levels(scheduler):
    """Blending looks a timestep ahead, so only whole runs; it adds noise as our steps do, not as Euler's would."""
    pipe = own(tiny("sd", scheduler(), cls=diffusers.StableDiffusionInpaintPipeline))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    options = {"image": picture(), "mask_image": mask, "strength": 1.0, "height": 16, "width": 16}
    weight, bias = pipe.vae.quant_conv.parameters()  # without spread, the encoder gives one image whatever it draws
    weight.data[4:], bias.data[4:] = 0.0, -30.0
    sampler = PipelineSampler(pipe, steps=STEPS, guidance=5.0, **options)
    noise = fresh(sampler, [1, 2])
    found = sampler.decode(sampler.run(noise, STEPS).final)
    options |= {k: options[k].expand(2, -1, -1, -1) for k in ("image", "mask_image")}
    stock = {"latents": noise.x, "num_inference_steps": STEPS, "guidance_scale": 5.0}
    shown = stock_images(pipe, [CAT] * 2, [0, 0], **stock, **options)
    assert gap(found, shown) < 1e-4 and not sampler.can_stop
    with pytest.raises(ValueError, match="mask_image allows whole runs"):
        sampler.run(noise, 1)
