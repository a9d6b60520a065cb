"""The plain pipeline and ours give the same images from the same seeds."""

import diffusers
import pytest
import torch

from samplers import PipelineSampler, State
from tiny import pipelines as tiny

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}
EULER = {"steps_offset": 1, **tiny.SD_BETAS}
CUT = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 1}


def compare(pipe, ours: dict, stock: dict, steps: int = 4, tolerance: float = 1e-5) -> None:
    """Three images, two prompts: whole run, and stopped, forked and resumed."""
    prompts, seeds = ["a cat", "a cat", "two dogs"], [1, 2, 3]
    expected = tiny.stock_images(pipe, prompts, seeds, num_inference_steps=steps, **stock)
    sampler = PipelineSampler(pipe, steps=steps, **ours)
    space, cat, dogs = sampler.space(), sampler.condition("a cat"), sampler.condition("two dogs")
    noise = State.cat([space.fresh([1, 2], cat), space.fresh([3], dogs)])
    whole = sampler.run(noise, space.end).final
    torch.testing.assert_close(sampler.decode(whole), expected, atol=tolerance, rtol=0)
    middle = sampler.run(noise, space.end // 2).final
    resumed = sampler.decode(sampler.run(middle[[2, 0]], space.end).final)
    torch.testing.assert_close(resumed, expected[[2, 0]], atol=tolerance, rtol=0)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_stable_diffusion_ddim(steps):
    options = {"negative_prompt": "bad"}
    compare(tiny.stable_diffusion(), options | {"guidance": 5.0}, options | {"guidance_scale": 5.0}, steps)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_stable_diffusion_other_predictions(prediction):
    pipe = tiny.stable_diffusion(tiny.ddim(prediction_type=prediction))
    compare(pipe, {"guidance": 5.0, "guidance_rescale": 0.7}, {"guidance_scale": 5.0, "guidance_rescale": 0.7})


def test_stable_diffusion_clipping_is_honoured():
    pipe = tiny.stable_diffusion()
    pipe.scheduler = tiny.ddim(clip_sample=True)
    compare(pipe, {"guidance": 5.0}, {"guidance_scale": 5.0})
    pipe.scheduler = tiny.ddim(thresholding=True, sample_max_value=1.2)
    compare(pipe, {"guidance": 5.0}, {"guidance_scale": 5.0})


def test_zero_terminal_snr_with_v_prediction():
    scheduler = tiny.ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    compare(tiny.stable_diffusion(scheduler), {"guidance": 5.0}, {"guidance_scale": 5.0}, steps=5)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_stable_diffusion_euler(spacing):
    pipe = tiny.stable_diffusion(diffusers.EulerDiscreteScheduler(timestep_spacing=spacing, **EULER))
    compare(pipe, {"guidance": 5.0}, {"guidance_scale": 5.0})


def test_stable_diffusion_euler_karras():
    pipe = tiny.stable_diffusion(diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **EULER))
    compare(pipe, {"guidance": 5.0}, {"guidance_scale": 5.0})


def test_first_order_dpm_solver_is_our_rule():
    solver = diffusers.DPMSolverMultistepScheduler(solver_order=1, **EULER)
    with pytest.warns(UserWarning, match="first-order"):
        compare(tiny.stable_diffusion(solver), {"guidance": 5.0}, {"guidance_scale": 5.0})


def test_sdxl():
    compare(tiny.stable_diffusion_xl(), {"guidance": 5.0}, {"guidance_scale": 5.0})


@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("shift", [{"use_dynamic_shifting": True}, {"shift": 3.0}, {"shift": 1.0}])
def test_flux(shift, size):
    pipe = tiny.flux(scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shift))
    options = FLUX | {"height": size}
    compare(pipe, options, options, tolerance=1e-6)


def test_flux_embedded_guidance():
    compare(tiny.flux(True), FLUX | {"guidance": 7.0}, FLUX | {"guidance_scale": 7.0}, tolerance=1e-6)


def test_flux_true_cfg():
    ours = FLUX | {"guidance": 4.0, "guidance_argument": "true_cfg_scale", "negative_prompt": "bad"}
    compare(tiny.flux(), ours, FLUX | {"true_cfg_scale": 4.0, "negative_prompt": "bad"}, tolerance=1e-6)


def test_flux_with_a_flow_multistep_scheduler_walks_its_sigmas():
    pipe = tiny.flux(scheduler=diffusers.UniPCMultistepScheduler(**CUT, flow_shift=3.0))
    with pytest.warns(UserWarning, match="first-order"):
        sampler = PipelineSampler(pipe, steps=4, **FLUX)
    pipe.scheduler.set_timesteps(4)
    torch.testing.assert_close(torch.tensor(sampler.space().sigmas), pipe.scheduler.sigmas, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["PNDMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "EulerAncestralDiscreteScheduler"],
)
def test_a_second_order_scheduler_is_replaced_by_ddim_on_its_grid(name):
    extra = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    scheduler = getattr(diffusers, name)(timestep_spacing="leading", **EULER, **extra)
    with pytest.warns(UserWarning, match=f"{name} is replaced"):
        ours = PipelineSampler(tiny.stable_diffusion(scheduler), steps=5, guidance=5.0)
    final = {} if name == "PNDMScheduler" else {"set_alpha_to_one": True}
    expected = tiny.stock_images(
        tiny.stable_diffusion(tiny.ddim(**final)), ["a cat"], [1], num_inference_steps=5, guidance_scale=5.0
    )
    images = ours.decode(ours.run(ours.space().fresh([1], ours.condition("a cat")), 5).final)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


def test_fresh_is_the_pipelines_own_draw():
    for pipe, options in ((tiny.stable_diffusion(), {}), (tiny.flux(), FLUX)):
        seen = []

        def see(p, step, t, given, seen=seen):
            seen.append(given["latents"])
            return {}

        sampler = PipelineSampler(pipe, steps=2, callback_on_step_end=see, **options)
        noise = sampler.space().fresh([11], sampler.condition("a cat"))
        sampler.run(noise, 2)
        pipe(
            "a cat",
            generator=torch.Generator().manual_seed(11),
            num_inference_steps=2,
            callback_on_step_end=see,
            output_type="latent",
            **options,
        )
        assert len(seen) == 4 and (seen[0] - seen[2]).abs().max() < 1e-5


def test_a_users_callback_may_change_the_latents():
    def halve(pipe, step, t, given):
        return {"latents": given["latents"] * 0.5}

    pipe = tiny.stable_diffusion()
    options = {"callback_on_step_end": halve}
    stock = tiny.stock_images(pipe, ["a cat"], [1], num_inference_steps=4, guidance_scale=5.0, **options)
    sampler = PipelineSampler(pipe, steps=4, guidance=5.0, **options)
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    torch.testing.assert_close(sampler.decode(sampler.run(noise, 4).final), stock, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="callback_on_step_end allows whole runs from 0 to 4 only"):
        sampler.run(noise, 2)  # it would count the steps of the part as if they were all
