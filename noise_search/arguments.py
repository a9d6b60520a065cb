"""What `search()` is given, checked before anything is computed: one line with the value and the fix."""

import hashlib
import logging
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

log = logging.getLogger(__name__)


class HasText(Protocol):
    """A prompt of a set."""

    @property
    def text(self) -> str:
        """What is asked for."""


def as_prompts(prompt: str | Sequence[str | HasText]) -> list[str]:
    """The prompts, or those of a set, as a list of texts that aren't empty."""
    if not isinstance(prompt, Iterable) or isinstance(prompt, bytes | bytearray):
        raise TypeError(f"prompt {prompt!r} is a {type(prompt).__name__}; expected a text or a sequence of texts")
    prompts: list[Any] = [prompt] if isinstance(prompt, str) else [getattr(one, "text", one) for one in prompt]
    if not prompts:
        raise ValueError("no prompt was given; pass a text or a sequence of texts")
    for text in prompts:
        if not isinstance(text, str):
            raise TypeError(f"prompt {text!r} is a {type(text).__name__}; expected a text or a sequence of texts")
        if not text.strip():
            raise ValueError(f"prompt {text!r} is empty; say what the image should show")
    return prompts


def as_seed(seed: Any) -> int:
    """A seed of torch's CPU generator, which keeps the low 32 bits of a longer one; that is said.

    Raises:
        ValueError: no whole number from 0 to 2**64 - 1.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 to {2**32 - 1}")
    kept = int(seed) % 2**32
    if kept != seed:
        log.warning("seed=%d: torch's generator keeps its low 32 bits, and draws the noise of seed %d", seed, kept)
    return kept


def check_callable(**values: Any) -> None:
    """Refuse what can't be called; None passes."""
    for name, value in values.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected a function")


def prompt_seeds(asked: Any, prompts: Sequence[str]) -> list[int]:
    """A seed for every prompt: the one given, or as many as there are prompts.

    Raises:
        ValueError: another number of seeds, or what is no seed.
    """
    if not isinstance(asked, Sequence) or isinstance(asked, str):
        return [as_seed(asked)] * len(prompts)
    if len(asked) != len(prompts):
        raise ValueError(f"seed={asked} holds {len(asked)} for {len(prompts)} prompts; give one, or one for each")
    return [as_seed(one) for one in asked]


def first_seed(prompt: str, seed: int = 0) -> int:
    """The seed of a prompt's first noise: `seed` and an offset below 2**31 of the prompt's own, by its text.

    Prompts that share noises are no independent trials. torch's generator reads 32 bits of a seed, so offsets lie
    anywhere there rather than in far apart slots: two prompts share any of 256 noises with a chance of 2.4e-7.
    """
    return seed + int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=4).digest(), "big") // 2


def check_counts(least: int = 1, **values: Any) -> None:
    """Refuse what is no whole number of at least `least`; None passes."""
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be a whole number")
        if value < least:
            raise ValueError(f"{name}={value!r} must be at least {least}")


def check_given(**values: Any) -> None:
    """Refuse None, of options for which it stands for nothing."""
    for name, value in values.items():
        if value is None:
            raise TypeError(f"{name}=None stands for nothing: give a number, or leave it out for the default")


def check_flags(**values: Any) -> None:
    """Refuse what is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name}={value!r} must be True or False")


def check_numbers(**values: Any) -> None:
    """Refuse what is no number; None passes."""
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected a number")
        if value != value:
            raise ValueError(f"{name}={value!r} must be a number")


def check_between(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number strictly between `low` and `high`; None passes."""
    check_numbers(**{name: value})
    if value is not None and not low < value < high:
        raise ValueError(f"{name}={value!r} must be between {low:g} and {high:g}, ends excluded")


def as_nfe(nfe: int | None, candidates: int | None, steps: int) -> int:
    """The budget in NFE of `nfe` or `candidates`, at least one trajectory; 32 candidates when neither is given."""
    if nfe is not None and candidates is not None:
        raise ValueError(f"nfe={nfe} and candidates={candidates} are two budgets; give one of them")
    name, given = ("nfe", nfe) if nfe is not None else ("candidates", 32 if candidates is None else candidates)
    if not isinstance(given, int | np.integer) or isinstance(given, bool):
        raise TypeError(f"{name}={given!r} must be a whole number")
    given = int(given)
    budget = given if nfe is not None else given * steps
    if budget < steps:
        least = f"nfe={steps}" if nfe is not None else "candidates=1"
        raise ValueError(
            f"{name}={given} is below one trajectory of {steps} step{'s' * (steps != 1)}; "
            f"the least budget that works is {least}, or fewer steps"
        )
    return budget
