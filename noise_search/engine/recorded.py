"""Searches over noises that were run and scored before: what an algorithm would have found, without a model.

The algorithm and the budget are the real ones; only the worker is a table. It serves algorithms that begin fresh
noises, look at them at recorded points and finish some, as halving does: moved noises stand in no table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.engine.evaluator import Outcome, Work
from noise_search.engine.prompt_search import Limits, PromptSearch
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator


@dataclass(frozen=True)
class Ladder:
    """One prompt's noises, each scored on its way and in the end.

    Attributes:
        points: grid points, rising, the clean end last.
        scores: float64 `[noise, point]` by verifier key.
    """

    points: tuple[int, ...]
    scores: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))


@dataclass(frozen=True)
class Found:
    """What a search over a ladder found: the winner's noise, and the NFE and looks that it took."""

    winner: int
    nfe: int
    looks: int


def bare_space(steps: int) -> NoiseSpace:
    """A grid of so many steps, over noises of one number."""
    levels = tuple(1 - step / steps for step in range(steps + 1))
    return NoiseSpace((1,), ("channel",), tuple(1 - one for one in levels), levels)


def search_recorded(
    algorithm: SearchAlgorithm, ladder: Ladder, terms: Terms, aggregator: Aggregator, order: Sequence[int]
) -> Found | None:
    """Search a ladder with its noises in this order; None where the algorithm asks for more noises than there are.

    Raises:
        ValueError: it asks for scores at a point that wasn't recorded, or moves noises.
    """
    one = PromptSearch(0, "", terms, 0, aggregator, algorithm, 0, 1, Limits())
    looks = 0

    def run(works: Sequence[Work]) -> None:
        nonlocal looks
        for work in works:
            one.ledger.charge(work.job.cost * len(work.ids))
            one.record([_outcome(work, row, ladder, order) for row in range(len(work.ids))])
            looks += len(work.ids) * work.job.score

    while works := one.next_round():
        if any(_noise(work, row) >= len(order) for work in works for row in range(len(work.ids))):
            return None
        run(works)
    run(one.finishing_work())
    best = one.pool.best
    assert best is not None and best.seed is not None
    return Found(order[best.seed], one.ledger.nfe, looks)


def _noise(work: Work, row: int) -> int:
    seed = work.job.states.recipes[row].seed
    if seed is None:
        raise ValueError("a recorded search makes no noises from noises: run the algorithm on the model")
    return seed


def _outcome(work: Work, row: int, ladder: Ladder, order: Sequence[int]) -> Outcome:
    job, noise = work.job, order[_noise(work, row)]
    states = job.states[[row]]

    def at(point: int) -> State:
        recipes = tuple(one.then_run(states.step, point, states.grid, rho=1.0) for one in states.recipes)
        return replace(states, step=point, recipes=recipes)

    if job.score and job.stop not in ladder.points:
        raise ValueError(f"no scores were recorded at grid point {job.stop}, only at {ladder.points}")
    known = ladder.points.index(job.stop) if job.score else 0
    scores = {key: float(values[noise, known]) for key, values in ladder.scores.items()} if job.score else {}
    return Outcome(work, row, at(job.stop), {point: at(point) for point in job.keep}, None, scores, None)
