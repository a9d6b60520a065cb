"""The sentence that every search algorithm speaks: jobs go out, their evaluations come back, in order.

An algorithm is a generator. It never runs a model, so it can't spend NFE, and it is tested without one.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from noise_search.algorithms.knowledge import Calibration, ModelFacts, SeedPrior, VerifierFacts
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Transitions, evaluations, legs


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
        looks: grid points on the way whose x0 predictions are scored too; a look costs a decode, and no NFE.
        transition: how to go from point to point, one for all steps or one for each; None for the sampler's own. One
            that passes over several points (`Glass`) can't be stopped or looked at on the way.
        reference: the scores of this job become what z-scores of an ensemble refer to, unless something did before; of
            several such jobs in a round the first counts.
        thumbnails: whether the images that are scored at the stop come back too, averaged to 8 x 8 cells.

    Raises:
        ValueError: a stop that isn't after the rows, a kept grid point or a look that isn't between, as many
            transitions as there are no steps, a point within one of them, or a reference or thumbnails without scores.
    """

    states: State
    stop: int
    score: bool = True
    keep: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    transition: Transitions = None
    reference: bool = False
    thumbnails: bool = False

    def __post_init__(self) -> None:
        if not self.states.step < self.stop:
            raise ValueError(
                f"job stops at grid point {self.stop}, but its rows are at {self.states.step}; stop after them"
            )
        for name, points in (("keep", self.keep), ("looks", self.looks)):
            if not isinstance(points, Sequence) or not all(isinstance(point, int) for point in points):
                raise TypeError(f"{name}={points!r:.40} must be grid points, such as (4, 8)")
            object.__setattr__(self, name, tuple(points))
            if any(not self.states.step < k < self.stop for k in points):
                raise ValueError(f"{name}={points} must lie between {self.states.step} and {self.stop}, ends excluded")
        if self.transition is not None:
            legs(self.transition, self.states.step, self.stop, (*self.keep, *self.looks))
            if isinstance(self.transition, Sequence):  # rows of equal transitions share a batch
                object.__setattr__(self, "transition", tuple(self.transition))
        if self.reference and not self.score:
            raise ValueError("reference=True takes the job's scores, and score=False makes none; leave one of them out")
        if self.thumbnails and not self.score:
            raise ValueError("thumbnails=True are of images, and score=False makes none; leave one of them out")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def cost(self) -> int:
        """NFE of one row."""
        return evaluations(self.states.step, self.stop, self.transition)


@dataclass(frozen=True)
class Evaluation:
    """What came back of a job, row by row in the job's order.

    Attributes:
        ids: candidate ids.
        states: the rows at the job's stop.
        kept: the rows at every grid point that the job asked to keep.
        components: raw score per verifier key, float64 `[row]`; NaN where a row failed or was not scored.
        looks: by grid point of a look, the same rows there, with the scores of their x0 predictions.
        thumbnails: uint8 `[row, cell]`, where the job asked for them; zeros where a row failed.
    """

    ids: tuple[int, ...]
    states: State
    kept: Mapping[int, State] = field(default_factory=dict)
    components: Mapping[str, np.ndarray] = field(default_factory=dict)
    looks: Mapping[int, "Evaluation"] = field(default_factory=dict)
    thumbnails: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Sequence[int]) -> "Evaluation":
        chosen = list(rows)
        return Evaluation(
            tuple(self.ids[i] for i in chosen),
            self.states[chosen],
            {k: s[chosen] for k, s in self.kept.items()},
            {k: v[chosen] for k, v in self.components.items()},
            {k: look[chosen] for k, look in self.looks.items()},
            None if self.thumbnails is None else self.thumbnails[chosen],
        )

    @staticmethod
    def cat(parts: Sequence["Evaluation"]) -> "Evaluation":
        """One pool of several evaluations at the same grid point; what was kept or seen on the way is dropped."""
        return Evaluation(
            tuple(i for part in parts for i in part.ids),
            State.cat([part.states for part in parts]),
            {},
            {k: np.concatenate([part.components[k] for part in parts]) for k in parts[0].components},
        )


@dataclass(frozen=True)
class Terms:
    """What is known of a search before it starts; each of it is an attribute of its `Problem` too.

    Attributes:
        space: where noises live: shape, grid and every way to make noise.
        nfe_total: the budget, in NFE.
        baseline: whether random search's noise 0 is finished in any case.
        model, verifier: what is searched, and what ranks.
        calibration, prior: what was measured of them, and what seeds were worth on other prompts, where that is
            trusted; None for nothing.
        grids: further grids, by their number of steps.
    """

    space: NoiseSpace
    nfe_total: int
    baseline: bool = True
    model: ModelFacts = field(default_factory=ModelFacts)
    verifier: VerifierFacts = field(default_factory=VerifierFacts)
    calibration: Calibration | None = None
    prior: SeedPrior | None = None
    grids: Mapping[int, NoiseSpace] = field(default_factory=dict)


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

    @property
    def baseline(self) -> bool:
        """Whether random search's noise 0 is finished in any case.

        An algorithm runs it like any other noise, and the driver finishes it in the end from wherever the sampler's
        own steps (transition None) had brought it; what that takes is never in `nfe_left`. One that begins no noise 0
        so has no baseline.
        """
        ...

    @property
    def model(self) -> ModelFacts:
        """The model that is searched."""
        ...

    @property
    def verifier(self) -> VerifierFacts:
        """What ranks the candidates."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """What was measured of this model under this verifier; None where nothing was."""
        ...

    @property
    def prior(self) -> SeedPrior | None:
        """What seeds were worth on other prompts; None where nothing is known, or nothing that is trusted.

        `fresh` hands out its seeds by itself.
        """
        ...

    def grid(self, steps: int) -> NoiseSpace:
        """The grid of another number of steps, one of those that the algorithm's `grids` names; its rows are drafts."""
        ...

    def cost(self, start: int, stop: int, transition: Transitions = None) -> int:
        """NFE of one row from one grid point to a later one."""
        ...

    def fresh(self, count: int = 0, *, seeds: Sequence[int] = ()) -> State:
        """Noises at grid point 0: the next `count` of random search's stream, or those of `seeds`.

        The stream is seed, seed + 1, ..., and never the same noise twice. Where there is a prior, it is noise 0, which
        is left out without a baseline; then the prior's seeds that are worth more than an unknown one, from the best
        on; then seed, seed + 1, ... without any that the prior knows.
        """
        ...

    def seeds(self, count: int) -> list[int]:
        """New seeds for neighbours, re-noising and branches, drawn from `rng`."""
        ...

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows of the pool from best to worst, ties to the lowest id; failed rows come last."""
        ...

    def values(self, pool: Evaluation) -> np.ndarray:
        """What each row is worth, float64 `[row]`, higher is better, NaN where it failed.

        Scores of one verifier are their own values. Of an ensemble values share one scale once it has a reference (see
        `Job`); before, and where it only ranks, they are within this pool.
        """
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
    Random search's first noise is among those that it runs, and is finished in the end where it wasn't before, so that
    every search shows what one plain sample gives. It may end early; it is ended when the budget is, and by a limit
    such as patience, which raises `LimitReached` in it.

    More attributes may be there. `anytime`, true where its candidates don't depend on the budget, so that a run with a
    larger one holds every smaller run, and prompts may share one. `moves_noise`, true where it makes noises from
    noises, which pipelines that only take a seed can't. `levels`, noise levels sigma / (alpha + sigma) that the grid
    must contain. `grids`, numbers of steps of further grids that it uses. `baseline`, false where noise 0 isn't
    finished for its own sake, as in published variants. `refers`, true where its first job is a reference.
    `describe(terms)`, how it will share the budget, as plain JSON, for the result's settings.
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
