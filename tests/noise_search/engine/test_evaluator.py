"""Batches that fail: out of memory, broken models, broken pixels; and batches of one size."""

import pytest
import torch

from noise_search import SearchOutOfMemory
from tiny.search import CountingSampler, brightness, contrast, exact_x0, fits, raising, scores, spoilt, toy_search


def run(sampler=None, **options):
    return toy_search(sampler, **{"nfe": 80, **options})


def test_out_of_memory_halves_the_batch_and_changes_nothing_else():
    sampler = CountingSampler(fn=fits(3, exact_x0))
    result = run(sampler, batch_size=16, nfe=160)
    assert sampler.largest == 16 and result.ledger.nfe == 160
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows
    assert result.ledger.nfe_waste == 16 + 8 + 4, "one evaluation of each batch that did not fit"
    assert scores(result) == pytest.approx(scores(run(batch_size=2, nfe=160)), abs=1e-6)


def test_out_of_memory_halves_a_padded_batch_by_its_padded_size():
    sampler = CountingSampler(fn=fits(4, exact_x0))
    result = run(sampler, nfe=8, batch_size=16, deterministic=True)
    assert result.settings["batch_size"] == 4
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows


def test_a_verifier_out_of_memory_scores_smaller_batches():
    result = run(verifier=fits(3, brightness), batch_size=10)
    assert scores(result) == scores(run(batch_size=10))
    assert result.ledger.nfe == 80 and result.ledger.nfe_waste == 0


def test_out_of_memory_with_one_candidate_says_what_to_do():
    class HungryDecoder(CountingSampler):
        def decode(self, states):
            raise torch.OutOfMemoryError("CUDA out of memory")

    for sampler in (CountingSampler(fn=raising(RuntimeError("CUDA error: out of memory"))), HungryDecoder()):
        with pytest.raises(SearchOutOfMemory, match="smaller height"):
            run(sampler)


def test_an_error_in_the_model_refunds_the_batch_and_books_what_ran():
    def failing(x, alpha, sigma, prompts):
        if sampler.rows > 8 * 4 + 6:
            raise RuntimeError("model broke")
        return exact_x0(x, alpha, sigma, prompts)

    sampler = CountingSampler(fn=failing)
    result = run(sampler, batch_size=4)
    assert result.stop_reason == "RuntimeError: model broke"
    assert result.ledger.nfe == 32
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows


def test_an_error_before_anything_was_found_is_raised():
    with pytest.raises(RuntimeError, match="model broke"):
        run(CountingSampler(fn=raising(RuntimeError("model broke"))))


def test_images_that_are_no_numbers_never_win_even_under_a_blind_verifier_and_are_not_judged():
    sampler = CountingSampler(fn=spoilt(slice(1, None, 2)))
    result = run(sampler, verifier=lambda images, prompts: torch.arange(len(images)), nfe=64)
    assert result.best.id % 2 == 0
    assert {c.failure for c in result.candidates if c.id % 2} == {"the image has non-finite pixels"}
    first = run(CountingSampler(fn=spoilt(slice(1))), judges=[contrast])
    (judged,) = first.judges.values()
    assert first.first.failure and judged["first"] != judged["first"]


def test_deterministic_bits_do_not_depend_on_the_neighbours_and_padding_is_paid_for():
    shapes = set()

    def watching(images, prompts):
        shapes.add(len(images))
        return images.mean((1, 2, 3))

    five, again, eight = (run(verifier=watching, deterministic=True, batch_size=4, nfe=8 * n) for n in (5, 5, 8))
    assert shapes == {4} and scores(five) == scores(again) == scores(eight)[:5]
    assert (five.ledger.nfe_waste, eight.ledger.nfe_waste) == (3 * 8, 0)
