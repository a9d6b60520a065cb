"""The plain pipeline and ours give the same images from the same seeds."""

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, DOGS, denoisers, fresh, gap, hooked, images
from samplers import Mix, PipelineSampler, State
from tiny.pipelines import EULER, FLUX, SD_BETAS, ddim, stock_images, tiny

GUIDED = {"guidance": 5.0}
BAD = {"negative_prompt": "bad"}
SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 1}


def euler(**fields):
    return lambda: diffusers.EulerDiscreteScheduler(**fields, **EULER)


def flow(**fields):
    return lambda: diffusers.FlowMatchEulerDiscreteScheduler(**fields)


SHIFTS = {"dynamic": {"use_dynamic_shifting": True}, "3": {"shift": 3.0}, "1": {"shift": 1.0}}
CASES = {  # pipeline, scheduler, options, steps
    **{f"ddim-{steps}": ("sd", ddim, GUIDED | BAD, steps) for steps in (1, 5, 50)},
    **{
        kind: ("sd", lambda kind=kind: ddim(prediction_type=kind), GUIDED | {"guidance_rescale": 0.7}, 4)
        for kind in ("v_prediction", "sample")
    },
    "clipped": ("sd", lambda: ddim(clip_sample=True), GUIDED, 4),
    "thresholded": ("sd", lambda: ddim(thresholding=True, sample_max_value=1.2), GUIDED, 4),
    "zero-snr": ("sd", lambda: ddim(prediction_type="v_prediction", **SNR), GUIDED, 5),
    **{
        f"euler-{spacing}": ("sd", euler(timestep_spacing=spacing), GUIDED, 4)
        for spacing in ("leading", "linspace", "trailing")
    },
    "euler-karras": ("sd", euler(use_karras_sigmas=True), GUIDED, 4),
    "dpm++-1": ("sd", lambda: diffusers.DPMSolverMultistepScheduler(solver_order=1, **EULER), GUIDED, 4),
    "sdxl": ("sdxl", None, GUIDED, 4),
    **{
        f"flux-shift-{shift}-{size}": ("flux", flow(**fields), FLUX | {"height": size}, 4)
        for shift, fields in SHIFTS.items()
        for size in (16, 24)
    },
    "flux-embedded-guidance": ("flux-guided", None, FLUX | {"guidance": 7.0}, 4),
    "flux-true-cfg": ("flux", None, FLUX | BAD | {"guidance": 4.0, "guidance_argument": "true_cfg_scale"}, 4),
}


@pytest.mark.filterwarnings("ignore:.*first-order")
@pytest.mark.parametrize("name", CASES)
def test_whole_stopped_forked_and_resumed(name):
    """Three images, two prompts."""
    pipeline, scheduler, options, steps = CASES[name]
    pipe, tolerance = tiny(pipeline, scheduler and scheduler()), 1e-6 if pipeline.startswith("flux") else 1e-5
    named = {options.get("guidance_argument", "guidance_scale"): options["guidance"]} if "guidance" in options else {}
    stock = {k: v for k, v in options.items() if k not in ("guidance", "guidance_argument")} | named
    expected = stock_images(pipe, [CAT, CAT, DOGS], [1, 2, 3], num_inference_steps=steps, **stock)
    sampler = PipelineSampler(pipe, steps=steps, **options)
    space, noise = sampler.space(), State.cat([fresh(sampler, [1, 2]), fresh(sampler, [3], DOGS)])
    assert gap(sampler.decode(sampler.run(noise, space.end).final), expected) <= tolerance
    middle = sampler.run(noise, space.end // 2).final
    assert gap(sampler.decode(sampler.run(middle[[2, 0]], space.end).final), expected[[2, 0]]) <= tolerance


def test_flux_with_a_flow_multistep_scheduler_walks_its_sigmas():
    pipe = tiny("flux", diffusers.UniPCMultistepScheduler(**FLOW, flow_shift=3.0))
    with pytest.warns(UserWarning, match="first-order"):
        sampler = PipelineSampler(pipe, steps=4, **FLUX)
        sampler.space()
    pipe.scheduler.set_timesteps(4)
    torch.testing.assert_close(torch.tensor(sampler.space().sigmas), pipe.scheduler.sigmas, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["PNDMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "EulerAncestralDiscreteScheduler"],
)
def test_a_second_order_scheduler_is_replaced_by_ddim_on_its_grid(name):
    extra, final = ({"skip_prk_steps": True}, {}) if name == "PNDMScheduler" else ({}, {"set_alpha_to_one": True})
    scheduler = getattr(diffusers, name)(timestep_spacing="leading", **EULER, **extra)
    with pytest.warns(UserWarning, match=f"{name} is replaced"):
        ours = PipelineSampler(tiny("sd", scheduler), steps=5, **GUIDED)
        ours.space()
    expected = stock_images(tiny("sd", ddim(**final)), [CAT], [1], num_inference_steps=5, guidance_scale=5.0)
    assert gap(images(ours, [1]), expected) <= 1e-5


KEPT = {
    "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, **EULER),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**EULER),
    "dpm++": lambda: diffusers.DPMSolverMultistepScheduler(**EULER),
    "euler": euler(),
    "euler-ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**EULER),
    "lcm": lambda: diffusers.LCMScheduler(**SD_BETAS),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_users_own_scheduler_runs_whole(name):
    pipe = tiny("sd", KEPT[name]())
    expected = stock_images(pipe, [CAT, DOGS], [1, 2], num_inference_steps=4, guidance_scale=5.0)
    sampler = PipelineSampler(pipe, steps=4, scheduler="keep", **GUIDED)
    space, rows = sampler.space(), [fresh(sampler, [1], CAT), fresh(sampler, [2], DOGS)]
    run = sampler.run(State.cat(rows), space.end)
    assert gap(sampler.decode(run.final), expected) <= 1e-5
    assert run.denoiser_rows == 2 * 2 * space.end == sampler.rows_per_evaluation * 2 * space.end
    assert gap(sampler.decode(sampler.run(rows[1], space.end).final), expected[1:]) <= 1e-5


def test_the_users_own_scheduler_takes_no_other_runs():
    sampler = PipelineSampler(tiny("sd"), steps=4, scheduler="keep")
    noise = fresh(sampler, [1])
    assert not sampler.can_stop
    with pytest.raises(ValueError, match="scheduler='keep' allows whole runs from 0 to 4 only"):
        sampler.run(noise, 2)
    with pytest.raises(ValueError, match=r"^Mix\(rho=0\.5\) needs the sampler's own steps, and scheduler='keep'"):
        sampler.run(noise, 4, transition=Mix(0.5))


def test_a_row_does_not_depend_on_its_batch_where_the_scheduler_draws_from_the_global_generator():
    sampler = PipelineSampler(tiny("flux", flow(stochastic_sampling=True)()), steps=4, scheduler="keep", **FLUX)
    noise = fresh(sampler, [1, 2, 3])
    together = sampler.run(noise, 4)
    assert together.denoiser_rows == 3 * 4 and together.final.recipes[2].seed == 3
    alone = [sampler.run(noise[i], 4).final.x for i in range(3)]
    assert gap(torch.cat(alone), together.final.x) <= 1e-5


def test_a_scheduler_that_draws_nothing_runs_its_rows_together():
    pipe = tiny("sd", KEPT["dpm++"]())
    sampler = PipelineSampler(pipe, steps=2, guidance=1.0, scheduler="keep")
    noise, calls = fresh(sampler, [1, 2, 3]), []
    with hooked(denoisers(pipe), calls.append):
        for _ in range(2):
            sampler.run(noise, 2)
    assert calls == [1, 1, 2, 2, 3, 3], "one row tells, and then all go together"
