"""The verdict at each of its thresholds, and how often it is right of searches whose truth is known."""

import math

import pytest

from noise_search.diagnosis.checks import Rescoring, WrongPrompts
from noise_search.diagnosis.judges import FALLS_BY_CHANCE, MORE, RISES_BY_CHANCE, Agreement, Heldout
from noise_search.diagnosis.noise import NoiseCheck
from noise_search.diagnosis.verdict import LEAST_SHARE, MOST_WRONG, NO_JUDGE, NO_JUDGE_ADVICE, judged
from tiny.verdicts import rates


def judge(rising, falling, name="oracle", unable=""):
    return Heldout(name, 1.0, 0.0, 0.5, 16, Agreement(16, 0.6, 2, rising, falling), unable)


RISES, FALLS, STAYS = judge(RISES_BY_CHANCE, 1), judge(1, FALLS_BY_CHANCE, "aesthetic"), judge(0.046, 0.101)
MUTE = judge(0.001, 1, unable="can't confirm clip")
WHITE = NoiseCheck("|x|^2 / D", 1.0, 1.0, 0.0, 1.0, True)
BLOWN = NoiseCheck("|x|^2 / D", 1.5, 1.0, 11.0, 0.0, False)
ROUNDED = Rescoring({}, {}, {"all": "..."}, rounded=True)
SKIPPED = Rescoring({}, {}, {"all": "no verifier"})
FALL = ("judge aesthetic falls with it (rank correlation +0.60 among 16 candidates, the winner in place 2 of 16)",)
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
        ({"judges": ()}, "can't tell", ()),
        ({"judges": (STAYS,)}, "can't tell", ()),
        ({"judges": (MUTE,)}, "can't tell", ()),
        ({"judges": (MUTE, RISES)}, "real", ()),
        ({"judges": (STAYS, RISES)}, "can't tell", ()),
        ({"judges": (STAYS, judge(RISES_BY_CHANCE / 2, 1))}, "real", ()),
        ({"judges": (FALLS,)}, "not real", FALL),
        ({"judges": (FALLS, MUTE)}, "not real", FALL),
        ({"judges": (FALLS, STAYS)}, "can't tell", ()),
        ({"judges": (judge(1, FALLS_BY_CHANCE / 2, "aesthetic"), judge(RISES_BY_CHANCE / 2, 1))}, "doubtful", FALL),
        ({"rescoring": shares(LEAST_SHARE + 1e-6)}, "real", ()),
        ({"rescoring": shares(LEAST_SHARE - 1e-6)}, "doubtful", SHRUNK),
        ({"rescoring": shares(LEAST_SHARE + 1e-6), "judges": ()}, "can't tell", ()),
        ({"rescoring": shares(LEAST_SHARE - 1e-6), "judges": ()}, "doubtful", SHRUNK),
        ({"wrong": wrong(MOST_WRONG - 1e-6)}, "real", ()),
        ({"wrong": wrong(MOST_WRONG + 1e-6)}, "doubtful", BLIND),
        ({"wrong": wrong(MOST_WRONG - 1e-6), "judges": ()}, "can't tell", ()),
        ({"wrong": wrong(MOST_WRONG + 1e-6), "judges": ()}, "doubtful", BLIND),
        ({"noise": (WHITE, BLOWN)}, "doubtful", ("its noise isn't white (|x|^2 / D is 1.5)",)),
        ({"rescoring": ROUNDED}, "doubtful", ("nothing of it is left in images of 8 bits",)),
        ({"rescoring": ROUNDED, "own": -0.1}, "doubtful", ("on average its verifiers see none",)),
        ({"own": math.nan}, "can't tell", ()),
        ({"own": math.nan, "judges": (FALLS,)}, "can't tell", ()),
    ],
)
def test_the_status_and_what_speaks_against_a_gain(given, status, against):
    found = verdict(**given)
    assert (found.status, found.against) == (status, against)


def test_what_confirms_is_told_and_what_was_skipped_speaks_neither_way():
    found = verdict()
    assert (found.status, found.against, found.undecided) == ("real", (), ())
    assert len(found.confirming) == 3 and "judge oracle rises with it (rank" in found.confirming[0]
    blind = verdict(wrong=wrong(1.0, "reads no prompt"))
    assert blind.status == "real" and len(blind.confirming) == 2
    nothing = verdict((), (), 1.0, SKIPPED, WrongPrompts(math.nan, {}, {}, "no verifier"))
    assert (nothing.status, nothing.against, nothing.confirming) == ("can't tell", (), ())


def test_it_says_what_would_tell():
    assert (verdict(()).undecided, verdict(()).advice) == ((NO_JUDGE,), (NO_JUDGE_ADVICE,))
    found = verdict((MUTE, STAYS, judge(1, 1, "vlm", MUTE.unable)))
    mute, still = found.undecided
    assert mute == "judges oracle, vlm can't confirm clip" and "oracle neither rises nor falls" in still
    assert found.advice == (MORE,)


@pytest.mark.parametrize(
    ("searches", "limits"),
    [
        ({"candidates": 8, "rank_correlations": [0]}, {"real": (0, 0.06), "not real": (0, 0.12)}),
        ({"candidates": 16, "rank_correlations": [0]}, {"real": (0, 0.06), "not real": (0, 0.12)}),
        ({"candidates": 24, "rank_correlations": [0], "top_k": 8}, {"real": (0, 0.06), "not real": (0, 0.12)}),
        ({"candidates": 16, "rank_correlations": [0, 0, 0]}, {"real": (0, 0.06), "not real": (0, 0.12)}),
        ({"candidates": 7, "rank_correlations": [1]}, {"can't tell": (1, 1)}),
        ({"candidates": 16, "rank_correlations": [0.4]}, {"real": (0.35, 1), "not real": (0, 0.05)}),
        ({"candidates": 24, "rank_correlations": [0.4]}, {"real": (0.5, 1), "not real": (0, 0.05)}),
        ({"candidates": 24, "rank_correlations": [0.4], "top_k": 8}, {"real": (0.1, 1), "not real": (0, 0.05)}),
        ({"candidates": 16, "rank_correlations": [-0.6]}, {"real": (0, 0.01), "not real": (0.8, 1)}),
        ({"candidates": 24, "rank_correlations": [-0.5]}, {"real": (0, 0.01), "not real": (0.8, 1)}),
    ],
    ids=str,
)
def test_how_often_it_is_right_of_random_search(searches, limits):
    """Of 500 searches: 5 and 10 % of unrelated judges with a standard error more; the benchmark takes 2,000."""
    found = rates(**searches)
    assert {status: low <= found[status] <= high for status, (low, high) in limits.items()} == dict.fromkeys(
        limits, True
    ), found
