"""Fixed prompts of the embedded world, as many per family: one list to evaluate on, and one to tune on."""

import functools
from dataclasses import dataclass

from noise_search.shapes.captions import Request, captions, parse
from noise_search.shapes.scenes import FAMILIES, sample_scenes

EVALUATION_SEED = 20_000_001
VALIDATION_SEED = 20_000_002


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
