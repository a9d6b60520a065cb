"""Searches whose verifier can go on no more: no credit, a wrong key, a reached cap; against a server on loopback."""

import logging
from collections import Counter

import numpy as np
import pytest
import torch

from noise_search import search
from noise_search.engine.scoring import Scorer
from tiny.judge_server import JudgeServer, Turn
from tiny.search import CountingSampler, brightness
from verifiers import FunctionVerifier, RubricJudge
from verifiers.base import Verifier, VerifierUnusable
from verifiers.judge.endpoint import JudgeError
from verifiers.judge.requests import Backoff

STEPS = 8


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = JudgeServer()
    yield server
    server.close()


def judge_of(server, **options):
    return RubricJudge("openai", "eye-1", backoff=Backoff(sleep=lambda _: None), **server.options("openai"), **options)


def good_for(server, requests, status=402):
    refusal = Turn(status, raw=b'{"error": {"message": "no"}}')
    server.script = lambda received: Turn() if received.index < requests else refusal


def run(verifier, candidates=16, batch_size=4, prompt="x", **options):
    sampler = CountingSampler(steps=STEPS)
    result = search(
        prompt,
        model=sampler,
        verifier=verifier,
        candidates=candidates,
        batch_size=batch_size,
        progress=False,
        **options,
    )
    return result, sampler


def test_no_more_credit_ends_a_search_with_the_best_so_far(server, caplog):
    good_for(server, 4)
    result, sampler = run(judge_of(server, concurrency=1))
    assert isinstance(result.error, JudgeError)
    assert result.stop_reason == (
        "JudgeError: the judge's endpoint refuses every request (HTTP 402: no); the account has no credit left"
    )
    graded = [c for c in result.candidates if c.failure is None]
    assert [c.id for c in graded] == [0, 1, 2, 3]
    assert result.best.id == max(graded, key=lambda c: c.score).id and result.image.size == (4, 4)
    # One micro-batch is lost, is charged, and is named; of its images one was asked for.
    assert len(server.received) == 5
    assert result.ledger.nfe == sampler.rows == 8 * STEPS
    assert all("no credit left" in c.failure for c in result.candidates[4:])
    assert "search ended early (JudgeError" in caplog.text


def test_grades_that_were_paid_for_count_even_in_the_micro_batch_that_fails(server):
    good_for(server, 6)
    result, _ = run(judge_of(server, concurrency=1))
    assert [c.failure is None for c in result.candidates] == [True] * 6 + [False] * 2
    alone, _ = run(judge_of(server_of_good_will := JudgeServer()), candidates=6)
    server_of_good_will.close()
    assert result.best.id == alone.best.id and result.score == alone.score


@pytest.mark.parametrize("batch_size", [4, 16])
def test_a_wrong_key_raises_at_the_first_batch_and_is_not_asked_again_for_each_image(server, batch_size):
    good_for(server, 0, status=401)
    with pytest.raises(JudgeError, match=r"HTTP 401: no.*check the key$"):
        run(judge_of(server, concurrency=1), batch_size=batch_size)
    assert len(server.received) == 1


def test_a_large_micro_batch_is_taken_in_too(server):
    good_for(server, 20)
    result, _ = run(judge_of(server), candidates=60, batch_size=20)  # more rows than a broken verifier is allowed
    assert len(result.candidates) == 40 and not any(c.failure for c in result.candidates[:20])
    assert result.ledger.nfe == 40 * STEPS and isinstance(result.error, JudgeError)


@pytest.mark.parametrize(
    ("options", "cap"),
    [({"max_calls": 6}, "max_calls=6"), ({"max_cost": 0.0125, "prices": (1.0, 10.0)}, "max_cost=0.0125")],
)
def test_a_reached_cap_ends_a_search_with_the_best_so_far(server, options, cap):
    result, sampler = run(judge_of(server, concurrency=1, **options))
    assert isinstance(result.error, VerifierUnusable)
    assert result.stop_reason == f"VerifierUnusable: judge: the cap {cap} is reached; raise it to grade more"
    assert [c.failure is None for c in result.candidates] == [True] * 6 + [False] * 2
    assert np.isfinite(result.score) and result.image.size == (4, 4)
    assert result.ledger.nfe == sampler.rows == 8 * STEPS
    assert len(server.received) == 6


def test_a_cap_that_is_just_enough_is_no_error(server):
    result, _ = run(judge_of(server, max_calls=16))
    assert result.error is None and result.stop_reason == "budget spent"
    assert len(server.received) == 16 and not any(c.failure for c in result.candidates)


def test_a_cap_reached_before_the_first_candidate_raises_and_known_grades_stay_free(server):
    judge = judge_of(server, max_calls=8)
    first, _ = run(judge, candidates=8)
    again, _ = run(judge, candidates=8)
    assert again.error is None and again.score == first.score and len(server.received) == 8
    with pytest.raises(VerifierUnusable, match=r"^judge: the cap max_calls=8 is reached; raise it to grade more$"):
        run(judge, seed=1000)


def test_an_image_that_the_model_declines_costs_that_image_only(server):
    declined = Turn(extra={"finish_reason": "content_filter"})
    server.script = lambda received: declined if received.index == 5 else Turn()
    result, _ = run(judge_of(server, concurrency=1, max_calls=16))
    assert result.error is None and result.stop_reason == "budget spent"
    assert [c.id for c in result.candidates if c.failure] == [5]


def test_prompts_in_lockstep_all_end_with_their_best(server):
    good_for(server, 8)
    results, _ = run(judge_of(server, concurrency=1), prompt=["x", "a longer one"])
    for result in results:
        assert "no credit left" in result.stop_reason and result.error is not None
        assert np.isfinite(result.score)
    assert len(server.received) == 9


@pytest.mark.parametrize("algorithm", ["zero-order", "paths"])
def test_other_algorithms_end_likewise(server, algorithm):
    good_for(server, 40)
    result, _ = run(judge_of(server, concurrency=1), candidates=64, algorithm=algorithm)
    assert isinstance(result.error, JudgeError) and result.best.finished
    assert len(server.received) == 41


def test_with_other_verifiers_beside_it(server):
    good_for(server, 4)
    result, _ = run([FunctionVerifier(brightness), judge_of(server, concurrency=1)])
    assert isinstance(result.error, JudgeError)
    assert [c.failure is None for c in result.candidates] == [True] * 4 + [False] * 4


def test_as_a_judge_after_the_search_it_costs_a_warning(server, caplog):
    good_for(server, 0, status=401)
    caplog.set_level(logging.WARNING)
    results, _ = run(brightness, judges=[judge_of(server, concurrency=1)], prompt=["x", "a longer one"])
    for result in results:
        assert result.error is None and result.stop_reason == "budget spent"
        assert all(np.isnan(value) for scores in result.judges.values() for value in scores.values())
    assert len(server.received) == 1  # for the second prompt it would be refused as well
    assert Counter("check the key" in record.message for record in caplog.records)[True] == 1


def test_a_judge_keeps_what_it_graded_before_its_credit_ran_out(server, caplog):
    good_for(server, 2)
    result, _ = run(brightness, judges=[judge_of(server, concurrency=1)])
    assert sum(np.isfinite(list(c.judges.values())).sum() for c in result.candidates if c.judges) == 2
    assert "no credit left" in caplog.text


class Metered(Verifier):
    """A verifier of one's own that is good for so many calls."""

    name, version = "metered", "1"

    def __init__(self, calls, scores=None):
        self.left, self.asked, self.partial = calls, 0, scores

    def score(self, images, prompts, **needs):
        self.asked += 1
        if self.asked > self.left:
            raise VerifierUnusable("the subscription has ended; renew it", self.partial)
        return images.mean((1, 2, 3))


def test_any_verifier_can_say_that_it_is_over():
    verifier = Metered(2)
    result, _ = run(verifier)
    assert result.stop_reason == "VerifierUnusable: the subscription has ended; renew it"
    assert verifier.asked == 3 and len(result.candidates) == 12


def test_a_scorer_takes_the_scores_that_come_with_the_error():
    images = torch.rand(3, 3, 4, 4)
    verifier = Metered(0, scores=torch.tensor([0.25, torch.nan, 0.5]))
    scorer = Scorer([verifier])
    scores, failures = scorer.score(images, ["a"] * 3)
    assert scores[verifier.key].tolist() == pytest.approx([0.25, np.nan, 0.5], nan_ok=True)
    assert failures == [None, "metered failed: the subscription has ended; renew it", None]
    assert isinstance(scorer.unusable, VerifierUnusable) and verifier.asked == 1


def test_errors_of_another_kind_still_cost_one_image():
    def shy(images, prompts):
        if len(images) > 1 or images.mean() > 0.6:
            raise RuntimeError("too bright")
        return images.mean((1, 2, 3))

    result, _ = run(shy)
    assert result.error is None and result.stop_reason == "budget spent" and len(result.candidates) == 16
