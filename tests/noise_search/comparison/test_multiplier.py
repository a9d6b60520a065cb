"""The expected best of n of m, and how many random candidates a search is worth."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from noise_search.comparison.statistics.measures import by_cell
from noise_search.comparison.statistics.multiplier import SATURATED, multipliers, saturation
from noise_search.order_statistics import crossing, expected_best, sizes
from tiny.made_up import NFE, gaussian_pools, pool, ragged, random_search, record, rescaled

few = settings(max_examples=15, deadline=None)
NAN = float("nan")


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(NAN)), min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_expected_best_is_the_mean_over_all_subsets(scores):
    found = expected_best(np.array(scores), sizes(len(scores)))
    for n in range(1, len(scores) + 1):
        bests = [np.nanmax(some) for some in combinations(scores, n) if not np.isnan(some).all()]
        assert found[n - 1] == pytest.approx(np.mean(bests) if bests else NAN, nan_ok=True)


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_worth_of_the_best_is_shared_by_equally_good_ones(pairs):
    own, worth = np.array(pairs, dtype=float).T
    found = expected_best(own, sizes(len(own)), of=worth)
    for n in range(1, len(own) + 1):
        bests = []
        for some in combinations(range(len(own)), n):
            top = own[list(some)].max()
            bests.append(np.mean([worth[i] for i in some if own[i] == top]))
        assert found[n - 1] == pytest.approx(np.mean(bests))


def test_chance_of_every_rank_is_hypergeometric():
    candidates, n = 300, np.array([1.0, 7.0, 100.0, 300.0])
    for rank in (1, 7, 100, 250, 300):  # the best is among the lowest `rank` if all n are
        found = expected_best(np.where(np.arange(candidates) < rank, 0.0, 1.0), n)
        np.testing.assert_allclose(1 - found, stats.hypergeom.pmf(n, candidates, rank, n), atol=1e-12)


def test_expected_best_of_a_large_pool_is_that_of_the_distribution():
    scores = stats.norm.ppf((np.arange(20000) + 0.5) / 20000)
    for n in (1, 2, 10, 100):
        exact, _ = integrate.quad(lambda x, n=n: n * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -9, 9)
        assert expected_best(scores, np.array([float(n)]))[0] == pytest.approx(exact, abs=2e-3)


def test_sizes_are_all_while_few_and_reach_the_pool():
    assert list(sizes(1)) == [1]
    assert list(sizes(256)) == list(range(1, 257))
    many = sizes(5000)
    assert (many[0], many[-1]) == (1, 5000) and len(many) <= 256 and (np.diff(many) > 0).all()


def test_crossing_finds_levels_on_the_curve_and_says_on_which_side_others_are():
    curve = np.array([[0.0, 1.0, 1.0, 3.0]] * 7 + [[2.0] * 4] * 2)
    position, side = crossing(curve, np.array([-1, 0, 0.5, 1, 2, 3, 4, 2, 3.0]))
    np.testing.assert_allclose(position, [0, 0, 0.5, 1, 2.5, 3, 3, NAN, 3])
    np.testing.assert_array_equal(side, [-1, 0, 0, 0, 0, 0, 1, 0, 1])


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 3), st.floats(-1, 1))
@settings(max_examples=60, deadline=None)
def test_a_level_that_misses_a_point_by_float_noise_is_on_it(unit, shift, point, noise):
    curve = unit * np.array([[0.0, 1.0, 1.5, 1.7]]) + shift
    level = curve[:, point] + noise * (9e-5 * 1.7 * unit + 9e-7 * np.abs(shift))
    position, side = crossing(curve, level)
    assert side[0] == 0 and position[0] == pytest.approx(point, abs=1e-3)


def test_a_curve_that_rises_by_float_noise_alone_tells_nothing():
    position, _ = crossing(np.array([[2.0, 2.0 + 4e-7]]), np.array([2.0]))
    assert np.isnan(position[0])


def test_winners_that_are_the_pools_best_but_for_float_noise_are_no_bound():
    pools = [pool([1.0, 2.0], f"p{i}") for i in range(9)]
    (found,) = multipliers([record(one.prompt, "paths", NFE, 0, 2.0 + 5e-7) for one in pools], pools)
    assert found.times.value == pytest.approx(2) and found.times.at_least == ()


def test_each_cell_has_the_curve_of_its_own_pools():
    records, pools = ragged(5)
    found = {(one.algorithm, one.budget): one for one in multipliers(records, pools)}
    assert {budget: one.known for (_, budget), one in found.items()} == {NFE: 2, 2 * NFE: 2, 8 * NFE: 8}
    for cell, rows in by_cell(records).items():
        own = [one for one in pools if (one.prompt, one.seed) in {(row.prompt, row.seed) for row in rows}]
        assert str(multipliers(rows, own)[0]) == str(found[cell])  # some are NaN
    whole = found["random", 8 * NFE].times
    assert whole.value == pytest.approx(1) and "value" not in whole.at_least + whole.at_most


def test_random_search_is_worth_itself_in_expectation():
    scores = [0.1, 0.5, 0.6, 2.0]
    pools = [pool(order, seed=i) for i, order in enumerate(permutations(scores))]
    for one in multipliers(random_search(pools, [1, 2, 3, 4]), pools):
        assert one.times.value == pytest.approx(1, abs=1e-12)
        assert "value" not in one.times.at_least + one.times.at_most
        assert one.seconds.value == pytest.approx(0.5 * one.bought)


@pytest.mark.parametrize("factor", [0.5, 4])
def test_best_of_k_times_as_many_is_k_times_as_good(factor):
    rng = np.random.default_rng(1)
    pools = gaussian_pools(150, 2, 128, 0.5, rng)
    records = []
    for one in pools:
        more = rng.permutation(one.scores["clip"])[: int(8 * factor)]
        records.append(record(one.prompt, "better", 8 * NFE, one.seed, max(more), seconds=2.0))
    (found,) = multipliers(records, pools)
    assert found.bought == 8
    assert found.times.low < factor < found.times.high
    assert found.times.value == pytest.approx(factor, rel=0.2)
    assert found.times.high / found.times.low < 2
    assert found.seconds.value == pytest.approx(found.candidates * 0.5 / 2.0)


def test_multipliers_of_a_gaussian_are_those_of_its_order_statistics():
    scores = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    exact, _ = integrate.quad(lambda x: 37 * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** 36, -9, 9)
    (found,) = multipliers([record(score=exact, budget=10 * NFE + 9)], [pool(scores)])
    assert found.bought == 10
    assert found.candidates == pytest.approx(37, rel=0.02)
    assert np.isnan(found.times.low)


def worth(times, prompts, limit, repeats, rng, budget=4):
    """Of searches worth so many times the random candidates, with pools of at most `limit` times: their worths."""
    found = []
    for _ in range(repeats):
        best = rng.normal(size=(prompts, int(budget * times))).max(axis=1)
        records = [record(f"p{i:02d}", "paths", budget * NFE, 0, score) for i, score in enumerate(best)]
        candidates, known = rng.normal(size=(prompts, budget * limit)), budget
        while True:
            pools = [pool(one[:known], f"p{i:02d}") for i, one in enumerate(candidates)]
            (one,) = multipliers(records, pools)
            if not one.times.at_least or known == budget * limit:
                break
            known = min(2 * known, budget * limit)
        found.append(one.times)
    return found


@pytest.mark.parametrize("times", [1, 2, 4])
def test_what_is_worth_two_reads_two_where_the_pool_is_large_enough(times):
    found = worth(times, 24, 8, 20, np.random.default_rng(8))
    low = [0 if "low" in one.at_most else one.low for one in found]
    high = [np.inf if "high" in one.at_least else one.high for one in found]
    assert 0.85 <= np.mean((np.array(low) <= times) & (times <= np.array(high)))
    assert np.median([one.value for one in found]) == pytest.approx(times, rel=0.15)


def test_with_a_pool_of_the_budget_nothing_reads_more_than_one_but_as_a_bound():
    found = worth(4, 24, 1, 10, np.random.default_rng(9))
    assert all(one.at_least[:1] == ("value",) and str(one).startswith(">1 (95 %") for one in found)


def test_of_a_score_that_saturates_no_worth_is_told_from_there_on():
    scores = np.minimum(np.random.default_rng(10).normal(size=(9, 64)), 1.0)
    pools = [pool(one, f"p{i}") for i, one in enumerate(scores)]
    records = [record(one.prompt, "paths", n * NFE, 0, 1.0) for one in pools for n in (2, 4, 32, 64)]
    found = multipliers(records, pools)
    assert [one.saturated for one in found] == [False, False, True, True] and saturation(found) == 32 * NFE
    assert np.isnan(found[2].times.value) and "as the score saturates" in str(found[2])
    assert found[1].rise > SATURATED > found[2].rise and saturation(found[:2]) is None


def test_beyond_the_pool_is_a_lower_bound_and_below_one_candidate_an_upper():
    pools = gaussian_pools(6, 1, 16, 0.5, np.random.default_rng(2))
    above = [record(one.prompt, "great", 4 * NFE, 0, max(one.scores["clip"]) + 1) for one in pools]
    below = [record(one.prompt, "poor", 4 * NFE, 0, min(one.scores["clip"]) - 1) for one in pools]
    great, poor = multipliers(above + below, pools)
    assert (great.times.value, poor.times.value) == pytest.approx((4, 0.25))
    assert great.times.at_least == great.seconds.at_least == ("value", "low", "high")
    assert poor.times.at_most == poor.seconds.at_most == ("value", "low", "high")
    assert str(great).startswith("great at 40 NFE is worth >16 random candidates, where 4 could be had: >4 (95 %")
    assert "<0.25" in str(poor)


def test_an_interval_may_reach_beyond_the_pool_where_the_estimate_does_not():
    pools = gaussian_pools(8, 1, 16, 0.5, np.random.default_rng(3))
    lift = [0.4, -0.5] * 4
    records = [
        record(one.prompt, "mixed", 4 * NFE, 0, max(one.scores["clip"]) + x) for one, x in zip(pools, lift, strict=True)
    ]
    (found,) = multipliers(records, pools)
    assert found.times.value < 4
    assert found.times.at_least == ("high",)
    assert ">4" in str(found.times)


def test_failed_candidates_and_searches_do_not_spoil_the_others():
    pools = [pool([NAN, 1, 2, 3], "a"), pool([0, 1, NAN, 4], "b"), pool([NAN] * 4, "c")]
    records = [record("a", score=2), record("b", score=1), record("c", score=1), record("a", seed=1, score=NAN)]
    pools.append(pool([1, 2, 3, 4], "a", 1))
    (found,) = multipliers(records, pools)
    assert np.isfinite([found.candidates, found.times.low, found.times.high]).all()
    assert (found.times.searches, found.times.missing) == (2, 2)
    (none,) = multipliers([record(score=NAN)], [pool([1, 2])])
    assert np.isnan(none.candidates) and "no telling" in str(none)
    (flat,) = multipliers([record(score=1)], [pool([1, 1, 1])])
    assert np.isnan(flat.candidates)
    (instant,) = multipliers([record(score=1, seconds=0.0)], [pool([0, 1, 2])])
    assert np.isnan(instant.seconds.value) and np.isfinite(instant.times.value)


def test_a_smaller_pool_ends_the_curve_of_its_cell():
    pools = [pool(np.arange(32.0), "a"), pool(np.arange(8.0), "b")]
    (found,) = multipliers([record("a", score=99, budget=2 * NFE), record("b", score=99, budget=2 * NFE)], pools)
    assert found.candidates == pytest.approx(8)


@few
@given(st.randoms(use_true_random=False), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_and_unit_of_a_pools_scores_are_of_no_account(random, factor, shift):
    pools = gaussian_pools(4, 2, 12, 0.5, np.random.default_rng(4))
    records = random_search(pools, [2, 6])
    records += [replace(one, algorithm="paths", scores={"clip": one.scores["clip"] + 0.1}) for one in records]
    found = multipliers(records, pools)
    mixed = [replace(one, scores={"clip": tuple(random.sample(one.scores["clip"], 12))}) for one in pools]
    for old, new in zip(found, multipliers(records, mixed), strict=True):
        assert new.times.value == pytest.approx(old.times.value)
        assert (new.times.low, new.times.high) == pytest.approx((old.times.low, old.times.high))
    # A shift widens the slack, which is in part of the scores' magnitude.
    other = multipliers(
        [rescaled(one, factor, shift) for one in records], [rescaled(one, factor, shift) for one in pools]
    )
    for old, new in zip(found, other, strict=True):
        assert (new.times.value, new.times.low) == pytest.approx((old.times.value, old.times.low), rel=1e-3)
        assert new.times.at_least == old.times.at_least
