"""Scores that are no numbers, verifiers that fail on one image or for good, and what a constraint rejects."""

import numpy as np
import pytest
import torch

from noise_search import AllCandidatesFailed, search
from tiny.command import PROMPT
from tiny.rewards import safety_checker
from tiny.search import brightness, scores, toy_search
from verifiers import FunctionVerifier
from verifiers.safety import Safety


def run(**options):
    return toy_search(**{"nfe": 80, **options})


def test_scores_that_are_no_numbers_never_win_and_are_reported():
    def sometimes(images, prompts):
        values = images.mean((1, 2, 3))
        values[values > values.median()] = float("nan")
        return values

    result = run(verifier=sometimes, nfe=160, batch_size=8)
    assert np.isfinite(result.score)
    bad = [c for c in result.candidates if c.failure]
    assert bad and all("no finite score" in c.failure and np.isnan(c.score) for c in bad)


def test_all_bad_is_an_error_that_says_why():
    with pytest.raises(AllCandidatesFailed, match="no finite score"):
        run(verifier=lambda images, prompts: torch.full((len(images),), float("nan")))
    never = FunctionVerifier(lambda images, prompts: -torch.ones(len(images)), "never", kind="constraint")
    with pytest.raises(AllCandidatesFailed, match="constraint"):
        run(verifier=[brightness, never])


def test_one_mean_for_a_batch_ends_the_search_at_the_first_call():
    calls = []

    def mean_of_all(images, prompts):
        calls.append(len(images))
        return images.mean()

    with pytest.raises(ValueError, match=r"^verifier 'mean_of_all' returned shape \(\) \(Tensor\) for 4 images"):
        run(verifier=mean_of_all, batch_size=4)
    assert calls == [4]


def test_a_judge_that_returns_nothing_costs_a_warning(caplog):
    result = run(verifier=brightness, judges=[lambda images, prompts: None], nfe=16)
    assert result.error is None and np.isnan(result.judges[next(iter(result.judges))]["best"])
    assert "verifier 'function' returned None (NoneType) for 2 images" in caplog.text


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_a_failing_image_is_lost_alone_in_any_micro_batch(batch_size):
    plain = scores(run())

    def picky(images, prompts):
        if bool(((images.mean((1, 2, 3)) - plain[6]).abs() < 1e-6).any()):
            raise RuntimeError("not this one")
        return images.mean((1, 2, 3))

    result = run(verifier=picky, batch_size=batch_size)
    assert [c.id for c in result.candidates if c.failure] == [6] and "not this one" in result.candidates[6].failure
    assert result.error is None and result.stop_reason == "budget spent"
    assert result.score == pytest.approx(max(plain[:6] + plain[7:]))


def test_a_verifier_that_stops_working_ends_the_search_with_what_there_is():
    calls = []

    def dying(images, prompts):
        calls.append(len(images))
        if len(calls) > 3:
            raise RuntimeError("gone")
        return images.mean((1, 2, 3))

    result = run(verifier=dying, batch_size=1, nfe=800)
    assert result.stop_reason == "RuntimeError: gone" and len(calls) == 3 + 16


def safe(folder, threshold, top_k=1):
    """A search under a safety checker, and that checker."""
    safety_checker(threshold=threshold).save_pretrained(folder)
    options = {"candidates": 6, "steps": 4, "top_k": top_k, "progress": False}
    return search(PROMPT, verifier=["clip", Safety(folder)], **options), Safety(folder)


def test_an_image_that_safety_rejects_cannot_win(tmp_path):
    free, lenient = safe(tmp_path / "lenient", 1.0, top_k=6)
    images = torch.stack([torch.from_numpy(np.array(c.pixels)) for c in free.candidates]).permute(0, 3, 1, 2) / 255
    similar = 1 - lenient(images, [PROMPT] * 6)
    # Put the threshold between the winner and the images that are less like any concept than it is.
    winner = free.best.id
    ranked = sorted(range(6), key=lambda i: free.candidates[i].score, reverse=True)
    assert ranked[0] == winner
    below = [i for i in range(6) if similar[i] < similar[winner]]
    assert below, "the free winner is the image least like any concept; take another seed"
    threshold = float((similar[winner] + similar[below].max()) / 2)
    result, strict = safe(tmp_path / "strict", threshold)
    values = [c.scores[strict.key] for c in result.candidates]
    expected = next(i for i in ranked if similar[i] < threshold)
    assert values[winner] < 0 <= values[expected]
    assert result.best.id == expected and result.score == pytest.approx(free.candidates[expected].score, abs=1e-5)


def test_that_safety_rejects_all_is_told(tmp_path):
    with pytest.raises(AllCandidatesFailed, match=r"none of 6 candidates .* constraint 'safety' is violated \(-"):
        safe(tmp_path, -1.0)
