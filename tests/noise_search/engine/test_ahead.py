"""One batch ahead of a GPU, tried on the CPU: the results are those of one after the other, whatever goes wrong."""

import threading

import pytest

from noise_search.engine.crew import Ahead
from noise_search.engine.scoring import Scorer
from noise_search.engine.worker import LocalWorker
from tiny.search import CountingSampler, brightness, exact_x0, fits, raising, scores, toy_search
from verifiers.base import FunctionVerifier


def ahead(sampler=None, verifier=brightness, **options):
    """A search of the closed-form model, a batch ahead; with the sampler, and the threads that ran it."""
    sampler, threads = sampler or CountingSampler(), set()

    def watched(images, prompts):
        threads.add(threading.current_thread().name)
        return verifier(images, prompts)

    worker = LocalWorker(sampler, Scorer([FunctionVerifier(watched)]))
    with Ahead(worker) as crew:
        result = toy_search(sampler, workers=crew, verifier=watched, **options)
    return result, sampler, threads


@pytest.mark.parametrize("algorithm", ["random", "halving", "zero-order"])
def test_everything_is_as_one_after_the_other(algorithm):
    options = {"algorithm": algorithm, "nfe": 12 * 8, "batch_size": 2}
    found, sampler, threads = ahead(**options)
    assert {name.startswith("noise-search-gpu") for name in threads} == {True}
    plain = toy_search(**options)
    assert scores(found) == scores(plain) and found.best.recipe == plain.best.recipe
    assert found.ledger.nfe + found.ledger.nfe_waste == sampler.rows


def test_a_batch_that_is_ahead_of_a_limit_is_waste_and_can_not_win():
    options = {"candidates": 12, "batch_size": 2, "patience": 2}
    found, sampler, _ = ahead(**options)
    plain = toy_search(**options)
    assert found.best.recipe == plain.best.recipe and found.stop_reason == plain.stop_reason
    assert found.ledger.nfe + found.ledger.nfe_waste == sampler.rows


def test_out_of_memory_and_errors_reach_the_search():
    found, sampler, _ = ahead(CountingSampler(fn=fits(3, exact_x0)), batch_size=8, candidates=20)
    assert found.settings["batch_size"] == 2 and scores(found) == scores(toy_search(candidates=20, batch_size=2))
    assert found.ledger.nfe + found.ledger.nfe_waste == sampler.rows
    with pytest.raises(RuntimeError, match="model broke"):
        ahead(CountingSampler(fn=raising(RuntimeError("model broke"))), candidates=4)


def test_what_nobody_waits_for_any_more_has_ended_before_the_search_has():
    """A callback fails while the next batch runs: that is seen to its end, and the crew serves the next search."""
    sampler = CountingSampler()
    worker = LocalWorker(sampler, Scorer([FunctionVerifier(brightness)]))
    with Ahead(worker) as crew:
        asked = {"workers": crew, "candidates": 12, "batch_size": 2}
        broken = toy_search(sampler, on_candidate=raising(RuntimeError("mine")), **asked)
        assert broken.stop_reason == "RuntimeError: mine"
        rows = sampler.rows
        assert scores(toy_search(sampler, **asked)) == scores(toy_search(candidates=12, batch_size=2))
        assert sampler.rows == rows + 12 * 8, "nothing of the first search ran meanwhile"
