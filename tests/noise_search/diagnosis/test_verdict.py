"""The verdict at each of its thresholds, from both sides."""

import math

import pytest

from noise_search.diagnosis.checks import Heldout, Rescoring, WrongPrompts
from noise_search.diagnosis.noise import NoiseCheck
from noise_search.diagnosis.verdict import LEAST_SHARE, LEAST_TRANSFER, MOST_WRONG, judged, moved

RISES = Heldout("oracle", 1.0, 0.0, 0.5, 2.0)
STAYS = Heldout("oracle", 1.0, 1.0, 0.5, 2.0)
FALLS = Heldout("aesthetic", 4.0, 5.0, 0.5, 2.0)
MUTE = Heldout("oracle", math.nan, 0.0, math.nan, 2.0)
WHITE = NoiseCheck("|x|^2 / D", 1.0, 1.0, 0.0, 1.0, True)
BLOWN = NoiseCheck("|x|^2 / D", 1.5, 1.0, 11.0, 0.0, False)
ROUNDED = Rescoring({}, {}, {"all": "..."}, rounded=True)
SKIPPED = Rescoring({}, {}, {"all": "no verifier"})
FALL = ("judge aesthetic falls from 5 to 4",)
SHRUNK = ("50% of it stays when the images are slightly changed",)
BLIND = ("75% of it is there under other prompts",)


def shares(value):
    return Rescoring({"flip": value}, {}, {})


def wrong(value, skipped=""):
    return WrongPrompts(1.0, {"other": value}, {}, skipped)


KEPT, OTHER = shares(1.0), wrong(0.1)


def verdict(judges=(RISES,), noise=(WHITE,), own=2.0, rescoring=KEPT, wrong=OTHER):
    return judged(own, noise, rescoring, wrong, judges)


@pytest.mark.parametrize(
    ("given", "status", "against"),
    [
        ({"judges": ()}, "unconfirmed", ()),
        ({"judges": (STAYS,)}, "unconfirmed", ()),
        ({"judges": (MUTE,)}, "unconfirmed", ()),
        ({"judges": (STAYS, RISES)}, "real", ()),
        ({"judges": (FALLS,)}, "not real", FALL),
        ({"judges": (FALLS, STAYS)}, "not real", FALL),
        ({"judges": (FALLS, RISES)}, "doubtful", FALL),
        ({"rescoring": shares(LEAST_SHARE + 1e-6)}, "real", ()),
        ({"rescoring": shares(LEAST_SHARE - 1e-6)}, "doubtful", SHRUNK),
        ({"rescoring": shares(LEAST_SHARE + 1e-6), "judges": ()}, "unconfirmed", ()),
        ({"rescoring": shares(LEAST_SHARE - 1e-6), "judges": ()}, "doubtful", SHRUNK),
        ({"wrong": wrong(MOST_WRONG - 1e-6)}, "real", ()),
        ({"wrong": wrong(MOST_WRONG + 1e-6)}, "doubtful", BLIND),
        ({"wrong": wrong(MOST_WRONG - 1e-6), "judges": ()}, "unconfirmed", ()),
        ({"wrong": wrong(MOST_WRONG + 1e-6), "judges": ()}, "doubtful", BLIND),
        ({"noise": (WHITE, BLOWN)}, "doubtful", ("its noise isn't white (|x|^2 / D is 1.5)",)),
        ({"rescoring": ROUNDED}, "doubtful", ("nothing of it is left in images of 8 bits",)),
        ({"rescoring": ROUNDED, "own": -0.1}, "doubtful", ("on average its verifiers see none",)),
        ({"own": math.nan}, "unknown", ()),
        ({"own": math.nan, "judges": (FALLS,)}, "unknown", ()),
    ],
)
def test_the_status_and_what_speaks_against_a_gain(given, status, against):
    found = verdict(**given)
    assert (found.status, found.against) == (status, against)


def test_what_confirms_is_told_and_what_was_skipped_speaks_neither_way():
    found = verdict()
    assert (found.status, found.against) == ("real", ())
    assert len(found.confirming) == 3 and "rises from 0 to 1" in found.confirming[0]
    blind = verdict(wrong=wrong(1.0, "reads no prompt"))
    assert blind.status == "real" and len(blind.confirming) == 2
    nothing = verdict((), (), 1.0, SKIPPED, WrongPrompts(math.nan, {}, {}, "no verifier"))
    assert (nothing.status, nothing.against, nothing.confirming) == ("unconfirmed", (), ())


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
