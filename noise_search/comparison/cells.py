"""What a comparison has to run: cells of algorithm, budget, seed and prompt, and the searches that fill them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.arguments import as_seed, check_counts

RANDOM = "random"


@dataclass(frozen=True)
class Task:
    """One call of `search`.

    Attributes:
        algorithm: its label.
        seed: of the first noise.
        budgets: those that it answers for; the largest is run.
        prompts: positions of the prompts.
        pool: whether only random search's pool is asked for, of whole trajectories where the others have drafts.
        skipped: candidates of the pool that are there already, whose noises are left out.
    """

    algorithm: str
    seed: int
    budgets: tuple[int, ...]
    prompts: tuple[int, ...]
    pool: bool = False
    skipped: int = 0

    @property
    def nfe(self) -> int:
        """What it spends at most."""
        return max(self.budgets) * len(self.prompts)


def label(algorithm: SearchAlgorithm) -> str:
    """The algorithm's name, with what differs from its defaults."""
    if not is_dataclass(algorithm):
        return str(algorithm.name)
    changed = [
        f"{one.name}={getattr(algorithm, one.name)}"
        for one in fields(algorithm)
        if one.init and (one.default is MISSING or getattr(algorithm, one.name) != one.default)
    ]
    return str(algorithm.name) + (f"({', '.join(changed)})" if changed else "")


def as_seeds(asked: Any, candidates: int) -> tuple[int, ...]:
    """The seeds: so many, spaced so that no two share noises, or those that are given.

    Args:
        asked: a number, or several seeds.
        candidates: noises that a search draws from each at most.

    Raises:
        TypeError: neither.
        ValueError: none, no seeds of noise, equal ones, or such that share noises.
    """
    if isinstance(asked, int | np.integer) and not isinstance(asked, bool):
        check_counts(seeds=asked)
        given = spaced_seeds(int(asked), candidates)
    elif isinstance(asked, Iterable) and not isinstance(asked, str):
        given = tuple(asked)
    else:
        raise TypeError(f"seeds={asked!r} must be a whole number, how many, or several seeds such as [0, 1000]")
    if not given:
        raise ValueError("no seed was given; expected a number of them, or several seeds")
    given = tuple(as_seed(seed) for seed in given)
    if shared := sharing({seed: candidates for seed in given}):
        low, high = shared
        raise ValueError(
            f"seeds {low} and {high} share noises, as a search draws {candidates} from each: space them by at least "
            f"{candidates}, or give their number"
        )
    if len(set(given)) < len(given):
        raise ValueError(f"seeds={list(given)} has one twice; expected different ones")
    return given


def spaced_seeds(count: int, candidates: int) -> tuple[int, ...]:
    """Seeds whose searches share no noise: noise i of random search is seed + i."""
    step = 1000
    while step < candidates:
        step *= 10
    return tuple(step * i for i in range(count))


_NOISES = 2**32
"""How many seeds torch's CPU generator tells apart."""

_ROOM = 2**16
"""Noises that a prompt has to itself at least: more than a search reaches, so that budgets and seeds may be added."""


def own_noises(
    prompts: Iterable[str], seeds: Sequence[int], candidates: int, known: Mapping[str, int]
) -> dict[str, int]:
    """What to add to the seeds for the noises of each prompt, so that no two prompts share any.

    It follows from the prompt's text, so that a prompt has the same noises beside other prompts; where two texts happen
    on the same noises, the later one takes others.

    Args:
        prompts: texts.
        seeds: asked for.
        candidates: noises that a search draws from each at most.
        known: of prompts that have records, whose noises stay.

    Raises:
        ValueError: so many noises for so many prompts there are not.
    """
    room = _ROOM
    while room < candidates:
        room *= 2

    def taken_by(offset: int) -> set[int]:
        ends = (seed + offset + more for seed in seeds for more in (0, candidates - 1))
        return {end % _NOISES // room for end in ends}

    taken = {at for offset in known.values() for at in taken_by(offset)}
    found = dict(known)
    for text in prompts:
        if text in found:
            continue
        for attempt in range(1000):
            digest = hashlib.sha256(f"{attempt}:{text}".encode("utf-8", "surrogatepass")).digest()
            offset = int.from_bytes(digest[:8], "big") % (_NOISES // room) * room
            if offset and not taken & taken_by(offset):
                break
        else:
            raise ValueError(
                f"{len(found)} prompts with {len(seeds)} seeds of {candidates} candidates take all noises that there "
                "are: take fewer prompts, seeds or candidates"
            )
        found[text] = offset
        taken |= taken_by(offset)
    return found


def first_noise(seed: int, offset: int) -> int:
    """The seed of a prompt's first noise."""
    return (seed + offset) % _NOISES


def sharing(drawn: Mapping[int, int]) -> tuple[int, int] | None:
    """Two seeds that share noises, given how many are drawn from each; None where no two do.

    Behind the last seed comes the first one, as torch keeps 32 bits of them.
    """
    ordered = sorted(drawn)
    for low, high in pairwise([*ordered, *ordered[:1]]):
        if low != high and (high - low) % 2**32 < drawn[low]:
            return low, high
    return None
