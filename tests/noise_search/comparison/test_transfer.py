"""Whether held-out judges see a gain: the ratio has a closed form under random search, and a hacker is caught."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search.comparison.statistics.measures import by_cell
from noise_search.comparison.statistics.transfer import alarms, transfers
from tiny.made_up import NFE, gaussian_pools, pool, ragged, random_search, record, rescaled, shifted

few = settings(max_examples=12, deadline=None)
NAN = float("nan")
OWN, HELD = 0.3, 20.0  # standard deviations of the made-up scores


@pytest.mark.parametrize("correlation", [0.8, 0.4, 0.0])
def test_under_random_search_the_ratio_is_the_correlation_within_prompts(correlation):
    pools = gaussian_pools(150, 2, 32, correlation, np.random.default_rng(0))
    for one in transfers(random_search(pools, [4, 32]), pools):
        assert one.ratio.value == pytest.approx(correlation, abs=0.1)
        assert one.random_ratio == pytest.approx(correlation, abs=0.1)
        assert one.ratio.low < correlation < one.ratio.high
        assert not one.beyond and not one.alarms


def test_gains_count_from_the_mean_candidate_in_within_prompt_standard_deviations():
    pools = [pool([0, 2], "a", judge=[1, 5]), pool([10, 16], "b", judge=[7, 7])]
    records = [record("a", "paths", score=3, judge=7), record("b", "paths", score=15, judge=8)]
    (found,) = transfers(records, pools)
    own, held = np.sqrt((1 + 9) / 2), np.sqrt((4 + 0) / 2)  # root mean square; a flat judge has no spread of its own
    assert found.own_gain.value == pytest.approx((2 + 2) / 2 / own)
    assert found.judge_gain.value == pytest.approx((4 + 1) / 2 / held)
    assert found.ratio.value == pytest.approx(found.judge_gain.value / found.own_gain.value)


def test_random_ratio_is_read_at_equal_own_gain():
    # The worst and the middle one lie on one line, the best is a hack: the ratio falls as the budget grows.
    scores, judge = [0.0, 1.0, 2.0], [0.0, 1.0, 0.0]
    pools = [pool(scores, p, judge=judge) for p in "ab"]
    own = [0, 5 / 3 - 1, 1]  # less the mean 1: expected best of 1, 2, 3
    held = [0, 1 / 3 - 1 / 3, 0 - 1 / 3]  # best of 2 is the middle one in a third of draws
    unit = np.std(judge) / np.std(scores)
    middle = (own[1] + own[2]) / 2
    found = [
        transfers([record(p, "paths", score=1 + gain, judge=1.0) for p in "ab"], pools)[0]
        for gain in (own[1] / 2, own[1], middle, own[2], 2.0)
    ]
    ratios = [held[1] / own[1] / unit, held[2] / own[2] / unit]
    expected = [ratios[0], ratios[0], sum(ratios) / 2, ratios[1], ratios[1]]
    assert [one.random_ratio for one in found] == pytest.approx(expected)
    assert [one.beyond for one in found] == [False] * 4 + [True]
    assert "even under random search oracle does not follow" in str(found[-1])


def test_each_cell_has_the_curve_of_its_own_pools():
    records, pools = ragged(6)
    found = {(one.algorithm, one.budget): one for one in transfers(records, pools)}
    for cell, rows in by_cell(records).items():
        own = [one for one in pools if (one.prompt, one.seed) in {(row.prompt, row.seed) for row in rows}]
        assert str(transfers(rows, own)[0]) == str(found[cell])  # some are NaN
    assert not found["random", 8 * NFE].beyond


def test_a_hacker_sets_off_both_alarms_and_random_search_none():
    pools = gaussian_pools(30, 2, 32, 0.6, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    records = random_search(pools, [4, 16])
    records += shifted(pools, "hacker", 4 * NFE, lambda _: (OWN * (1 + 0.2 * rng.normal()), HELD * 0.5 * rng.normal()))
    records += shifted(pools, "hacker", 16 * NFE, lambda _: (OWN * 3, HELD * (0.5 * rng.normal() - 1)))
    records += shifted(pools, "honest", 16 * NFE, lambda _: (OWN * 2, HELD * (1.2 + rng.normal())))
    found = transfers(records, pools)
    assert [(one.kind, one.algorithm, one.budget) for one in alarms(found)] == [
        ("low transfer", "hacker", 4 * NFE),
        ("judge falls", "hacker", 16 * NFE),
        ("falling", "hacker", 16 * NFE),
    ]
    first, second, falling = (one.sentence for one in alarms(found))
    assert first.startswith("hacker at 40 NFE: oracle sees ") and "at equal own gain" in first
    assert second.startswith("hacker at 160 NFE: the own score is ") and "oracle 1.08 " in second
    assert (
        falling.startswith("hacker: from 40 to 160 NFE the own score rises by 0.59 ") and "oracle falls by" in falling
    )
    assert second in str(found[1]) and falling in str(found[1])


def test_a_low_ratio_beyond_the_pools_is_held_against_the_largest_own_gain():
    pools = gaussian_pools(30, 2, 32, 0.6, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    found = transfers(shifted(pools, "hacker", 16 * NFE, lambda _: (OWN * 3, HELD * 0.2 * rng.normal())), pools)
    (alarm,) = alarms(found)
    assert alarm.kind == "low transfer" and "at the largest own gain it reached" in alarm.sentence


@pytest.mark.parametrize("correlation", [0.6, -0.6])
def test_there_is_an_alarm_where_a_judge_falls_below_the_mean_candidate_while_the_own_score_rises(correlation):
    # At a negative correlation random search hacks the verifier too, and its ratio is no measure of others.
    pools = gaussian_pools(10, 1, 16, correlation, np.random.default_rng(9))

    def told(own, held):
        rng = np.random.default_rng(3)
        move = iter([(own + 0.02 * rng.normal(), held + rng.normal()) for _ in pools])
        return [one.kind for one in alarms(transfers(shifted(pools, "hacker", 4 * NFE, lambda _: next(move)), pools))]

    assert told(OWN, -HELD / 2) == ["judge falls"]
    assert told(-OWN, -HELD / 2) == [] == told(OWN, HELD)


def test_random_search_hardly_ever_sets_off_an_alarm():
    rung = told = 0
    for seed in range(30):
        pools = gaussian_pools(12, 1, 16, 0.4, np.random.default_rng(seed))
        found = transfers(random_search(pools, [2, 4, 16]), pools)
        rung, told = rung + len(alarms(found)), told + len(found)
    assert rung / told <= 0.05


@pytest.mark.parametrize(("correlation", "prompts"), [(0.0, 8), (0.0, 30), (0.4, 12)])
def test_where_nothing_is_hacked_hardly_any_comparison_sounds_an_alarm(correlation, prompts):
    told = 0
    for seed in range(30):
        pools = gaussian_pools(prompts, 1, 8, correlation, np.random.default_rng(100 + seed))
        told += bool(alarms(transfers(random_search(pools, [4, 8]), pools)))
    assert told / 30 <= 0.1


def test_what_is_said_to_be_visible_sounds_an_alarm_in_four_of_five():
    rng, pools = np.random.default_rng(12), gaussian_pools(24, 1, 32, 0.6, np.random.default_rng(13))
    equal = HELD * 1.5 * 0.6

    def found(short):
        move = lambda _: (OWN * (1.5 + 0.2 * rng.normal()), equal - HELD * short + HELD * rng.normal())  # noqa: E731
        return transfers(shifted(pools, "paths", 4 * NFE, move), pools)[0]

    visible = float(np.mean([found(0).visible for _ in range(10)]))
    assert 0.5 < visible < 1.5
    assert 0.6 <= np.mean([bool(found(visible).alarms) for _ in range(40)]) <= 0.95
    assert not any(found(0).alarms for _ in range(10))


def test_a_low_ratio_that_may_be_chance_is_told_without_alarm():
    pools = gaussian_pools(4, 1, 32, 0.6, np.random.default_rng(3))
    gains = iter([2.0, -2.0, 1.5, -1.4])
    found = transfers(shifted(pools, "paths", 4 * NFE, lambda _: (OWN * 1.5, HELD * next(gains))), pools)
    assert not alarms(found)
    assert "more prompts are needed" in str(found[0])


def test_with_few_prompts_no_alarm_is_sounded():
    def hacked(prompts):
        pools = gaussian_pools(prompts, 1, 32, 0.6, np.random.default_rng(1))
        records = shifted(pools, "hacker", 4 * NFE, lambda _: (OWN, HELD))
        records += shifted(pools, "hacker", 16 * NFE, lambda _: (OWN * 3, -HELD))
        return transfers(records, pools)

    assert {one.kind for one in alarms(hacked(8))} == {"judge falls", "falling"}
    assert not alarms(hacked(7)) and "more prompts are needed" in str(hacked(7)[-1])


def test_without_own_gain_there_is_no_ratio_and_with_an_unsure_one_no_interval():
    pools = gaussian_pools(6, 1, 8, 0.5, np.random.default_rng(4))
    (none,) = transfers(shifted(pools, "poor", NFE, lambda _: (-0.1, -20)), pools)
    assert np.isnan(none.ratio.value) and not none.alarms and "no transfer ratio" in str(none)
    gains = iter([1.0, -0.9] * 3)
    (unsure,) = transfers(shifted(pools, "unsure", NFE, lambda _: (next(gains), 5)), pools)
    assert np.isfinite(unsure.ratio.value) and np.isnan(unsure.ratio.low)


def test_judges_that_cannot_tell_are_left_out_and_counted():
    pools = gaussian_pools(6, 1, 8, 0.5, np.random.default_rng(5))
    best = [int(np.argmax(one.scores["clip"])) for one in pools]
    blind = [
        replace(one, judges={"oracle": tuple(NAN if i == top else x for i, x in enumerate(one.judges["oracle"]))})
        for one, top in zip(pools, best, strict=True)
    ]
    records = shifted(pools, "paths", NFE, lambda _: (0.2, 10))
    records[0] = replace(records[0], judges={"oracle": NAN})
    records[1] = replace(records[1], judges={})
    (found,) = transfers(records, [blind[0], *pools[1:4], *blind[4:]])
    assert (found.ratio.searches, found.ratio.missing) == (4, 2)
    assert np.isfinite([found.ratio.value, found.ratio.low, found.random_ratio]).all()
    (nobody,) = transfers([replace(one, judges={"oracle": NAN}) for one in records], pools)
    assert np.isnan(nobody.own_gain.value) and not nobody.alarms
    flat = [replace(one, judges={"oracle": (1.0,) * 8}) for one in pools]
    (same,) = transfers(records, flat)
    assert np.isnan(same.judge_gain.value) and np.isnan(same.ratio.value)


@few
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_of_scores_are_of_no_account(factor, shift):
    pools = gaussian_pools(5, 2, 8, 0.5, np.random.default_rng(6))
    records = random_search(pools, [2, 4]) + shifted(pools, "paths", 4 * NFE, lambda _: (0.6, -3))
    found = transfers(records, pools)
    for kind in ("scores", "judges"):
        other = transfers(
            [rescaled(one, factor, shift, kind) for one in records],
            [rescaled(one, factor, shift, kind) for one in pools],
        )
        for old, new in zip(found, other, strict=True):
            assert (new.own_gain.value, new.judge_gain.low) == pytest.approx((old.own_gain.value, old.judge_gain.low))
            assert (new.ratio.value, new.random_ratio) == pytest.approx((old.ratio.value, old.random_ratio))
            assert [one.kind for one in new.alarms] == [one.kind for one in old.alarms]


def test_without_judges_there_is_nothing_to_transfer_to():
    assert transfers([record()], [pool([1, 2], judge=[1, 2])]) == ()
