"""One sampler, several grids: fewer steps for drafts, extra points at given noise levels."""

import diffusers
import pytest
import torch

from samplers import DenoiserSampler, PipelineSampler
from tiny.pipelines import EULER, FLUX, ddim, stock_images, tiny
from tiny.samplers import flow_space, mixture_denoiser, vp_space

MEANS = torch.linspace(-1, 1, 24).reshape(2, 12)


def sd(scheduler=None):
    return PipelineSampler(tiny("sd", scheduler), steps=4, guidance=5.0)


def flux(**options):
    return PipelineSampler(tiny("flux"), steps=4, **FLUX, **options)


def levels_of(space):
    return [space.noise_level(i) for i in range(space.end + 1)]


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_a_draft_equals_the_plain_pipeline_at_its_steps(name):
    sampler, options = (sd(), {"guidance_scale": 5.0}) if name == "sd" else (flux(), FLUX)
    pipe = tiny(name)
    draft, full = sampler.space(steps=2), sampler.space()
    assert (draft.end, full.end) == (2, 4) and draft.id != full.id and sampler.space(steps=4) is full
    noise = draft.fresh([1, 2], sampler.condition("a cat"))
    for space in (draft, full):
        stock = stock_images(pipe, ["a cat"] * 2, [1, 2], num_inference_steps=space.end, **options)
        half = sampler.run(space.adopt(noise), space.end // 2).final
        images = sampler.decode(sampler.run(half, space.end).final)
        torch.testing.assert_close(images, stock, atol=1e-5, rtol=0)
    assert sampler.text_encodings == 1 and sampler.describe()["grid"] == full.id
    assert sampler.denoiser_rows == sampler.rows_per_evaluation * 2 * (2 + 4)


def test_each_grid_is_looked_at_once():
    sampler, calls = flux(), []
    original = sampler._calls.call
    sampler._calls.call = lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
    for _ in range(2):
        sampler.space(), sampler.space(2), sampler.space(levels=[0.5, 0.3]), sampler.space(levels=(0.3, 0.5))
    assert len(calls) == 3


def test_flow_levels_are_exact_and_the_rest_of_the_grid_stays():
    sampler = flux()
    plain, space = sampler.space(), sampler.space(levels=[0.89, 0.11])
    assert {0.89, 0.11} < set(space.sigmas) and space.end == plain.end + 2
    assert [s for s in space.sigmas if s not in (0.89, 0.11)] == list(plain.sigmas)
    assert sampler.space(levels=[plain.sigmas[2] + 9e-4]).id == plain.id
    assert sampler.space(2, [0.3]).end == 3


@pytest.mark.parametrize("shift", [{"shift": 1.0}, {"shift": 3.0}])
def test_a_run_over_inserted_levels_is_the_pipeline_with_those_sigmas(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**shift)
    sampler = PipelineSampler(tiny("flux", scheduler), steps=3, **FLUX)
    space = sampler.space(levels=[0.7, 0.2])
    images = sampler.decode(sampler.run(space.fresh([1], sampler.condition("a cat")), space.end).final)
    pipe = tiny("flux", diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0))
    stock = stock_images(pipe, ["a cat"], [1], sigmas=list(space.sigmas[:-1]), **FLUX)
    torch.testing.assert_close(images, stock, atol=1e-5, rtol=0)


VP = {
    "ddim": ddim,
    "euler": lambda: diffusers.EulerDiscreteScheduler(**EULER),
    "euler-karras": lambda: diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **EULER),
    "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, **EULER),
    "euler-trailing": lambda: diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **EULER),
    "dpm++": lambda: diffusers.DPMSolverMultistepScheduler(**EULER),
}


@pytest.mark.filterwarnings("ignore:.*is replaced by")
@pytest.mark.parametrize("name", VP)
def test_vp_levels_are_the_nearest_training_timesteps(name):
    sampler = sd(VP[name]())
    plain, space = sampler.space(), sampler.space(levels=[0.5, 0.2])
    before, after = levels_of(plain), levels_of(space)
    assert [v for v in after if v in before] == before and len(after) == len(before) + 2
    new = [v for v in after if v not in before]
    assert new == pytest.approx([0.5, 0.2], abs=2e-3)
    told = sampler._probes.known(space.id).grid.timesteps
    assert told.dtype == sampler._probes.known(plain.id).grid.timesteps.dtype and (told.diff() < 0).all()
    table = sampler._calls.scheduler.alphas_cumprod
    for level in new:
        timestep = told[after.index(level)].item()
        assert space.alphas[after.index(level)] == pytest.approx(float(table[int(timestep)]) ** 0.5, abs=1e-7)
    noise = space.fresh([1, 2], sampler.condition("a cat"))
    stopped = sampler.run(noise, after.index(new[0])).final
    end = sampler.run(space.renoise(stopped, 1, [3, 4]), space.end).final
    assert sampler.decode(end).isfinite().all()
    scales = [sampler._probes.known(s.id).grid.start_scale for s in (plain, space)]
    assert scales[0] == scales[1] and (name != "euler-trailing" or scales[0] != 1)


def test_inserted_points_leave_a_straight_trajectory_where_it_was():
    """For a model whose prediction is constant, extra points change nothing: so they sit where they say."""
    pipe = tiny("sd", ddim(prediction_type="sample"))
    hook = pipe.unet.register_forward_hook(lambda m, a, out: (0.3 * torch.ones_like(out[0]),))
    sampler = PipelineSampler(pipe, steps=4, guidance=1.0)
    plain, space = sampler.space(), sampler.space(levels=[0.6, 0.3, 0.1])
    noise = plain.fresh([1], sampler.condition("a cat"))
    ends = [sampler.run(s.adopt(noise), s.end).final.x for s in (plain, space)]
    hook.remove()
    torch.testing.assert_close(*ends, atol=1e-5, rtol=0)


def test_a_level_that_is_there_or_cannot_be():
    sampler = sd()
    space = sampler.space()
    assert sampler.space(levels=[space.noise_level(1), space.noise_level(4) - 0.01]).id == space.id
    with pytest.raises(ValueError, match=r"level 0\.999 is noisier than the grid's first point"):
        sampler.space(levels=[0.999])
    for wrong in (0.0, 1.0, -0.5, 7.0):
        with pytest.raises(ValueError, match=r"levels must be noise levels .* in \(0, 1\)"):
            sampler.space(levels=[wrong])


def test_what_fixes_the_grid_refuses_other_steps():
    pipe = tiny("flux", diffusers.FlowMatchEulerDiscreteScheduler())
    sampler = PipelineSampler(pipe, sigmas=[1.0, 0.6, 0.3], **FLUX)
    with pytest.raises(ValueError, match="cannot run 2 steps: the option sigmas fixes the grid"):
        sampler.space(2)
    assert sampler.space(levels=[0.5]).sigmas == pytest.approx((1.0, 0.6, 0.5, 0.3, 0.0))
    kept = PipelineSampler(pipe, steps=3, scheduler="keep", **FLUX)
    assert kept.space(2).end == 2
    with pytest.raises(ValueError, match="scheduler='keep' allows whole runs only"):
        kept.space(levels=[0.5])


def test_states_of_a_grid_never_handed_out_are_refused():
    sampler = sd()
    noise = vp_space(3, (4, 8, 8)).fresh([1], sampler.condition("a cat"))
    for use in (lambda s: sampler.run(s, 1), sampler.decode):
        with pytest.raises(ValueError, match="belong to grid"):
            use(noise)


def test_adopted_noise_is_the_same_noise():
    coarse, fine = flow_space(3), vp_space(5)
    noise = coarse.neighbour(coarse.fresh([1, 2], 1), [3, 4], 0.9)
    adopted = fine.adopt(noise)
    assert adopted.grid == fine.id and torch.equal(adopted.x, noise.x)
    assert adopted.recipes == noise.recipes and adopted.conditions == noise.conditions
    back = coarse.adopt(adopted)
    assert back.grid == coarse.id and torch.equal(back.x, noise.x)
    again = fine.neighbour(fine.fresh([1, 2], 1), [3, 4], 0.9)
    assert torch.equal(again.x, adopted.x) and again.recipes == adopted.recipes


def test_what_belongs_to_a_grid_is_not_adopted():
    coarse, fine = flow_space(3), flow_space(5)
    sampler = DenoiserSampler(mixture_denoiser(MEANS, 0.4), coarse)
    later = sampler.run(coarse.fresh([1]), 1).final
    for state, message in [
        (later, "got step 1"),
        (coarse.renoise(later, 0, [1]), "got recipes with renoise, run"),
        (flow_space(3, (3, 2, 4)).fresh([1]), r"shape \(3, 2, 4\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            fine.adopt(state)


def test_a_denoiser_over_several_grids():
    made = []

    def space(steps, levels):
        made.append((steps, levels))
        return flow_space(steps or 6) if not levels else flow_space(10)

    sampler = DenoiserSampler(mixture_denoiser(MEANS, 0.4), space)
    draft, full = sampler.space(3), sampler.space()
    noise = full.fresh([1])
    ends = [sampler.run(s.adopt(noise), s.end).final for s in (draft, full)]
    assert [e.step for e in ends] == [3, 6] and sampler.describe()["grid"] == full.id
    assert sampler.decode(ends[0]).shape == (1, 3, 2, 2) and sampler.denoiser_rows == 9
    assert sampler.space(levels=[0.9]).end == 10 and (3, ()) in made and (None, (0.9,)) in made


def test_a_denoiser_over_one_grid_says_so():
    sampler = DenoiserSampler(mixture_denoiser(MEANS, 0.4), flow_space(5))
    assert sampler.space(5, [0.2, 0.6005]) is sampler.space()
    for asked in ((4, ()), (None, (0.5,))):
        with pytest.raises(ValueError, match=r"one grid of 5 steps.*pass DenoiserSampler a function"):
            sampler.space(*asked)


POINTS = (0, 1, 3, 6)


@pytest.mark.parametrize("make", [vp_space, flow_space])
def test_left_out_steps_take_what_the_model_said_last(make):
    """Step by step over the whole grid, with the noise and the clean image that the last evaluation gave."""
    asked = []

    def fn(x, alpha, sigma, prompts):
        asked.append(1)
        return mixture_denoiser(MEANS, 0.3)(x, alpha, sigma, prompts)

    full = make(8)
    sampler = DenoiserSampler(fn, full, prediction="x0")
    space = sampler.space(points=POINTS)
    assert space.end == 4 and space.id != full.id and sampler.space() is not space
    noise = full.fresh([1, 2])
    found = sampler.run(space.adopt(noise), space.end).final.x
    assert len(asked) == len(POINTS)
    x = noise.x
    for step in range(full.end):
        if step in POINTS:
            x0 = mixture_denoiser(MEANS, 0.3)(x, full.alphas[step], full.sigmas[step], ["", ""])
            held = (x - full.alphas[step] * x0) / full.sigmas[step]
        x = full.alphas[step + 1] * x0 + full.sigmas[step + 1] * held
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)


def test_a_pipeline_on_some_of_its_steps_is_the_pipeline_with_their_sigmas():
    sampler = flux()
    full, space = sampler.space(), sampler.space(points=(0, 1, 3))
    assert space.sigmas == tuple(full.sigmas[i] for i in (0, 1, 3, 4)) and sampler.space(points=(0, 1, 3)) is space
    images = sampler.decode(sampler.run(space.fresh([1], sampler.condition("a cat")), space.end).final)
    pipe = tiny("flux", diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0))
    stock = stock_images(pipe, ["a cat"], [1], sigmas=list(space.sigmas[:-1]), **FLUX)
    torch.testing.assert_close(images, stock, atol=1e-5, rtol=0)


def test_all_steps_are_the_whole_grid():
    sampler = sd()
    assert sampler.space(points=range(4)).id == sampler.space().id


@pytest.mark.parametrize("points", [(1, 2), (0, 4), (0, 2, 2), (0, 3, 1)])
def test_steps_out_of_order_or_off_the_grid_are_refused(points):
    with pytest.raises(ValueError, match="must rise from 0 to below the 4 of the grid"):
        sd().space(points=points)
    with pytest.raises(ValueError, match="must rise from 0 to below the 4 of the grid"):
        DenoiserSampler(mixture_denoiser(MEANS, 0.3), vp_space(4), prediction="x0").space(points=points)


def test_whole_runs_have_no_steps_to_leave_out():
    sampler = PipelineSampler(tiny("sd"), steps=4, scheduler="keep")
    with pytest.raises(ValueError, match="steps are left out of its grid, and scheduler='keep'"):
        sampler.space(points=(0, 2))
