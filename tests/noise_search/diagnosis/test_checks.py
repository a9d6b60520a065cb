"""Re-scoring after transforms, and other prompts, on verifiers whose answers are known."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from noise_search.diagnosis.checks import (
    CAPTIONS,
    Gain,
    PairScorer,
    Rescoring,
    flip,
    jpeg,
    other_prompts,
    rescore,
    resize,
    spread,
    try_wrong,
)
from noise_search.shapes.captions import evaluation_prompts, parse
from tiny.search import brightness
from verifiers import FunctionVerifier, JPEGSize

PROMPT = "a red circle"


BOARD = (torch.arange(32)[:, None] + torch.arange(48)) % 2 * 2.0 - 1


def leftness(images, prompts):
    """How much brighter the left half is than the right one: a mirror turns the sign."""
    half = images.shape[-1] // 2
    return images[..., :half].mean((1, 2, 3)) - images[..., half:].mean((1, 2, 3))


def board(images, prompts):
    """How much of a checkerboard of single pixels there is."""
    return (images * BOARD).mean((1, 2, 3))


def by_length(images, prompts):
    return images.mean((1, 2, 3)) * torch.tensor([float(len(prompt)) for prompt in prompts])


@pytest.fixture
def pair():
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    images[0, ..., :24] += 0.3
    return images.clamp(0, 1)


def scored(fn, pair, **options):
    verifier = fn if isinstance(fn, JPEGSize) else FunctionVerifier(fn)
    scorer = PairScorer([verifier], {verifier.key: 1.0})
    before = scorer.gains([pair], [PROMPT])[0]
    return scorer, before, rescore(scorer, pair, options.pop("prompt", PROMPT), before, **options)


@pytest.mark.parametrize("fn", [brightness, leftness, JPEGSize()], ids=["mean", "side", "jpeg"])
def test_transforms_that_do_nothing_keep_exactly_the_gain(pair, fn):
    _, before, found = scored(fn, pair, transforms={"nothing": lambda images: images, "copy": torch.clone})
    assert found.shares == {"nothing": 1.0, "copy": 1.0} and found.share == 1
    assert found.gains["nothing"] == before


def test_a_flip_turns_what_only_one_side_has(pair):
    assert scored(leftness, pair)[2].shares["flip"] == pytest.approx(-1, abs=1e-5)
    assert scored(brightness, pair)[2].shares["flip"] == pytest.approx(1, abs=1e-5)


def test_a_pixel_pattern_does_not_survive_and_brightness_does():
    grey = torch.full((3, 32, 48), 0.5)
    assert scored(board, torch.stack([grey + 0.03 * BOARD, grey]))[2].share < 0.3
    assert scored(brightness, torch.stack([grey + 0.03, grey]))[2].share == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("prompt", ["a cat left of a dog", "The RIGHT shoe", "the leftmost door", "a right-hand glove"])
def test_a_prompt_that_names_a_side_is_not_flipped(pair, prompt):
    found = scored(leftness, pair, prompt=prompt)[2]
    assert "flip" not in found.shares and "prompt says" in found.skipped["flip"] and len(found.shares) == 3
    assert scored(leftness, pair, prompt="a bright leftover")[2].skipped == {}


def test_where_the_images_show_no_gain_nothing_is_scored(pair):
    found = scored(brightness, pair.flip(0))[2]
    assert found.rounded and found.shares == {} and math.isnan(found.share)


def test_one_wild_transform_does_not_decide():
    shares = {"a": 0.95, "b": 1.0, "c": 0.9, "d": -17.0}
    assert Rescoring(shares, {}, {}).share == pytest.approx(0.925)
    assert Rescoring({**shares, "e": math.nan}, {}, {}).share == pytest.approx(0.925)


@pytest.mark.parametrize("by", [-0.02, 0.02])
@pytest.mark.parametrize("size", [(1, 1), (16, 24), (100, 150)])
def test_a_resize_returns_to_its_size_and_changes_what_is_fine(by, size):
    flat = torch.full((2, 3, *size), 0.4)
    assert torch.allclose(resize(flat, by), flat, atol=1e-6)
    noisy = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found = resize(noisy, by)
    assert found.shape == noisy.shape and 0 <= float(found.min()) and float(found.max()) <= 1
    assert size == (1, 1) or not torch.allclose(found, noisy, atol=0.01)


def test_jpeg_is_pillows_at_quality_90(pair):
    pixels = (pair[1].permute(1, 2, 0) * 255).round().byte().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    expected = np.asarray(Image.open(stream))
    assert np.array_equal((jpeg(pair)[1].permute(1, 2, 0) * 255).round().byte().numpy(), expected)
    clips = pair[:, None].repeat(1, 3, 1, 1, 1)
    assert torch.equal(jpeg(clips)[:, 2], jpeg(pair)) and torch.equal(flip(clips)[:, 0], flip(pair))
    assert torch.equal(resize(clips, 0.02)[:, 1], resize(pair, 0.02))


def test_other_prompts_on_a_closed_form(pair):
    texts = ["a", "abc", "abcdef"]
    scorer, before, _ = scored(by_length, pair)
    found = try_wrong(scorer, pair, before, texts)
    delta = float(pair[0].mean() - pair[1].mean())
    assert found.right == pytest.approx(delta * len(PROMPT), rel=1e-4)
    assert found.wrong == pytest.approx({text: delta * len(text) for text in texts}, rel=1e-4)
    assert found.mean == pytest.approx(delta * 10 / 3, rel=1e-4)
    assert found.share == pytest.approx(10 / 3 / len(PROMPT), rel=1e-4) and found.skipped == ""


def test_a_verifier_that_is_found_to_read_no_prompt_tells_nothing(pair):
    scorer, before, _ = scored(brightness, pair)
    assert "whatever the prompt" in try_wrong(scorer, pair, before, ["a", "b"]).skipped


def test_other_prompts_are_a_seeded_draw_that_shares_nothing_with_the_prompt():
    prompt = "a red circle to the left of a blue square"
    known = {one.text for one in evaluation_prompts()}
    first = other_prompts(prompt, "shapes-flow", seed=1)
    assert first == other_prompts(prompt, "shapes-flow", seed=1) != other_prompts(prompt, "shapes-flow", seed=2)
    assert len(set(first)) == 8 and set(first) <= known
    for text in first:
        assert not {"red", "blue", "circle", "square"} & {w for t in parse(text).things for w in (t.colour, t.shape)}
    assert other_prompts(prompt, "some/model") == CAPTIONS and len(set(CAPTIONS)) == 8
    assert CAPTIONS[0] not in other_prompts(CAPTIONS[0], "some/model")
    own = next(iter(known))
    assert own not in other_prompts(own, "shapes-ddim", seed=3)


def test_gains_of_several_verifiers_are_means_in_their_units(pair):
    verifiers = [FunctionVerifier(brightness), FunctionVerifier(leftness)]
    keys = [one.key for one in verifiers]
    gain = PairScorer(verifiers, dict(zip(keys, (0.5, 2.0), strict=True))).gains([pair], [PROMPT])[0]
    expected = [float(one(pair, [""] * 2)[0] - one(pair, [""] * 2)[1]) for one in verifiers]
    assert gain.total == pytest.approx((expected[0] / 0.5 + expected[1] / 2) / 2)
    assert gain.by([keys[1]]).total == pytest.approx(expected[1] / 2) and math.isnan(gain.by([]).total)


def test_pairs_are_scored_alike_in_one_batch_and_in_many(pair, monkeypatch):
    verifier = FunctionVerifier(by_length)
    texts = [f"prompt {'x' * i}" for i in range(5)]
    together, alone = [], []
    for pixels, found in ((2**22, together), (1, alone)):
        monkeypatch.setattr("noise_search.diagnosis.checks._PIXELS", pixels)
        found += PairScorer([verifier], {verifier.key: 1.0}).gains([pair] * 5, texts)
    assert together == alone and isinstance(together[0], Gain)


def test_a_spread_needs_four_values_that_differ():
    assert spread([1.0, 2.0, 3.0, 4.0]) == pytest.approx(np.std([1, 2, 3, 4], ddof=1))
    assert math.isnan(spread([1.0, 2.0, 3.0, math.nan])) and math.isnan(spread([1.0] * 9))
