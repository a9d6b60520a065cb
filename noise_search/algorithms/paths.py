"""Search over paths: re-noise promising samples, denoise them again, keep the best."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from noise_search.algorithms.base import Evaluation, Job, Jobs, Plan, Problem, Terms
from noise_search.algorithms.rounds import Round, grid_rounds, published_levels, published_rounds
from noise_search.arguments import check_between, check_counts, check_flags, check_given
from samplers.space import NoiseSpace
from samplers.state import State


@dataclass(frozen=True)
class SearchOverPaths:
    """Search over sampling trajectories (Ma et al. 2025, arXiv 2501.09732, section 3.1, "Paths-N").

    `paths` noises are denoised to a low noise level. A round re-noises each of them several times to a high level by
    the exact forward kernel, denoises the copies to a level a little lower than before, and keeps the `paths` best by
    the verifier's score of their x0 predictions (of the last step taken, which is free). The last round ends in
    finished images.

    The paper's levels fall between the points of a usual grid, so the default counts `rounds` back from its end: each
    goes up to the grid point nearest to its level + `forward`, at most .89 and never pure noise, and down to one grid
    point further than before. The levels used are in the result's settings. Where the budget is too small for every
    path and round to branch, there are fewer rounds, then fewer paths.

    Attributes:
        paths: samples kept in a round, N; the paper uses 2 for text-to-image.
        branches: re-noised copies per path and round, M; None shares the budget over the rounds.
        start: noise level sigma / (alpha + sigma) at which rounds begin; None for `rounds` grid points before the end.
        forward: how much noise level a round adds.
        backward: how much it removes, rounded to at least one grid point of progress; None for exactly one.
        rounds: at most so many; None for as many as it takes, as the published variant always does.
        literal: the published variant: a grid that contains the paper's levels (.11, up by .78, down by .81, and so on
            to 0, unless `start`, `forward` or `backward` say otherwise), x0 predictions of one additional step, and no
            plain sample first.

    Raises:
        ValueError: a number out of range, levels that don't fit together, or what the published variant doesn't have.
        TypeError: a number or flag of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=SearchOverPaths(paths=2), nfe=640)
        result.settings["algorithm"]["schedule"]
    """

    name: ClassVar[str] = "paths"
    whole_calls: ClassVar[bool] = False
    moves_noise: ClassVar[bool] = True

    paths: int = 2
    branches: int | None = None
    start: float | None = None
    forward: float = 0.78
    backward: float | None = None
    rounds: int | None = 3
    literal: bool = False

    def __post_init__(self) -> None:
        check_flags(literal=self.literal)
        check_given(paths=self.paths, forward=self.forward)
        check_counts(paths=self.paths, branches=self.branches)
        check_counts(least=0, rounds=self.rounds)
        for name in ("start", "forward", "backward"):
            check_between(name, getattr(self, name), 0, 1)
        if self.rounds is None and self.start is None and not self.literal:
            raise ValueError("rounds=None counts from a start; give start, a noise level such as 0.11")
        if self.literal:
            published_levels(self.start, self.forward, self.backward)
            if self.rounds not in (3, None):
                raise ValueError(
                    f"rounds={self.rounds} has no effect: literal=True goes on to noise level 0; leave it out"
                )

    @property
    def baseline(self) -> bool:
        """The published variant finishes no plain sample for its own sake."""
        return not self.literal

    @property
    def levels(self) -> tuple[float, ...]:
        """Noise levels that the grid must contain; only the published variant asks for any."""
        return published_levels(self.start, self.forward, self.backward) if self.literal else ()

    def plan(self, problem: Problem) -> Plan:
        """Yield the paths down to the start, then rounds of branches, then what is unfinished."""
        space = problem.space
        shape = self._shape(space, problem.nfe_total)
        survivors = yield from self._begin(problem, shape)
        for which, turn in enumerate(shape.rounds):
            rows = self._rows(problem, shape, which, len(survivors))
            if rows == 0:
                break
            parents = survivors[[i % len(survivors) for i in range(rows)]]
            branches = space.renoise(parents, turn.up, problem.seeds(rows))
            extra = self._extra(turn, space)
            (found,) = yield Job(branches, turn.down + extra, keep=(turn.down,) * extra)
            best = problem.rank(found)[: shape.paths]
            survivors = (found.kept[turn.down] if extra else found.states)[best]
        if survivors.step < space.end:
            yield Job(survivors, space.end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """The schedule over a grid and a budget, with the noise levels used, as plain JSON."""
        space = terms.space
        shape = self._shape(space, terms.nfe_total)

        def level(step: int) -> float:
            return round(space.noise_level(step), 4)

        rounds = [{"up": level(r.up), "down": level(r.down), "steps": r.down - r.up} for r in shape.rounds]
        return {"paths": shape.paths, "start": level(shape.start), "rounds": rounds}

    def _begin(self, problem: Problem, shape: "_Shape") -> Generator[Jobs, list[Evaluation], State]:
        """The paths at the start; by default random search's first noise is finished on the way."""
        end, start = problem.space.end, shape.start
        if self.literal or start == end:
            (found,) = yield Job(problem.fresh(shape.paths), start, score=start == end)
            return found.states
        (found,) = yield Job(problem.fresh(1), end, keep=(start,))
        survivors = found.kept[start]
        if shape.paths > 1:
            (found,) = yield Job(problem.fresh(shape.paths - 1), start, score=False)
            survivors = State.cat([survivors, found.states])
        return survivors

    def _rows(self, problem: Problem, shape: "_Shape", which: int, survivors: int) -> int:
        """Rows of a round: what was asked for, or a fair share of what is left, so that nothing stays unspent."""
        if self.branches is not None:
            return survivors * self.branches
        costs = self._costs(problem.space, shape.rounds[which:])
        if self.literal:
            return survivors * max(problem.nfe_left // (sum(costs) * survivors), 1)
        return max(problem.nfe_left, 0) // sum(costs)

    def _shape(self, space: NoiseSpace, nfe: int) -> "_Shape":
        """Paths and rounds that the budget can branch."""
        if self.literal:
            return _Shape(self.paths, *published_rounds(space, self.levels))
        start, rounds = grid_rounds(space, self.start, self.forward, self.backward, self.rounds)
        if self.branches is not None or not rounds:
            return _Shape(self.paths, start, rounds)
        starts = [start, *(turn.down for turn in rounds[:-1])]
        for paths in range(self.paths, 0, -1):
            for fewer, first in enumerate(starts):
                left = nfe - space.end - (paths - 1) * first
                if left // sum(self._costs(space, rounds[fewer:])) > paths:
                    return _Shape(paths, first, rounds[fewer:])
        if nfe - space.end < sum(self._costs(space, rounds[-1:])):
            return _Shape(1, space.end, ())
        return _Shape(1, starts[-1], rounds[-1:])

    def _extra(self, turn: Round, space: NoiseSpace) -> int:
        """One step more to see the x0 prediction where the round ends, as published; the end needs none."""
        return int(self.literal and turn.down < space.end)

    def _costs(self, space: NoiseSpace, rounds: tuple[Round, ...]) -> list[int]:
        return [turn.down - turn.up + self._extra(turn, space) for turn in rounds]


@dataclass(frozen=True)
class _Shape:
    paths: int
    start: int
    rounds: tuple[Round, ...]
