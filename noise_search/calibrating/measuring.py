"""The search that a calibration reads: trajectories that are looked at on the way, and moves of the first of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.arguments import check_between
from noise_search.results.candidate import Candidate
from samplers.space import NoiseSpace
from samplers.transition import Deterministic, Mix, Transition

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbour:
    """A noise at this cosine to its parent, run whole."""

    cosine: float

    start: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_between("cosine of a neighbour", self.cosine, -1, 1)

    def __str__(self) -> str:
        return f"neighbour {self.cosine:g}"

    def job(self, problem: Problem, parents: Evaluation, noises: Any) -> Job:
        """Their children, run to the end."""
        return Job(problem.space.neighbour(noises, problem.seeds(len(noises)), self.cosine), problem.space.end)


@dataclass(frozen=True)
class Branch:
    """A trajectory left at a grid point, by one step of fresh noise alone."""

    start: int

    def __str__(self) -> str:
        return f"branch {self.start}"

    def job(self, problem: Problem, parents: Evaluation, noises: Any) -> Job:
        """Their children, run to the end."""
        rest = problem.space.end - self.start - 1
        transition: list[Transition] = [Mix(0.0), *[Deterministic()] * rest]
        return Job(parents.kept[self.start], problem.space.end, transition=tuple(transition))


Move = Neighbour | Branch


def as_move(text: Any) -> Move:
    """A move by its name, "neighbour COSINE" or "branch POINT".

    Raises:
        ValueError: another name, or a cosine that isn't between -1 and 1.
    """
    if found := re.fullmatch(r"neighbour (-?[0-9]*\.?[0-9]+)", str(text).strip()):
        return Neighbour(float(found[1]))
    if found := re.fullmatch(r"branch ([0-9]+)", str(text).strip()):
        return Branch(int(found[1]))
    raise ValueError(
        f"move {text!r} must be 'neighbour COSINE' or 'branch POINT', such as 'neighbour 0.95', 'branch 6'"
    )


@dataclass(frozen=True)
class Measuring:
    """Runs noises to the end, with looks on the way, and then moves the first of them.

    Attributes:
        noises: how many.
        looks: grid points whose x0 predictions are scored.
        moves: of each of the first `moved` noises.
        moved: how many.
    """

    name: ClassVar[str] = "calibration"

    noises: int
    looks: tuple[int, ...] = ()
    moves: tuple[Move, ...] = ()
    moved: int = 0

    @property
    def whole_calls(self) -> bool:
        """Whether it never stops on the way."""
        return not self.looks and all(move.start == 0 for move in self.moves)

    @property
    def moves_noise(self) -> bool:
        """Whether it makes noises from noises."""
        return any(isinstance(move, Neighbour) for move in self.moves)

    def plan(self, problem: Problem) -> Plan:
        """Yield all noises, and then their moves."""
        noises, first = problem.fresh(self.noises), list(range(self.moved))
        keep = tuple(sorted({move.start for move in self.moves if move.start > 0}))
        (found,) = yield Job(noises, problem.space.end, keep=keep, looks=self.looks)
        if self.moves:
            yield [move.job(problem, found[first], noises[first]) for move in self.moves]

    def nfe(self, space: NoiseSpace) -> int:
        """What it takes of each prompt."""
        return self.noises * space.end + self.moved * sum(space.end - move.start for move in self.moves)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """What it will do, as plain JSON."""
        looks = {"looks after": " ".join(map(str, self.looks))} if self.looks else {}
        moves = {f"moves of {self.moved}": " and ".join(map(str, self.moves))} if self.moves else {}
        return {"noises": self.noises, "steps": terms.space.end, **looks, **moves}


def default_looks(end: int) -> tuple[int, ...]:
    """Grid points from 10 % of the steps on, at most 10 of them, evenly."""
    first, most = max(1, math.ceil(0.1 * end)), 10
    points = np.arange(first, end)
    if len(points) > most:
        points = np.unique(np.round(np.linspace(first, end - 1, most)).astype(int))
    return tuple(int(one) for one in points)


def default_moves(end: int) -> tuple[Move, ...]:
    """A neighbour at cosine .95, and branches at 20 and 40 % of the steps."""
    points = sorted({round(share * end) for share in (0.2, 0.4)})
    return (Neighbour(0.95), *(Branch(at) for at in points if 0 < at < end))


@dataclass(frozen=True)
class Scores:
    """Raw scores of one verifier, NaN where a row failed.

    Attributes:
        final: `[prompt, noise]`, of finished images.
        looks: `[prompt, noise]` by grid point, of x0 predictions.
        children: `[prompt, moved]` by move, of the finished children of the first noises.
    """

    final: Values
    looks: Mapping[int, Values]
    children: Mapping[str, Values]

    @classmethod
    def read(cls, algorithm: Measuring, searches: Sequence[Sequence[Candidate]], key: str) -> "Scores":
        """Of the candidates of each prompt, whose ids are in the order in which `algorithm` proposed them."""
        rows = [{one.id: one for one in candidates} for candidates in searches]

        def column(ids: range, look: int | None = None) -> Values:
            return np.array([[_score(found.get(i), key, look) for i in ids] for found in rows], dtype=np.float64)

        fresh, moved = range(algorithm.noises), algorithm.moved
        starts = [algorithm.noises + at * moved for at in range(len(algorithm.moves))]
        return cls(
            column(fresh),
            {point: column(fresh, point) for point in algorithm.looks},
            {str(move): column(range(at, at + moved)) for move, at in zip(algorithm.moves, starts, strict=True)},
        )


def _score(candidate: Candidate | None, key: str, look: int | None) -> float:
    if candidate is None or candidate.failure is not None:
        return np.nan
    return (candidate.scores if look is None else candidate.looks.get(look, {})).get(key, np.nan)
