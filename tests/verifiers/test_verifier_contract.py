"""Every verifier passes the contract; what the base class checks for all of them."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.verifier import VerifierContract
from tiny.clip import CONTEXT, WIDTH, published_head, save_head
from verifiers import Aesthetic, CLIPScore, FunctionVerifier, MeanRank, Verifier
from verifiers.base import VerifierUnusable


class TestCLIPScore(VerifierContract):
    longest = (" ".join(f"word{i}" for i in range(CONTEXT - 2)), CONTEXT)

    @pytest.fixture
    def verifier(self, clip_directory):
        return CLIPScore(clip_directory, output="cosine")  # random cosines are negative too, where the clamp is flat

    @pytest.fixture
    def in_bfloat16(self, clip_directory):
        return CLIPScore(clip_directory, output="cosine", precision="bf16")


class TestAestheticV2(VerifierContract):
    @pytest.fixture
    def verifier(self, clip_directory, tmp_path):
        head = save_head(published_head(WIDTH), tmp_path / "head.safetensors")
        return Aesthetic(head, model=clip_directory)

    @pytest.fixture
    def in_bfloat16(self, clip_directory, tmp_path):
        head = save_head(published_head(WIDTH), tmp_path / "head.safetensors")
        return Aesthetic(head, model=clip_directory, precision="pure_bf16")


class TestAestheticV1(VerifierContract):
    @pytest.fixture
    def verifier(self, clip_directory, tmp_path):
        generator = torch.Generator().manual_seed(0)
        head = {"weight": torch.randn(1, WIDTH, generator=generator), "bias": torch.ones(1)}
        torch.save(head, tmp_path / "head.pth")
        return Aesthetic(tmp_path / "head.pth", "v1", model=f"local-dir:{clip_directory}")


def warmth(images: Tensor, prompts: list[str]) -> Tensor:
    return images[:, 0].mean((1, 2)) - images[:, 2].mean((1, 2))


warmth.prompt_agnostic = True  # type: ignore[attr-defined]


class TestFunction(VerifierContract):
    @pytest.fixture
    def verifier(self):
        return FunctionVerifier(warmth)


class TestFunctionOfArrays(VerifierContract):
    differentiable = False

    @pytest.fixture
    def verifier(self):
        return FunctionVerifier(lambda images, prompts: images.detach().numpy().mean((1, 2, 3)), name="mean")


def test_a_function_says_by_attributes_what_it_reads_and_whether_it_is_paid():
    def rented(images: Tensor, prompts: list[str]) -> Tensor:
        return images.mean((1, 2, 3))

    rented.paid = True  # type: ignore[attr-defined]
    told = [(one.prompt_agnostic, one.paid) for one in map(FunctionVerifier, (warmth, rented, lambda x, p: x))]
    assert told == [(True, False), (False, True), (False, False)]


def test_a_function_may_change_its_copy_of_the_images(images, prompts):
    before = images.clone()
    FunctionVerifier(lambda x, p: x.mul_(255).mean((1, 2, 3)), name="greedy")(images, prompts)
    assert torch.equal(images, before)


def test_a_score_never_sees_an_image_that_is_not_finite(images, prompts):
    images[2, 0, 0, 0] = torch.nan
    seen: list[Tensor] = []
    FunctionVerifier(lambda x, p: seen.append(x) or x.mean((1, 2, 3)), name="watch")(images, prompts)
    assert seen[0].isfinite().all()
    assert torch.equal(seen[0][[0, 1, 3, 4]], images[[0, 1, 3, 4]])


def test_function_scores_may_be_a_list(images, prompts):
    scores = FunctionVerifier(lambda x, p: [len(text) for text in p], name="length")(images, prompts)
    assert scores.tolist() == [12.0, 13.0, 0.0, 23.0, 12.0]


class Returning(Verifier):
    """Returns what it was given, counting its calls."""

    name, version = "mine", "1"

    def __init__(self, what):
        self.what, self.calls = what, 0

    def score(self, images, prompts, **needs) -> Any:
        self.calls += 1
        return self.what


WRONG = {
    "nothing": (None, "None (NoneType)"),
    "a number": (0.5, "0.5 (float)"),
    "a mean": (torch.tensor(0.5), "shape () (Tensor)"),
    "a column": (torch.ones(5, 1), "shape (5, 1) (Tensor)"),
    "a row too many": (np.ones(6), "shape (6,) (ndarray)"),
    "texts": (["good"] * 5, "['good', 'good', 'good', 'good', 'good'] (list)"),
    "objects": (np.array([None] * 5), "shape (5,) (ndarray)"),
    "a name": ({"score": 1.0}, "{'score': 1.0} (dict)"),
    "complex": (torch.ones(5, dtype=torch.complex64), "shape (5,) (Tensor)"),
    "lists": ([[1.0], [1.0, 2.0]], "[[1.0], [1.0, 2.0]] (list)"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", ["object", "function"])
def test_what_is_no_number_per_image_is_refused_in_one_line_and_for_good(case, kind, images, prompts):
    what, came = WRONG[case]
    returning = Returning(what)
    one = returning if kind == "object" else FunctionVerifier(lambda x, p: returning.score(x, p), name="mine")
    said = f"verifier 'mine' returned {came} for 5 images; expected one number per image, shape (5,)"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$") as caught:
        one(images, prompts)
    assert returning.calls == 1 and isinstance(caught.value, VerifierUnusable)


def test_function_versions_tell_sources_apart():
    first = FunctionVerifier(lambda x, p: x.mean((1, 2, 3)))
    second = FunctionVerifier(lambda x, p: x.amax((1, 2, 3)))
    assert first.name == second.name == "function"
    assert first.key != second.key
    assert FunctionVerifier(warmth).key == FunctionVerifier(warmth).key
    assert FunctionVerifier(warmth).name == "warmth"


def test_functions_that_give_no_name_are_numbered_beside_each_other(images, prompts):
    red, green = lambda x, p: x[:, 0].mean((1, 2)), lambda x, p: x[:, 1].mean((1, 2))
    one = MeanRank(red, green, FunctionVerifier(warmth, "function-3"), lambda x, p: x[:, 2].mean((1, 2)))
    assert [member.name for member in one.verifiers] == ["function", "function-2", "function-3", "function-4"]
    assert one.verifiers[1](images, prompts).tolist() == pytest.approx(images[:, 1].mean((1, 2)).tolist())
    with pytest.raises(ValueError, match="appear twice"):
        MeanRank(red, red)


class Labelled(Verifier):
    name, version, needs = "labelled", "1", frozenset({"label"})

    def score(self, images: Tensor, prompts: Any, **needs: Any) -> Tensor:
        return images.mean((1, 2, 3)) + needs["label"]


def test_needs_are_passed_on_or_their_lack_named(images, prompts):
    assert (Labelled()(images, prompts, label=torch.full((5,), 9.0)) > 9).all()
    with pytest.raises(ValueError, match=r"'labelled' needs \['label'\]"):
        Labelled()(images, prompts)
