"""What a comparison has to run: cells of algorithm, budget, seed and prompt, and the searches that fill them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

from noise_search.protocol import SearchAlgorithm

RANDOM = "random"


@dataclass(frozen=True)
class Task:
    """One call of `search`.

    Attributes:
        algorithm: its label.
        seed: of the first noise.
        budgets: those that it answers for; the largest is run.
        prompts: positions of the prompts.
    """

    algorithm: str
    seed: int
    budgets: tuple[int, ...]
    prompts: tuple[int, ...]

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
    algorithms: dict[str, SearchAlgorithm],
    budgets: Sequence[int],
    seeds: Sequence[int],
    prompts: int,
    *,
    drafts: bool,
    missing: Callable[[str, int, int, int], bool],
    chunk: Callable[[int], int],
) -> Iterator[Task]:
    """Searches for every missing cell, cheapest prompts first within each seed, random search before all others.

    Args:
        algorithms: by label.
        budgets: NFE.
        seeds: of first noises.
        prompts: how many there are.
        drafts: whether trajectories are drafted, which makes every algorithm depend on its budget.
        missing: whether the cell of (label, prompt, budget, seed) is to be run.
        chunk: prompts per search of a budget.
    """
    for seed in seeds:
        for name in sorted(algorithms, key=lambda one: one != RANDOM):
            groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for prompt in range(prompts):
                wanted = tuple(b for b in sorted(budgets) if missing(name, prompt, b, seed))
                together = [wanted] if is_anytime(algorithms[name], drafts) else [(b,) for b in wanted]
                for some in filter(None, together):
                    groups[some].append(prompt)
            for some, rows in groups.items():
                size = chunk(max(some))
                for start in range(0, len(rows), size):
                    yield Task(name, seed, some, tuple(rows[start : start + size]))


def spaced_seeds(count: int, candidates: int) -> tuple[int, ...]:
    """Seeds whose searches share no noise: noise i of random search is seed + i."""
    step = 1000
    while step < candidates:
        step *= 10
    return tuple(step * i for i in range(count))


def check_seeds(seeds: Sequence[Any], candidates: int) -> tuple[int, ...]:
    """The seeds, which must be further apart than the noises of one search.

    Raises:
        ValueError: none, equal ones, or such that share noises.
    """
    given = tuple(int(seed) for seed in seeds)
    if not given:
        raise ValueError("no seed was given; expected a number of them, or several seeds")
    ordered = sorted(given)
    for low, high in pairwise(ordered):
        if high - low < candidates:
            raise ValueError(
                f"seeds {low} and {high} share noises, as random search draws {candidates} from each: space them by at "
                f"least {candidates}, or give their number"
            )
    return given
