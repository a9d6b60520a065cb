"""The sentence that every search algorithm speaks: jobs go out, their evaluations come back, in order.

An algorithm is a generator. It never runs a model, so it can't spend NFE, and it is tested without one.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from samplers.space import NoiseSpace
from samplers.state import State


@dataclass(frozen=True)
class Job:
    """Run these rows to a grid point, and score them or not.

    Rows are ordered so that the job stays fair when the budget trims its tail: with several parents, the first row of
    each, then the second of each.

    Attributes:
        states: rows at one grid point.
        stop: grid point to run to, after `states.step` and at most `space.end`.
        score: whether verifiers score the rows: the finished image at `space.end`, the x0 prediction before it.
        keep: grid points on the way whose states come back too.
        rho: share of the old noise in a step, in [0, 1] (1 deterministic); None for the sampler's own.

    Raises:
        ValueError: a stop that isn't after the rows, or a kept grid point that isn't between.
    """

    states: State
    stop: int
    score: bool = True
    keep: tuple[int, ...] = ()
    rho: float | None = None

    def __post_init__(self) -> None:
        if not self.states.step < self.stop:
            raise ValueError(
                f"job stops at grid point {self.stop}, but its rows are at {self.states.step}; stop after them"
            )
        if any(not self.states.step < k < self.stop for k in self.keep):
            raise ValueError(f"keep={self.keep} must lie between {self.states.step} and {self.stop}, ends excluded")

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class Evaluation:
    """What came back of a job, row by row in the job's order.

    Attributes:
        ids: candidate ids.
        states: the rows at the job's stop.
        kept: the rows at every grid point that the job asked to keep.
        components: raw score per verifier key, float64 `[row]`; NaN where a row failed or was not scored.
    """

    ids: tuple[int, ...]
    states: State
    kept: Mapping[int, State] = field(default_factory=dict)
    components: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Sequence[int]) -> "Evaluation":
        chosen = list(rows)
        return Evaluation(
            tuple(self.ids[i] for i in chosen),
            self.states[chosen],
            {k: s[chosen] for k, s in self.kept.items()},
            {k: v[chosen] for k, v in self.components.items()},
        )

    @staticmethod
    def cat(parts: Sequence["Evaluation"]) -> "Evaluation":
        """One pool of several evaluations at the same grid point; what was kept on the way is dropped."""
        return Evaluation(
            tuple(i for part in parts for i in part.ids),
            State.cat([part.states for part in parts]),
            {},
            {k: np.concatenate([part.components[k] for part in parts]) for k in parts[0].components},
        )


@runtime_checkable
class Problem(Protocol):
    """What an algorithm may see: a read-only view of the search."""

    @property
    def space(self) -> NoiseSpace:
        """Where noises live: shape, grid and every way to make noise."""
        ...

    @property
    def rng(self) -> np.random.Generator:
        """Randomness of the algorithm's own choices, keyed by the search's seed."""
        ...

    @property
    def nfe_total(self) -> int:
        """The budget, in NFE."""
        ...

    @property
    def nfe_left(self) -> int:
        """What may still be spent, less what finishing the best candidate takes."""
        ...

    def cost(self, start: int, stop: int) -> int:
        """NFE of one row from one grid point to a later one."""
        ...

    def fresh(self, count: int) -> State:
        """The next `count` noises of random search's stream, rows at grid point 0: seed, seed + 1, ..."""
        ...

    def seeds(self, count: int) -> list[int]:
        """New seeds for neighbours, re-noising and branches, drawn from `rng`."""
        ...

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows of the pool from best to worst, ties to the lowest id; failed rows come last."""
        ...


class LimitReached(Exception):
    """Raised in a plan, where it waits for evaluations, once a limit other than the budget has ended its search.

    A plan that owes something, such as the renders of its drafts, catches it and yields these last jobs.

    Attributes:
        found: evaluations of the round's rows before the limit, which may be fewer than were asked for.
    """

    def __init__(self, found: "list[Evaluation]") -> None:
        super().__init__()
        self.found = found


Jobs = Job | list[Job]


Plan = Generator[Jobs, list[Evaluation], None]


@runtime_checkable
class SearchAlgorithm(Protocol):
    """A way to spend a budget of NFE.

    `plan` yields one job or several, whose rows may stop at different points, and receives their evaluations as a list.
    It finishes random search's first noise before anything else, so that every search shows what one plain sample
    gives. It may end early; it is ended when the budget is, and by a limit such as patience, which raises
    `LimitReached` in it.

    Four more attributes may be there. `anytime`, true where its candidates don't depend on the budget, so that a run
    with a larger one holds every smaller run. `moves_noise`, true where it makes noises from noises, which pipelines
    that only take a seed can't. `levels`, noise levels sigma / (alpha + sigma) that the grid must contain.
    `describe(space, nfe)`, how it will share the budget, as plain JSON, for the result's settings.
    """

    @property
    def name(self) -> str:
        """The short name by which users ask for it."""
        ...

    @property
    def whole_calls(self) -> bool:
        """Whether every job runs from pure noise to the end, so that pipelines that can't stop will do."""
        ...

    def plan(self, problem: Problem) -> Plan:
        """Yield jobs, receive evaluations."""
        ...
