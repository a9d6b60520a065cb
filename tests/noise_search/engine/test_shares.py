"""Prompts that share a budget: who is granted what, and that every NFE is granted once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from noise_search import search
from noise_search.engine.shares import Shares
from tiny.search import CountingSampler, brightness, contrast
from verifiers import MeanZ

PROMPTS = ["a", "a cat", "a cat that sleeps"]
SEEDS = [0, 1000, 2000]
STEPS = 4
KINDS = [("threshold", 0.65), ("difficulty", 0.65), ("difficulty", None)]
"""The last prompt reaches the target at once, the second at its 25th candidate, the first never."""


def run(share, target=None, **options):
    options = {"model": CountingSampler(STEPS), "verifier": brightness, "seed": SEEDS, "nfe": 50, **options}
    return search(options.pop("prompts", PROMPTS), share=share, target_score=target, progress=False, **options)


def found(results):
    """What was found and spent, waste apart."""
    return [
        (one.score, one.stop_reason, one.ledger.nfe_budget, one.ledger.nfe, [c.score for c in counted(one)])
        for one in results
    ]


def counted(result):
    return [one for one in result.candidates if not (one.failure or "").startswith("beyond")]


def played(shares, tables, pool):
    """Candidates by prompt in the end, where each prompt's come from its table until one reaches the target."""
    tries, rounds = [0] * len(tables), 0
    while True:
        scores = [np.array(row[:n]) for row, n in zip(tables, tries, strict=True)]
        running = [shares.target is None or not (one >= shares.target).any() for one in scores]
        grants = shares.grants(scores, running, pool - sum(tries))
        assert all(count >= 0 for count in grants)
        assert all(go or not count for go, count in zip(running, grants, strict=True))
        if not any(grants):
            return tries
        rounds += 1
        for at, count in enumerate(grants):
            row = np.array(tables[at][tries[at] : tries[at] + count])
            hits = np.flatnonzero(row >= shares.target) if shares.target is not None else ()
            tries[at] += int(hits[0]) + 1 if len(hits) else count


def test_by_threshold_all_that_run_get_equal_parts():
    scores = [np.zeros(8)] * 3
    assert Shares("threshold", 1.0).grants(scores, [True, False, True], 11) == [6, 0, 5]
    assert Shares("threshold", 1.0).grants(scores, [False] * 3, 11) == [0, 0, 0]
    assert Shares("threshold", 1.0).grants(scores, [True] * 3, 0) == [0, 0, 0]


def test_by_difficulty_each_prompt_is_tried_first():
    shares = Shares("difficulty", 1.0)
    assert shares.grants([np.empty(0)] * 3, [True] * 3, 48) == [4, 4, 4]
    assert shares.grants([np.empty(0)] * 3, [True] * 3, 8) == [2, 2, 2]
    assert shares.grants([np.zeros(4), np.zeros(1), np.zeros(4)], [True] * 3, 39) == [0, 3, 0]


def test_without_a_difference_between_prompts_difficulty_is_equal():
    for target in (9.0, None):
        assert played(Shares("difficulty", target), [[1.0] * 96] * 4, 96) == [24] * 4


def test_the_chance_of_a_prompt_alone_is_its_normals_to_the_power_one_half():
    scores, target = np.array([0.0, 1.0, 3.0, 4.0]), 5.0
    variance = scores.var(ddof=1)  # its own and the common one are the same
    first = np.sqrt(1 - ndtr((target - scores.mean()) / np.sqrt(variance))) * 2 / (2 + 4)
    gains = Shares("difficulty", target).gains([scores], 2)
    np.testing.assert_allclose(gains[0, 0], first)
    np.testing.assert_allclose(gains[0, 1], (1 - first) * first * 6 / 7)


def test_the_gain_without_a_target_is_the_normals_improvement_by_quadrature():
    scores = np.array([0.0, 1.0, 3.0, 4.0])
    spread, best = scores.std(ddof=1), scores.max()
    x = np.linspace(best, best + 12 * spread, 200_001)
    density = np.exp(-(((x - scores.mean()) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
    improvement = np.trapezoid((x - best) * density, x)
    gains = Shares("difficulty").gains([scores], 2)
    np.testing.assert_allclose(gains[0], np.sqrt(spread * improvement) / np.array([5, 6]), rtol=1e-6)


def test_gains_follow_scores_in_any_unit():
    rng = np.random.default_rng(0)
    scores = [rng.normal(at, 1 + at, 5) for at in range(3)]
    other = [7 * one - 3 for one in scores]
    np.testing.assert_allclose(Shares("difficulty").gains(other, 3), 7 * Shares("difficulty").gains(scores, 3))
    np.testing.assert_allclose(
        Shares("difficulty", 7 * 4.0 - 3).gains(other, 3), Shares("difficulty", 4.0).gains(scores, 3)
    )


def test_the_next_candidate_goes_where_it_brings_most():
    near, far = [0.0, 1.0, 2.0, 3.0], [-100.0, -99.0, -98.0, -97.0]
    near_tries, far_tries = played(Shares("difficulty", 4.0), [near * 20, far * 20], 40)
    assert near_tries > 3 * far_tries
    wide, narrow = [-15.0, -5.0, 5.0, 15.0], [-1.5, -0.5, 0.5, 1.5]
    wide_tries, narrow_tries = played(Shares("difficulty"), [wide * 50, narrow * 50], 100)
    assert wide_tries > 1.5 * narrow_tries


def test_what_is_out_of_reach_for_all_is_tried_alike():
    tables = [[float(at)] * 99 for at in range(9)]
    assert played(Shares("difficulty", 1e9), tables, 99) == [11] * 9


def test_what_is_hopeless_isn_t_given_up_for_good():
    near, far = [0.0, 1.0, 2.0, 3.0] * 500, [-6.0, -5.0, -4.0, -3.0] * 500
    _, far_tries = played(Shares("difficulty", 4.0), [near, far], 1000)
    assert far_tries > 4


@given(
    st.lists(
        st.lists(st.sampled_from([np.nan, -1.0, 0.0, 0.5, 2.0, 1e9]), min_size=1, max_size=40), min_size=1, max_size=6
    ),
    st.sampled_from(["threshold", "difficulty"]),
    st.sampled_from([None, 1.0, 5e9]),
    st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_grants_never_exceed_what_is_left_and_spend_it_while_any_prompt_runs(tables, rule, target, left):
    running = [at % 3 != 1 for at in range(len(tables))]
    grants = Shares(rule, target).grants([np.array(one) for one in tables], running, left)
    assert sum(grants) <= left
    assert (sum(grants) > 0) == (left > 0)
    assert all(go or not count for go, count in zip(running, grants, strict=True))


@given(st.integers(1, 5), st.integers(1, 12), st.sampled_from([None, 1.5, 9.0]), st.integers(0, 10))
@settings(max_examples=50, deadline=None)
def test_the_pool_is_spent_to_the_last_candidate(prompts, each, target, seed):
    tables = np.random.default_rng(seed).normal(size=(prompts, prompts * each)).tolist()
    for rule in ("threshold", "difficulty"):
        tries = played(Shares(rule, target), tables, prompts * each)
        unsolved = [target is None or not max(row[:n]) >= target for row, n in zip(tables, tries, strict=True)]
        assert sum(tries) <= prompts * each
        assert sum(tries) == prompts * each or not any(unsolved)
        assert min(tries) >= 1


@pytest.mark.parametrize(("share", "target"), KINDS)
@pytest.mark.parametrize("algorithm", ["random", "zero-order"])
def test_every_nfe_is_granted_once_and_counted_at_the_denoiser(share, target, algorithm):
    model = CountingSampler(STEPS)
    results = run(share, target, model=model, algorithm=algorithm, batch_size=5)
    ledgers = [one.ledger for one in results]
    assert all(one.nfe == one.nfe_budget for one in ledgers)
    assert sum(one.nfe_budget for one in ledgers) <= 3 * 50
    assert sum(one.nfe for one in ledgers) > 3 * 50 - STEPS or target is not None
    assert model.rows == sum(one.nfe + one.nfe_waste for one in ledgers)
    for one in results:
        assert one.ledger.nfe == STEPS * len(counted(one))
        assert one.settings["share"] == {"rule": share, "nfe": 150, "prompts": 3}


@pytest.mark.parametrize(("share", "target"), KINDS)
@pytest.mark.parametrize("algorithm", ["random", "zero-order"])
def test_nothing_depends_on_batches(share, target, algorithm):
    whole, *others = [found(run(share, target, algorithm=algorithm, batch_size=size)) for size in (16, 1, 2, 7)]
    for other in others:
        for one, two in zip(whole, other, strict=True):
            assert one[1:4] == two[1:4]
            np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
            np.testing.assert_allclose(one[4], two[4], rtol=1e-5)


def test_what_a_prompt_leaves_goes_to_the_others():
    alone = run("equal", 0.64)
    shared = run("threshold", 0.64)
    solved = [one.score >= 0.64 for one in alone]
    assert 0 < sum(solved) < 3  # else this shows nothing
    for before, after, there in zip(alone, shared, solved, strict=True):
        assert (after.ledger.nfe <= before.ledger.nfe) if there else (after.ledger.nfe > before.ledger.nfe)
        assert [c.score for c in counted(before)] == pytest.approx(
            [c.score for c in counted(after)][: len(counted(before))]
        )


def test_patience_leaves_its_rest_too():
    results = run("difficulty", patience=3)
    assert {one.stop_reason for one in results} == {"no better candidate among 3"}
    assert all(one.ledger.nfe == one.ledger.nfe_budget for one in results)


def test_candidates_are_those_of_a_search_with_its_own_budget():
    for algorithm in ("random", "zero-order"):
        for seed, prompt, one in zip(SEEDS, PROMPTS, run("difficulty", algorithm=algorithm), strict=True):
            own = run("equal", prompts=prompt, seed=seed, nfe=one.ledger.nfe, algorithm=algorithm)
            assert [c.recipe for c in one.candidates] == [c.recipe for c in own.candidates]


def test_one_prompt_alone_has_everything():
    one = run("difficulty", prompts="a cat", seed=0)
    assert found([one]) == found([run("equal", prompts="a cat", seed=0, nfe=48)])


@pytest.mark.parametrize(("share", "target"), KINDS)
def test_an_error_leaves_the_best_so_far_and_whole_ledgers(share, target):
    model = CountingSampler(STEPS)
    calls = []

    def failing(candidate):
        calls.append(candidate)
        if len(calls) == 20:
            raise RuntimeError("no")

    results = run(share, target, model=model, on_candidate=failing, batch_size=1)
    assert all(one.score > 0 for one in results)
    assert any("RuntimeError" in one.stop_reason for one in results)
    assert sum(one.ledger.nfe for one in results) == STEPS * 20 == model.rows
    assert sum(one.ledger.nfe_budget for one in results) <= 150


def test_ctrl_c_returns_what_was_found():
    model = CountingSampler(STEPS)
    calls = []

    def interrupting(candidate):
        calls.append(candidate)
        if len(calls) == 20:
            raise KeyboardInterrupt

    results = run("difficulty", model=model, on_candidate=interrupting, on_interrupt="return", batch_size=1)
    assert all(isinstance(one.error, KeyboardInterrupt) for one in results)
    assert sum(one.ledger.nfe for one in results) == STEPS * 20 == model.rows


def test_failed_candidates_count_as_tries():
    calls = []

    def often_nan(images, prompts):
        calls.extend(prompts)
        scores = brightness(images, prompts)
        return scores.masked_fill(scores < scores.median(), float("nan")) if len(calls) > 6 else scores

    results = run("difficulty", verifier=often_nan, batch_size=4)
    assert sum(len(one.candidates) for one in results) == 3 * 50 // STEPS
    assert any(c.failure for one in results for c in one.candidates)


def test_auto_takes_random_search_and_says_why():
    one, *_ = run("difficulty", algorithm="auto")
    assert one.settings["algorithm"]["name"] == "random"
    assert "share a budget" in one.settings["algorithm"]["why"]
    assert "share" not in run("equal")[0].settings


def test_the_cost_line_says_how_it_is_shared(capfd):
    search(PROMPTS, model=CountingSampler(STEPS), verifier=brightness, nfe=20, share="difficulty")
    assert "20 NFE for each of 3 prompts, shared by difficulty, random" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "equally"}, "unknown share 'equally'; did you mean 'equal'"),
        ({"share": "threshold"}, "stops prompts at a score: give target_score"),
        ({"share": "difficulty", "algorithm": "halving"}, "algorithm 'halving' is planned for a budget known before"),
        ({"share": "difficulty", "algorithm": "paths"}, "algorithm 'paths' is planned"),
        ({"share": "difficulty", "algorithm": "random", "draft_steps": 2}, "drafts are planned"),
        ({"share": "difficulty", "verifier": [brightness, contrast]}, "within a prompt's own candidates"),
        ({"share": "difficulty", "verifier": [brightness, contrast], "ensemble": "mean-rank"}, "own candidates"),
    ],
)
def test_what_can_t_be_shared_is_refused_before_anything_is_computed(options, message):
    model = CountingSampler(STEPS)
    with pytest.raises(ValueError, match=message):
        run(**options, model=model)
    assert model.rows == 0


def test_an_ensemble_with_a_reference_can_be_shared_by():
    reference = {"brightness": np.array([0.4, 0.5]), "contrast": np.array([0.1, 0.2])}
    keys = {one.key.partition("@")[0]: one.key for one in MeanZ(brightness, contrast).verifiers}
    frozen = MeanZ(brightness, contrast).freeze({keys[name]: values for name, values in reference.items()})
    results = run("difficulty", verifier=frozen)
    assert sum(one.ledger.nfe for one in results) == 148


def test_embedded_prompts_share_by_difficulty():
    prompts = ["a red circle", "three green triangles and a blue ring"]
    results = search(
        prompts, model="shapes-flow", steps=4, candidates=6, share="difficulty", target_score=2.0, progress=False
    )
    assert sum(one.ledger.nfe for one in results) <= 48
    assert all(one.ledger.nfe == one.ledger.nfe_budget for one in results)
    for one in results:
        assert one.stop_reason == ("target score 2 reached" if one.score >= 2.0 else "budget spent")
