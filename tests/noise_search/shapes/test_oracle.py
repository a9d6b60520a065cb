"""The oracle: it reads what is there, holds up under blur and noise, and is not forgiving."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.oracle import Oracle, Verdict, judge
from noise_search.shapes.reading import label_blobs, read
from noise_search.shapes.render import render
from noise_search.shapes.scenes import BACKGROUNDS, COLOURS, SHAPES, Scenes, sample_scenes

CIRCLE, SQUARE, STAR, HEART = (SHAPES.index(name) for name in ("circle", "square", "star", "heart"))
RED, BLUE, GREEN, PINK = (list(COLOURS).index(name) for name in ("red", "blue", "green", "pink"))
LIGHT = tuple(value / 255 for value in BACKGROUNDS["light"])
PAIR = ((CIRCLE, RED, 0, 16, 32), (HEART, BLUE, 1, 44, 36))
Change = Callable[[Tensor], Tensor]


def picture(*objects: tuple[int, int, int, int, int], background: int = 0) -> Tensor:
    """One image of objects (shape, colour, large, x, y)."""
    columns = [np.asarray([column]) for column in zip(*objects, strict=True)]
    shape, colour, large, x, y = columns
    one = np.asarray([0])
    return render(Scenes(shape, colour, large == 1, x, y, one + len(objects), one + background, one, one))


def strict(images: Tensor, texts: list[str]) -> np.ndarray:
    return np.asarray([verdict.strict for verdict in judge(images, texts)])


@pytest.fixture(scope="module")
def world() -> tuple[Scenes, Tensor, list[str]]:
    scenes = sample_scenes(1200, 123)
    return scenes, render(scenes), captions(scenes, 5)


def test_true_captions_hold_and_others_do_not(world: tuple[Scenes, Tensor, list[str]]) -> None:
    _, images, texts = world
    assert strict(images, texts).mean() >= 0.995
    assert strict(images, texts[1:] + texts[:1]).mean() <= 0.01
    assert strict(images, [near_miss(text, i) for i, text in enumerate(texts)]).mean() <= 0.005


def test_reads_every_object_where_it_is(world: tuple[Scenes, Tensor, list[str]]) -> None:
    scenes, images, _ = world
    for row, reading in enumerate(read(images[:500])):
        count = scenes.count[row]
        kinds = zip(scenes.shape[row, :count], scenes.colour[row, :count], scenes.large[row, :count], strict=True)
        names = [(SHAPES[s], list(COLOURS)[c], "large" if large else "small") for s, c, large in kinds]
        assert sorted((f.shape, f.colour, f.size) for f in reading.found) == sorted(names)
        assert reading.background == list(BACKGROUNDS)[scenes.background[row]]
        for found in reading.found:
            near = np.hypot(scenes.x[row, :count] - found.x, scenes.y[row, :count] - found.y)
            assert near.min() < 0.75


def test_blur_and_noise_do_not_blind_it(world: tuple[Scenes, Tensor, list[str]]) -> None:
    _, images, texts = world
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    rough = (blurred + 0.03 * noise).clamp(0, 1)
    assert strict(rough, texts).mean() >= 0.98
    assert strict(rough, [near_miss(text, i) for i, text in enumerate(texts)]).mean() <= 0.01


def test_position_between_pixels() -> None:
    image = picture((HEART, RED, 1, 30, 30))
    between = (image + image.roll(1, dims=3) + image.roll(1, dims=2) + image.roll((1, 1), dims=(2, 3))) / 4
    (found,) = read(between)[0].found
    assert (found.shape, found.colour, found.size) == ("heart", "red", "large")
    assert abs(found.x - 30.5) < 0.4
    assert abs(found.y - 30.5) < 0.4


@pytest.mark.parametrize(
    ("caption", "holds", "facts"),
    [
        ("a red circle and a blue heart", True, 1),
        ("A blue heart and a red circle.", True, 1),
        ("a small red circle and a large blue heart", True, 1),
        ("a red circle left of a blue heart", True, 1),
        ("a blue heart to the right of a red circle", True, 1),
        ("a red circle above a blue heart", False, 5 / 6),
        ("a blue circle and a red heart", False, 3 / 5),
        ("a red circle and a green heart", False, 4 / 5),
        ("a large red circle and a small blue heart", False, 5 / 7),
        ("a red circle", False, 2 / 3),
        ("a red circle, a blue heart and a green square", False, 4 / 7),
        ("two red circles", False, 3 / 5),
        ("a green square left of a yellow star", False, 1 / 6),
    ],
)
def test_each_fact_counts(caption: str, holds: bool, facts: float) -> None:
    (verdict,) = judge(picture(*PAIR), [caption])
    assert verdict.judgeable
    assert verdict.strict is holds
    assert verdict.facts == pytest.approx(facts)


def test_counting() -> None:
    three = picture(*((CIRCLE, RED, 0, x, 40) for x in (8, 32, 56)))
    texts = [f"{number} red circles" for number in ("two", "three", "four")]
    assert strict(three.expand(3, -1, -1, -1), texts).tolist() == [False, True, False]


def test_counting_several_kinds() -> None:
    image = picture(
        (CIRCLE, RED, 0, 8, 40), (CIRCLE, RED, 0, 32, 40), (HEART, BLUE, 0, 56, 40), (SQUARE, BLUE, 0, 8, 8)
    )
    holds = {
        "two red circles, a blue heart and a blue square": True,
        "a blue square, two red circles and a blue heart": True,
        "two red circles, two blue hearts and a blue square": False,
        "two red circles and two blue hearts": False,
        "two red circles and a blue heart": False,
    }
    assert strict(image.expand(len(holds), -1, -1, -1), list(holds)).tolist() == list(holds.values())


def test_blank_image_shows_nothing() -> None:
    assert judge(torch.full((1, 3, 64, 64), 0.96), ["a red circle"]) == [Verdict(False, 0.0)]
    assert read(torch.full((1, 3, 64, 64), 0.13))[0] == read(torch.full((1, 3, 64, 64), 0.14))[0]


def test_an_extra_or_missing_object_fails() -> None:
    caption = ["a red circle and a blue heart"]
    assert not strict(picture(*PAIR, (SQUARE, GREEN, 0, 24, 56)), caption)[0]
    assert not strict(picture(PAIR[0]), caption)[0]
    assert not strict(picture(PAIR[0], (*PAIR[0][:3], 40, 32)), ["a red circle"])[0]


def test_blob_of_no_shape_is_unknown() -> None:
    image = picture(PAIR[0])
    image[0, :, 10:26, 40:44] = torch.tensor([0.2, 0.3, 0.8])[:, None, None]
    assert [f.shape for f in read(image)[0].found] == ["unknown", "circle"]
    assert not strict(image, ["a red circle"])[0]


def patch(rows: slice, columns: slice, colour: tuple[float, float, float]) -> Change:
    """A change of an image: a rectangle of one colour."""

    def change(image: Tensor) -> Tensor:
        image = image.clone()
        image[0, :, rows, columns] = torch.tensor(colour)[:, None, None]
        return image

    return change


def ghost(shape: int, colour: int, strength: float) -> Change:
    """A change of an image on the light background: a large object, faint, where nothing is."""
    return lambda image: image + strength * (picture((shape, colour, 1, 16, 48)) - torch.tensor(LIGHT)[:, None, None])


def background(colour: tuple[float, float, float]) -> Change:
    """A change of an image on the light background: another one."""
    light, other = (torch.tensor(one)[:, None, None] for one in (LIGHT, colour))
    return lambda image: torch.where((image - light).abs().amax(1, keepdim=True) < 0.01, other, image)


# A large green square lies about (44, 20), from pixel 34 to 53 and from 10 to 29.
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (patch(slice(50, 52), slice(10, 13), (0.18, 0.33, 0.84)), True),
        (patch(slice(50, 51), slice(10, 13), (0.0, 0.0, 0.0)), True),
        (patch(slice(62, 64), slice(62, 64), (0.0, 0.0, 0.0)), True),
        (patch(slice(50, 51), slice(10, 11), (0.18, 0.33, 0.84)), False),
        (patch(slice(18, 22), slice(42, 46), LIGHT), True),
        (patch(slice(18, 21), slice(42, 44), (0.86, 0.16, 0.16)), True),
        (patch(slice(18, 22), slice(42, 46), (0.24, 0.72, 0.33)), False),
        (ghost(STAR, PINK, 0.25), True),
        (ghost(STAR, BLUE, 0.14), True),
        (ghost(CIRCLE, GREEN, 0.1), True),
        (ghost(STAR, BLUE, 0.03), False),
        (background((0.2, 0.3, 0.6)), True),
        (background((0.9, 0.5, 0.7)), True),
        (background((1.0, 0.9, 0.9)), True),
        (background((1.0, 1.0, 1.0)), False),
    ],
    ids=[
        *("six pixels", "three black pixels", "a corner", "one pixel"),
        *("hole", "red pixels inside", "a shade inside"),
        *("pink ghost", "blue ghost", "green ghost", "next to nothing"),
        *("blue background", "pink background", "pale background", "white background"),
    ],
)
def test_what_can_be_seen_beside_the_objects_is_something_else(change: Change, seen: bool) -> None:
    image = picture((SQUARE, GREEN, 1, 44, 20))
    (before, after) = judge(torch.cat([image, change(image)]), ["a green square"] * 2)
    assert before == Verdict(True, 1.0)
    assert after == Verdict(not seen, 2 / 3 if seen else 1.0)


@pytest.mark.parametrize("ground", range(len(BACKGROUNDS)), ids=list(BACKGROUNDS))
@pytest.mark.parametrize("shape", range(len(SHAPES)), ids=SHAPES)
def test_a_ghost_of_any_object_is_something_else(shape: int, ground: int) -> None:
    """At strengths that leave it 0.08 of RGB from the background."""
    plain = picture((CIRCLE, RED, 0, 48, 16), background=ground)
    kinds = [picture((shape, c, 1, 16, 44), background=ground) for c in range(len(COLOURS))]
    ghosts = torch.cat(kinds) - picture((shape, RED, 1, 16, 44), background=ground)[..., :1, :1]
    ghosts *= 0.08 / ghosts.square().sum(1, keepdim=True).sqrt().amax((2, 3), keepdim=True)
    assert not strict(plain + ghosts, ["a red circle"] * len(ghosts)).any()


def test_colour_between_or_half_and_half_is_no_match() -> None:
    image = picture((CIRCLE, RED, 1, 32, 32))
    half = torch.where(torch.arange(64) < 32, image, picture((CIRCLE, BLUE, 1, 32, 32)))
    assert read(half)[0].found[0].shape == "unknown"
    cover = (0.96 - image[:, 1:2]) / (0.96 - 40 / 255)
    brown = image * (1 - cover) + cover * torch.tensor([0.4, 0.25, 0.1])[:, None, None]
    assert read(brown)[0].found[0].colour == "unknown"


def test_touching_corners_are_parted() -> None:
    image = picture((SQUARE, GREEN, 0, 24, 24), (SQUARE, GREEN, 1, 40, 40), background=1)
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert strict(torch.cat([image, blurred]), ["two green squares"] * 2).all()


def test_outside_the_grammar_there_is_no_verdict() -> None:
    (verdict,) = judge(picture(*PAIR), ["an astronaut on a horse"])
    assert (verdict.strict, verdict.facts, verdict.judgeable) == (None, None, False)


def test_refuses_other_sizes_and_counts() -> None:
    with pytest.raises(ValueError, match="3 x 32 x 64"):
        judge(torch.zeros(1, 3, 32, 64), ["a red circle"])
    with pytest.raises(ValueError, match="2 captions for 1"):
        judge(torch.zeros(1, 3, 64, 64), ["a red circle"] * 2)
    with pytest.raises(ValueError, match=r"\[1\]"):
        read(torch.stack([torch.zeros(3, 64, 64), torch.full((3, 64, 64), torch.nan)]))
    assert judge(torch.zeros(0, 3, 64, 64), []) == []


def test_verifier_scores() -> None:
    image = picture(*PAIR)
    images = torch.cat([image, image, image, torch.full_like(image, torch.nan)])
    texts = ["a red circle and a blue heart", "a red circle", "a dog", "a red circle"]
    exact, share = Oracle(), Oracle(facts=True)
    assert (exact.key, exact.kind, share.key) == ("oracle@2", "score", "oracle-facts@2")
    with pytest.warns(UserWarning, match="oracle can't read 'a dog': it isn't a caption of the shapes world"):
        torch.testing.assert_close(exact(images, texts), torch.tensor([1, 0, torch.nan, torch.nan]), equal_nan=True)
    with pytest.warns(UserWarning, match="oracle-facts can't read 'a dog'"):
        torch.testing.assert_close(share(images, texts), torch.tensor([1, 2 / 3, torch.nan, torch.nan]), equal_nan=True)
    with pytest.raises(ValueError, match="3 x 128 x 128"):
        exact(torch.zeros(1, 3, 128, 128), ["a red circle"])


def test_a_caption_that_it_cannot_read_is_told_once_before_anything_is_spent() -> None:
    oracle = Oracle()
    with pytest.warns(UserWarning) as told:
        oracle.check(["a red circle", "a cat", "two dogs", "a cat"])
        oracle.check(["a cat"])
        oracle(picture(*PAIR), ["a cat"])
    assert [str(one.message).split(":")[0] for one in told] == [
        "oracle can't read 'a cat'",
        "oracle can't read 'two dogs'",
    ]
    assert [oracle.unread(prompt) for prompt in ("a red circle", "a cat")] == ["", "a cat"]


def test_a_row_does_not_depend_on_the_others(world: tuple[Scenes, Tensor, list[str]]) -> None:
    images = world[1][:20]
    for whole, alone in zip(read(images), (read(image[None])[0] for image in images), strict=True):
        rounded = [tuple(replace(f, overlap=round(f.overlap, 4)) for f in r.found) for r in (whole, alone)]
        assert rounded[0] == rounded[1]


def test_labels_follow_a_spiral() -> None:
    mask = np.zeros((2, 9, 9), bool)
    for cells in ((0, slice(0, 9)), (slice(0, 9), 8), (8, slice(0, 9)), (slice(2, 9), 0), (2, slice(0, 7))):
        mask[1][cells] = True
    mask[1][slice(2, 7), 6] = True
    label = label_blobs(mask)
    assert (label[0] == -1).all()
    assert set(label[1][mask[1]].tolist()) == {81}
