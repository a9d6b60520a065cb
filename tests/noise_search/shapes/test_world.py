"""The embedded world: scenes, pixels, captions and the fixed prompts."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from noise_search.shapes.captions import (
    Request,
    Thing,
    captions,
    evaluation_prompts,
    near_miss,
    parse,
    validation_prompts,
)
from noise_search.shapes.render import render
from noise_search.shapes.scenes import COLOURS, FAMILIES, GAP, RADII, RELATIONS, SHAPES, Scenes, sample_scenes

SCENES = "96ff6be8bedcb58a1afa18927e82c9e067ce811a19b28d0a49366f85f9ea7a76"
PIXELS = "35662fdc6c1c249e81a2a9ae449cc468c239fe9efe7cb13ea6939e3ef99b8383"
CAPTIONS = "ef0b9416597e8e29b81974e517456d1997911b407264f345c3c191094947e8e9"


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return sample_scenes(2000, 4)


def meaning(caption: str) -> tuple[str | None, frozenset[tuple[Thing, int]] | tuple[Thing, ...]]:
    request = parse(caption)
    assert request is not None
    if request.relation is None:
        return None, frozenset(Counter(request.things).items())
    turned = {"right": "left", "below": "above"}.get(request.relation)
    return (turned, request.things[::-1]) if turned else (request.relation, request.things)


def asked_for(scenes: Scenes, row: int, sized: bool) -> tuple[Counter[Thing], str | None]:
    count = int(scenes.count[row])
    things = [
        Thing(
            SHAPES[scenes.shape[row, i]],
            tuple(COLOURS)[scenes.colour[row, i]],
            ("large" if scenes.large[row, i] else "small") if sized else None,
        )
        for i in range(count)
    ]
    related = FAMILIES[scenes.family[row]] == "relation"
    return Counter(things), RELATIONS[scenes.relation[row]] if related else None


def objects(request: Request) -> Counter[Thing]:
    return Counter(Thing(t.shape, t.colour, t.size) for t in request.things for _ in range(t.number))


def test_seed_fixes_scenes_pixels_and_captions() -> None:
    scenes = sample_scenes(200, 17)
    arrays = [np.asarray(a, np.int64) for a in vars(scenes).values()]
    pixels = (render(scenes) * 255).round().byte().numpy()
    text = "\n".join(captions(scenes, 3))
    assert hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest() == SCENES
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PIXELS
    assert hashlib.sha256(text.encode()).hexdigest() == CAPTIONS


def test_another_seed_gives_other_scenes() -> None:
    assert not np.array_equal(sample_scenes(50, 1).x, sample_scenes(50, 2).x)


def test_objects_are_apart_and_on_the_canvas(scenes: Scenes) -> None:
    radius = np.where(scenes.large, RADII[1], RADII[0])
    used = np.arange(scenes.x.shape[1]) < scenes.count[:, None]
    for i in range(scenes.x.shape[1]):
        for j in range(i):
            both = used[:, i] & used[:, j]
            distance = np.hypot(scenes.x[:, i] - scenes.x[:, j], scenes.y[:, i] - scenes.y[:, j])
            assert (distance >= radius[:, i] + radius[:, j] + GAP)[both].all()
    for place in (scenes.x, scenes.y):
        assert ((place >= radius) & (place <= 64 - radius))[used].all()


def test_families_keep_their_promises(scenes: Scenes) -> None:
    family = np.asarray(FAMILIES)[scenes.family]
    for name, counts in {"single": {1}, "two": {2}, "relation": {2}, "size": {2}, "three": {3}}.items():
        assert set(scenes.count[family == name].tolist()) == counts
    counting = family == "counting"
    assert set(scenes.count[counting].tolist()) == {2, 3, 4}
    assert (scenes.shape[counting] == scenes.shape[counting, :1]).all()
    assert (scenes.colour[counting] == scenes.colour[counting, :1]).all()
    kind = scenes.shape * len(COLOURS) + scenes.colour
    assert all(len(set(row)) == len(row) for row in kind[~counting].tolist())
    assert (scenes.large[family == "size", 0] != scenes.large[family == "size", 1]).all()
    assert not scenes.large[scenes.count >= 3].any()


def test_relation_is_true(scenes: Scenes) -> None:
    related = scenes[scenes.family == FAMILIES.index("relation")]
    dx, dy = related.x[:, 0] - related.x[:, 1], related.y[:, 0] - related.y[:, 1]
    towards = np.stack([-dx, dx, -dy, dy])[related.relation, np.arange(len(related))]
    aside = np.where(related.relation < 2, np.abs(dy), np.abs(dx))
    assert set(related.relation.tolist()) == {0, 1, 2, 3}
    assert (towards > 1.3 * aside).all()


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="crowd"):
        sample_scenes(1, 0, ("crowd",))


def test_captions_parse_back_to_their_scene(scenes: Scenes) -> None:
    for row, caption in enumerate(captions(scenes, 6)):
        request = parse(caption)
        assert request is not None
        assert request.family == FAMILIES[scenes.family[row]]
        sized = any(t.size for t in request.things)
        assert (objects(request), request.relation) == asked_for(scenes, row, sized)
        if request.relation:
            first = SHAPES[scenes.shape[row, 0]], tuple(COLOURS)[scenes.colour[row, 0]]
            assert (request.things[0].shape, request.things[0].colour) == first


def test_near_miss_parses_and_means_something_else(scenes: Scenes) -> None:
    for row, caption in enumerate(captions(scenes, 6)):
        assert meaning(near_miss(caption, row)) != meaning(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a dog",
        "a red circle on the moon",
        "five red circles",
        "red circle",
        "two red circles above a blue square",
        "two small red circles and a blue square",
        "",
    ],
)
def test_other_text_is_outside_the_grammar(caption: str) -> None:
    assert parse(caption) is None
    with pytest.raises(ValueError, match="grammar"):
        near_miss(caption, 0)


def test_prompts_are_balanced_distinct_and_disjoint() -> None:
    evaluation, validation = evaluation_prompts(), validation_prompts()
    assert Counter(p.family for p in evaluation) == dict.fromkeys(FAMILIES, 20)
    assert Counter(p.family for p in validation) == dict.fromkeys(FAMILIES, 10)
    meanings = [meaning(p.text) for p in evaluation + validation]
    assert len(set(meanings)) == 180
    requests = [parse(p.text) for p in evaluation + validation]
    assert [r and r.family for r in requests] == [p.family for p in evaluation + validation]
    text = "\n".join(p.text for p in evaluation + validation)
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "3dd27da1257145ccbfb9eca1a5921adb68e98dc0e5ac2892862b449eb4a58d2c"
    )
