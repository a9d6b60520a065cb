"""Limits and budgets mean what they say, whatever the micro-batch: rows count in their order, the rest is waste."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search import AllCandidatesFailed, SearchOverPaths, ZeroOrderSearch, search
from noise_search.algorithms.base import Job, Plan, Problem
from tiny.search import CountingSampler, brightness, contrast, exact_x0

BATCHES = [1, 2, 5, 16]


def run(prompt="a cat", **options):
    options = {"model": CountingSampler(4), "verifier": brightness, "progress": False, **options}
    return search(prompt, **options)


def reddest(images, prompts):
    return images[:, 0].amax((1, 2))


def starved(limit):
    """A denoiser that has memory for so many rows."""

    def fn(x, alpha, sigma, prompts):
        if len(x) > limit:
            raise RuntimeError("out of memory")
        return exact_x0(x, alpha, sigma, prompts)

    return fn


def told(result):
    """What a search says it found and spent, waste apart."""
    counted = [c for c in result.candidates if not (c.failure or "").startswith("beyond")]
    return (
        result.stop_reason,
        result.best.id,
        result.ledger.nfe,
        [(c.id, c.nfe, round(c.score, 5)) for c in counted],
        [b.id for b in result.bests],
        result.bests_nfe,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 3},
        {"target_score": 0.58},
        {"patience": 4, "verifier": [brightness, contrast, reddest], "ensemble": "mean-rank"},
        {"patience": 4, "verifier": [brightness, contrast]},
        {"patience": 5, "algorithm": ZeroOrderSearch()},
        {"patience": 3, "algorithm": SearchOverPaths()},
        {"patience": 6, "draft_steps": 2},
    ],
    ids=["patience", "target", "ranks", "z-scores", "zero-order", "paths", "drafts"],
)
def test_limits_do_not_depend_on_batches_or_on_memory(options):
    runs = [run(candidates=48, batch_size=size, **options) for size in BATCHES]
    runs.append(run(candidates=48, batch_size=16, model=CountingSampler(4, fn=starved(3)), **options))
    assert "budget" not in runs[0].stop_reason, "the limit was never reached: choose another"
    assert all(told(one) == told(runs[0]) for one in runs[1:])
    for one in runs:
        beyond = [c for c in one.candidates if (c.failure or "").startswith("beyond")]
        assert all(np.isnan(c.score) for c in beyond) and one.ledger.nfe_waste >= len(beyond)


def test_patience_counts_the_candidates_since_the_latest_best_whatever_their_ids():
    """Under ranks an earlier candidate can become the best, long after it came."""
    for seed in range(0, 1000, 100):
        options = {"candidates": 40, "patience": 6, "batch_size": 1, "seed": seed, "model": CountingSampler(1)}
        result = run(verifier=[brightness, contrast, reddest], ensemble="mean-rank", **options)
        if result.stop_reason.startswith("no better"):
            assert result.ledger.nfe - result.bests_nfe[-1] == 6


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_error_on_the_first_image_costs_that_image(batch_size):
    failed = []

    def picky(images, prompts):
        scores = brightness(images, prompts)
        if not failed or failed[0] in [float(score) for score in scores]:
            failed[:] = failed or [float(scores[0])]
            raise RuntimeError("not this one")
        return scores

    result = run(verifier=picky, candidates=8, batch_size=batch_size)
    assert [bool(c.failure) for c in result.candidates] == [True] + [False] * 7 and result.error is None


@dataclass(frozen=True)
class AnyJobs:
    """Jobs as drawn: each takes fresh rows to a point, and goes on with some of them, scored or not."""

    name: ClassVar[str] = "any"
    whole_calls: ClassVar[bool] = False
    jobs: tuple[tuple[int, int, bool, bool], ...]

    def plan(self, problem: Problem) -> Plan:
        end = problem.space.end
        for rows, stop, scored, goes_on in self.jobs:
            (found,) = yield Job(problem.fresh(rows), min(stop, end), score=scored)
            if goes_on and stop < end:
                yield [Job(found.states[[0]], end, score=scored), Job(problem.fresh(1), end, score=not scored)]


def half_nan(images, prompts):
    scores = brightness(images, prompts)
    return torch.where((scores * 1e4).floor() % 2 == 0, scores, torch.nan)


def all_nan(images, prompts):
    return brightness(images, prompts) * torch.nan


JOBS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(JOBS, st.integers(4, 40), st.integers(1, 6), st.sampled_from([brightness, half_nan, all_nan]), st.booleans())
def test_no_jobs_exceed_a_budget_or_end_in_anything_but_a_result(jobs, nfe, batch, verifier, padded):
    sampler = CountingSampler(4)
    options = {"algorithm": AnyJobs(tuple(jobs)), "nfe": nfe, "batch_size": batch, "deterministic": padded}
    try:
        result = run(model=sampler, verifier=verifier, **options)
    except AllCandidatesFailed as error:
        [result] = error.results
    assert result.error is None and result.ledger.nfe <= nfe
    assert result.ledger.nfe + result.ledger.nfe_waste == pytest.approx(sampler.rows)
    scored = [c for c in result.candidates if c.finished and np.isfinite(c.score)]
    assert result.failed == (not scored)
    if verifier is brightness and jobs[0][2]:
        assert not result.failed, "the first row is scored: it is finished within any budget of one trajectory"


@pytest.mark.parametrize(
    "algorithm", ["random", "zero-order", SearchOverPaths(), SearchOverPaths(literal=True)], ids=repr
)
def test_a_prompt_without_a_usable_image_takes_no_other_along(algorithm):
    def bad(images, prompts):
        scores = brightness(images, prompts)
        return torch.where(torch.tensor([p == "bad" for p in prompts]), torch.nan, scores)

    for nfe in range(40, 70, 5):
        good, failed = run(["a cat", "bad"], verifier=bad, algorithm=algorithm, nfe=nfe, model=CountingSampler(8))
        assert not good.failed and failed.failed


@pytest.mark.parametrize(
    "options", [{"draft_steps": 2}, {"algorithm": "paths"}, {"candidates": 7}, {"ensemble": "mean-rank"}], ids=repr
)
def test_a_target_that_could_never_be_applied_is_refused(options):
    options = {"candidates": 40, **options}
    with pytest.raises(ValueError, match="target_score=-100 needs a verifier with absolute values"):
        run(verifier=[brightness, contrast], target_score=-100, **options)


def test_a_target_in_z_scores_is_applied_once_they_are_absolute():
    result = run(verifier=[brightness, contrast], candidates=20, target_score=-100)
    assert result.stop_reason == "target score -100 reached" and len(result.candidates) >= 8


@pytest.mark.parametrize("target", [float("inf"), float("-inf"), float("nan")])
def test_a_target_is_a_finite_number_as_json_has_no_other(target):
    with pytest.raises(ValueError, match=f"target_score={target} must be"):
        run(candidates=2, target_score=target)
