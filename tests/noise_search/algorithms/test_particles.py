"""Particle searches: the three functions that they are made of, a tilted Gaussian, their contract, and lineages."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from contracts.algorithm import AlgorithmContract, in_another_process, run
from noise_search import Halving, RandomSearch
from noise_search.algorithms import ALGORITHMS, BFS, DAS, FK, SVDD, Beam, Lookahead
from noise_search.algorithms.offspring import OFFSPRING, effective, normalised, round_robin
from noise_search.algorithms.particles import POTENTIALS, TEMPERATURES, Scheme, Weighing
from noise_search.cli.options import configured_algorithm
from samplers import DenoiserSampler
from tiny.search import MEAN, TAU, CountingSampler, brightness, contrast, gaussian_x0, space
from verifiers import MeanRank

WHOLE = [BFS(), Lookahead()]
OURS = [FK(), DAS(), SVDD(), Beam()]
PUBLISHED = [FK(literal=True), DAS(literal=True), Lookahead(literal=True)]


@pytest.fixture(scope="module")
def another_process() -> dict[str, str]:
    """The proposals of every algorithm in a process with another hash seed."""
    every = [*WHOLE, *OURS, *PUBLISHED]
    _, found = in_another_process(*every)
    return {repr(a): proposed for a, proposed in zip(every, found, strict=True)}


class Contract(AlgorithmContract):
    @pytest.fixture
    def elsewhere(self, algorithm, another_process):
        return another_process[repr(algorithm)]


class OneEngine(Contract):
    """What choices could break; that runs go on, and survive scores of any kind, is the engine's, tried on `WHOLE`."""

    test_scores_of_any_kind_are_survived_and_the_best_finite_one_wins = None
    test_killed_anywhere_it_goes_on_and_finds_what_it_would_have_found = None
    test_a_larger_budget_computes_only_what_it_proposes_anew = None


@pytest.mark.parametrize("algorithm", WHOLE, ids=repr)
class TestWhole(Contract):
    pass


@pytest.mark.parametrize("algorithm", OURS, ids=repr)
class TestOurs(OneEngine):
    pass


@pytest.mark.parametrize("algorithm", PUBLISHED, ids=repr)
class TestPublished(OneEngine):
    published = True


# Offspring


WEIGHTS = np.array([0.05, 0.4, 0.0, 0.3, 0.25])


@pytest.mark.parametrize("name", ["multinomial", "systematic", "ssp"])
def test_offspring_are_as_many_as_there_were_and_in_the_mean_what_weights_say(name):
    rng, drawn = np.random.default_rng(0), []
    for _ in range(4000):
        drawn.append(OFFSPRING[name](WEIGHTS, rng, 1))
        assert drawn[-1].sum() == len(WEIGHTS) and drawn[-1].min() >= 0
    assert np.mean(drawn, 0) == pytest.approx(len(WEIGHTS) * WEIGHTS, abs=0.06)
    exact = len(WEIGHTS) * WEIGHTS
    off = np.abs(np.array(drawn) - exact).max()
    assert off < 1 if name != "multinomial" else off > 1, "low variance: rounded down or up"


@pytest.mark.parametrize("name", ["systematic", "ssp"])
def test_whole_numbers_of_offspring_are_those(name):
    for weights in ([0.25, 0.5, 0.25, 0.0], [0.25] * 4, [0.0, 1.0, 0.0, 0.0]):
        for seed in range(20):
            counts = OFFSPRING[name](np.array(weights), np.random.default_rng(seed), 1)
            assert counts.tolist() == [4 * weight for weight in weights]


def test_a_beam_keeps_the_best_in_equal_parts():
    weights = np.array([0.1, 0.3, 0.2, 0.25, 0.05, 0.02, 0.08])
    assert OFFSPRING["top"](weights, np.random.default_rng(0), 2).tolist() == [0, 3, 2, 2, 0, 0, 0]
    assert OFFSPRING["top"](weights, np.random.default_rng(0), 99).tolist() == [0, 7, 0, 0, 0, 0, 0]


def test_weights_of_scores_that_are_no_numbers():
    assert normalised(np.array([-np.inf, 0.0, 0.0])).tolist() == [0, 0.5, 0.5]
    assert normalised(np.full(4, -np.inf)).tolist() == [0.25] * 4
    assert effective(np.array([0.5, 0.5, 0])) == pytest.approx(2)


def test_rows_are_ordered_so_that_a_cut_is_fair():
    assert round_robin(np.array([1, 3, 0, 2]), np.array([0.1, 0.5, 0.0, 0.4])) == [1, 3, 0, 1, 3, 1]


# Potentials and temperatures


def test_potentials():
    history, temperatures = np.array([[3.0, 1.0], [2.0, 4.0]]), np.array([0.5, 1.0])
    assert POTENTIALS["current"](history, temperatures).tolist() == [2, 4]
    assert POTENTIALS["max"](history, temperatures).tolist() == [3, 4]
    assert POTENTIALS["difference"](history, temperatures).tolist() == [0.5, 3.5]
    assert POTENTIALS["difference"](history[:1], temperatures[:1]).tolist() == [1.5, 0.5]


def test_temperatures():
    told = {name: [rule(share) for share in (0.1, 0.5, 1.0)] for name, rule in TEMPERATURES.items()}
    assert told["constant"] == [1, 1, 1] and told["increase"] == [0.1, 0.5, 1] and told["infinite"] == [math.inf] * 3
    assert told["tempering"] == pytest.approx([1.008**10 - 1, 1.008**50 - 1, 1.0])


def test_gains_add_up_to_the_score_whatever_the_temperatures_were():
    scheme = Scheme("difference", "increase", strength=2.0, standard=False, resample=0.0)
    weighing, scores = Weighing(scheme, 4), np.array([[5.0, 1.0, 2.0], [0.0, 3.0, 1.0], [1.0, 1.5, 0.5]])
    for point, values in zip((1, 2, 4), scores, strict=True):
        rows = weighing.parents(point, values, np.random.default_rng(0))
    assert rows == [0, 1, 2]
    expected = np.exp(2 * scores[-1])
    assert normalised(weighing.log_weights) == pytest.approx(expected / expected.sum())


@pytest.mark.parametrize("offspring", ["ssp", "multinomial"])
def test_finals_are_the_tilted_posterior_of_a_gaussian(offspring):
    # x0 ~ N(m, tau^2) tilted by exp of its first value / tau has the mean m + tau there, and m elsewhere.
    grid, count = space(80), 400  # many evaluations in few transitions: little variance is lost
    sampler = DenoiserSampler(gaussian_x0, grid)
    how = {"inner": 20, "strength": 1 / TAU, "standard": False, "start": 0.25, "every": 0.25}
    scheme = Scheme("difference", "increase", offspring, **how)
    weighing, rng, states = Weighing(scheme, grid.end), np.random.default_rng(3), grid.fresh(range(count))
    for point in (*scheme.points(grid.end), grid.end):
        states = sampler.run(states, point, transition=scheme.step).final
        seen = states.x if point == grid.end else states.x0
        parents = weighing.parents(point, seen[:, 0, 0, 0].double().numpy(), rng)
        states = grid.branch(states[parents], [int(seed) for seed in rng.integers(0, 2**53, count)])
    away = (states.x - MEAN).mean(0)
    assert scheme.points(grid.end) == (20, 40, 60)
    assert float(away[0, 0, 0]) == pytest.approx(TAU, abs=0.25 * TAU)
    assert away.flatten()[1:].square().mean().sqrt() < 0.2 * TAU
    assert float(states.x[:, 0, 0, 0].std()) == pytest.approx(TAU, rel=0.25)


# Searches


def test_presets_go_by_their_names_and_take_options():
    assert {"fk", "das", "svdd", "bfs", "beam", "lookahead"} <= ALGORITHMS.keys()
    made = configured_algorithm("bfs", ["strength=2", "transition=mix", "rho=0.6", "particles=4", "literal=false"])
    assert made == BFS(strength=2, transition="mix", rho=0.6, particles=4)
    assert configured_algorithm("lookahead", ["ahead=1", "width=3"]) == Lookahead(ahead=1, width=3)
    assert BFS(literal=True).scheme.particles == 8 and BFS(literal=True, particles=5).scheme.particles == 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"potential": "best"}, ValueError, "potential"),
        ({"offspring": "sps"}, ValueError, "ssp"),
        ({"transition": "sde"}, ValueError, "transition"),
        ({"particles": 0}, ValueError, "particles=0 must be at least 1"),
        ({"strength": 0}, ValueError, "strength=0 must be a number greater than 0"),
        ({"start": 1.0}, ValueError, "start=1.0 must be between 0 and 1"),
        ({"rho": 1.5}, ValueError, r"rho must be in \[0, 1\]"),
        ({"literal": 1}, TypeError, "literal=1"),
    ],
)
def test_what_it_cannot_take_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        BFS(**options)


@pytest.mark.parametrize("steps", [6, 8, 10, 12, 30])
@pytest.mark.parametrize("algorithm", [FK(), BFS(), DAS(), Beam(), Beam(literal=True), BFS(literal=True)], ids=repr)
def test_predictions_tell_all_particles_apart(algorithm, steps):
    result = run(algorithm, CountingSampler(steps=steps), candidates=20, nfe=None)
    for point in {*algorithm.scheme.points(steps)} - {1}:  # from where all predict the mean
        found = [c.score for c in result.candidates if c.step == point]
        assert len(found) > 4 and len({*found}) == len(found)


def test_a_model_that_can_not_branch_is_searched_at_random():
    class Plain(CountingSampler):
        can_mix = False

    found, random = (run(one, Plain(), nfe=100) for one in (BFS(), RandomSearch()))
    assert [one.recipe for one in found.candidates] == [one.recipe for one in random.candidates]


def test_noise_0_is_among_the_particles_and_is_finished():
    result = run(BFS(), nfe=90, seed=7)
    assert result.first.seed == 7 and result.first_score is not None
    plain = run(RandomSearch(), candidates=1, nfe=None, seed=7)
    assert result.first_score == pytest.approx(plain.score, abs=1e-6)
    begun = [c.seed for c in result.candidates if c.step == 2]
    assert begun == list(range(7, 7 + len(begun)))
    assert result.ledger.nfe > 90 - 8


def test_populations_of_the_asked_size_follow_each_other():
    result = run(FK(literal=True), nfe=64)
    started = Counter(c.recipe.operations[0]["seed"] for c in result.candidates if c.finished)
    assert sum(started.values()) == 8 and len({seed for seed in started if seed < 4}) >= 1
    assert {seed >= 4 for seed in started} == {True, False}


def test_an_ensemble_that_only_ranks_weighs_by_the_pool_of_the_moment():
    result = run(BFS(), nfe=90, verifier=MeanRank(brightness, contrast))
    assert sum(c.finished for c in result.candidates) > 5


@pytest.mark.parametrize("nfe", [8, 15, 16])
def test_a_budget_below_two_particles_is_random_search(nfe):
    result = run(BFS(), nfe=nfe)
    assert {c.seed for c in result.candidates if c.finished} == {*range(nfe // 8)}


# Lineages


def test_lineages_of_a_collapse_and_of_none():
    assert [run(SVDD(), nfe=100).lineages[step] for step in (4, 6, 8)] == [1, 1, 1]
    kept = run(BFS(strength=1e-6, literal=True), nfe=64).lineages
    assert set(kept.values()) == {8}
    assert run(RandomSearch(), nfe=40).lineages == {8: 5}


@pytest.mark.parametrize(
    "algorithm", [BFS(), BFS(transition="ancestral"), FK(literal=True), Halving((0.25, 0.5))], ids=repr
)
def test_parents_are_what_each_candidate_goes_on_from(algorithm):
    sampler = CountingSampler()
    result = run(algorithm, sampler, nfe=120)
    by_id, above = {c.id: c for c in result.candidates}, result.parents
    points = sorted({c.step for c in result.candidates})
    for one in result.candidates:
        parent = above[one.id]
        if parent is None:
            assert one.step == points[0] or one.recipe.seed is not None, "a noise of its own, run whole"
            continue
        before = by_id[parent]
        assert before.recipe.noise.operations[0] == one.recipe.noise.operations[0]
        finished_at_last = one.finished and one.recipe.before == before.recipe  # the best look, by the driver
        assert before.step == points[points.index(one.step) - 1] or one.id == result.first.id or finished_at_last
    if not isinstance(algorithm, Halving):
        branched = Counter(parent for parent in above.values() if parent is not None)
        assert max(branched.values()) > 1, "nobody branched"
        assert len({c.id for c in result.candidates if c.step == points[0]} - branched.keys()) > 0, "nobody ended"


def test_lookahead_pays_for_its_looks_and_takes_them_back():
    plain, ahead = run(Beam(particles=4), nfe=200), run(Lookahead(particles=4, ahead=1), nfe=200)
    schedule = plain.settings["algorithm"]["schedule"]
    assert schedule["points"] == ahead.settings["algorithm"]["schedule"]["points"] == [2, 4, 6]
    first = [min(c.nfe for c in result.candidates if c.finished) for result in (plain, ahead)]
    assert first[1] - first[0] == 4 * 3 * 1
    assert torch.isfinite(torch.tensor([c.score for c in ahead.candidates])).all()


@pytest.mark.parametrize("nfe", range(38, 46))
def test_noise_0_is_finished_once_where_its_look_is_the_best(nfe):
    result = run(Lookahead(), nfe=nfe, batch_size=1)
    best = max((c for c in result.candidates if c.step == 4), key=lambda c: c.score)
    assert best.seed == 0 and [c.seed for c in result.candidates if c.finished].count(0) == 1
    assert len({c.recipe.key for c in result.candidates}) == len(result.candidates)
