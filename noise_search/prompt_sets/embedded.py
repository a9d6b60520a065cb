"""Prompt sets of the embedded world: its fixed lists, and as many further captions as a seed gives."""

import hashlib
import re
from collections.abc import Callable, Iterator

from noise_search.prompt_sets.set import SetPrompt
from noise_search.shapes.captions import Prompt, Request, captions, evaluation_prompts, meaning, validation_prompts
from noise_search.shapes.hard_prompts import hard_prompts
from noise_search.shapes.scenes import FAMILIES, sample_scenes

FIXED: dict[str, Callable[[], tuple[Prompt, ...]]] = {
    "shapes": evaluation_prompts,
    "shapes-validation": validation_prompts,
    "shapes-hard": lambda: hard_prompts("evaluation"),
    "shapes-hard-validation": lambda: hard_prompts("validation"),
}
SPLITS = ("evaluation", "validation")
"""Of each fixed list; `load` takes either by the name of the first."""
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


def of_split(name: str, split: str) -> str:
    """The name of a fixed list's split.

    Raises:
        ValueError: no such split, or a set without.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be {' or '.join(map(repr, SPLITS))}")
    of = f"{name}-validation" if split == "validation" else name
    if name.endswith("-validation") or of not in FIXED:
        known = [one for one in FIXED if not one.endswith("-validation")]
        raise ValueError(f"split={split!r} belongs to {' and '.join(map(repr, known))}; {name!r} has no splits")
    return of


def _generated(seed: int, count: int) -> list[SetPrompt]:
    """Captions in turn from the six families, no two of one meaning and none with that of a prompt of "shapes".

    With one seed a longer list begins with every shorter one.
    """
    taken = {meaning(prompt.text) for prompt in (*evaluation_prompts(), *validation_prompts())}
    found: list[SetPrompt] = []
    streams = [_distinct(family, at, seed, taken) for at, family in enumerate(FAMILIES)]
    for at in range(count):
        prompt = next(streams[at % len(streams)], None)
        if prompt is None:
            family = FAMILIES[at % len(FAMILIES)]
            raise ValueError(
                f"count={count} is more than the embedded world has: its family {family!r} has "
                f"{at // len(FAMILIES)} captions beside those of 'shapes'; ask for at most {at}"
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
