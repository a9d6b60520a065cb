"""Contests against judges whose every answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from noise_search import ByPerson, ByScores
from noise_search.choosing.pairs import as_batch, hold_contest
from tiny.search import brightness
from verifiers import FunctionVerifier, Verifier


def greys(*levels: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 3), (level,) * 3) for level in levels]


def level(image: Image.Image) -> int:
    return image.getpixel((0, 0))[0]


def by_level(a, b, prompt):
    return float(level(a) > level(b)) if level(a) != level(b) else 0.5


@settings(max_examples=30, deadline=None)
@given(levels=st.lists(st.integers(0, 255), min_size=1, max_size=10, unique=True))
def test_a_judge_that_is_always_right_chooses_the_best(levels):
    found = hold_contest(greys(*levels), "", by_level)
    count = len(levels)
    pairs = count * (count - 1) // 2 if count <= 6 else count - 1
    assert levels[found.order[0]] == max(levels)
    assert (found.pairs, found.compared, found.calls, found.contradictions) == (pairs, pairs, 2 * pairs, 0)
    if count <= 6:
        assert [levels[one] for one in found.order] == sorted(levels, reverse=True)
    assert sorted(found.order) == list(range(count)) and not found.stopped


def test_a_judge_that_prefers_a_place_gives_each_half_and_is_found_out():
    found = hold_contest(greys(1, 2, 3), "", lambda a, b, prompt: 0.9)
    assert (found.contradictions, found.compared) == (3, 3) and "it tells little" in str(found)
    assert found.order == (0, 1, 2) and found.wins[0, 1] == found.wins[1, 0] == 0.5
    assert np.allclose(found.strengths, 1)


def test_probabilities_of_both_orders_are_averaged():
    answers = {(1, 2): 0.9, (2, 1): 0.3}  # the first wins .9, and .7 in the other order
    found = hold_contest(greys(1, 2), "", lambda a, b, prompt: answers[level(a), level(b)])
    assert found.wins[0, 1] == pytest.approx(0.8) and found.wins[1, 0] == pytest.approx(0.2)
    assert found.contradictions == 0


@settings(deadline=None)
@given(count=st.integers(2, 9), calls=st.integers(2, 40))
def test_calls_are_counted_and_capped(count, calls):
    asked = []

    def judge(a, b, prompt):
        asked.append(prompt)
        return by_level(a, b, prompt)

    found = hold_contest(greys(*range(count)), "it", judge, calls)
    needed = count * (count - 1) if count <= 6 else 2 * (count - 1)
    assert found.calls == len(asked) == min(needed, calls - calls % 2) and set(asked) == {"it"}
    assert bool(found.stopped) == (calls < needed)


@pytest.mark.parametrize("silent", [None, math.nan])
def test_a_pair_of_which_nothing_is_told_counts_for_nobody(silent):
    found = hold_contest(greys(1, 2), "", lambda a, b, prompt: silent)
    assert (found.calls, found.pairs, found.compared) == (2, 1, 0) and found.order == (0, 1)
    one_order = hold_contest(greys(1, 2), "", lambda a, b, prompt: silent if level(a) == 1 else 1.0)
    assert one_order.compared == 1 and one_order.order == (1, 0) and one_order.wins[1, 0] == 1


def test_a_judge_that_is_exhausted_is_asked_no_more():
    class Tired:
        exhausted = ""
        calls = 0

        def __call__(self, a, b, prompt):
            self.calls += 1
            self.exhausted = "the cap max_calls=3 is reached" if self.calls == 3 else ""
            return math.nan if self.exhausted else by_level(a, b, prompt)

    judge = Tired()
    found = hold_contest(greys(1, 2, 3), "", judge)
    assert found.calls == judge.calls == 3 and "max_calls=3" in str(found)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [("a", TypeError, "'a'"), (2, ValueError, "0 to 1"), (-0.1, ValueError, "-0.1"), ([], TypeError, "list")],
)
def test_an_answer_that_is_no_probability_is_refused(answer, error, said):
    with pytest.raises(error, match=said):
        hold_contest(greys(1, 2), "", lambda a, b, prompt: answer)


def test_a_verifier_judges_by_its_scores_and_scores_each_image_once():
    seen = []

    def score(images, prompts):
        seen.extend(prompts)
        return brightness(images, prompts)

    dark, light = greys(51, 102)
    judge = ByScores(FunctionVerifier(score), scale=0.1)
    assert judge(light, dark, "p") == pytest.approx(1 / (1 + math.exp(-2)))
    assert judge(dark, light, "p") == pytest.approx(1 / (1 + math.exp(2))) and seen == ["p", "p"]
    sign = ByScores(FunctionVerifier(score))
    assert [sign(light, dark, ""), sign(dark, light, ""), sign(dark, dark, "")] == [1, 0, 0.5]
    assert math.isnan(ByScores(FunctionVerifier(lambda images, prompts: [math.nan]))(dark, light, ""))
    assert ByScores(FunctionVerifier(score), scale=1e-300)(light, dark, "") == 1, "no overflow"


def test_a_verifier_that_needs_more_than_a_pair_is_refused():
    class Moving(Verifier):
        name, version, needs = "moving", "1", frozenset({"frames"})

        def score(self, images, prompts, **needs):
            return images.mean((1, 2, 3))

    with pytest.raises(ValueError, match="frames"):
        ByScores(Moving())
    with pytest.raises(TypeError, match="Verifier"):
        ByScores(by_level)
    with pytest.raises(ValueError, match="scale=0"):
        ByScores(FunctionVerifier(brightness), scale=0)


def test_a_person_is_asked():
    answers = iter(["A", " b ", "tie", "both"])
    person = ByPerson(lambda a, b, prompt: next(answers))
    one, other = greys(1, 2)
    assert [person(one, other, "p") for _ in range(3)] == [1.0, 0.0, 0.5]
    with pytest.raises(ValueError, match="'both'"):
        person(one, other, "p")
    with pytest.raises(TypeError, match="function"):
        ByPerson("ask")


def test_images_as_a_batch():
    found = as_batch(greys(0, 51, 255))
    assert found.shape == (3, 3, 3, 4) and found[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 1])
    assert found.dtype is torch.float32
