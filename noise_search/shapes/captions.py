"""Captions of scenes: write them in several phrasings, parse them back into what they ask for, and lists of prompts.

The families follow the categories of GenEval (Ghosh et al. 2023, arXiv 2310.11513).
"""

import functools
import re
from dataclasses import dataclass

import numpy as np

from noise_search.shapes.scenes import COLOURS, FAMILIES, RELATIONS, SHAPES, Scenes, sample_scenes

NUMBERS = ("zero", "one", "two", "three", "four")
PHRASES = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below", "under"),
}
EVALUATION_SEED = 20_000_001
VALIDATION_SEED = 20_000_002
_COLOUR_NAMES = tuple(COLOURS)
_RELATION_OF = {phrase: name for name, phrases in PHRASES.items() for phrase in phrases}


@dataclass(frozen=True)
class Thing:
    """One kind of object that a caption asks for, `number` times; `size` is "small", "large" or None."""

    shape: str
    colour: str
    size: str | None = None
    number: int = 1


@dataclass(frozen=True)
class Request:
    """What a caption asks for: the things and, between the first and the second, a relation or None."""

    things: tuple[Thing, ...]
    relation: str | None = None
    family: str = ""


def plural(shape: str) -> str:
    """The plural that captions use."""
    return shape + ("es" if shape == "cross" else "s")


def captions(scenes: Scenes, seed: int) -> list[str]:
    """One true caption per scene, of the scene's family, its phrasing drawn from the seed."""
    choices = np.random.default_rng(seed).random((len(scenes), 4))
    return [_caption(scenes, row, choices[row]) for row in range(len(scenes))]


def _caption(scenes: Scenes, row: int, choice: np.ndarray) -> str:
    def noun(slot: int, sized: bool = False) -> str:
        name = f"{_COLOUR_NAMES[scenes.colour[row, slot]]} {SHAPES[scenes.shape[row, slot]]}"
        size = "large " if scenes.large[row, slot] else "small "
        name = size + name if sized else name
        return ("an " if name[0] in "aeiou" else "a ") + name

    order = np.argsort(choice[: scenes.count[row]]).tolist()
    match FAMILIES[scenes.family[row]]:
        case "single":
            return noun(0, sized=bool(choice[0] < 0.4))
        case "two":
            return f"{noun(order[0])} and {noun(order[1])}"
        case "relation":
            phrases = PHRASES[RELATIONS[scenes.relation[row]]]
            return f"{noun(0)} {phrases[int(choice[0] * len(phrases))]} {noun(1)}"
        case "counting":
            colour, shape = _COLOUR_NAMES[scenes.colour[row, 0]], SHAPES[scenes.shape[row, 0]]
            return f"{NUMBERS[scenes.count[row]]} {colour} {plural(shape)}"
        case "size":
            return f"{noun(order[0], sized=True)} and {noun(order[1], sized=True)}"
        case "three":
            return f"{noun(order[0])}, {noun(order[1])} and {noun(order[2])}"
    raise AssertionError("every family has its caption")


_ONE = re.compile(rf"^an? (?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})$")
_MANY = re.compile(rf"^({'|'.join(NUMBERS[2:])}) ({'|'.join(COLOURS)}) ({'|'.join(plural(s) for s in SHAPES)})$")
_BETWEEN = re.compile("^(.*?) (" + "|".join(sorted(_RELATION_OF, key=len, reverse=True)) + ") (.*)$")
_SINGULAR = {plural(s): s for s in SHAPES}


def parse(caption: str) -> Request | None:
    """What the caption asks for, or None when it is outside the world's grammar. Case and a final stop don't matter."""
    text = " ".join(caption.lower().strip().rstrip(".").split())
    if between := _BETWEEN.match(text):
        first, second = _thing(between[1]), _thing(between[3])
        if first is None or second is None:
            return None
        return Request((first, second), _RELATION_OF[between[2]], "relation")
    things = [_things(part) or _thing(part) for part in re.split(r", and |, | and ", text)]
    if not 1 <= len(things) <= 3 or any(t is None for t in things):
        return None
    found = tuple(t for t in things if t is not None)
    if any(t.number > 1 for t in found):
        return Request(found, family="counting" if len(found) == 1 else "counts")
    sized = any(t.size for t in found)
    return Request(found, family={1: "single", 2: "size" if sized else "two", 3: "three"}[len(found)])


def _thing(text: str) -> Thing | None:
    match = _ONE.match(text)
    return Thing(match[3], match[2], match[1]) if match else None


def _things(text: str) -> Thing | None:
    many = _MANY.match(text)
    return Thing(_SINGULAR[many[3]], many[2], number=NUMBERS.index(many[1])) if many else None


def near_miss(caption: str, seed: int) -> str:
    """A caption that differs in one fact: a colour, shape, number or size, a swapped binding or a turned relation.

    Raises:
        ValueError: the caption is outside the grammar.
    """
    request = parse(caption)
    if request is None:
        raise ValueError(f"caption {caption!r} is outside the world's grammar; see noise_search.shapes.captions")
    rng = np.random.default_rng(seed)
    things = request.things
    swappable = len(things) > 1 and things[0].shape != things[1].shape and things[0].colour != things[1].colour
    words = caption.replace(",", " ,").split()
    vocabularies = (_COLOUR_NAMES, SHAPES, tuple(map(plural, SHAPES)), NUMBERS[2:], ("small", "large"))
    coloured = [i for i, word in enumerate(words) if word in COLOURS]
    kinds = [i for i, word in enumerate(words) if any(word in names for names in vocabularies)]
    turns = [i for i, word in enumerate(words) if word in _OPPOSITE]
    choice = rng.random()
    if turns and choice < 0.5:
        words[turns[0]] = _OPPOSITE[words[turns[0]]]
    elif swappable and choice < 0.7:
        words[coloured[0]], words[coloured[1]] = words[coloured[1]], words[coloured[0]]
    else:
        at = kinds[int(rng.integers(len(kinds)))]
        names = next(names for names in vocabularies if words[at] in names)
        words[at] = str(rng.choice([name for name in names if name != words[at]]))
    for i in range(len(words) - 1):
        if words[i] in ("a", "an"):
            words[i] = "an" if words[i + 1][0] in "aeiou" else "a"
    return " ".join(words).replace(" ,", ",")


_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "under": "above"}


@dataclass(frozen=True)
class Prompt:
    """A caption of the embedded world, and its family."""

    text: str
    family: str


@functools.cache
def evaluation_prompts() -> tuple[Prompt, ...]:
    """120 prompts, 20 per family, no two of one meaning; the same in every run."""
    return _distinct(20, EVALUATION_SEED, ())


@functools.cache
def validation_prompts() -> tuple[Prompt, ...]:
    """60 prompts, 10 per family, no two of one meaning and none with the meaning of an evaluation prompt."""
    return _distinct(10, VALIDATION_SEED, evaluation_prompts())


def _distinct(per_family: int, seed: int, taken: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    seen = {meaning(prompt.text) for prompt in taken}
    chosen: list[Prompt] = []
    for at, family in enumerate(FAMILIES):
        scenes = sample_scenes(10 * per_family, len(FAMILIES) * seed + at, (family,))
        texts = {meaning(text): text for text in captions(scenes, seed)}
        new = [one for one in texts if one not in seen][:per_family]
        if len(new) < per_family:
            raise RuntimeError(f"{len(new)} distinct captions in family {family!r}; expected {per_family}: draw more")
        seen.update(new)
        chosen += [Prompt(texts[one], family) for one in new]
    return tuple(chosen)


def meaning(text: str) -> Request:
    """A caption's request with its things in one order, so that "a and b" equals "b and a"."""
    request = parse(text)
    assert request is not None
    if request.relation is None:
        return Request(tuple(sorted(request.things, key=repr)))
    turned = {"right": "left", "below": "above"}.get(request.relation)
    return Request(request.things[::-1], turned) if turned else Request(request.things, request.relation)
