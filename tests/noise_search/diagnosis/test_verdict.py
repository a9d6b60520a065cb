"""The verdict at each of its thresholds, from both sides."""

import math

import pytest

from noise_search.diagnosis.checks import Heldout, Rescoring, WrongPrompts
from noise_search.diagnosis.noise import NoiseCheck
from noise_search.diagnosis.verdict import LEAST_SHARE, LEAST_TRANSFER, MOST_WRONG, judged, moved

RISES = Heldout("oracle", 1.0, 0.0, 0.5, 2.0)
STAYS = Heldout("oracle", 1.0, 1.0, 0.5, 2.0)
FALLS = Heldout("aesthetic", 4.0, 5.0, 0.5, 2.0)
WHITE = NoiseCheck("|x|^2 / D", 1.0, 1.0, 0.0, 1.0, True)
BLOWN = NoiseCheck("|x|^2 / D", 1.5, 1.0, 11.0, 0.0, False)


def verdict(share=1.0, wrong=0.1, judges=(RISES,), noise=(WHITE,), own=2.0, **skipped):
    tried = WrongPrompts(1.0, {"other": wrong}, {}, skipped.get("wrong_skipped", ""))
    return judged(own, noise, Rescoring({"flip": share}, {}, {}), tried, judges)


def test_a_gain_that_passes_everything_and_that_a_judge_confirms_is_real():
    found = verdict()
    assert found.status == "real" and found.against == ()
    assert len(found.confirming) == 3 and "rises from 0 to 1" in found.confirming[0]


@pytest.mark.parametrize("judges", [(), (STAYS,)])
def test_without_a_judge_that_rises_it_is_unconfirmed(judges):
    assert verdict(judges=judges).status == "unconfirmed"
    assert verdict(judges=(*judges, RISES)).status == "real"


def test_it_is_not_real_where_the_judges_fall_and_doubtful_where_they_disagree():
    assert verdict(judges=(FALLS,)).status == verdict(judges=(FALLS, STAYS)).status == "not real"
    assert verdict(judges=(FALLS, RISES)).status == "doubtful"
    assert verdict(judges=(FALLS,)).against == ("judge aesthetic falls from 5 to 4",)


@pytest.mark.parametrize("judges", [(), (RISES,)])
@pytest.mark.parametrize("step", [-1e-6, 1e-6])
def test_each_limit_from_both_sides(judges, step):
    passed = "real" if judges else "unconfirmed"
    assert verdict(share=LEAST_SHARE + step, judges=judges).status == (passed if step > 0 else "doubtful")
    assert verdict(wrong=MOST_WRONG + step, judges=judges).status == (passed if step < 0 else "doubtful")


def test_noise_that_is_not_white_is_named():
    found = verdict(noise=(WHITE, BLOWN))
    assert found.status == "doubtful" and found.against == ("its noise isn't white (|x|^2 / D is 1.5)",)


def test_a_gain_that_is_lost_in_8_bits_is_doubtful():
    gone = Rescoring({}, {}, {"all": "..."}, rounded=True), WrongPrompts(0, {}, {}, "no gain"), (RISES,)
    for own, words in ((0.1, "8 bits"), (-0.1, "on average its verifiers see none")):
        found = judged(own, (), *gone)
        assert found.status == "doubtful" and len(found.against) == 1 and words in found.against[0]


def test_without_scores_nothing_is_said():
    assert verdict(judges=(Heldout("oracle", math.nan, 0.0, math.nan, 2.0),)).status == "unconfirmed"
    assert verdict(own=math.nan).status == "unknown" and verdict(own=math.nan, judges=(FALLS,)).against == ()


def test_what_was_skipped_speaks_neither_way():
    nothing = judged(
        1.0, (), Rescoring({}, {}, {"all": "no verifier"}), WrongPrompts(math.nan, {}, {}, "no verifier"), ()
    )
    assert (nothing.status, nothing.against, nothing.confirming) == ("unconfirmed", (), ())
    blind = verdict(wrong=1.0, wrong_skipped="reads no prompt")
    assert blind.status == "real" and len(blind.confirming) == 2


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_judge_moves_from_half_of_best_of_ns_transfer_ratio_on(sign):
    spread, own = 0.5, 2.0
    for beyond, expected in ((1.01, sign), (0.99, 0)):
        gain = sign * beyond * LEAST_TRANSFER * own * spread
        judge = Heldout("judge", 3 + gain, 3.0, spread, own)
        assert judge.transfer == pytest.approx(sign * beyond * LEAST_TRANSFER) and moved(judge) == expected


@pytest.mark.parametrize(("spread", "own"), [(math.nan, 2.0), (0.5, math.nan)])
def test_without_spreads_the_sign_counts(spread, own):
    found = [moved(Heldout("judge", 3 + gain, 3.0, spread, own)) for gain in (-0.001, 0.0, 0.001)]
    assert found == [-1, 0, 1]
