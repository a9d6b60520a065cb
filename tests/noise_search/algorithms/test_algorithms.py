"""Every algorithm under the contract, and what each of them promises beyond it."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from contracts.algorithm import AlgorithmContract, in_another_process, run, scored_by
from noise_search import Job, RandomSearch, SearchOverPaths, Variations, ZeroOrderSearch, search
from noise_search.algorithms import Auto, Climb, EvoSearch, Halving, MonteCarloTreeSearch, TreeSearch
from noise_search.algorithms.base import Terms
from noise_search.shapes import EMBEDDED_MODELS
from samplers import DenoiserSampler, NoiseSpace, ddim
from samplers.recipe import Recipe
from tiny.command import PROMPT
from tiny.search import STUBS, CountingSampler, brightness, contrast, exact_x0, scores, space
from verifiers.aggregators.ranks import MeanRank, ranks

DEFAULTS = [
    RandomSearch(),
    ZeroOrderSearch(),
    ZeroOrderSearch(neighbours=2, cosine=0.8, patience=1, chains=3),
    ZeroOrderSearch(adaptive=True),
    SearchOverPaths(),
    SearchOverPaths(paths=3, branches=2, rounds=2),
    SearchOverPaths(paths=1, start=0.3, backward=0.7, rounds=None),
    Halving(),
    Halving(rungs=(0.25, 0.5), keep=0.4, finish=3),
    Climb(),
    Climb(warm_start=0.2, children=3, moves=("neighbour",), patience=1, finish=1),
    Climb(moves=("branch",), rungs=(0.2, 0.9)),
    Auto(),
    TreeSearch(),
    MonteCarloTreeSearch(select="boltzmann", parallel=3),
    EvoSearch(starts=(0, 0.5), crossing="mean", repair=True),
    *STUBS,
]
PICKED = Recipe.start("fresh", seed=7).then_run(0, 8, space().id, 1.0)
NO_BASELINE = [
    ZeroOrderSearch(literal=True),
    SearchOverPaths(literal=True),
    TreeSearch(literal=True),
    EvoSearch(literal=True),
    Variations([PICKED], cosine=0.8),
    Variations([PICKED], move="branch"),
]


@pytest.fixture(scope="module")
def another_process() -> dict[str, str]:
    """The proposals of every algorithm in a process with another hash seed."""
    salt, found = in_another_process(*DEFAULTS, *NO_BASELINE)
    assert salt != hash("x"), "the processes share a hash seed, so this shows nothing"
    return {repr(a): proposed for a, proposed in zip(DEFAULTS + NO_BASELINE, found, strict=True)}


class Contract(AlgorithmContract):
    @pytest.fixture
    def elsewhere(self, algorithm, another_process):
        return another_process[repr(algorithm)]


@pytest.mark.parametrize("algorithm", DEFAULTS, ids=repr)
class TestDefaults(Contract):
    pass


@pytest.mark.parametrize("algorithm", NO_BASELINE, ids=repr)
class TestPublished(Contract):
    published = True


# Zero-order search


def moves(result):
    """How each candidate's noise was made, as (operation, seed)."""
    return [[(op["op"], op["seed"]) for op in c.recipe.operations if op["op"] != "run"] for c in result.candidates]


def climbed(result, neighbours, keep):
    """Check that each neighbour moved off the best so far (`keep`), or off the best of the round before."""
    history = moves(result)
    pivot, best = history[0], result.candidates[0].score
    rounds = [result.candidates[i : i + neighbours] for i in range(1, len(history), neighbours)]
    for members in rounds:
        assert all(history[c.id][:-1] == pivot for c in members)
        top = max(members, key=lambda c: (c.score, -c.id))
        if not keep or top.score > best:
            pivot, best = history[top.id], top.score


def test_zero_order_climbs_from_the_best_and_keeps_a_pivot_that_is_not_beaten():
    result = run(ZeroOrderSearch(neighbours=3), nfe=400)
    climbed(result, 3, keep=True)
    assert any(len(chain) > 3 for chain in moves(result)), "no climb to speak of"


def test_a_tie_does_not_move_the_pivot():
    result = run(ZeroOrderSearch(neighbours=3), nfe=200, verifier=scored_by([1.0]))
    assert {len(chain) for chain in moves(result)} == {1, 2}


def test_neighbours_lie_at_the_cosine_with_the_pivots_norm():
    sampler = CountingSampler()
    seen = []

    class Watched:
        name, whole_calls = "watched", True

        def plan(self, problem):
            plan = ZeroOrderSearch(neighbours=4, cosine=0.9).plan(problem)
            job = next(plan)
            while True:
                seen.append(job.states.x)
                job = plan.send((yield job))

    run(Watched(), sampler, nfe=9 * 8)
    pivot = seen[0][0].flatten()
    for row in seen[1].flatten(1):
        assert float(row.norm()) == pytest.approx(float(pivot.norm()), rel=1e-5)
        assert float(torch.cosine_similarity(row, pivot, dim=0)) == pytest.approx(0.9, abs=1e-5)


def test_adaptive_steps_follow_the_share_of_neighbours_that_win():
    """The rules once more, told by the candidates alone: pivots, distances, means of the best three, restarts."""
    algorithm = ZeroOrderSearch(adaptive=True, neighbours=3, cosine=0.8, patience=2)
    found = list(run(algorithm, nfe=600).candidates)
    starts, left = sorted(found[:8], key=lambda c: (-c.score, c.id)), found[8:]
    assert all(len(c.recipe.noise) == 1 for c in found[:8])
    pivot, sine, stalled, joined, means = starts.pop(0), 0.6, 0, False, 0
    while len(left) >= 4:
        if stalled == 2:
            if not starts:
                starts.append(left.pop(0))
                assert len(starts[0].recipe.noise) == 1
            pivot, sine, stalled, joined = starts.pop(0), 0.6, 0, False
        children, left = left[: 3 + joined], left[3 + joined :]
        for child in children[:3]:
            assert child.recipe.noise.last["op"] == "neighbour"
            assert list(child.recipe.noise.operations)[:-1] == list(pivot.recipe.noise.operations)
            assert child.recipe.noise.last["cosine"] == pytest.approx(math.sqrt(1 - sine**2))
        if joined:
            assert children[3].recipe.noise.last["op"] == "mean"
            means += 1
        won = sum(child.score > pivot.score for child in children)
        sine, joined = min(max(sine * math.exp(won / len(children) - 0.25), 0.05), 0.95), True
        best = max([pivot, *children], key=lambda c: (c.score, -c.id))
        pivot, stalled = best, 0 if won else stalled + 1
    assert means > 5


def test_the_mean_of_one_neighbour_is_not_run_again():
    found = run(ZeroOrderSearch(adaptive=True, neighbours=1, patience=2), nfe=400).candidates
    last = [c.recipe.noise.last["op"] for c in found]
    assert last.count("neighbour") > 20 and "mean" not in last


def test_patience_restarts_from_the_next_fresh_noise_and_the_best_centre_wins():
    result = run(ZeroOrderSearch(neighbours=2, patience=2), nfe=800)
    told = scores(result)
    at, expected, centre = 0, [], -math.inf
    while at < len(told):  # the same rule, told by the scores alone
        expected.append(at)
        centre, stalled, at = told[at], 0, at + 1
        while stalled < 2 and at < len(told):
            best = max(told[at : at + 2])
            stalled, centre, at = (0, best, at + 2) if best > centre else (stalled + 1, centre, at + 2)
    starts = [c.id for c in result.candidates if c.seed is not None]
    assert starts == expected and len(starts) > 2
    assert [result.candidates[i].seed for i in starts] == list(range(len(starts)))
    assert result.score == max(told)


def test_chains_share_rounds_and_a_trimmed_round_serves_each_in_turn():
    result = run(ZeroOrderSearch(neighbours=2, chains=3), nfe=8 * (3 + 6 + 4))
    roots = [chain[0] for chain in moves(result)]
    assert roots == [("fresh", i) for i in (0, 1, 2, *[0, 1, 2] * 2, 0, 1, 2, 0)]


def test_one_neighbour_at_cosine_zero_is_random_search():
    """A direction orthogonal to the pivot is a fresh one: winners are distributed alike (Kolmogorov-Smirnov)."""
    grid = space(1, shape=(3, 8, 8))
    sampler = DenoiserSampler(lambda x, alpha, sigma, prompts: 0.1 * x, grid)

    def score(images, prompts):
        return images[:, 0, 0, 0]

    def winners(algorithm):
        return [run(algorithm, sampler, nfe=6, seed=100 * i, verifier=score).score for i in range(80)]

    fresh = winners(RandomSearch())
    assert stats.ks_2samp(winners(ZeroOrderSearch(neighbours=1, cosine=0.0)), fresh).pvalue > 0.05
    near = winners(ZeroOrderSearch(neighbours=1))
    assert stats.ks_2samp(near, fresh).pvalue < 0.01, "the test can't tell a local search from random search"


def test_the_published_zero_order_search_never_scores_its_pivot_and_always_moves():
    result = run(ZeroOrderSearch(neighbours=2, literal=True), nfe=8 * 2 * 5)
    history = moves(result)
    assert len(history) == 10 and all(chain[0] == ("fresh", 0) for chain in history)
    assert [len(chain) for chain in history] == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6], "N K trajectories, a move each round"
    for which in range(2, 10, 2):
        top = max(result.candidates[which - 2 : which], key=lambda c: (c.score, -c.id))
        assert history[which][:-1] == history[top.id]


def test_a_smaller_budget_is_a_prefix_of_a_larger_one():
    for algorithm in (RandomSearch(), ZeroOrderSearch(), ZeroOrderSearch(chains=2, patience=1)):
        small, large = (run(algorithm, nfe=nfe) for nfe in (6 * 8, 20 * 8))
        assert [c.recipe for c in small.candidates] == [c.recipe for c in large.candidates[:6]]


# Search over paths


def test_paths_with_one_path_and_no_rounds_is_one_sample():
    one = run(SearchOverPaths(paths=1, rounds=0), seed=4)
    plain = run(RandomSearch(), seed=4, candidates=1, nfe=None)
    assert [c.recipe for c in one.candidates] == [c.recipe for c in plain.candidates]
    assert one.score == plain.score and one.ledger.nfe == plain.ledger.nfe == 8
    several = run(SearchOverPaths(paths=5, rounds=0), seed=4)
    best = run(RandomSearch(), seed=4, candidates=5, nfe=None)
    assert scores(several) == scores(best)


@pytest.mark.parametrize(
    ("steps", "start", "turns"),
    [
        (30, 27, [(4, 28), (5, 29), (6, 30)]),  # the schedule of a linear grid of 30 points in Ma et al.'s terms
        (20, 17, [(3, 18), (3, 19), (3, 20)]),
        (4, 2, [(1, 3), (1, 4)]),
        (3, 2, [(1, 3)]),
    ],
)
def test_default_rounds_count_back_from_the_end(steps, start, turns):
    found = SearchOverPaths(branches=1).describe(Terms(space(steps), 10**6))
    level = space(steps).noise_level
    assert found["start"] == pytest.approx(level(start), abs=1e-4)
    assert [(r["up"], r["down"]) for r in found["rounds"]] == [
        (pytest.approx(level(up), abs=1e-4), pytest.approx(level(down), abs=1e-4)) for up, down in turns
    ]
    assert [r["steps"] for r in found["rounds"]] == [down - up for up, down in turns]


@pytest.mark.parametrize("shift", [1.0, 3.158])
@pytest.mark.parametrize("steps", range(3, 51))
def test_rounds_never_touch_pure_noise_and_always_progress(steps, shift):
    sigmas = [shift * s / (1 + (shift - 1) * s) for s in (1 - i / steps for i in range(steps))]
    grid = NoiseSpace((3, 4, 4), ("channel", "height", "width"), tuple(1 - s for s in (*sigmas, 0.0)), (*sigmas, 0.0))
    found = SearchOverPaths(branches=1).describe(Terms(grid, 10**6))
    downs = [found["start"], *(r["down"] for r in found["rounds"])]
    assert len(found["rounds"]) == min(3, steps - 2) and downs[-1] == 0
    assert all(after < before for before, after in itertools.pairwise(downs))
    for before, up in zip(downs, (r["up"] for r in found["rounds"]), strict=False):
        noisier = [level for level in map(grid.noise_level, range(1, steps)) if level > before + 1e-4]
        assert up == pytest.approx(max([x for x in noisier if x <= 0.89] or noisier[-1:]), abs=1e-4) or up < 0.89
        assert before < up < 1 and (up <= 0.89 or min(noisier) > 0.89)


def test_rounds_renoise_the_best_and_keep_as_many_paths_as_asked():
    result = run(SearchOverPaths(paths=2, branches=3), nfe=400)
    assert result.candidates[0].seed == 0 and result.candidates[0].finished
    rounds = [result.candidates[1 + 6 * i : 7 + 6 * i] for i in range(3)]
    for which, members in enumerate(rounds):
        origins = {c.recipe.operations[:-2] for c in members}
        assert len(members) == 6 and len(origins) == 2
        if which:
            best = sorted(rounds[which - 1], key=lambda c: (-c.score, c.id))[:2]
            assert origins == {c.recipe.operations for c in best}
    assert all(c.finished for c in rounds[2]) and not any(c.finished for c in rounds[0] + rounds[1])


def test_paths_spend_the_budget_when_branches_are_not_given():
    for nfe in range(40, 400, 24):
        result = run(SearchOverPaths(), nfe=nfe)
        assert nfe - result.ledger.nfe < 8, (nfe, result.ledger.nfe)
        rounds = result.settings["algorithm"]["schedule"]["rounds"]
        assert len(result.candidates) >= 1 + len(rounds)


def test_paths_shed_rounds_then_paths_where_the_budget_is_small():
    shapes = [SearchOverPaths().describe(Terms(space(20), 20 * n)) for n in (4, 8, 16)]
    assert [(s["paths"], len(s["rounds"])) for s in shapes] == [(1, 1), (2, 2), (2, 3)]


def test_the_result_states_the_levels_used():
    schedule = run(SearchOverPaths(), nfe=300).settings["algorithm"]["schedule"]
    assert schedule == {
        "paths": 2,
        "start": 0.375,
        "rounds": [
            {"up": 0.875, "down": 0.25, "steps": 5},
            {"up": 0.875, "down": 0.125, "steps": 6},
            {"up": 0.875, "down": 0.0, "steps": 7},
        ],
    }


def test_the_published_paths_use_the_papers_levels_on_a_grid_that_contains_them():
    algorithm = SearchOverPaths(paths=2, branches=2, literal=True)
    assert algorithm.levels == (0.11, 0.89, 0.08, 0.86, 0.05, 0.83, 0.02, 0.8)
    result = run(algorithm, nfe=400)
    schedule = result.settings["algorithm"]["schedule"]
    levels = [schedule["start"], *(level for r in schedule["rounds"] for level in (r["up"], r["down"]))]
    assert levels == pytest.approx([*algorithm.levels, 0.0], abs=1e-4)
    grid = space(8, algorithm.levels)
    start = next(i for i in range(grid.end) if grid.noise_level(i) == pytest.approx(0.11))
    costs = [2 * 2 * (r["steps"] + (r["down"] > 0)) for r in schedule["rounds"]]
    last = result.candidates[15]
    assert last.nfe == 2 * start + sum(costs), "the paper pays a step to see an x0 prediction, but at the end"
    assert not result.candidates[0].finished and last.finished


def test_published_rounds_end_where_a_diffusion_models_grid_does():
    """Stable Diffusion's cleanest training step has noise level .028, above the paper's last level of .02."""
    table = np.asarray(ddim.scaled_linear())
    levels = np.sqrt(1 - table) / (np.sqrt(table) + np.sqrt(1 - table))
    published = SearchOverPaths(literal=True)
    nearest = {int(np.abs(levels - level).argmin()) for level in published.levels}
    steps = {*ddim.timesteps(20, offset=1), *nearest} - {0}  # step 0 is where this grid ends
    grid = NoiseSpace(
        (1, 2, 2), ("c", "h", "w"), *ddim.grid(table[sorted(steps, reverse=True)].tolist(), float(table[0]))
    )
    schedule = published.describe(Terms(grid, 10**6))
    assert [r["down"] for r in schedule["rounds"]] == pytest.approx([0.08, 0.05, 0.0284], abs=2e-3)


@pytest.mark.parametrize("model", sorted(EMBEDDED_MODELS))
def test_the_published_levels_are_on_the_grid_of_both_pipelines(model):
    published = SearchOverPaths(paths=1, branches=1, literal=True)
    result = search(PROMPT, model=model, algorithm=published, steps=14, nfe=110, progress=False)
    schedule = result.settings["algorithm"]["schedule"]
    levels = [schedule["start"], *(level for turn in schedule["rounds"] for level in (turn["up"], turn["down"]))]
    # Stable Diffusion's grid ends at noise level .028, and so do the rounds.
    asked = (*published.levels, 0.0) if model == "shapes-flow" else (*published.levels[:6], 0.0283)
    assert levels == pytest.approx(asked, abs=2e-3)
    assert result.best.finished


def test_the_published_levels_are_refused_on_a_grid_that_starts_below_them():
    with pytest.raises(ValueError, match=r"level 0\.89 is noisier than .* more steps"):
        search(PROMPT, model="shapes-ddim", algorithm=SearchOverPaths(literal=True), steps=6, progress=False)


# Options


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ZeroOrderSearch(neighbours=0), "neighbours=0 must be at least 1"),
        (lambda: ZeroOrderSearch(neighbours=2.5), "neighbours=2.5 must be a whole number"),
        (lambda: ZeroOrderSearch(neighbours=None), "neighbours=None stands for nothing"),
        (lambda: ZeroOrderSearch(chains=None), "chains=None stands for nothing"),
        (lambda: ZeroOrderSearch(cosine=None), "cosine=None stands for nothing"),
        (lambda: SearchOverPaths(paths=None), "paths=None stands for nothing"),
        (lambda: SearchOverPaths(forward=None), "forward=None stands for nothing"),
        (lambda: Halving(keep=None), "keep=None stands for nothing"),
        (lambda: Halving(rungs=(0.3, None)), "rungs=None stands for nothing"),
        (lambda: ZeroOrderSearch(cosine=1.0), "cosine=1.0"),
        (lambda: ZeroOrderSearch(cosine=-0.5, adaptive=True), "cosine=-0.5 must be at least 0 with adaptive=True"),
        (lambda: ZeroOrderSearch(cosine="near"), "cosine='near' is a str; expected a number"),
        (lambda: ZeroOrderSearch(patience=0), "patience=0"),
        (lambda: ZeroOrderSearch(chains=-1), "chains=-1"),
        (lambda: ZeroOrderSearch(literal=True, chains=2), "one chain without restarts"),
        (lambda: SearchOverPaths(paths=0), "paths=0"),
        (lambda: SearchOverPaths(branches=0), "branches=0"),
        (lambda: SearchOverPaths(rounds=-1), "rounds=-1 must be at least 0"),
        (lambda: SearchOverPaths(start=1.0), "start=1.0 must be between 0 and 1"),
        (lambda: SearchOverPaths(rounds=None), "rounds=None counts from a start"),
        (lambda: SearchOverPaths(literal=True, forward=0.9), "must exceed forward=0.9"),
        (lambda: SearchOverPaths(literal=True, backward=0.7800001), "must exceed forward=0.78"),
        (lambda: SearchOverPaths(literal=True, rounds=1), "rounds=1 has no effect"),
        (lambda: SearchOverPaths(literal="off"), "literal='off' must be True or False"),
        (lambda: ZeroOrderSearch(literal="no"), "literal='no' must be True or False"),
        (lambda: SearchOverPaths(literal=True, start=0.5), "must be below 1, pure noise"),
        (lambda: run(SearchOverPaths(), CountingSampler(2), nfe=40), "at least 3 steps"),
        (lambda: run(SearchOverPaths(literal=True), DenoiserSampler(exact_x0, space(8))), "function"),
        (lambda: SearchOverPaths(literal=True).describe(Terms(space(8), 400)), r"noise level 0\.11, the nearest point"),
    ],
)
def test_options_and_grids_that_make_no_sense_are_refused(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def test_an_ensemble_ranks_a_round_and_its_pivot_as_one_pool():
    result = run(ZeroOrderSearch(neighbours=5), verifier=MeanRank(brightness, contrast), nfe=8 * 16, seed=3)
    history, pivot = moves(result), 0
    for start in (1, 6):
        pool = [pivot, *range(start, start + 5)]
        table = [np.array(column) for column in zip(*(result.candidates[i].scores.values() for i in pool), strict=True)]
        values = np.mean([ranks(row) for row in table], axis=0)
        pivot = pool[int(values.argmax())]
        assert all(chain[:-1] == history[pivot] for chain in history[start + 5 : start + 10])


def test_an_algorithm_from_elsewhere_describes_itself_as_it_likes():
    class Beams:
        name, whole_calls = "beams", True

        def plan(self, problem):
            yield Job(problem.fresh(2), problem.space.end)

        def describe(self, terms):
            return {"beams": 2, "rounds": terms.nfe_total // terms.space.end}

    assert run(Beams()).schedule == "beams 2, rounds 15"
