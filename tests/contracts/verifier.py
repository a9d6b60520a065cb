"""What every verifier must do; inherit `VerifierContract` and give a `verifier` fixture."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from verifiers import FunctionVerifier, Verifier, WeightsError


@contextmanager
def refused(message: str, kind: type[Exception] = WeightsError) -> Iterator[None]:
    """What is wrong is said in one line that matches."""
    with pytest.raises(kind, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


def supplied(verifier: Verifier, images: Tensor) -> dict[str, Any]:
    """What a verifier needs beside images and prompts: x0 predictions that differ from the images, or a source."""
    made = {
        "x0": (images.detach().nan_to_num(0.5, 0.5, 0.5).float() * 0.8 + 0.1).flip(-1).clamp(0, 1),
        "source": SOURCE,
        "sources": [SOURCE, SOURCE.flip(-1)],
    }
    return {need: made[need] for need in verifier.needs}


SOURCE = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(5))


def call(verifier: Verifier, images: Tensor, prompts: Any, **options: Any) -> Tensor:
    """The scores, as a search would have them."""
    return verifier(images, prompts, **supplied(verifier, images), **options)


class VerifierContract:
    """Contract tests.

    Set `differentiable = False` where no gradient is promised, and `longest` to the longest prompt that is read whole
    where a longer one is cut: words, of which "star" is one token, and the tokens that it has.
    """

    differentiable = True
    longest: tuple[str, int] | None = None
    half_tolerance = 0.025
    """Of scores by weights in bfloat16, as a share of the largest score."""

    @pytest.fixture
    def verifier(self) -> Verifier:
        raise NotImplementedError("give the verifier under test as a fixture")

    @pytest.fixture
    def in_bfloat16(self) -> Verifier | None:
        """The same with its weights in bfloat16; None for one without weights."""
        return None

    def test_returns_one_finite_float32_per_image(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        for count in (1, 5):
            scores = call(verifier, images[:count], prompts[:count])
            assert scores.shape == (count,)
            assert scores.dtype == torch.float32
            assert scores.isfinite().all()

    def test_empty_batch_gives_empty_scores(self, verifier: Verifier, images: Tensor) -> None:
        scores = call(verifier, images[:0], [])
        assert scores.shape == (0,)
        assert scores.dtype == torch.float32

    def test_images_get_different_scores(self, verifier: Verifier, images: Tensor) -> None:
        assert len(call(verifier, images, ["a red circle"] * 5).unique()) == 5

    def test_batch_equals_one_by_one(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        together = call(verifier, images, prompts)
        alone = torch.cat([call(verifier, images[i : i + 1], [prompts[i]]) for i in range(5)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_permuted_rows_permute_scores(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        order = [3, 0, 4, 1, 2]
        expected = call(verifier, images, prompts)[order]
        permuted = call(verifier, images[order], [prompts[i] for i in order])
        torch.testing.assert_close(permuted, expected, atol=1e-5, rtol=0)

    def test_same_call_twice_is_identical(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        first = call(verifier, images, prompts)
        call(verifier, images.flip(0), prompts)
        assert torch.equal(first, call(verifier, images.clone(), prompts))

    def test_the_prompt_counts_unless_it_says_otherwise(
        self, verifier: Verifier, images: Tensor, prompts: list[str]
    ) -> None:
        same = torch.equal(call(verifier, images, prompts), call(verifier, images, [*prompts[1:], prompts[0]]))
        if isinstance(verifier, FunctionVerifier) and not verifier.prompt_agnostic:
            pytest.skip("the author of a function need not say that it reads no prompt")
        assert same == verifier.prompt_agnostic

    def test_no_gradient_by_default(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        assert not call(verifier, images.requires_grad_(), prompts).requires_grad

    def test_gradient_when_asked(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        images = images.requires_grad_()
        if not self.differentiable:
            with pytest.raises(ValueError, match="not differentiable"):
                call(verifier, images, prompts, grad=True)
            return
        plain = call(verifier, images, prompts)  # fills caches without a graph first
        scores = call(verifier, images, prompts, grad=True)
        scores.sum().backward()
        torch.testing.assert_close(scores.detach(), plain, atol=1e-5, rtol=0)
        assert images.grad is not None and images.grad.isfinite().all()
        assert (images.grad.flatten(1).abs().amax(1) > 0).all()

    def test_nan_stays_in_its_row(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        expected = call(verifier, images, prompts)
        images[1, 2, 3, 4] = torch.nan
        images[3, 0, 0, 0] = torch.inf
        scores = call(verifier, images, prompts)
        assert scores.isnan().tolist() == [False, True, False, True, False]
        torch.testing.assert_close(scores[[0, 2, 4]], expected[[0, 2, 4]], atol=1e-5, rtol=0)

    def test_inputs_and_random_state_are_left_unchanged(
        self, verifier: Verifier, images: Tensor, prompts: list[str]
    ) -> None:
        before, texts, state = images.clone(), list(prompts), torch.get_rng_state()
        call(verifier, images, prompts)
        assert torch.equal(images, before)
        assert prompts == texts
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("size", [(1, 1), (16, 64), (64, 16), (33, 47), (1536, 2048)])
    def test_odd_sizes(self, verifier: Verifier, size: tuple[int, int]) -> None:
        scores = call(verifier, torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)), ["a", "b"])
        assert scores.shape == (2,)
        assert scores.isfinite().all()

    @pytest.mark.parametrize("words", [0, 77, 300])
    def test_prompts_of_any_length(self, verifier: Verifier, images: Tensor, words: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = call(verifier, images[:2], [" ".join(["word1"] * words)] * 2)
        assert scores.isfinite().all()

    def test_a_longer_prompt_is_cut_with_one_warning(self, verifier: Verifier, images: Tensor) -> None:
        if self.longest is None:
            pytest.skip("reads all of a prompt, or nothing")
        fits, tokens = self.longest
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            whole = call(verifier, images, [fits] * 5)
            other = call(verifier, images, [" ".join([*fits.split()[:-1], "star"])] * 5)
        told = f"{tokens + 1} tokens, {verifier.name} reads {tokens}; it does not see 'star'"
        with pytest.warns(UserWarning, match=told) as warned:
            longer = call(verifier, images, [f"{fits} star"] * 5)
            call(verifier, images[:1], [f"{fits} star"])
        assert len(warned) == 1 and verifier.unread(f"{fits} star") == "star"
        torch.testing.assert_close(longer, whole, atol=1e-5, rtol=0)
        assert (other - whole).abs().min() > 1e-4  # the last token that is read counts

    def test_half_precision_images(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        half = images.to(torch.bfloat16)
        scores = call(verifier, half, prompts)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, call(verifier, half.float(), prompts), atol=1e-5, rtol=0)

    def test_half_precision_weights(
        self, verifier: Verifier, in_bfloat16: Verifier | None, images: Tensor, prompts: list[str]
    ) -> None:
        if in_bfloat16 is None:
            pytest.skip("has no weights")
        scores = call(in_bfloat16, images, prompts)
        assert scores.dtype == torch.float32
        assert not torch.equal(scores, scores.bfloat16().float())  # last computed in half, all would be on its grid
        full = call(verifier, images, prompts)
        assert (scores - full).abs().max() < self.half_tolerance * max(1.0, float(full.abs().max()))
        assert in_bfloat16.key != verifier.key

    def test_works_inside_inference_mode_and_after(self, verifier: Verifier, images: Tensor) -> None:
        with torch.inference_mode():
            inside = call(verifier, images, ["a green star"] * 5)
        images = images.requires_grad_() if self.differentiable else images
        scores = call(verifier, images, ["a green star"] * 5, grad=self.differentiable)
        torch.testing.assert_close(scores.detach(), inside.clone(), atol=1e-5, rtol=0)
        if self.differentiable:
            scores.sum().backward()

    @pytest.mark.parametrize("count", [0, 4, 6])
    def test_lengths_that_differ_are_both_named(self, verifier: Verifier, images: Tensor, count: int) -> None:
        with pytest.raises(ValueError, match=f"5 images but {count} prompts"):
            call(verifier, images, ["a"] * count)

    def test_wrong_images_are_refused(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        wrong: list[tuple[Tensor, str]] = [
            ((images * 255).to(torch.uint8), "uint8.*/ 255"),
            (images * 2 - 1, r"images spans \[-.*\(images \+ 1\) / 2"),
            (images * 255, "images / 255"),
            (images[:, :1], "1 channels.*expected 3"),
            (torch.cat([images, images[:, :1]], dim=1), "4 channels.*expected 3"),
            (images[0], r"\[batch, 3, height, width\]"),
            (images[..., :0], "at least 1"),
        ]
        for value, message in wrong:
            with pytest.raises((ValueError, TypeError), match=message):
                call(verifier, value, prompts)

    def test_one_string_as_prompts_is_refused(self, verifier: Verifier, images: Tensor) -> None:
        with pytest.raises(TypeError, match=r"single string 'a red'.*\[prompt\] \* 5"):
            call(verifier, images, "a red")

    def test_inputs_not_declared_are_refused(self, verifier: Verifier, images: Tensor, prompts: list[str]) -> None:
        with pytest.raises(TypeError, match="label"):
            call(verifier, images, prompts, label=torch.zeros(5))

    def test_description_is_plain_json(self, verifier: Verifier) -> None:
        description: dict[str, Any] = json.loads(json.dumps(verifier.describe()))
        assert f"{description['name']}@{description['version']}" == verifier.key
        assert description["kind"] in ("score", "constraint")
