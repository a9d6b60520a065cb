"""Searches whose verifier can go on no more: no credit, a wrong key, a reached cap; against a server on loopback."""

import logging
from collections import Counter

import numpy as np
import pytest
import torch

from noise_search.engine.scoring import Scorer
from tiny.judge_server import JudgeServer, Turn
from tiny.search import CountingSampler, brightness, toy_search
from verifiers import FunctionVerifier, RubricJudge
from verifiers.base import Verifier, VerifierUnusable
from verifiers.judge.endpoint import JudgeError
from verifiers.judge.requests import Backoff

STEPS = 8
OVER = Turn(402, raw=b'{"error": {"message": "no"}}')


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = JudgeServer()
    yield server
    server.close()


def judge_of(server, **options):
    made = {"backoff": Backoff(sleep=lambda _: None), "concurrency": 1, **server.options("openai"), **options}
    return RubricJudge("openai", "eye-1", **made)


def good_for(server, requests, refusal=OVER):
    server.script = lambda received: Turn() if received.index < requests else refusal


def run(verifier, sampler=None, **options):
    return toy_search(sampler, **{"verifier": verifier, "prompt": "x", "candidates": 16, "batch_size": 4, **options})


def failed(result):
    return [c.id for c in result.candidates if c.failure]


def test_no_more_credit_ends_a_search_with_the_best_so_far(server, caplog):
    good_for(server, 4)
    sampler = CountingSampler(STEPS)
    result = run(judge_of(server), sampler)
    assert isinstance(result.error, JudgeError)
    assert result.stop_reason == (
        "JudgeError: the judge's endpoint refuses every request (HTTP 402: no); the account has no credit left"
    )
    assert failed(result) == [4, 5, 6, 7]
    assert result.best.id == max(result.candidates[:4], key=lambda c: c.score).id and result.image.size == (4, 4)
    # One micro-batch is lost, is charged, and is named; of its images one was asked for.
    assert len(server.received) == 5
    assert result.ledger.nfe == sampler.rows == 8 * STEPS
    assert all("no credit left" in c.failure for c in result.candidates[4:])
    assert "search ended early (JudgeError" in caplog.text


def test_grades_that_were_paid_for_count_even_in_the_micro_batch_that_fails(server):
    good_for(server, 6)
    result = run(judge_of(server))
    assert failed(result) == [6, 7]
    good_for(server, 100)
    alone = run(judge_of(server), candidates=6)
    assert result.best.id == alone.best.id and result.score == alone.score


@pytest.mark.parametrize("batch_size", [4, 16])
def test_a_wrong_key_raises_at_the_first_batch_and_is_not_asked_again_for_each_image(server, batch_size):
    good_for(server, 0, Turn(401, raw=OVER.raw))
    with pytest.raises(JudgeError, match=r"HTTP 401: no.*check the key$"):
        run(judge_of(server), batch_size=batch_size)
    assert len(server.received) == 1


def test_a_large_micro_batch_is_taken_in_too(server):
    good_for(server, 20)
    judge = judge_of(server, concurrency=4)
    result = run(judge, candidates=60, batch_size=20)  # more rows than a broken verifier is allowed
    assert len(result.candidates) == 40 and min(failed(result)) >= 20
    assert result.ledger.nfe == 40 * STEPS and isinstance(result.error, JudgeError)


@pytest.mark.parametrize(
    ("options", "cap"),
    [({"max_calls": 6}, "max_calls=6"), ({"max_cost": 0.0125, "prices": (1.0, 10.0)}, "max_cost=0.0125")],
)
def test_a_reached_cap_ends_a_search_with_the_best_so_far(server, options, cap):
    sampler = CountingSampler(STEPS)
    result = run(judge_of(server, **options), sampler)
    assert isinstance(result.error, VerifierUnusable)
    assert result.stop_reason == f"VerifierUnusable: judge: the cap {cap} is reached; raise it to grade more"
    assert failed(result) == [6, 7] and np.isfinite(result.score) and result.image.size == (4, 4)
    assert result.ledger.nfe == sampler.rows == 8 * STEPS
    assert len(server.received) == 6


def test_a_cap_that_is_just_enough_is_no_error(server):
    result = run(judge_of(server, max_calls=16))
    assert result.error is None and result.stop_reason == "budget spent"
    assert len(server.received) == 16 and not failed(result)


def test_a_cap_reached_before_the_first_candidate_raises_and_known_grades_stay_free(server):
    judge = judge_of(server, max_calls=8)
    first, again = run(judge, candidates=8), run(judge, candidates=8)
    assert again.error is None and again.score == first.score and len(server.received) == 8
    with pytest.raises(VerifierUnusable, match=r"^judge: the cap max_calls=8 is reached; raise it to grade more$"):
        run(judge, seed=1000)


def test_an_image_that_the_model_declines_costs_that_image_only(server):
    declined = Turn(extra={"finish_reason": "content_filter"})
    server.script = lambda received: declined if received.index == 5 else Turn()
    result = run(judge_of(server, max_calls=16))
    assert result.error is None and result.stop_reason == "budget spent" and failed(result) == [5]


def test_prompts_in_lockstep_all_end_with_their_best(server):
    good_for(server, 8)
    results = run(judge_of(server), prompt=["x", "a longer one"])
    for result in results:
        assert "no credit left" in result.stop_reason and result.error is not None
        assert np.isfinite(result.score)
    assert len(server.received) == 9


@pytest.mark.parametrize("algorithm", ["zero-order", "paths"])
def test_other_algorithms_end_likewise(server, algorithm):
    good_for(server, 40)
    result = run(judge_of(server), candidates=64, algorithm=algorithm)
    assert isinstance(result.error, JudgeError) and result.best.finished
    assert len(server.received) == 41


def test_with_other_verifiers_beside_it(server):
    good_for(server, 4)
    result = run([FunctionVerifier(brightness), judge_of(server)])
    assert isinstance(result.error, JudgeError) and failed(result) == [4, 5, 6, 7]


def test_as_a_judge_after_the_search_it_costs_a_warning(server, caplog):
    good_for(server, 0, Turn(401, raw=OVER.raw))
    caplog.set_level(logging.WARNING)
    results = run(brightness, judges=[judge_of(server)], prompt=["x", "a longer one"])
    for result in results:
        assert result.error is None and result.stop_reason == "budget spent"
        assert all(np.isnan(value) for scores in result.judges.values() for value in scores.values())
    assert len(server.received) == 1  # for the second prompt it would be refused as well
    assert Counter("check the key" in record.message for record in caplog.records)[True] == 1


def test_a_judge_keeps_what_it_graded_before_its_credit_ran_out(server, caplog):
    good_for(server, 2)
    result = run(brightness, judges=[judge_of(server)])
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
    result = run(verifier)
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
