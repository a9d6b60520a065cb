"""A person as a verifier: a function plays them, and counts what it is asked."""

import math

import numpy as np
import pytest
import torch

from contracts.verifier import VerifierContract
from noise_search import load
from tiny.search import CountingSampler, Killed, toy_search
from verifiers import HumanVerifier


def grade(image, prompt):
    return float(np.asarray(image, dtype=float).mean()) + len(prompt)


class Person:
    """Grades images by how bright they are, and remembers which it saw; gives up after so many."""

    def __init__(self, patience=10**9):
        self.seen, self.patience = [], patience

    def __call__(self, image, prompt):
        if len(self.seen) == self.patience:
            raise Killed
        self.seen.append((image.tobytes(), prompt))
        return grade(image, prompt)


class TestHumanVerifier(VerifierContract):
    differentiable = False

    @pytest.fixture
    def verifier(self):
        return HumanVerifier(grade)


class TestSeveralAtOnce(VerifierContract):
    differentiable = False

    @pytest.fixture
    def verifier(self):
        return HumanVerifier(lambda images, prompt: [grade(one, prompt) for one in images], together=True)


def test_an_image_is_asked_about_once_for_each_prompt():
    person, images = Person(), torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    verifier = HumanVerifier(person)
    first = verifier(images, ["a", "a", "b"])
    again = verifier(images.flip(0), ["b", "a", "a"])
    assert torch.equal(first.flip(0), again) and len(person.seen) == len(set(person.seen)) == 3
    assert verifier(images[:1], ["b"]).isfinite().all() and len(person.seen) == 4
    assert verifier(torch.cat([images[:1]] * 2), ["c", "c"]).unique().numel() == 1 and len(person.seen) == 5


def test_images_of_a_prompt_are_shown_together():
    shown = []

    def ask(images, prompt):
        shown.append((len(images), prompt))
        return [grade(one, prompt) for one in images]

    verifier = HumanVerifier(ask, together=True)
    images = torch.rand(3, 3, 4, 4)
    verifier(images, ["a", "b", "a"])
    verifier(images, ["a", "b", "a"])
    assert shown == [(2, "a"), (1, "b")]


@pytest.mark.parametrize("said", ["good", math.nan, math.inf, [1, 2]])
def test_an_answer_that_is_no_number_is_refused(said):
    with pytest.raises(ValueError, match="finite number"):
        HumanVerifier(lambda image, prompt: said)(torch.rand(1, 3, 4, 4), ["a"])


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match="2 images"):
        HumanVerifier(lambda images, prompt: [1], together=True)(torch.rand(2, 3, 4, 4), ["a", "a"])


def test_what_cannot_ask_is_refused():
    with pytest.raises(TypeError, match="ask"):
        HumanVerifier("ask")


def test_no_opinion_leaves_an_image_without_a_score():
    assert HumanVerifier(lambda image, prompt: None)(torch.rand(1, 3, 4, 4), ["a"]).isnan().all()


def test_a_person_is_spared_half_made_images():
    person = Person()
    result = toy_search(verifier=HumanVerifier(person), algorithm="auto", candidates=6, seed=3)
    assert result.settings["algorithm"]["name"] == "random" and len(person.seen) == len(result.candidates) == 6


def test_a_run_that_goes_on_asks_about_nothing_again(tmp_path):
    asked = {"candidates": 8, "batch_size": 1, "run": tmp_path / "run"}
    tired, fresh = Person(patience=3), Person()
    with pytest.raises(Killed):
        toy_search(CountingSampler(), verifier=HumanVerifier(tired), **asked)
    result = load(tmp_path / "run").resume(model=CountingSampler(), verifier=HumanVerifier(fresh), progress=False)
    assert len(tired.seen) == 3 and len(fresh.seen) == 5 and not set(tired.seen) & set(fresh.seen)
    whole = toy_search(CountingSampler(), verifier=HumanVerifier(Person()), candidates=8)
    assert (result.best.id, result.score) == (whole.best.id, whole.score)


def test_two_people_are_two_searches(tmp_path):
    toy_search(verifier=HumanVerifier(Person()), candidates=2, run=tmp_path / "run")
    with pytest.raises(ValueError, match="another search"):
        toy_search(verifier=HumanVerifier(Person(), name="ada"), candidates=2, run=tmp_path / "run")
