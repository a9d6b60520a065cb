"""GLASS transitions: their closed forms, what they cost, and how they are told, recorded and cut."""

import math
from contextlib import contextmanager

import pytest
import torch

from contracts.sampler import SamplerContract, same
from samplers import DenoiserSampler, Deterministic, Glass, Mix, NoiseSpace, PipelineSampler, Recipe, flow_matching
from samplers.crossing import InnerFlow, crossing, curve_of
from samplers.ddim import DDIM
from samplers.replay import check_recipe, cost, replay
from samplers.rule import Point
from samplers.space import step_noise
from samplers.transition import Leg, legs
from tiny.pipelines import tiny
from tiny.samplers import flow_space, mixture_denoiser, vp_space

MEANS = torch.linspace(-1, 1, 24).reshape(2, 12)
AXES = ("channel", "height", "width")
X0 = DDIM("sample")


def gaussian(spread: float):
    """E[x0 | x] for x0 ~ N(0, spread^2)."""
    return lambda x, alpha, sigma, prompts: alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * x


def crossed(x0, here: Point, there: Point, inner: int, rho: float = 0.4, count: int = 400_000, seed: int = 0):
    """Many values at `here`, by a distribution's own sampler, and where a transition brings them."""
    draw = torch.Generator().manual_seed(seed)
    clean, noise, z = (torch.randn(count, generator=draw, dtype=torch.float64) for _ in range(3))
    start = here.alpha * x0.sample(clean) + here.sigma * noise
    leg = Leg(0, 1, Glass(rho, inner, stride=1))
    taken = crossing(X0, leg, here, there, curve_of([here.alpha, there.alpha], [here.sigma, there.sigma]))
    x = start
    for point in taken.points:
        x, _ = taken.step(x, x0.mean(x, point), z)
    return start, x


class Gaussian:
    def __init__(self, spread):
        self.spread = spread

    def sample(self, clean):
        return self.spread * clean

    def mean(self, x, point):
        return gaussian(self.spread)(x, *point, [])


class TwoPoints:
    """x0 is -1 or 1, each as often."""

    def sample(self, clean):
        return clean.sign()

    def mean(self, x, point):
        return torch.tanh(point.alpha / point.sigma**2 * x)


class TestGlassContract(SamplerContract):
    stochastic = Glass(0.4, 3, stride=1)

    @pytest.fixture(params=[flow_space, vp_space], ids=["flow", "vp"])
    def sampler(self, request):
        self.rows = []
        denoise = mixture_denoiser(MEANS, 0.4)

        def counted(x, alpha, sigma, prompts):
            self.rows.append(len(x))
            return denoise(x, alpha, sigma, prompts)

        return DenoiserSampler(counted, request.param(5))

    @pytest.fixture
    def counting(self):
        @contextmanager
        def count():
            self.rows.clear()
            yield self.rows

        return count


@pytest.mark.parametrize("make", [flow_space, vp_space])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.95])
def test_one_evaluation_is_the_rho_transition(make, rho):
    space = make(6)
    sampler = DenoiserSampler(mixture_denoiser(MEANS.double(), 0.4), space)
    noise = space.fresh([1, 2, 3])
    noise = type(noise)(noise.x.double(), 0, None, noise.recipes, noise.conditions, noise.grid)
    ends = [sampler.run(noise, space.end, transition=one).final for one in (Glass(rho, 1), Mix(rho))]
    assert ends[0].x.dtype == torch.float64
    torch.testing.assert_close(ends[0].x, ends[1].x, rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[0].x0, ends[1].x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("inner", "expected"), [(1, 0.262), (4, 0.298), (16, 0.309)])
def test_more_evaluations_give_a_long_step_its_variance_back(inner, expected):
    # One step from t = .8 to .5 of data of variance .25: .3125 is exact.
    _, x = crossed(Gaussian(0.5), Point(0.2, 0.8), Point(0.5, 0.5), inner)
    assert float(x.var()) == pytest.approx(expected, abs=0.0025)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (Point(0.2, 0.8), Point(0.5, 0.5)),
        (Point(0.3, math.sqrt(0.91)), Point(0.8, 0.6)),
        (Point(0.0, 1.0), Point(0.4, 0.6)),
    ],
    ids=["flow", "vp", "from pure noise"],
)
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.8])
def test_the_noises_correlate_as_asked_and_the_marginals_are_the_grids(here, there, rho):
    here, there = Point(*here), Point(*there)
    start, x = crossed(Gaussian(0.5), here, there, 64, rho)
    exact = there.alpha**2 / 4 + there.sigma**2
    assert float(x.var()) == pytest.approx(exact, rel=0.015)
    covariance = here.alpha * there.alpha / 4 + rho * here.sigma * there.sigma
    assert float((start * x).mean()) == pytest.approx(covariance, abs=0.01)


@pytest.mark.parametrize("there", [Point(0.5, 0.5), Point(0.75, 0.25), Point(1.0, 0.0)])
def test_the_marginal_of_two_points(there):
    _, x = crossed(TwoPoints(), Point(0.2, 0.8), there, 64)
    _, rough = crossed(TwoPoints(), Point(0.2, 0.8), there, 1)

    def moments(values):
        return [float(values.mean()), float(values.square().mean()), float(values.pow(4).mean())]

    a, s = there
    exact = [0.0, a**2 + s**2, a**4 + 6 * a**2 * s**2 + 3 * s**4]
    assert moments(x) == pytest.approx(exact, rel=0.02, abs=0.02)
    assert moments(rough)[1] < 0.85 * exact[1]


def test_a_trajectory_of_glass_loses_little_more_variance_than_the_ode_at_equal_cost_and_mix_much():
    # Of a Gaussian's 1: the ODE ends at .83, GLASS at .75, Mix at .58, by their linear recursions.
    space = flow_space(16, (3, 16, 16))
    means = torch.stack([torch.full((768,), -1.0), torch.full((768,), 1.0)])
    sampler = DenoiserSampler(mixture_denoiser(means, 0.5), space)
    noise = space.fresh(range(32))
    variances = {}
    for name, one in {"ode": None, "glass": Glass(0.4, 4), "mix": Mix(0.4)}.items():
        ends = sampler.run(noise, space.end, transition=one).final.x.flatten(1)
        centre = ends.mean(1, keepdim=True).sign()
        variances[name] = float((ends - centre).var(1).mean())
    shares = {name: variance / 0.25 for name, variance in variances.items()}
    assert shares == pytest.approx({"ode": 0.83, "glass": 0.75, "mix": 0.58}, abs=0.03)


def test_a_run_costs_what_its_transitions_evaluate():
    space, rows = flow_space(10), []
    denoise = mixture_denoiser(MEANS, 0.4)
    sampler = DenoiserSampler(lambda x, *rest: (rows.append(len(x)), denoise(x, *rest))[1], space)
    cases = [
        (Glass(0.4, 4), 10),  # 4 + 4 + 2: what the ODE costs
        (Glass(0.4, 3, stride=5), 6),
        (Glass(0.4, 3, stride=4), 9),
        (Glass(0.4, 2, stride=1), 20),
        ([Glass(0.4, 4), Deterministic(), Glass(0.2, 2, stride=5)], 7),
    ]
    for transition, expected in cases:
        rows.clear()
        run = sampler.run(space.fresh([1, 2]), 10, transition=transition)
        assert space.cost(0, 10, transition) == expected == len(rows) and run.denoiser_rows == sum(rows)
        assert cost(run.final.recipes[0]) == expected


def test_a_run_may_be_cut_between_its_transitions_and_is_recorded_where_it_was_cut_within_one():
    space = flow_space(12)
    sampler = DenoiserSampler(mixture_denoiser(MEANS, 0.4), space)
    noise, glass = space.fresh([1, 2]), Glass(0.4, 4)
    whole = sampler.run(noise, 12, transition=glass, keep=[4, 8])
    cut = sampler.run(sampler.run(noise, 8, transition=glass).final, 12, transition=glass).final
    same(cut, whole.final)
    same(whole.kept[4], sampler.run(noise, 4, transition=glass).final)
    assert [op["op"] for op in cut.recipes[0].operations] == ["fresh", "run"]
    other = sampler.run(sampler.run(noise, 6, transition=glass).final, 12, transition=glass).final
    assert [op["op"] for op in other.recipes[0].operations] == ["fresh", "run", "run"]
    assert (other.x - cut.x).abs().max() > 1e-2
    mixed = sampler.run(noise, 12, transition=[glass, Mix(0.4), Glass(0.2, 7, stride=7)]).final
    for state in (whole.final, other, mixed):
        read = Recipe.from_json(state.recipes[1].to_json())
        check_recipe(read, [space])
        same(replay(sampler, read, [space]).state, state[1], 1e-6)


def test_what_lies_within_a_transition_cannot_be_kept():
    space = flow_space(12)
    sampler = DenoiserSampler(mixture_denoiser(MEANS, 0.4), space)
    with pytest.raises(ValueError, match=r"^grid points \[6\] lie within transitions, which lead over 0, 4, 8, 12: "):
        sampler.run(space.fresh([1]), 12, transition=Glass(0.4, 4), keep=[4, 6])
    with pytest.raises(ValueError, match=r"^2 transitions for the 6 steps from 0 to 6: give each one"):
        legs([Glass(0.4, 4), Glass(0.4, 4)], 0, 6)
    for wrong, error, message in [
        ({"rho": 1.0}, ValueError, "rho must be below 1"),
        ({"rho": 1.2}, ValueError, r"rho must be in \[0, 1\]"),
        ({"inner": 0}, ValueError, "inner must be at least 1"),
        ({"stride": 0}, ValueError, "stride must be at least 1"),
    ]:
        with pytest.raises(error, match=message):
            Glass(**wrong)


def test_a_grid_without_a_curve_is_refused():
    space = NoiseSpace((3, 2, 2), AXES, (0.1, 0.5, 1.0), (1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match=r"alpha \+ sigma = 1"):
        DenoiserSampler(mixture_denoiser(MEANS, 0.4), space).run(space.fresh([1]), 2, transition=Glass(0.4, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rho": 0.4, "inner": 0}, "inner = 0; expected at least 1"),
        ({"rho": 0.4, "inner": 2.5}, "inner = 2.5; expected a whole number"),
        ({"rho": 1.0, "inner": 2}, "expected a rho below 1"),
        ({"rho": 0.4, "stride": 2}, "has from, grid, rho, stride, to"),
        ({"rho": 0.4, "inner": 2, "stride": 2, "more": 1}, "more"),
    ],
)
def test_recipes_that_tell_no_such_transition_are_refused(fields, message):
    space = flow_space(4)
    recipe = Recipe.start("fresh", seed=1).then("run", **{"from": 0, "to": 4, "grid": space.id, **fields})
    with pytest.raises(ValueError, match=message):
        check_recipe(recipe, [space])


# Pipelines


def watched(pipe, calls):
    """Note what the denoiser is called with, and what it answers."""
    denoiser = getattr(pipe, "transformer", None) or pipe.unet

    def note(module, args, kwargs, output):
        x = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        t = args[1] if len(args) > 1 else kwargs["timestep"]
        calls.append((x.clone(), float(torch.as_tensor(t).flatten()[0]), output[0].clone()))

    return denoiser.register_forward_hook(note, with_kwargs=True)


FLOW = {"guidance": 1.0, "height": 16, "width": 16}


@pytest.mark.parametrize(("family", "options"), [("flux", FLOW), ("sd", {"guidance": 1.0})])
def test_a_pipeline_is_told_the_times_between_its_grid_points(family, options):
    pipe, calls = tiny(family), []
    sampler = PipelineSampler(pipe, steps=8, **options)
    space, noise = sampler.space(), sampler.space().fresh([1, 2], sampler.condition("a cat"))
    glass = Glass(0.4, 3, stride=4)
    with watched(pipe, calls):
        run = sampler.run(noise, 8, transition=glass, keep=[4])
    assert len(calls) == 6 and run.denoiser_rows == 12 and sampler.rows_per_evaluation == 1
    probed, x, reached = sampler.look(), noise.x, []
    told = iter(calls)
    for leg in legs(glass, 0, 8):
        here, there = (Point(space.alphas[i], space.sigmas[i]) for i in (leg.start, leg.stop))
        inner = InnerFlow(probed.grid.rule, here, there, 0.4, 3, curve_of(space.alphas, space.sigmas))
        z = step_noise([recipe.stream for recipe in noise.recipes], leg.start, space.shape)
        for at, point in enumerate(inner.points):
            seen, t, output = next(told)
            torch.testing.assert_close(probed.layout.unpack(seen), x, rtol=0, atol=1e-5)
            if family == "flux":
                assert t == pytest.approx(point.sigma, abs=1e-6)
            else:  # between training timesteps, by the logarithm of the signal-to-noise ratio
                assert (t % 1 > 0) == (at > 0)
                table = pipe.scheduler.alphas_cumprod.double()
                ratio = (table / (1 - table)).log()
                found = ratio[int(t)] + (t % 1) * (ratio[min(int(t) + 1, 999)] - ratio[int(t)])
                assert float(found) == pytest.approx(2 * math.log(point.alpha / point.sigma), abs=1e-3)
            x, _ = inner.step(x, probed.layout.unpack(output), z)
        reached.append(x)
    torch.testing.assert_close(run.kept[4].x, reached[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(run.final.x, reached[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "options"), [("flux", FLOW), ("sd", {"guidance": 5.0})])
def test_glass_of_a_pipeline(family, options):
    sampler = PipelineSampler(tiny(family), steps=4, **options)
    space, condition = sampler.space(), sampler.condition("a cat")
    noise = space.fresh([1, 2], condition)
    one, mix = (sampler.run(noise, 4, transition=t).final for t in (Glass(0.4, 1), Mix(0.4)))
    torch.testing.assert_close(one.x, mix.x, rtol=0, atol=5e-5)
    whole = sampler.run(noise, 4, transition=Glass(0.4, 2), keep=[2])
    per_evaluation = 1 if family == "flux" else 2
    assert whole.denoiser_rows == 2 * 4 * per_evaluation and sampler.rows_per_evaluation == per_evaluation
    same(sampler.run(whole.kept[2][[1]], 4, transition=Glass(0.4, 2)).final, whole.final[[1]], 5e-5)
    same(replay(sampler, whole.final.recipes[0], [space], condition, keep=[2]).state, whole.final[[0]], 5e-5)
    assert (whole.final.x - mix.x).abs().max() > 1e-2


def test_samplers_of_whole_runs_refuse_it():
    sampler = PipelineSampler(tiny("flux"), steps=4, scheduler="keep", **FLOW)
    with pytest.raises(ValueError, match="needs the sampler's own steps"):
        sampler.run(sampler.space().fresh([1], sampler.condition("a cat")), 4, transition=Glass())
    changed = PipelineSampler(tiny("flux"), steps=4, callback_on_step_end=lambda pipe, step, t, given: given, **FLOW)
    with pytest.raises(ValueError, match="callback_on_step_end changes x between them: take Mix or Ancestral"):
        changed.run(changed.space().fresh([1], changed.condition("a cat")), 4, transition=Glass())


def test_flow_grids_are_shifted_as_the_pipeline_shifts_them():
    # The model's time is its sigma: where a grid is shifted, points between are on the same curve.
    alphas, sigmas = flow_matching.grid(flow_matching.shift_sigmas([1.0, 0.75, 0.5, 0.25], 3.0))
    curve = curve_of(alphas, sigmas)
    assert curve is not None
    assert tuple(curve(sigmas[2] / alphas[2])) == pytest.approx((alphas[2], sigmas[2]), abs=1e-12)
