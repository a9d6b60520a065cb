"""Own scores, means, paired differences, and the intervals of both."""

import json
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noise_search.comparison.comparison import Comparison
from noise_search.comparison.statistics.coverage import Coverage
from noise_search.comparison.statistics.diversity import diversities
from noise_search.comparison.statistics.intervals import Searches, holm, mean_interval
from noise_search.comparison.statistics.means import differences, means
from noise_search.comparison.statistics.measures import Measures
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.statistics.transfer import transfers
from noise_search.comparison.views.answer import answer
from tiny.made_up import NFE, gaussian_pools, pool, random_search, record, rescaled, shifted

few = settings(max_examples=6, deadline=None)
unit = st.floats(0.1, 10)
shift = st.floats(-5, 5)


def test_the_mean_is_over_prompts_of_the_mean_over_their_seeds():
    records = [record("a", seed=0, score=1), record("a", seed=1, score=3), record("b", score=10)]
    (found,) = means(records)
    assert found.score.value == pytest.approx((2 + 10) / 2)
    assert (found.score.prompts, found.score.searches, found.score.missing) == (2, 3, 0)


def test_an_interval_of_means_is_students_over_prompts():
    values = np.random.default_rng(0).exponential(size=(9, 3))
    found = mean_interval(values.ravel(), [f"p{i}" for i in range(9) for _ in range(3)])
    theirs = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), theirs.low, theirs.high))
    assert (found.prompts, found.searches) == (9, 27)


def test_chances_are_students():
    values = np.random.default_rng(1).normal(0.3, size=12)
    searches = Searches(range(12))
    theirs = stats.ttest_1samp(values, 0, alternative="less").pvalue
    assert searches.below(searches.means(values)) == pytest.approx(theirs)
    assert [searches.below(searches.means(np.full(12, one))) for one in (-1, 0, 1)] == [0, 0.5, 1]


def test_of_prompts_with_other_numbers_of_seeds_the_mean_is_that_without_each():
    prompts, values = list("aabccc"), np.array([1.0, 3, 10, 4, 5, 6])
    means = Searches(prompts).means(values)
    assert means == pytest.approx([(2 + 10 + 5) / 3, (10 + 5) / 2, (2 + 5) / 2, (2 + 10) / 2])
    shared = Searches(prompts, [0, 1000, 0, 0, 1000, 2000]).means(values)  # 2000 is no other prompt's
    assert shared[:4] == pytest.approx(means)
    assert shared[4:] == pytest.approx([(3 + 5.5) / 2, (1 + 10 + 5) / 3])


# Variances of a prompt, of a noise over all prompts, and of the rest: "aesthetic" on shapes-flow.
PROMPT, NOISE, REST = 0.193, 0.0447, 0.494


def covered(prompts, seeds, repeats, shared, rng):
    """How often a mean's interval holds the truth; and how often a difference of two equal algorithms excludes 0."""
    shape = (prompts, seeds, repeats)

    def drawn(best_of):
        noise = rng.normal(0, NOISE**0.5, (best_of, 1 if shared else prompts, seeds, repeats))
        return (noise + rng.normal(0, REST**0.5, (best_of, *shape))).max(axis=0)

    noises = [1000 * seed for seed in range(seeds)] * prompts if shared else None
    searches = Searches([p for p in range(prompts) for _ in range(seeds)], noises)
    found = []
    for values in (rng.normal(0, PROMPT**0.5, (prompts, 1, repeats)) + drawn(1), drawn(4) - drawn(4)):
        means = searches.means(values.reshape(-1, repeats))
        error, freedom = searches.error(means)
        found.append(np.mean(np.abs(means[0]) <= stats.t.ppf(0.975, freedom) * error))
    return found[0], 1 - found[1]


@pytest.mark.parametrize(("prompts", "seeds"), [(12, 1), (30, 1), (30, 2), (120, 2)])
def test_intervals_cover_the_truth_as_often_as_they_claim(prompts, seeds):
    covers, differ = covered(prompts, seeds, 2000, False, np.random.default_rng(1))
    assert 0.93 <= covers <= 0.97 and differ <= 0.06


@pytest.mark.parametrize(("prompts", "seeds"), [(30, 2), (120, 2), (30, 5)])
def test_intervals_are_no_less_sure_where_prompts_share_noises(prompts, seeds):
    covers, differ = covered(prompts, seeds, 1000, True, np.random.default_rng(2))
    assert covers >= 0.93 and differ <= 0.06
    seen = Searches([p for p in range(prompts) for _ in range(seeds)])
    noise = np.random.default_rng(3).normal(0, NOISE**0.5, (1, seeds, 400))
    values = (noise + np.random.default_rng(4).normal(0, REST**0.5, (prompts, seeds, 400))).reshape(-1, 400)
    error, freedom = seen.error(means := seen.means(values))
    assert np.mean(np.abs(means[0]) <= stats.t.ppf(0.975, freedom) * error) < 0.9  # as if each prompt had its own


def test_one_noise_for_all_prompts_gives_no_interval_and_no_verdict():
    found = [record(f"p{i:02d}", name, score=i % 3 + (name == "paths"), offset=0) for i in range(12) for name in
             ("random", "paths")]  # fmt: skip
    (difference,) = differences(found)
    assert np.isnan(difference.difference.low) and difference.verdict == "no verdict"
    assert "all prompts share one noise" in str(difference)
    (own,) = differences([replace(one, offset=1000 * int(one.prompt[1:])) for one in found])
    assert own.verdict == "higher"


def test_holm_holds_the_smallest_chance_against_the_smallest_share():
    assert holm([0.03, 0.001, float("nan"), 0.04]) == pytest.approx([0.025, 0.05 / 3, 0.05 / 3, 0.025])
    assert holm([0.02, 0.001]) == pytest.approx([0.05, 0.025])
    assert holm([]) == []


@pytest.mark.parametrize(("prompts", "others", "budgets"), [(8, 1, 2), (12, 5, 2), (120, 2, 1)])
def test_among_equals_hardly_any_comparison_differs(prompts, others, budgets):
    rng, repeats = np.random.default_rng(5), 2000
    random = rng.normal(size=(prompts, 2 * budgets, 1, repeats))  # by the own score and a judge
    gains = (rng.normal(size=(prompts, 2 * budgets, others, repeats)) - random).reshape(prompts, -1, repeats)
    searches = Searches(range(prompts))
    error, freedom = searches.error(means := searches.means(gains))
    chances = 2 * stats.t.sf(np.abs(means[0]) / error, freedom).T
    named = [any(chance <= share for chance, share in zip(one, holm(one), strict=True)) for one in chances]
    assert 0.02 <= np.mean(named) <= 0.06


@pytest.mark.parametrize("prompts", [2, 4, 7, 8, 30])
def test_among_equals_hardly_any_report_names_a_winner_or_a_loser(prompts):
    rng, named = np.random.default_rng(6), 0
    for _ in range(12):
        scores = rng.normal(size=(3, prompts))
        records = [
            record(f"p{i:02d}", name, score=score)
            for name, some in zip(("random", "paths", "zero-order"), scores, strict=True)
            for i, score in enumerate(some)
        ]
        first, details, _ = answer(Comparison(tuple(records), (), {}))
        named += "is better than" in first or "Clearly worse" in details
        assert first.startswith(f"No verdict: at 10 NFE there are {prompts} prompts, where 8 are needed.") == (
            prompts < 8
        )
    assert named <= (0 if prompts < 8 else 3)


def test_a_single_search_has_no_interval_and_seeds_of_one_prompt_have_one():
    (single,) = means([record(score=0.5)])
    assert single.score.value == 0.5
    assert np.isnan([single.score.low, single.score.high]).all()
    assert str(single) == "random at 10 NFE: own 0.5 (no interval)"
    (several,) = means([record(seed=i, score=i) for i in range(4)])
    alone = stats.ttest_1samp(range(4), 0).confidence_interval(0.95)
    assert (several.score.low, several.score.high) == pytest.approx((alone.low, alone.high))
    assert several.score.undecided == "1 prompt, where 8 are needed"


def test_nan_scores_are_left_out_and_counted():
    (found,) = means([record("a", score=1), record("b", score=float("nan")), record("c", score=float("inf"))])
    assert (found.score.value, found.score.searches, found.score.missing) == (1, 1, 2)
    (nothing,) = means([record(score=float("nan"))])
    assert np.isnan(nothing.score.value)
    assert "unknown" in str(nothing)


def test_judges_of_a_search_that_failed_are_missing():
    records = [record("a", judge=1.0), record("b", score=float("nan"))]
    (found,) = means(records, measure="oracle")
    assert (found.score.value, found.score.missing) == (1, 1)


def test_several_verifiers_count_by_z_scores_against_the_pool():
    rng = np.random.default_rng(2)
    clip, aesthetic = rng.normal(size=(2, 9))
    clip[4] = np.nan
    random = replace(pool(clip), scores={"clip": tuple(clip), "aesthetic": tuple(aesthetic), "flat": (0.1,) * 9})
    one = replace(record(), scores={"clip": 2.0, "aesthetic": -1.0, "flat": 7.0})
    measures = Measures.of([one], [random])
    z = (2.0 - np.nanmean(clip)) / np.nanstd(clip), (-1.0 - aesthetic.mean()) / aesthetic.std()
    assert measures.of_record(one) == pytest.approx(sum(z) / 3)
    expected = (stats.zscore(clip, nan_policy="omit") + stats.zscore(aesthetic)) / 3
    np.testing.assert_allclose(measures.of_pool(random), expected)
    assert measures.of_record(one, "aesthetic") == -1.0
    alone = Measures.of([one], [random], verifiers=["clip"])
    assert alone.of_record(one) == 2.0


def test_differences_are_paired():
    rng = np.random.default_rng(3)
    hard = 100 * rng.normal(size=25)
    records = [record(f"p{i:02d}", score=x) for i, x in enumerate(hard)]
    records += [record(f"p{i:02d}", "paths", score=x + 1 + 0.1 * rng.normal()) for i, x in enumerate(hard)]
    (found,) = differences(records)
    assert found.algorithm == "paths"
    assert 0.9 < found.difference.low < 1 < found.difference.high < 1.1
    assert str(found).endswith("higher")
    (turned,) = differences(records, baseline="paths")
    assert turned.difference.value == pytest.approx(-found.difference.value)
    assert str(turned).endswith("lower")


@few
@given(st.floats(-1e-4, 1e-4), st.floats(1e-3, 1e3), st.sampled_from([-1, 1]))
def test_scores_that_agree_as_far_as_is_promised_do_not_differ(noise, size, sign):
    records = [record(f"p{i}", score=sign * size) for i in range(9)]
    records += [record(f"p{i}", "paths", score=sign * size * (1 + 0.99 * noise)) for i in range(9)]
    (found,) = differences(records)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert str(found).endswith("no clear difference")


def test_pairs_have_equal_prompt_budget_and_seed():
    records = [record("a", seed=0, score=1), record("a", seed=1, score=5), record("a", budget=20, score=50)]
    records += [record("a", "paths", seed=1, score=6), record("a", "paths", seed=2, score=1000)]
    records += [record("a", "paths", budget=40, score=1)]
    at_10, at_40 = differences(records)
    assert (at_10.difference.value, at_10.difference.searches, at_10.difference.missing) == (1, 1, 1)
    assert np.isnan(at_40.difference.value) and at_40.difference.missing == 1


@few
@given(st.randoms(use_true_random=False))
def test_order_of_records_and_pools_is_of_no_account(random):
    pools = gaussian_pools(5, 2, 8, 0.5, np.random.default_rng(6))
    records = random_search(pools, [2, 4]) + shifted(pools, "paths", 4 * NFE, lambda _: (0.6, -3))
    mixed = random.sample(records, len(records)), random.sample(pools, len(pools))
    held_out = (partial(one, measure="oracle") for one in (means, differences))
    for statistic in (means, differences, *held_out, multipliers, transfers):
        assert statistic(*mixed) == statistic(records, pools)


@few
@given(unit, shift)
def test_means_and_differences_follow_the_unit_of_scores(factor, move):
    records = random_search(gaussian_pools(4, 2, 6, 0.5, np.random.default_rng(5)), [1, 3])
    records += [replace(one, algorithm="paths", scores={"clip": one.scores["clip"] ** 2}) for one in records]
    other = [rescaled(one, factor, move) for one in records]
    for old, new in zip(means(records), means(other), strict=True):
        told = [factor * x + move for x in (old.score.value, old.score.low, old.score.high)]
        assert [new.score.value, new.score.low, new.score.high] == pytest.approx(told, abs=1e-9)
    for old, new in zip(differences(records), differences(other), strict=True):
        assert new.difference.low == pytest.approx(factor * old.difference.low, abs=2e-4 * (factor + 5))


def test_results_are_plain_json():
    (found,) = means([record("a", score=1.0), record("b", score=2.0)])
    assert json.loads(json.dumps(asdict(found)))["score"]["value"] == 1.5


ONE, TWO = record("p", judge=1.0), record("a prompt", seed=7, scores={"clip": 1.0, "aesthetic": 2.0})
ALIKE = [ONE, replace(ONE, scores={"clip": 2.0})]
SHORT = [replace(ONE, embedding=(1.0,)), replace(ONE, seed=1, embedding=(1.0, 0.0))]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: means([]), "records is empty"),
        (lambda: multipliers([], []), "records is empty"),
        (lambda: transfers([], []), "records is empty"),
        (lambda: diversities([]), "records is empty"),
        (lambda: means([ONE], measure="oracel"), "unknown measure 'oracel'; did you mean 'oracle'"),
        (lambda: means([ONE], verifiers=["clop"]), "unknown verifier 'clop'; did you mean 'clip'"),
        (lambda: differences([ONE], baseline="randem"), "unknown algorithm 'randem'; did you mean 'random'"),
        (lambda: means(ALIKE), r"two records have .*\('random', 'p', 10, 0\)"),
        (lambda: means([ONE], [pool([1]), pool([2])]), r"two pools have .*\('p', 0\)"),
        (lambda: means([TWO]), "no pool for prompt 'a prompt' and seed 7"),
        (
            lambda: means([replace(TWO, prompt="p", seed=0)], [pool([1.0, 2.0])]),
            "pool for prompt 'p', seed 0: 'aesthetic'.*Expected one of: clip",
        ),
        (lambda: Searches([]), "no searches"),
        (lambda: multipliers([record("q", seed=3)], [pool([1])]), "no pool for prompt 'q' and seed 3"),
        (lambda: multipliers([record(budget=9)], [pool([1])]), "budget 9 buys no random candidate of 10 NFE"),
        (
            lambda: multipliers([record("p"), record("q")], [pool([1]), pool([1], "q", nfe=20)]),
            r"candidates of \[10, 20\] NFE",
        ),
        (lambda: transfers([ONE], [], ["oracel"]), "unknown judge 'oracel'; did you mean 'oracle'"),
        (lambda: transfers([ONE], [], ["clip"]), "'clip' was searched by"),
        (lambda: transfers([record("q", judge=1.0)], [pool([1], judge=[1])]), "no pool for prompt 'q'"),
        (lambda: transfers([ONE], [pool([1, 2])]), "pool for prompt 'p', seed 0: 'oracle'"),
        (lambda: diversities(SHORT), r"lengths \[1, 2\]"),
    ],
)
def test_errors_name_what_is_wrong(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_prompts_may_hold_what_is_no_utf_8():
    records = [record(prompt, name, judge=1.0) for prompt in ("\ud800", "\0") for name in ("random", "paths")]
    pools = [pool([0, 1], prompt, judge=[0, 1]) for prompt in ("\ud800", "\0")]
    found = [*means(records), *differences(records), *multipliers(records, pools), *transfers(records, pools)]
    assert len(found) == 2 + 1 + 2 + 2 and len(diversities(records)) == 2 and Coverage.of(records).is_whole
