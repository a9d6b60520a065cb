"""Climbing against an account of it that is told by its candidates alone, and where it has to win."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search.algorithms import Auto, Climb, Halving
from noise_search.algorithms.base import Terms
from noise_search.algorithms.climb import _leaves
from noise_search.algorithms.knowledge import Calibration, ModelFacts
from noise_search.engine.recorded import bare_space
from samplers.replay import replay
from tiny.search import CountingSampler, brightness, contrast, gaussian_x0, scores, toy_search

KNOWN = Calibration(
    "model", "verifier@1", 20, {4: 0.6, 6: 0.8, 8: 0.95}, slopes={"neighbour 0.95": 0.5}, rises={16: 0.2}
)


def terms(nfe, steps=20, **more):
    return Terms(bare_space(steps), nfe, **more)


def moves(candidate):
    return [op for op in candidate.recipe.operations if op["op"] != "run"]


def better(ranked, count):
    return sorted(ranked, key=lambda one: (-one.score, one.id))[:count]


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_are_of_the_best_at_a_distance_that_follows_their_success(seed):
    """The rules once more, a candidate at a time: who is the parent, how far its children are, who goes on."""
    algorithm = Climb(moves=("neighbour",), children=5, cosine=0.9, patience=2)
    result = toy_search(algorithm=algorithm, nfe=400, seed=seed)
    early, late = result.settings["algorithm"]["schedule"]["rungs"]
    ways = iter([c for c in result.candidates if not c.finished])

    def race(count):
        first = [next(ways) for _ in range(count)]
        second = [next(ways) for _ in range(math.ceil(count / 2))]
        assert {c.step for c in first} == {early} and {c.step for c in second} == {late}
        assert [moves(c) for c in second] == [moves(c) for c in better(first, len(second))]
        return first, second

    begun, alive = race(result.settings["algorithm"]["schedule"]["begun"])
    assert [moves(c)[0]["seed"] for c in begun] == list(range(seed, seed + len(begun)))
    sine, idle, tried, parent, rounds = math.sqrt(1 - 0.9**2), 0, [], None, 0
    left = [c for c in result.candidates if c.step == early and not c.finished][len(begun) :]
    while left:
        alive = better(alive, 16)
        if idle == 2:
            idle, sine = 0, math.sqrt(1 - 0.9**2)
        if idle == 0 or parent not in alive:
            parent = next(iter([c for c in alive if c.id not in tried] or alive))
        count = sum(moves(c)[:-1] == moves(parent) for c in left[:5])
        assert count >= 2 and all(moves(c)[-1]["op"] == "neighbour" for c in left[:count])
        cosines = [moves(c)[-1]["cosine"] for c in left[:count]]
        assert cosines == pytest.approx([math.sqrt(1 - sine**2)] * count)
        _, found = race(count)
        won = sum(c.score > parent.score for c in found)
        tried.append(parent.id)
        idle = 0 if won else idle + 1
        sine = min(max(sine * math.exp(won / count - 0.25), 0.08), 0.95)
        alive, left, rounds = alive + found, left[count:], rounds + 1
    assert rounds > 5, "no climb to speak of"
    finished = [c for c in result.candidates if c.finished]
    assert moves(finished[0]) == moves(better(alive, 1)[0])
    assert sum(moves(c) != moves(begun[0]) for c in finished) in (2, 3)


def test_branches_share_their_parents_trajectory_and_cost_what_is_left():
    sampler = CountingSampler()
    result = toy_search(sampler, algorithm=Climb(moves=("branch",), rungs=(0.25, 0.75)), nfe=320)
    children = [c for c in result.candidates if "branch" in c.recipe.to_json()]
    assert len(children) > 10 and sampler.rows == result.ledger.nfe <= 320
    for child in children:
        operations = list(child.recipe.operations)
        at = max(i for i, op in enumerate(operations) if op["op"] == "branch")
        before, after = operations[at - 1], operations[at + 1]
        assert before["op"] == "run" and before["to"] == after["from"]
        assert after["rho"] == 0 and after["to"] - after["from"] == 1, "its first step isn't of fresh noise alone"
        assert all(op["rho"] == 1 for op in operations[at + 2 :])


def test_what_it_finds_is_made_again_from_its_recipe():
    sampler = CountingSampler()
    result = toy_search(sampler, algorithm=Climb(), nfe=400)
    assert len(moves(result.best)) > 1, "it found nothing beyond its warm start"
    begun, told = result.settings["algorithm"]["schedule"]["begun"], "then children by neighbour and branch, 3 finished"
    assert result.schedule == f"{begun} noises begun, halved by looks after steps 2 and 4, {told}, of 8 steps"
    with sampler:
        state = replay(sampler, result.recipe, [sampler.space()], sampler.condition("a prompt")).state
        image = sampler.decode(state)
    assert float(brightness(image, [""])[0]) == pytest.approx(result.score, abs=1e-5)


def test_it_goes_on_where_the_score_has_room_and_neighbours_keep_it():
    """Brightness of a Gaussian is normal: the best of 32 is 2.07 standard deviations above its mean."""
    sampler = CountingSampler(fn=gaussian_x0)
    random = np.array(scores(toy_search(sampler, candidates=128)))

    def z(algorithm):
        found = [toy_search(sampler, algorithm=algorithm, candidates=32, seed=1000 * i).score for i in range(1, 4)]
        return (np.mean(found) - random.mean()) / random.std()

    climbed = [z(Climb(moves=moves)) for moves in ("neighbour", ("neighbour", "branch"))]
    assert min(climbed) > 3.3 > z(Halving()) > 2.07


def test_the_move_that_gains_more_is_taken_more_often():
    """Branches that leave late change next to nothing of a Gaussian's brightness, and neighbours do."""
    sampler = CountingSampler(steps=16, fn=gaussian_x0)
    result = toy_search(sampler, algorithm=Climb(), candidates=40)
    last = [moves(c)[-1]["op"] for c in result.candidates if not c.finished and len(moves(c)) > 1]
    assert last.count("neighbour") > last.count("branch") > 0


def test_an_ensemble_is_climbed_by_what_its_warm_start_refers_to():
    result = toy_search(algorithm=Climb(), nfe=400, verifier=[brightness, contrast])
    assert result.absolute and result.best.finished and np.isfinite(scores(result)).any()


@given(steps=st.integers(2, 60), data=st.data())
def test_no_branch_leaves_where_its_rung_shows_what_its_parent_shows(steps, data):
    early = data.draw(st.integers(1, steps - 1))
    late = data.draw(st.integers(early, steps - 1))
    leaves = _leaves(steps, early, late)
    assert list(leaves) == sorted({*leaves}) and not {0, early - 1, late - 1} & {*leaves}
    assert all(0 < at < late for at in leaves)


@pytest.mark.parametrize("steps", [8, 10, 20, 30])
def test_children_by_branches_are_told_apart(steps):
    sampler = CountingSampler(steps=steps, fn=gaussian_x0)
    result = toy_search(sampler, algorithm=Climb(moves=("branch",)), candidates=24)
    children = [c for c in result.candidates if not c.finished and "branch" in c.recipe.to_json()]
    assert len(children) > 10 and len({c.score for c in children}) == len(children)
    assert not {c.score for c in children} & {c.score for c in result.candidates if c not in children}


@given(nfe=st.integers(1, 80), steps=st.integers(1, 40), share=st.floats(0.05, 0.95), baseline=st.booleans())
@settings(deadline=None)
def test_the_warm_start_takes_its_share_and_the_finalists_fit(nfe, steps, share, baseline):
    here = terms(nfe * steps, steps, baseline=baseline)
    course = Climb(warm_start=share).course(here)
    if course is None:
        return
    kept = course.finish * (steps - course.late) + (steps - course.early if baseline else 0)
    warm = course.cost(course.begun)
    assert warm <= share * (nfe * steps - kept) < course.cost(course.begun + 1)
    assert warm + course.cost(Climb.LEAST) + kept <= nfe * steps
    assert 0 < course.early < course.late < steps and course.begun > course.finish


def test_rungs_follow_the_calibration_and_small_budgets_are_halved():
    course = Climb().course(terms(960, calibration=KNOWN))
    assert (course.early, course.late) == (4, 8)
    course = Climb().course(terms(960))
    assert (course.early, course.late, course.finish) == (6, 10, 3)
    small = terms(60)
    assert Climb().course(small) is None and Climb().describe(small) == Halving().describe(small)
    rough = replace(KNOWN, slopes={"neighbour 0.95": 0.1})
    known = {0.1: rough, 0.5: KNOWN, None: replace(KNOWN, slopes={})}
    told = {kept: Climb().describe(terms(960, calibration=one))["moves"] for kept, one in known.items()}
    assert told == {0.1: "branch", 0.5: "neighbour and branch", None: "neighbour and branch"}
    still = terms(960, calibration=rough, model=ModelFacts(can_mix=False))
    assert Climb().describe(still)["moves"] == "neighbour"
    only = Climb(moves=("branch",))
    assert only.course(terms(960, model=ModelFacts(can_mix=False))) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"warm_start": 1.0}, "warm_start=1.0"),
        ({"children": 1}, "children=1"),
        ({"cosine": 1.0}, "cosine=1.0"),
        ({"moves": ("leap",)}, "must be some of neighbour, branch"),
        ({"moves": "neighbour,branch"}, r'moves=.neighbour,branch. .* such as "branch" or \["neighbour", "branch"\]'),
        ({"moves": 5}, "moves=5 must be some of"),
        ({"moves": [["branch"]]}, "must be some of neighbour, branch"),
        ({"moves": ()}, "must be some of neighbour, branch"),
        ({"patience": 0}, "patience=0"),
        ({"finish": 0}, "finish=0"),
        ({"rungs": (0.5, 0.3)}, "two shares of the steps that rise"),
        ({"rungs": (0.3,)}, "two shares of the steps that rise"),
        ({"rungs": 0.3}, "two shares of the steps that rise"),
        ({"rungs": (0.3, None)}, "rungs=None stands for nothing"),
        *(
            ({name: None}, f"{name}=None stands for nothing")
            for name in ("warm_start", "children", "cosine", "patience")
        ),
    ],
)
def test_climbs_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises((ValueError, TypeError), match=told):
        Climb(**wrong)


def test_auto_climbs_where_the_calibration_says_so():
    large = terms(960, calibration=KNOWN)
    algorithm, why = Auto().choose(large)
    assert algorithm == Climb()
    assert "still gain 0.20 standard deviations, and a neighbour keeps 50% of its parent's score" in why
    assert Auto().describe(large) == Climb().describe(large)
    for here in (
        replace(large, nfe_total=320),
        replace(large, calibration=replace(KNOWN, rises={16: 0.05})),
        replace(large, calibration=replace(KNOWN, slopes={"neighbour 0.95": 0.4})),
        replace(large, calibration=replace(KNOWN, slopes={})),
        replace(large, calibration=None),
        replace(large, calibration=replace(KNOWN, correlations={4: 0.95})),  # both rungs are one
    ):
        assert Auto().choose(here)[0] == Halving()
