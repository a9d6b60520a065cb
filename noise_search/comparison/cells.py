"""What a comparison has to run: cells of algorithm, budget, seed and prompt, and the searches that fill them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.arguments import check_counts, check_seed

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
    """

    algorithm: str
    seed: int
    budgets: tuple[int, ...]
    prompts: tuple[int, ...]
    pool: bool = False

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


def is_anytime(algorithm: SearchAlgorithm, drafts: bool) -> bool:
    """Whether its candidates don't depend on the budget, so that a larger run holds every smaller one."""
    return bool(getattr(algorithm, "anytime", False)) and not drafts


def tasks(
    algorithms: Mapping[str, SearchAlgorithm],
    budgets: Sequence[int],
    seeds: Sequence[int],
    prompts: int,
    *,
    drafts: bool,
    missing: Callable[[str, int, int, int], bool],
    pools: Callable[[int, int], bool],
    chunk: Callable[[int], int],
) -> Iterator[Task]:
    """Searches for every missing cell.

    Seed by seed, prompts in chunks, and of each chunk all algorithms with random search first: a machine that grows
    slower or faster with the hours does so for all of them alike.

    Args:
        algorithms: by label.
        budgets: NFE.
        seeds: of first noises.
        prompts: how many there are.
        drafts: whether trajectories are drafted: every algorithm depends on its budget then, and the pool of random
            search is a search of its own, of the largest budget without drafts.
        missing: whether the cell of (label, prompt, budget, seed) is to be run.
        pools: whether the pool of (prompt, seed) is, where trajectories are drafted.
        chunk: prompts per search of a budget.
    """
    names = sorted(algorithms, key=lambda one: one != RANDOM)
    most, size = max(budgets), chunk(max(budgets))
    for seed in seeds:
        asked: dict[int, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        for prompt in range(prompts):
            if drafts and pools(prompt, seed):
                asked[prompt].append((_POOL, (most,)))
            for place, name in enumerate(names):
                wanted = tuple(b for b in sorted(budgets) if missing(name, prompt, b, seed))
                together = [wanted] if is_anytime(algorithms[name], drafts) else [(b,) for b in wanted]
                asked[prompt] += [(place, some) for some in together if some]
        rows = [prompt for prompt, some in asked.items() if some]
        for start in range(0, len(rows), size):
            groups: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
            for prompt in rows[start : start + size]:
                for search in asked[prompt]:
                    groups[search].append(prompt)
            for (place, some), chosen in sorted(groups.items()):
                name = RANDOM if place == _POOL else names[place]
                yield Task(name, seed, some, tuple(chosen), pool=place == _POOL)


_POOL = -1
"""The place of pools among algorithms: before them, so that no record is without what it is measured against."""


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
    for seed in given:
        check_seed(seed)
    given = tuple(int(seed) for seed in given)
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


def sharing(drawn: Mapping[int, int]) -> tuple[int, int] | None:
    """Two seeds that share noises, given how many are drawn from each; None where no two do."""
    ordered = sorted(drawn)
    for low, high in pairwise(ordered):
        if high - low < drawn[low]:
            return low, high
    return None
