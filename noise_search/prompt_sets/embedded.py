"""Prompt sets of the embedded world: its two fixed lists, and as many further captions as a seed gives."""

import hashlib
import re
from collections.abc import Iterator

from noise_search.prompt_sets.set import SetPrompt
from noise_search.shapes.captions import Request, captions, evaluation_prompts, meaning, validation_prompts
from noise_search.shapes.scenes import FAMILIES, sample_scenes

FIXED = {"shapes": evaluation_prompts, "shapes-validation": validation_prompts}
PATTERN = "shapes:SEED:COUNT"
_SPECIFIED = re.compile(r"shapes:([0-9]+):([0-9]+)")
_CHUNK = 16
_DRY = 160
"""Chunks without a new caption after which a family counts as used up: 2560 draws among some 200 captions."""


def embedded(name: str) -> list[SetPrompt] | None:
    """The prompts of an embedded set; None for other names."""
    if name in FIXED:
        return [SetPrompt(prompt.text, prompt.family) for prompt in FIXED[name]()]
    if not name.startswith("shapes:"):
        return None
    match = _SPECIFIED.fullmatch(name)
    if match is None or int(match[2]) < 1:
        raise ValueError(f"prompt set {name!r} must be {PATTERN} with whole numbers, such as shapes:7:60")
    return _generated(int(match[1]), int(match[2]))


def _generated(seed: int, count: int) -> list[SetPrompt]:
    """Captions in turn from the six families, no two of one meaning and none with that of a fixed set's prompt.

    With one seed a longer list begins with every shorter one.
    """
    taken = {meaning(prompt.text) for listed in FIXED.values() for prompt in listed()}
    found: list[SetPrompt] = []
    streams = [_distinct(family, at, seed, taken) for at, family in enumerate(FAMILIES)]
    for at in range(count):
        prompt = next(streams[at % len(streams)], None)
        if prompt is None:
            family = FAMILIES[at % len(FAMILIES)]
            raise ValueError(
                f"count={count} is more than the embedded world has: its family {family!r} has "
                f"{at // len(FAMILIES)} captions beside those of the fixed sets; ask for at most {at}"
            )
        found.append(prompt)
    return found


def _distinct(family: str, at: int, seed: int, taken: set[Request]) -> Iterator[SetPrompt]:
    seen = set(taken)
    chunk = dry = 0
    while dry < _DRY:
        key = hashlib.sha256(f"{seed}:{at}:{chunk}".encode()).digest()
        own = int.from_bytes(key[:8], "big")
        before = len(seen)
        for text in captions(sample_scenes(_CHUNK, own, (family,)), own):
            if meaning(text) not in seen:
                seen.add(meaning(text))
                yield SetPrompt(text, family)
        chunk += 1
        dry = 0 if len(seen) > before else dry + 1
