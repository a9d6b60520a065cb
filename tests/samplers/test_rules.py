import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from samplers import DDIM, DenoiserSampler, Deterministic, FlowMatching, NoiseSpace, ddim, flow_matching
from samplers.rule import Point, ancestral_rho, rho_from_eta
from tiny.samplers import exact_gaussian_map, flow_space, mixture_denoiser, vp_space

MEAN = torch.tensor([[1.0, -0.5, 0.25, 2.0]])
SHAPE = (4,)


@pytest.mark.parametrize("make_space", [flow_space, vp_space])
def test_first_order_convergence_to_the_exact_flow_map(make_space):
    errors, steps = [], [16, 32, 64, 128]
    for count in steps:
        space = make_space(count, SHAPE)
        sampler = DenoiserSampler(mixture_denoiser(MEAN, 0.3), space, prediction="x0")
        noise = space.fresh(range(32))
        points = [(space.alphas[i], space.sigmas[i]) for i in (0, space.end)]
        exact = exact_gaussian_map(noise.x, MEAN, 0.3, *points)
        errors.append(float((sampler.run(noise, space.end).final.x - exact).abs().mean()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 0.85 < slope < 1.15, f"order {slope}, errors {errors}"


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_stochastic_steps_keep_the_data_distribution(eta):
    space = vp_space(40, SHAPE)
    means = torch.stack([MEAN[0], -MEAN[0]])
    sampler = DenoiserSampler(mixture_denoiser(means, 0.3), space, eta=eta)
    end = sampler.run(space.fresh(range(1000)), space.end).final.x
    side = torch.sign(end @ MEAN[0])
    assert float((side > 0).float().mean()) == pytest.approx(0.5, abs=0.06)
    folded = end * side[:, None]
    torch.testing.assert_close(folded.mean(0), MEAN[0], atol=0.05, rtol=0)
    assert float(folded.std(0).mean()) == pytest.approx(0.3, rel=0.12)


def outputs(space, fn):
    """The same model in every prediction type: fn -> {type: fn'}."""

    def epsilon(x, a, s, p):
        return (x - a * fn(x, a, s, p)) / s

    return {
        "x0": fn,
        "sample": fn,
        "epsilon": epsilon,
        "v_prediction": lambda x, a, s, p: a * epsilon(x, a, s, p) - s * fn(x, a, s, p),
    }


def test_prediction_types_agree():
    space = vp_space(8, SHAPE)
    ends = {
        kind: DenoiserSampler(fn, space, prediction=kind).run(space.fresh([1, 2]), space.end).final
        for kind, fn in outputs(space, mixture_denoiser(MEAN, 0.3)).items()
    }
    for kind, end in ends.items():
        torch.testing.assert_close(end.x, ends["x0"].x, atol=2e-4, rtol=0, msg=kind)
        torch.testing.assert_close(end.x0, ends["x0"].x0, atol=2e-4, rtol=0, msg=kind)


def test_ddim_on_the_flow_grid_is_euler():
    space, fn = flow_space(8, SHAPE), mixture_denoiser(MEAN, 0.3)
    by_ddim = DenoiserSampler(fn, space, prediction="x0").run(space.fresh([1, 2]), space.end).final
    velocity = DenoiserSampler(lambda x, a, s, p: (x - fn(x, a, s, p)) / s, space, prediction="velocity")
    torch.testing.assert_close(velocity.run(space.fresh([1, 2]), space.end).final.x, by_ddim.x, atol=1e-5, rtol=0)


def test_eta_reduces_to_deterministic_and_to_ancestral():
    here, there = Point(0.3, math.sqrt(1 - 0.09)), Point(0.5, math.sqrt(0.75))
    assert rho_from_eta(0.0, here, there) == 1.0
    assert rho_from_eta(1.0, here, there) == pytest.approx(ancestral_rho(here, there))
    assert rho_from_eta(1e-9, here, there) == pytest.approx(1.0)
    space, fn = vp_space(6, SHAPE), mixture_denoiser(MEAN, 0.3)
    plain = DenoiserSampler(fn, space).run(space.fresh([1]), space.end).final
    stochastic = DenoiserSampler(fn, space, eta=1.0)
    asked = stochastic.run(space.fresh([1]), space.end, transition=Deterministic()).final
    assert torch.equal(asked.x, plain.x) and asked.recipes == plain.recipes
    own = stochastic.run(space.fresh([1]), space.end).final
    assert own.recipes[0].operations[-1]["eta"] == 1.0 and not torch.equal(own.x, plain.x)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("limit", [{}, {"clip_sample": True}, {"thresholding": True, "sample_max_value": 1.5}])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_one_step_equals_diffusers_ddim(prediction, limit, eta):
    fields = {"clip_sample": False, "prediction_type": prediction, "beta_schedule": "scaled_linear"} | limit
    stock = DDIMScheduler(**fields)
    stock.set_timesteps(10)
    alphas, sigmas = ddim.grid(stock.alphas_cumprod[stock.timesteps].double().tolist())
    rule = DDIM(
        prediction,
        clip=1.0 if "clip_sample" in limit else None,
        threshold=0.995 if "thresholding" in limit else None,
        threshold_max=1.5,
    )
    draw = torch.Generator().manual_seed(0)
    for i in (0, 4, 9):
        x, output, z = (torch.randn((2, 3, 4, 4), generator=draw) for _ in range(3))
        here, there = Point(alphas[i], sigmas[i]), Point(alphas[i + 1], sigmas[i + 1])
        ours, x0 = rule.step(x, output, here, there, rho_from_eta(eta, here, there), z)
        theirs = stock.step(output, stock.timesteps[i], x, eta=eta, variance_noise=z if eta else None)
        scale = max(1.0, float(theirs.pred_original_sample.abs().max()))
        torch.testing.assert_close(x0, theirs.pred_original_sample, atol=3e-6 * scale, rtol=0)
        torch.testing.assert_close(ours, theirs.prev_sample, atol=3e-6 * scale, rtol=0)


def test_one_step_equals_diffusers_flow_euler_to_the_bit():
    stock = FlowMatchEulerDiscreteScheduler(shift=3.0)
    stock.set_timesteps(sigmas=flow_matching.uniform_sigmas(6))
    draw = torch.Generator().manual_seed(0)
    sigmas = stock.sigmas.tolist()
    for i, t in enumerate(stock.timesteps):
        x, output = (torch.randn((2, 3, 4, 4), generator=draw) for _ in range(2))
        points = Point(1 - sigmas[i], sigmas[i]), Point(1 - sigmas[i + 1], sigmas[i + 1])
        ours, _ = FlowMatching().step(x, output, *points)
        torch.testing.assert_close(ours, stock.step(output, t, x, return_dict=False)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 20, 50, 61, 121])
def test_timesteps_are_those_of_diffusers(spacing, steps):
    if spacing == "linspace" and steps == 1:
        return  # diffusers' single linspace step is t = 0, which is no noise at all
    stock = DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    stock.set_timesteps(steps)
    expected = [t for t in stock.timesteps.tolist() if 0 <= t < 1000]
    assert ddim.timesteps(steps, spacing, 1000, offset=1) == expected


def test_the_shift_is_that_of_diffusers():
    base = flow_matching.uniform_sigmas(5)
    static = FlowMatchEulerDiscreteScheduler(shift=2.5)
    static.set_timesteps(sigmas=base)
    np.testing.assert_allclose([*flow_matching.shift_sigmas(base, 2.5), 0], static.sigmas, atol=1e-6)


def test_zero_terminal_snr_is_refused_for_epsilon_and_finite_for_the_rest():
    alphas, sigmas = ddim.grid([0.0, 0.25, 0.7])
    space, fn = NoiseSpace(SHAPE, ("feature",), alphas, sigmas), mixture_denoiser(MEAN, 0.3)
    with pytest.raises(ValueError, match="zero signal"):
        DenoiserSampler(fn, space, prediction="epsilon")
    by = outputs(space, fn)
    ends = [
        DenoiserSampler(by[kind], space, prediction=kind, eta=0.5).run(space.fresh([1]), space.end).final.x
        for kind in ("sample", "v_prediction")
    ]
    assert ends[0].isfinite().all()
    torch.testing.assert_close(*ends, atol=1e-5, rtol=0)


X = torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: DDIM("noise"), "noise"),
        (lambda: ddim.timesteps(5, "even"), "even"),
        (lambda: ddim.timesteps(0), "steps must be"),
        (lambda: DenoiserSampler(lambda x, a, s, p: x, vp_space(4), prediction="velocity"), "alpha = 1 - sigma"),
        (lambda: DDIM("sample").step(X, X, Point(0.5, 0.5), Point(0.6, 0.4), 0.5), "needs fresh noise"),
    ],
)
def test_wrong_arguments_are_refused(use, message):
    with pytest.raises((ValueError, TypeError), match=message):
        use()
