"""Climbing: successive halving, then moves of the best whose children are halved, too, and the last of which finish."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.algorithms.halving import Halving
from noise_search.arguments import check_between, check_counts, check_given, check_numbers
from samplers.state import State
from samplers.transition import Deterministic, Mix, Transition

NEIGHBOUR, BRANCH = "neighbour", "branch"
MOVES = (NEIGHBOUR, BRANCH)

_KEPT = 0.15
"""What a neighbour at cosine .95 has to keep of its parent's score, where that was measured, to be worth its price."""
_RUNGS = (0.30, 0.50)
"""Shares of the steps where nothing was measured."""
_WINNERS = 0.25
"""Share of its children that a step of the best size lets win over their parent, for 5 of them."""
_SINES = 0.08, 0.95
"""How small and how large a neighbour's step gets."""
_LEAVES = 0.15, 0.25, 0.35, 0.45
"""Where branches leave, in shares of the steps."""
_CLEAR = 0.1
"""By how much that share has to differ for branches to leave earlier or later."""
_FORGET = 0.7
"""What of a move's success counts in its next round."""
_ALIVE = 16
"""Candidates whose states are kept."""
_LARGE = 40
"""Whole trajectories from which on three are finished."""


@dataclass(frozen=True)
class Climb:
    """Halving's warm start, then rounds of children of the best, all of them judged by x0 predictions.

    A share of the budget runs fresh noises to an early rung, where the better half goes on to a late one, at about half
    of the steps. From then on a round makes children of the best there, and halves them in the same way, so that a
    child costs well under half of a trajectory. The last `finish` of all are finished, of different parents where there
    are some. Noise 0 takes part, and is finished in the end where it wasn't among them. Halving is worth the same
    multiple of random search at any budget; this grows with it, where the score has room and children keep what their
    parents have.

    There are two moves. A neighbour of the noise runs from the start (Ma et al. 2025, arXiv 2501.09732), at a distance
    that follows the share of children that win: longer where more than a quarter do, else shorter (evolution
    strategies' success rule, Rechenberg 1973). A branch leaves the parent's trajectory by one step of fresh noise
    alone, the earlier the larger the move, and costs what is left. Each round takes the move that has gained most per
    NFE of late.

    The rungs lie where, by the calibration, predictions and final scores have a rank correlation of .55 and .94 within
    a prompt, and else at 30 and 50 % of the steps. Where they are no two steps of the grid, the warm start begins no
    more than is finished, fewer than 4 children are paid, or the model can do none of the moves, the search is halving.

    Attributes:
        warm_start: share of the budget that goes to it, in (0, 1).
        children: of a round, at least 2.
        cosine: between the first neighbours and their parent, in (0, 1).
        moves: "neighbour", "branch" or both; None for both, and for branches alone where a neighbour keeps less than
            .15 of its parent's score by the calibration.
        patience: rounds without gain after which a move leaves its parent. It goes on with the best candidate that it
            hasn't tried, after a gain, too.
        finish: how many are finished; None for 2, and 3 from 40 whole trajectories on.
        rungs: shares of the steps, in (0, 1), the early and the late; None as above.

    Raises:
        ValueError: a number out of range, another move, or rungs that aren't two and don't rise.
        TypeError: a number of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=Climb(), verifier="aesthetic", candidates=48)
    """

    name: ClassVar[str] = "climb"
    whole_calls: ClassVar[bool] = False
    moves_noise: ClassVar[bool] = True
    refers: ClassVar[bool] = True

    SURE: ClassVar[float] = 0.94
    """Rank correlation with the final score at the late rung: what is climbed has to be what is wanted."""
    LEAST: ClassVar[int] = 4
    """Children below which there is nothing to climb."""

    warm_start: float = 0.6
    children: int = 6
    cosine: float = 0.97
    moves: tuple[str, ...] | None = None
    patience: int = 2
    finish: int | None = None
    rungs: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_given(warm_start=self.warm_start, children=self.children, cosine=self.cosine, patience=self.patience)
        check_counts(patience=self.patience, finish=self.finish)
        check_counts(2, children=self.children)
        check_between("warm_start", self.warm_start, 0, 1)
        check_numbers(cosine=self.cosine)
        check_between("cosine", self.cosine, 0, 1)
        if self.moves is not None:
            asked = [self.moves] if isinstance(self.moves, str) else self.moves
            if not isinstance(asked, tuple | list) or not asked or any(one not in MOVES for one in asked):
                such = f"such as {BRANCH!r} or {[*MOVES]}".replace("'", '"')
                raise ValueError(f"moves={self.moves!r:.60} must be some of {', '.join(MOVES)}, {such}")
            object.__setattr__(self, "moves", tuple(dict.fromkeys(asked)))
        if self.rungs is not None:
            two = isinstance(self.rungs, tuple | list) and len(self.rungs) == 2
            for rung in self.rungs if two else ():
                check_given(rungs=rung)
                check_between("rungs", rung, 0, 1)
            if not two or not self.rungs[0] < self.rungs[1]:
                raise ValueError(f"rungs={self.rungs} must be two shares of the steps that rise, such as [0.3, 0.5]")
            object.__setattr__(self, "rungs", tuple(self.rungs))

    def plan(self, problem: Problem) -> Plan:
        """Yield the warm start, rounds of children, and the finalists, best first."""
        course = self.course(problem)
        if course is None:
            yield from Halving(finish=self.finish).plan(problem)
            return
        end = problem.space.end
        alive = yield from course.race(problem, 0, problem.fresh(course.begun), reference=True)
        moves = [_Move(name, self, course) for name in self._able(problem)]
        while True:
            alive = _best(problem, alive)[:_ALIVE]
            left = problem.nfe_left - (course.finish - 1) * (end - course.late)
            able = [one for one in moves if one.settle(alive)]
            if not able:
                break
            move = max(able, key=lambda one: one.rate)
            count = course.affordable(self.children, move.start, left)
            if count < 2:
                break
            found = yield from course.race(problem, move.start, move.propose(problem, count), parent=move.parent.id)
            move.learn(problem, found, count)
            alive += found
        finalists = _spread(_best(problem, alive), course.finish)
        yield Job(State.cat([one.late.states for one in finalists]), end)
        if (more := problem.nfe_left // end) > 0:
            yield Job(problem.fresh(more), end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """The rungs, and what the warm start begins and what is finished, as plain JSON."""
        course = self.course(terms)
        if course is None:
            return Halving(finish=self.finish).describe(terms)
        rungs = [course.early, course.late]
        told = {"steps": terms.space.end, "rungs": rungs, "begun": course.begun, "finish": course.finish}
        return {**told, "moves": " and ".join(self._able(terms))}

    def course(self, terms: "Terms | Problem") -> "Course | None":
        """How the budget is shared; None where it begins too few children to climb."""
        end, nfe = terms.space.end, terms.nfe_total
        early, late = self._points(terms)
        if not 0 < early < late < end or not self._able(terms):
            return None
        finish = self.finish or (3 if nfe >= _LARGE * end else 2)
        course = Course(early, late, _leaves(end, early, late), finish)
        spare = nfe - finish * (end - late) - (end - early if terms.baseline else 0)
        begun = 0
        while course.cost(begun + 1) <= self.warm_start * spare:
            begun += 1
        enough = course.cost(self.LEAST) <= spare - course.cost(begun)
        return replace(course, begun=begun) if begun > finish and enough else None

    def _able(self, terms: "Terms | Problem") -> tuple[str, ...]:
        kept = None if terms.calibration is None else terms.calibration.neighbours_keep
        rough = kept is not None and kept < _KEPT and terms.model.can_mix
        asked = self.moves or ((BRANCH,) if rough else MOVES)
        leave = terms.model.can_mix and bool(_leaves(terms.space.end, *self._points(terms)))
        return tuple(name for name in asked if name == NEIGHBOUR or leave)

    def _points(self, terms: "Terms | Problem") -> tuple[int, int]:
        end, known = terms.space.end, terms.calibration
        early, late = (round(share * end) for share in self.rungs or _RUNGS)
        if self.rungs is None and known is not None:
            early = known.first_above(Halving.TRUSTED) or early
            late = known.first_above(self.SURE) or late
        return early, late


def _leaves(end: int, early: int, late: int) -> tuple[int, ...]:
    """Grid points at which branches leave, rising.

    What a rung sees stems from before the last step to it: a branch that leaves one step before shows its parent's own
    prediction, and leaves a step earlier instead.
    """
    blind = (early - 1, late - 1)
    wanted = (round(share * end) for share in _LEAVES)
    seen = (next((at for at in range(one, 0, -1) if at not in blind), 0) for one in wanted if one < late)
    return tuple(sorted({*seen} - {0}))


@dataclass
class Climber:
    """A candidate at the late rung.

    Attributes:
        late: one row, scored there.
        points: one row at each grid point that a move may start from: its noise at 0, unless it is a branch.
        parent: the id of its parent; None where it began fresh.
    """

    late: Evaluation
    points: dict[int, State]
    parent: int | None

    @property
    def id(self) -> int:
        """Of its row at the late rung."""
        return self.late.ids[0]


@dataclass(frozen=True)
class Course:
    """What everything runs through.

    Attributes:
        early, late: grid points of the rungs.
        leaves: grid points at which branches may leave, rising.
        finish: how many are finished.
        begun: fresh noises of the warm start.
    """

    early: int
    late: int
    leaves: tuple[int, ...]
    finish: int
    begun: int = 0

    def cost(self, rows: int, start: int = 0) -> int:
        """NFE of a race of so many rows, which halves them where it passes the early rung."""
        if start >= self.early:
            return rows * (self.late - start)
        return rows * (self.early - start) + math.ceil(rows / 2) * (self.late - self.early)

    def affordable(self, most: int, start: int, nfe: int) -> int:
        """How many rows can race."""
        return next((rows for rows in range(most, 0, -1) if self.cost(rows, start) <= nfe), 0)

    def race(
        self, problem: Problem, start: int, rows: State, parent: int | None = None, reference: bool = False
    ) -> Generator[Job, list[Evaluation], list[Climber]]:
        """Run rows to the late rung, of which the better half passes the early one; a branch's first step is fresh."""
        points: list[dict[int, State]] = [{0: rows[[i]]} if start == 0 else {} for i in range(len(rows))]

        def run(states: State, stop: int) -> Generator[Job, list[Evaluation], Evaluation]:
            keep = tuple(at for at in self.leaves if states.step < at < stop)
            steps: Sequence[Transition] = [Deterministic()] * (stop - states.step - 1)
            transition = (Mix(0.0), *steps) if 0 < start == states.step else None
            (found,) = yield Job(states, stop, keep=keep, transition=transition, reference=reference and not known)
            for at, kept in (*found.kept.items(), (stop, found.states)):
                for i in range(len(found) if at in self.leaves else 0):
                    points[i][at] = kept[[i]]
            return found

        known = False
        if start < self.early:
            found = yield from run(rows, self.early)
            known, better = True, problem.rank(found)[: math.ceil(len(found) / 2)]
            rows, points = found.states[better], [points[i] for i in better]
        found = yield from run(rows, self.late)
        return [Climber(replace(found[[i]], kept={}), points[i], parent) for i in range(len(found))]


@dataclass
class _Move:
    """A way to make children: of whom, how far away, and what that has brought.

    Attributes:
        name: "neighbour" or "branch".
        asked, course: the algorithm's options, and where branches leave.
        sine: of a neighbour's angle to its parent.
        leave: which of the course's leaves branches take.
        gained, spent: score and NFE, of which each round forgets some.
        idle: rounds without gain.
        tried: ids of the parents so far.
    """

    name: str
    asked: Climb
    course: Course
    sine: float = 0.0
    leave: int = 0
    gained: float = math.inf
    spent: float = 1.0
    idle: int = 0
    tried: set[int] = field(default_factory=set)
    _parent: Climber | None = None

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.sine, self.leave = math.sqrt(1 - self.asked.cosine**2), len(self.course.leaves) // 2
        self.idle = 0

    @property
    def rate(self) -> float:
        """What it gains per NFE; a move that wasn't tried comes first."""
        return self.gained / self.spent

    @property
    def parent(self) -> Climber:
        """Whose children are made next."""
        assert self._parent is not None
        return self._parent

    @property
    def start(self) -> int:
        """The grid point at which its children begin."""
        if self.name == NEIGHBOUR:
            return 0
        later = [at for at in self.course.leaves if at in self.parent.points]
        return next((at for at in later if at >= self.course.leaves[self.leave]), later[-1])

    def settle(self, alive: Sequence[Climber]) -> bool:
        """Choose the parent among candidates, best first; whether there is one."""
        able = [one for one in alive if (0 in one.points if self.name == NEIGHBOUR else max(one.points, default=0))]
        if self.idle >= self.asked.patience:
            self._begin()
        if self.idle == 0 or self._parent not in able:
            untried = [one for one in able if one.id not in self.tried]
            self._parent = next(iter(untried or able), None)
        return self._parent is not None

    def propose(self, problem: Problem, count: int) -> State:
        """So many children."""
        self.tried.add(self.parent.id)
        seeds, begun = problem.seeds(count), self.parent.points[self.start]
        if self.name == NEIGHBOUR:
            return problem.space.neighbour(begun, seeds, math.sqrt(1 - self.sine**2))
        return problem.space.branch(begun, seeds)

    def learn(self, problem: Problem, found: Sequence[Climber], count: int) -> None:
        """Take in what so many children brought."""
        own, *scores = _values(problem, [self.parent, *found])
        won = sum(score > own for score in scores)
        gained = max(0.0, *(score - own for score in scores)) if won and np.isfinite(own) else 0.0
        known = (self.gained, self.spent) if np.isfinite(self.gained) else (0.0, 0.0)
        told = gained, self.course.cost(count, self.start)
        self.gained, self.spent = (_FORGET * old + new for old, new in zip(known, told, strict=True))
        self.idle = 0 if won else self.idle + 1
        surplus = won / count - _WINNERS
        self.sine = min(max(self.sine * math.exp(surplus), _SINES[0]), _SINES[1])
        if abs(surplus) > _CLEAR:
            self.leave = min(max(self.leave - (1 if surplus > 0 else -1), 0), len(self.course.leaves) - 1)


def _values(problem: Problem, some: Sequence[Climber]) -> list[float]:
    values = problem.values(Evaluation.cat([one.late for one in some]))
    return [float(one) for one in np.nan_to_num(values, nan=-np.inf)]


def _best(problem: Problem, some: Sequence[Climber]) -> list[Climber]:
    order = problem.rank(Evaluation.cat([one.late for one in some])) if some else []
    return [some[i] for i in order]


def _spread(ranked: Sequence[Climber], count: int) -> list[Climber]:
    """The best of each parent before any second of one, as far as `count` go; and then the rest."""
    first: dict[int | None, Climber] = {}
    for one in ranked:
        first.setdefault(one.id if one.parent is None else one.parent, one)
    chosen = list(first.values())[:count]
    return [*chosen, *(one for one in ranked if one not in chosen)]
