"""Diagnoses of many winners: shares of summed gains, verdicts counted, cells without diagnoses left out."""

import math
from html import unescape

import numpy as np
import pytest

from noise_search import compare, diagnose, search
from noise_search.comparison.statistics.diagnoses import diagnosed, numbers
from tiny.made_up import record

NAN = math.nan


def with_diagnosis(prompt, **values):
    given = {"verdict": "real", "gain": 1.0, "kept": 1.0, "read_gain": 1.0, "wrong": 0.0, "norm": 1.0, "unusual": 0.0}
    known = {name: value for name, value in {**given, **values}.items() if value == value}
    return record(prompt, diagnosis=known)


def test_shares_are_of_summed_gains():
    small = with_diagnosis("a", gain=0.01, kept=-0.03, read_gain=0.01, wrong=0.05)  # shares of -3 and 5 on their own
    (found,) = diagnosed([small, with_diagnosis("b", gain=0.99, kept=0.93, read_gain=0.99, wrong=0.15)])
    assert found.kept.value == pytest.approx(0.9) and found.wrong.value == pytest.approx(0.2)
    assert found.verdicts == {"real": 2} and found.unusual.value == 0


def test_what_could_not_be_tested_is_left_out_and_counted():
    rows = [with_diagnosis("a", wrong=NAN, read_gain=NAN), with_diagnosis("b", unusual=NAN, verdict="doubtful")]
    rows += [with_diagnosis("c", unusual=1.0, kept=0.4)]
    (found,) = diagnosed(rows)
    assert (found.wrong.searches, found.wrong.missing) == (2, 1)
    assert (found.unusual.value, found.unusual.missing) == (0.5, 1)
    assert found.kept.value == pytest.approx(2.4 / 3)
    assert list(found.verdicts.items()) == [("real", 2), ("doubtful", 1)]
    (nothing,) = diagnosed([with_diagnosis("a", kept=NAN)])
    assert np.isnan(nothing.kept.value) and nothing.kept.missing == 1
    assert diagnosed([record("a")]) == ()


def test_numbers_are_those_of_the_diagnosis():
    result = search(
        "two yellow stars", candidates=4, steps=8, seed=1, judges=["oracle"], progress=False, algorithm="random"
    )
    told = diagnose(result)
    found = numbers(told)
    assert found["gain"] > 0 and found["verdict"] == told.verdict.status
    assert found["kept"] / found["gain"] == pytest.approx(told.rescoring.share)
    assert found["wrong"] / found["read_gain"] == pytest.approx(told.wrong.share)
    assert found["norm"] == told.noise.winner[0].value and found["unusual"] in (0.0, 1.0)


def test_the_report_tells_them(tmp_path):
    found = compare(["two yellow stars"], algorithms=["random"], steps=4, candidates=(1, 4), seeds=[1], progress=False)
    (one,) = found.diagnoses()
    assert one.budget == 16 and sum(one.verdicts.values()) == 1
    assert [bool(record.diagnosis) for record in found.records] == [False, True]
    html = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Do the gains hold up?" in html and f"1 {next(iter(one.verdicts))}" in unescape(html)
    without = compare(["a star"], algorithms=["random"], steps=4, candidates=(1,), diagnosed=0, progress=False)
    assert without.diagnoses() == ()
    assert "diagnosed=0" in without.report(tmp_path / "none.html").read_text(encoding="utf-8")
