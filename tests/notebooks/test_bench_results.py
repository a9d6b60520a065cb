"""What is stored of the bench: the families follow from what was measured, the numbers from the shipped candidates."""

import csv
import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from noise_search import prompt_sets
from noise_search.comparison.standard_pools import StandardPools
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.hard_prompts import CHOSEN

PLACE = Path(__file__).parents[2] / "notebooks" / "bench"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(PLACE))
    yield
    sys.modules.pop("gains", None)


def test_the_families_are_those_that_the_rule_chooses():
    measured = json.loads((PLACE / "results" / "families.json").read_text(encoding="utf-8"))

    def mean(of):
        return {family: float(np.mean([of(one) for one in models.values()])) for family, models in measured.items()}

    right, gains = mean(lambda one: one["one_sample"]), mean(lambda one: one["gain_32_to_64_sd"]["vlm"])
    allowed = [family for family in measured if 0.02 <= right[family] <= 0.4]
    best = sorted(allowed, key=lambda family: -gains[family])[:4]
    assert set(best) == set(CHOSEN) == set(prompt_sets.load("shapes-hard").families)


def test_the_stored_gains_are_those_of_the_shipped_candidates(scripts):
    import gains

    stored = list(csv.DictReader(gains.FILE.open(encoding="utf-8")))
    for found, row in zip(islice(gains.rows(), 12), stored, strict=False):
        assert [found[name] for name in ("model", "split", "verifier", "what")] == list(row.values())[:4]
        for name in ("value", "low", "high"):
            assert found.get(name, np.nan) == pytest.approx(float(row[name] or "nan"), abs=2e-4, nan_ok=True)


@pytest.mark.parametrize("verifier", ["vlm", "aesthetic"])
@pytest.mark.parametrize("model", EMBEDDED_MODELS)
def test_random_search_goes_on_gaining(scripts, model, verifier):
    import gains

    pool = StandardPools.load(model, "evaluation").scores[verifier]
    for n, least in ((32, 0.1), (128, 0.05)):
        _, low, _ = gains.interval(np.array([gains.gain(row, n) for row in pool]))
        assert low > least


def test_what_is_stored_of_halving_is_what_the_recorded_scores_give(monkeypatch):
    from notebooks.bench import recorded

    stored = list(csv.DictReader(recorded.FILE.open(encoding="utf-8")))
    assert {(one["task"], one["model"], one["verifier"]) for one in stored} == {
        (task, model, "+".join(names))
        for task in ("shapes", "shapes-hard")
        for model in EMBEDDED_MODELS
        for names in recorded.VERIFIERS
    }
    monkeypatch.setattr(recorded, "COUNTS", (3, 4))
    named = {"model": "shapes-ddim", "task": "shapes-hard", "verifier": "clip"}
    rows = [one for one in stored if named.items() <= one.items() and int(one["candidates"]) in (3, 4)]
    for found, row in zip(recorded.measured("shapes-ddim", "shapes-hard", ("clip",)), rows, strict=True):
        for name in recorded.COLUMNS:
            told = found[name]
            assert row[name] == told if isinstance(told, str) else float(row[name]) == pytest.approx(told, abs=2e-4)


def test_what_is_stored_of_priors_is_what_the_recorded_scores_give():
    from notebooks.bench import priors

    stored = list(csv.DictReader(priors.FILE.open(encoding="utf-8")))
    assert {one["model"] for one in stored} == set(priors.packed())
    named = {"model": priors.packed()[0], "verifier": "aesthetic", "kind": "prior", "algorithm": "random"}
    (row,) = [one for one in stored if {**named, "candidates": "4"}.items() <= one.items()]
    found = priors.row(priors.Task.load(named["model"], "aesthetic"), "prior", priors.RandomSearch(), 4)
    for name, told in found.items():
        assert row[name] == told if isinstance(told, str) else float(row[name]) == pytest.approx(told, abs=2e-4)


def test_intervals_of_prompts_that_share_noises_hold_the_truth_and_those_over_prompts_alone_too_seldom():
    from noise_search.order_statistics import expected_best
    from notebooks.bench.priors import GROUPS, half_width

    prompts, noises, count, share = 36, 64, 8, 0.14
    rng = np.random.default_rng(3)
    halves = np.arange(prompts) % 2

    def table():
        return share**0.5 * rng.normal(size=noises) + (1 - share) ** 0.5 * rng.normal(size=(prompts, noises))

    def found(scores):  # the best of the noises that do best on the other half of the prompts
        best = [np.argsort(-scores[halves != half].mean(0))[:count] for half in (0, 1)]
        return np.array([row[best[half]].max() for row, half in zip(scores, halves, strict=True)])

    truth = np.mean([found(table()).mean() for _ in range(2000)])
    drawn = rng.normal(size=(20000, noises))
    equal = 1 + int(np.argmin([abs(drawn[:, :n].max(1).mean() - truth) for n in range(1, noises + 1)]))
    truth -= drawn[:, :equal].max(1).mean()

    def short(scores):
        return np.array([expected_best(row, np.array([float(equal)]))[0] for row in scores]) - found(scores) + truth

    both, alone = [], []
    for _ in range(60):
        scores = table()
        rows = short(scores)
        groups = [short(np.delete(scores, one, 1)).mean() for one in rng.permutation(noises).reshape(GROUPS, -1)]
        both.append(abs(rows.mean()) <= half_width(rows, np.array(groups)))
        alone.append(abs(rows.mean()) <= half_width(rows, np.full(GROUPS, rows.mean())))
    assert 1.5 < equal / count < 4
    assert np.mean(both) >= 0.95 > 0.92 > np.mean(alone)
