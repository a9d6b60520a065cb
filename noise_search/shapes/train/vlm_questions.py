"""Yes/no questions about rendered scenes, half of them with the answer yes, and their answers by the oracle's rule."""

import numpy as np

from noise_search.shapes.captions import NUMBERS, PHRASES, near_miss, parse, plural
from noise_search.shapes.oracle import _facts
from noise_search.shapes.reading import Found
from noise_search.shapes.scenes import COLOURS, SHAPES, Scenes

TEMPLATES = (
    'Does this image show "{}"? Answer yes or no.',
    "Does this image show {}? Answer yes or no.",
    'Does this figure show "{}"? Please answer yes or no.',
    'Does this image show "{}"?',
)
"""Ways to ask whether the image shows what a caption says and nothing else."""
PRESENCE = "Is there {} in this image? Answer yes or no."
"""Whether the image shows an object, whatever else it shows."""
PER_SCENE = 6

_COLOURS = tuple(COLOURS)


def questions(scenes: Scenes, seed: int) -> tuple[list[list[str]], np.ndarray]:
    """`PER_SCENE` questions about each scene, and whether the answer is yes, bool `[scene, question]`."""
    rng = np.random.default_rng(seed)
    asked, answers = [], []
    for row in range(len(scenes)):
        texts, truths = _about(contents(scenes, row), rng)
        asked.append(texts)
        answers.append(truths)
    return asked, np.asarray(answers)


def contents(scenes: Scenes, row: int) -> tuple[Found, ...]:
    """A scene's objects as the oracle would read them."""
    return tuple(
        Found(
            SHAPES[scenes.shape[row, slot]],
            _COLOURS[scenes.colour[row, slot]],
            "large" if scenes.large[row, slot] else "small",
            float(scenes.x[row, slot]),
            float(scenes.y[row, slot]),
            1.0,
        )
        for slot in range(scenes.count[row])
    )


def _about(objects: tuple[Found, ...], rng: np.random.Generator) -> tuple[list[str], list[bool]]:
    true = [_caption(objects, rng), _caption(objects, rng)]
    wrong = [near_miss(true[0], int(rng.integers(1 << 31))), near_miss(true[1], int(rng.integers(1 << 31)))]
    captions = [*true, *wrong, _other_number(objects, rng)]
    texts, truths = [], []
    for caption in captions:
        request = parse(caption)
        assert request is not None
        texts.append(TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(caption))
        truths.append(all(_facts(request, objects)))
    thing, there = _presence(objects, rng)
    return [*texts, PRESENCE.format(thing)], [*truths, there]


def _caption(objects: tuple[Found, ...], rng: np.random.Generator) -> str:
    """One of the captions that hold of a whole scene."""
    first = objects[0]
    if len(objects) > 1 and all((o.shape, o.colour) == (first.shape, first.colour) for o in objects):
        return f"{NUMBERS[len(objects)]} {first.colour} {plural(first.shape)}"
    chosen = [objects[i] for i in rng.permutation(len(objects))]
    if len(chosen) == 2 and rng.random() < 0.6 and (relation := _relation(*chosen)):
        phrases = PHRASES[relation]
        return f"{_noun(chosen[0])} {phrases[int(rng.integers(len(phrases)))]} {_noun(chosen[1])}"
    sized = len(chosen) < 3 and rng.random() < 0.4
    nouns = [_noun(o, sized) for o in chosen]
    return nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + " and " + nouns[-1]


def _other_number(objects: tuple[Found, ...], rng: np.random.Generator) -> str:
    """A caption of fewer or more objects than there are, or of equal ones where they differ."""
    kept = list(objects)
    choice = rng.random()
    if choice < 0.4 and len(kept) > 1:
        kept.pop(int(rng.integers(len(kept))))
    elif choice < 0.7 and len(kept) < 4:
        kept.append(_changed(kept[0], rng) if rng.random() < 0.5 else _random(rng))
    elif len(kept) > 1:
        return f"{NUMBERS[len(kept)]} {kept[0].colour} {plural(kept[0].shape)}"
    return _caption(tuple(kept[:3]) if len({(o.shape, o.colour) for o in kept}) > 1 else tuple(kept), rng)


def _presence(objects: tuple[Found, ...], rng: np.random.Generator) -> tuple[str, bool]:
    shown = objects[int(rng.integers(len(objects)))]
    asked = shown if rng.random() < 0.5 else (_changed(shown, rng) if rng.random() < 0.7 else _random(rng))
    return _noun(asked), any((o.shape, o.colour) == (asked.shape, asked.colour) for o in objects)


def _changed(found: Found, rng: np.random.Generator) -> Found:
    """Another shape or another colour, at another place."""
    other = _random(rng)
    if rng.random() < 0.5:
        return Found(found.shape, other.colour, other.size, other.x, other.y, 1.0)
    return Found(other.shape, found.colour, other.size, other.x, other.y, 1.0)


def _random(rng: np.random.Generator) -> Found:
    shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], _COLOURS[int(rng.integers(len(_COLOURS)))]
    size = "large" if rng.random() < 0.5 else "small"
    return Found(shape, colour, size, 64 * rng.random(), 64 * rng.random(), 1.0)


def _noun(found: Found, sized: bool = False) -> str:
    name = f"{found.size} {found.colour} {found.shape}" if sized else f"{found.colour} {found.shape}"
    return ("an " if name[0] in "aeiou" else "a ") + name


def _relation(first: Found, second: Found) -> str | None:
    """How the first lies to the second where that is as plain as in the world's own scenes."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None
