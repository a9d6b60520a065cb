"""Halving against an independent account of it, and what `auto` chooses."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search import ALGORITHMS, Evaluation, Job
from noise_search.algorithms import Auto, Halving, RandomSearch
from noise_search.algorithms.base import Terms
from noise_search.algorithms.knowledge import Calibration, ModelFacts, VerifierFacts
from noise_search.choosing.sets import cosine_distances, shown_by, unexplained, worth
from noise_search.engine.recorded import Ladder, bare_space, search_recorded
from tiny.search import CountingSampler, brightness, contrast, told, toy_search
from verifiers import FunctionVerifier, MeanZ
from verifiers.aggregators.ranks import Single

KNOWN = Calibration("model", "verifier@1", 20, {4: 0.3, 6: 0.6, 8: 0.82, 9: 0.89, 10: 0.95})


def terms(nfe, steps=20, **more):
    return Terms(bare_space(steps), nfe, **more)


def ladder(noises, steps, seed=0):
    """Scores that come nearer to the final one with every step."""
    rng = np.random.default_rng(seed)
    final = rng.standard_normal(noises)
    points = [final + (1 - at / steps) * rng.standard_normal(noises) for at in range(1, steps + 1)]
    return np.stack(points, 1)


def pruned(scores, rungs, rows, steps, nfe):
    """The winner, the NFE, and who was finished: halving written anew, a row at a time."""
    alive, spent, at = list(range(rows[0])), 0, 0
    reached = {}
    for rung, going in zip(rungs, rows[1:], strict=True):
        for noise in alive:
            spent += rung - at
            reached[noise] = rung
        alive = sorted(alive, key=lambda noise: (-scores[noise, rung - 1], noise))
        if rung != rungs[-1]:
            alive = alive[:going]
        at = rung
    finished = []
    for noise in alive:
        owed = 0 if noise == 0 or 0 in finished else steps - reached[0]
        if spent + (steps - at) + owed > nfe:
            break
        spent += steps - at
        finished.append(noise)
    if 0 not in finished:
        spent += steps - reached[0]
        finished.append(0)
    return max(finished, key=lambda noise: (scores[noise, -1], -noise)), spent, finished


@settings(max_examples=60, deadline=None)
@given(candidates=st.integers(3, 14), extra=st.integers(0, 19), seed=st.integers(0, 99), known=st.booleans())
def test_it_finds_what_an_independent_account_of_it_finds(candidates, extra, seed, known):
    nfe = 20 * candidates + extra
    verifier = FunctionVerifier(brightness)
    scores = ladder(64, 20, seed)
    here = terms(nfe, calibration=KNOWN if known else None)
    shape = Halving().shape(here)
    found = search_recorded(
        Halving(), Ladder(tuple(range(1, 21)), {verifier.key: scores}), here, Single(verifier), range(64)
    )
    winner, spent, _ = pruned(scores, shape.rungs, shape.rows, 20, nfe)
    assert (found.winner, found.nfe) == (winner, spent)
    assert spent <= nfe and nfe - spent < 20


@given(
    nfe=st.integers(1, 60),
    steps=st.integers(1, 40),
    keep=st.floats(0.05, 0.95),
    finish=st.none() | st.integers(1, 6),
    baseline=st.booleans(),
)
def test_the_race_fits_its_budget_and_the_next_larger_one_does_not(nfe, steps, keep, finish, baseline):
    here = terms(nfe * steps, steps, baseline=baseline)
    shape = Halving(keep=keep, finish=finish).shape(here)
    points = [0, *shape.rungs, steps]
    assert list(shape.rungs) == sorted(set(shape.rungs)) and all(0 < one < steps for one in shape.rungs)
    assert len(shape.rows) == len(points) - 1 and list(shape.rows) == sorted(shape.rows, reverse=True)
    spent = sum(rows * (b - a) for rows, a, b in zip(shape.rows, points, points[1:], strict=False))
    assert spent <= nfe * steps
    assert shape.rows[0] >= nfe, "never fewer noises than random search"


def test_rungs_follow_the_calibration():
    rungs = {n: Halving().shape(terms(20 * n, calibration=KNOWN)).rungs for n in (2, 4, 8, 16)}
    assert rungs == {2: (), 4: (8,), 8: (6, 9), 16: (6, 9)}


@pytest.mark.parametrize(
    ("steps", "price", "rungs"),
    [
        (20, None, (6, 9, 13)),
        (20, 0.2, (6, 9, 13)),
        (20, 1.7, (7, 11)),
        (30, None, (9, 14, 20)),
        (7, None, (4,)),
        (4, None, ()),
    ],
)
def test_without_one_they_are_at_the_usual_shares(steps, price, rungs):
    here = terms(steps * 16, steps, model=ModelFacts(look_price=price))
    assert Halving().shape(here).rungs == rungs


def test_the_first_rung_is_what_z_scores_refer_to():
    sampler = CountingSampler()
    result = toy_search(sampler, algorithm="halving", nfe=96, verifier=[brightness, contrast])
    first = [c for c in result.candidates if c.step == result.settings["algorithm"]["schedule"]["rungs"][0]]
    rows = {key: np.array([c.scores[key] for c in first]) for key in first[0].scores}
    ensemble = MeanZ(brightness, contrast).freeze(rows)
    best = ensemble.combine({key: np.array([result.best.scores[key]]) for key in rows})
    assert result.absolute and result.score == pytest.approx(float(best[0]))
    assert sampler.rows == result.ledger.nfe <= 96


def test_the_winner_of_a_race_is_replayed_as_one_trajectory():
    result = toy_search(algorithm=Halving(), nfe=160)
    assert [op["op"] for op in result.recipe.operations] == ["fresh", "run"]
    again = toy_search(nfe=8, seed=result.best.seed)
    assert again.score == pytest.approx(result.score, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rungs": (0.5, 0.3)}, "must be shares of the steps that rise"),
        ({"rungs": ()}, "must be shares of the steps that rise"),
        ({"rungs": (1.5,)}, "rungs=1.5"),
        ({"rungs": 0.3}, r"rungs=0.3 must be shares of the steps, such as"),
        ({"keep": 1.0}, "keep=1.0"),
        ({"finish": 0}, "finish=0"),
    ],
)
def test_races_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises((ValueError, TypeError), match=told):
        Halving(**wrong)


def test_recorded_searches_find_what_searches_of_the_model_find():
    seen = {}

    class Looking:
        name, whole_calls = "looking", False

        def plan(self, problem):
            (seen["all"],) = yield Job(problem.fresh(24), 8, looks=tuple(range(1, 8)))

    toy_search(algorithm=Looking(), nfe=24 * 8)
    verifier = FunctionVerifier(brightness)
    looks = [*[seen["all"].looks[at] for at in range(1, 8)], seen["all"]]
    recorded = Ladder(tuple(range(1, 9)), {verifier.key: np.stack([one.components[verifier.key] for one in looks], 1)})
    for algorithm in (Halving(), RandomSearch()):
        found = search_recorded(algorithm, recorded, terms(64, 8), Single(verifier), range(24))
        made = toy_search(algorithm=algorithm, nfe=64)
        assert (found.winner, found.nfe) == (made.best.seed, made.ledger.nfe)


def test_a_recorded_search_refuses_what_no_table_has():
    verifier = FunctionVerifier(brightness)
    few = Ladder((6, 20), {verifier.key: ladder(30, 20)[:, [5, 19]]})
    with pytest.raises(ValueError, match="no scores were recorded at grid point 9, only at"):
        search_recorded(Halving(), few, terms(160, calibration=KNOWN), Single(verifier), range(30))
    with pytest.raises(ValueError, match="makes no noises from noises"):
        search_recorded(ALGORITHMS["zero-order"](), few, terms(160), Single(verifier), range(30))
    assert search_recorded(RandomSearch(), few, terms(800), Single(verifier), range(30)) is None


GOOD = terms(320, calibration=KNOWN)


@pytest.mark.parametrize(
    ("here", "why"),
    [
        (replace(GOOD, model=ModelFacts(can_stop=False)), "only runs whole trajectories"),
        (replace(GOOD, model=ModelFacts(own_steps=False)), "takes no first-order steps"),
        (replace(GOOD, verifier=VerifierFacts(finished=True)), "needs finished images"),
        (replace(GOOD, verifier=VerifierFacts(paid=True)), "costs money"),
        (replace(GOOD, verifier=VerifierFacts(absolute=False, pooled=True)), "told apart by their ranks"),
        (terms(64, 4), "4 steps are too few"),
        (replace(GOOD, calibration=replace(KNOWN, correlations={8: 0.2, 16: 0.7})), "tell too little before 70%"),
        (replace(GOOD, nfe_total=40), "the 40 NFE of fewer than 4 images are too few"),
    ],
)
def test_auto_falls_back_to_random_search_and_says_why(here, why):
    algorithm, told = Auto().choose(here)
    assert algorithm == RandomSearch() and why in told


def test_auto_takes_halving_where_nothing_speaks_against_it():
    measured = replace(KNOWN, worth={8: 1.5})
    for here, why in (
        (GOOD, "x0 predictions tell enough by then, as the calibration says"),
        (replace(GOOD, calibration=measured), "such pruning was worth 1.5 times as many random candidates"),
        (terms(320), "at the usual steps: nothing was calibrated, so what it gains can't be told"),
    ):
        algorithm, told = Auto().choose(here)
        assert algorithm == Halving() and why in told
    assert Auto().choose(replace(GOOD, calibration=replace(KNOWN, worth={8: 0.8}))) == (
        RandomSearch(),
        "pruning was worth 0.80 of random search in the calibration",
    )


def test_auto_is_the_default_and_its_choice_is_recorded(capsys):
    auto = toy_search(algorithm="auto", nfe=160, progress=True)
    chosen = auto.settings["algorithm"]
    assert chosen["name"] == "halving" and "nothing was calibrated" in chosen["why"]
    assert f"160 NFE, halving: {auto.schedule} ({chosen['why']})" in capsys.readouterr().err
    direct = toy_search(algorithm=Halving(), nfe=160)
    assert [c.recipe for c in auto.candidates] == [c.recipe for c in direct.candidates]
    ranked = toy_search(algorithm="auto", nfe=160, verifier=[brightness, contrast], ensemble="mean-rank")
    assert ranked.settings["algorithm"]["name"] == "random"


def test_auto_may_be_anything_that_speaks_the_sentence():
    """As a plan of its own it is the algorithm that it chooses, so that whoever drives algorithms can drive it."""
    verifier = FunctionVerifier(brightness)
    recorded = Ladder(tuple(range(1, 21)), {verifier.key: ladder(40, 20)})
    assert search_recorded(Auto(), recorded, terms(160), Single(verifier), range(40)) == search_recorded(
        Halving(), recorded, terms(160), Single(verifier), range(40)
    )
    assert Auto().describe(terms(160)) == Halving().describe(terms(160))
    assert Auto().describe(terms(40)) == {"candidates": 2, "steps": 20}


def test_a_target_score_needs_no_eight_finished_ones_where_the_first_rung_is_the_reference():
    asked = {"verifier": [brightness, contrast], "nfe": 64, "target_score": 99.0}
    assert toy_search(algorithm="auto", **asked).stop_reason == "budget spent"
    with pytest.raises(ValueError, match="has them after 8 finished candidates, and only 6 are sure"):
        toy_search(algorithm="random", **asked | {"nfe": 48})


def test_a_set_of_no_diversity_is_the_best_and_the_default_knows_no_sets():
    found = [toy_search(algorithm=one, nfe=96) for one in (Halving(finish=4), Halving(finish=4, diversity=0.0))]
    assert told(found[0])["candidates"] == told(found[1])["candidates"]
    assert Halving().diversity is None


def test_a_rung_lets_the_set_go_on_that_is_best_by_scores_and_thumbnails():
    """Every pair and triple of the rows is tried, in place of insertion and swaps."""
    space = Terms(bare_space(8), 8 * 8).space
    cells = np.array([[0, 9, 0], [0, 0, 9], [9, 0, 9], [50, 50, 0], [0, 90, 99]], np.uint8)
    states = replace(space.fresh(range(5)), step=4)
    components = {"v": np.array([5.0, 4.0, np.nan, 3.0, 2.0])}
    evaluation = Evaluation(tuple(range(5)), states, {}, components, thumbnails=cells)

    class Seen:
        def rank(self, pool):
            return [0, 1, 3, 4, 2]

        def values(self, pool):
            return pool.components["v"]

    rows = [0, 1, 3, 4]
    quality = evaluation.components["v"][rows]
    distance = cosine_distances(unexplained(shown_by(cells[rows]), quality))
    for count in (2, 3):
        best = max(combinations(range(4), count), key=lambda some: worth(some, quality, distance, 2.0))
        order = Halving(finish=count, diversity=2.0)._order(Seen(), evaluation, count)
        assert order[:count] == [rows[one] for one in best] and order[-1] == 2 and sorted(order) == list(range(5))


def test_thumbnails_come_back_where_they_are_asked_for():
    seen: list[Evaluation] = []

    class Looking:
        name, whole_calls = "looking", False

        def plan(self, problem):
            for asked in (True, False):
                seen.extend((yield Job(problem.fresh(2), 4, thumbnails=asked)))
            yield Job(seen[0].states, problem.space.end)

    toy_search(algorithm=Looking(), nfe=48, batch_size=4)
    assert seen[0].thumbnails.shape == (2, 192) and seen[0].thumbnails.dtype == np.uint8 and seen[1].thumbnails is None
    assert seen[0][[1]].thumbnails.tolist() == [seen[0].thumbnails[1].tolist()]
    with pytest.raises(ValueError, match="thumbnails=True"):
        Job(seen[0].states, 6, score=False, thumbnails=True)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"diversity": 1.5}, ValueError, "finish=4"),
        ({"diversity": 1.5, "finish": 1}, ValueError, "finish=1"),
        ({"diversity": -1, "finish": 4}, ValueError, "diversity=-1"),
        ({"diversity": float("inf"), "finish": 4}, ValueError, "finite"),
        ({"diversity": "1", "finish": 4}, TypeError, "number"),
    ],
)
def test_a_diversity_that_makes_no_sense_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        Halving(**options)
