"""EvoSearch: generations that begin ever later on the trajectories of the best images so far."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.arguments import check_between, check_counts, check_flags, check_given, check_numbers
from samplers.state import State
from samplers.transition import Ancestral, Deterministic, Mix, Transition

_STARTS = (0.1, 0.2, 0.3)
"""What 12 validation prompts of the embedded flow model liked best of six; not told from random search since."""
_PUBLISHED_STARTS = (0.0, 0.4, 0.6, 0.8)
"""The paper's schedule, steps 0, 20, 30 and 40 of 50, in shares."""
_PUBLISHED, _PUBLISHED_ELITES = (42, 26, 26, 26, 30), 5
"""Its population of fresh noises and those of the generations, and how many of each are kept (Stable Diffusion 2.1)."""
_SMALL, _DIVIDED = 1000, 5
"""NFE below which its populations are divided by 5."""
_TOURNAMENT = 0.9
"""Share of the population that competes for each place of a parent."""
CROSSINGS = ("mean", "region", "band")


@dataclass(frozen=True)
class EvoSearch:
    """Evolutionary search along trajectories, EvoSearch (He et al. 2025, arXiv 2505.17618).

    Fresh noises are finished, and states of their trajectories are kept at the starts of the generations to come, each
    with the score of its own image. A generation takes parents among the population's states at its start by
    tournaments, which the best of a random 90 % win, mutates them and finishes the children. So every score is one of a
    finished image, and a child costs the steps that are left. Its population is the best `elites` of the one before,
    which aren't run again, and its children. With p_0 fresh noises and p_g children that start at step e_g of T, it
    takes p_0 T + sum p_g (T - e_g) NFE, of which noise 0 is the first.

    Pure noise mutates by pCN, sqrt(1 - b^2) x + b e. A state on the way leaves its trajectory by fresh noise: the paper
    adds noise of an SDE step's deviation to the state, which raises its noise level; here the step that leaves it is
    taken with fresh noise instead, all of it or that of DDIM's eta, which keeps the level.

    Attributes:
        starts: of the generations, in shares of the steps in [0, 1), not falling; None for .1, .2 and .3, or with
            `literal` the paper's 0, .4, .6 and .8. A model whose trajectories can't branch has those at 0 alone, by
            default one; a small budget leaves out the first ones.
        first: share of the budget for fresh noises, in (0, 1); the paper's is .42. Generations are equally large.
        elites: kept from one population to the next; None for a fifth of a generation, at least 1.
        beta: of pCN, in (0, 1]; the paper's.
        eta: how a child leaves a trajectory: None for one step of fresh noise alone, then the ODE; in (0, 1] for DDIM's
            eta in each of its steps.
        crossing: None, or "mean", "region" or "band": children at pure noise are made of two parents, by the mean of
            both or by a crossover, before they mutate. The paper crosses none.
        repair: whether these noises are brought back to a white spectrum after they mutated (WGNC, arXiv 2602.08646).
        literal: the published constants: 42 fresh noises, then 26, 26, 26 and 30 children with 5 elites, a fifth of
            these below 1,000 NFE, all steps ancestral, and no plain sample first. It ends when they are through.
            States on the way mutate by the step that leaves them, as above: no state may be off its noise level here.

    Raises:
        ValueError: a number out of range, starts that fall, another crossing, or options beside `literal`.
        TypeError: a number or flag of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=EvoSearch(), candidates=32)
        result.schedule
    """

    name: ClassVar[str] = "evo-search"
    moves_noise: ClassVar[bool] = True

    starts: tuple[float, ...] | None = None
    first: float = 0.42
    elites: int | None = None
    beta: float = 0.2
    eta: float | None = None
    crossing: str | None = None
    repair: bool = False
    literal: bool = False

    def __post_init__(self) -> None:
        check_flags(repair=self.repair, literal=self.literal)
        check_given(first=self.first, beta=self.beta)
        check_between("first", self.first, 0, 1)
        check_counts(elites=self.elites)
        check_numbers(beta=self.beta, eta=self.eta)
        for name in ("beta", "eta"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value!r} must be above 0 and at most 1")
        if self.crossing is not None and self.crossing not in CROSSINGS:
            raise ValueError(f"crossing={self.crossing!r:.40} must be one of {', '.join(CROSSINGS)}, or None")
        if self.starts is not None:
            if not isinstance(self.starts, tuple | list) or not self.starts:
                raise TypeError(f"starts={self.starts!r:.40} must be shares of the steps, such as [0, 0.4]")
            for one in self.starts:
                check_given(starts=one)
                check_numbers(starts=one)
                if not 0 <= one < 1:
                    raise ValueError(f"starts={one!r} must be shares of the steps, from 0 and below 1")
            if sorted(self.starts) != list(self.starts):
                raise ValueError(f"starts={self.starts} must not fall: a state that was passed can't be gone back to")
            object.__setattr__(self, "starts", tuple(self.starts))
        changed = [one for one in ("starts", "elites", "eta", "crossing") if getattr(self, one) is not None]
        if self.literal and (changed or self.repair or (self.first, self.beta) != (0.42, 0.2)):
            raise ValueError("literal=True is the published variant, with its own constants: leave other options out")

    @property
    def whole_calls(self) -> bool:
        """Generations that all start at pure noise need nothing else."""
        return self.starts is not None and not any(self.starts)

    @property
    def baseline(self) -> bool:
        """The published variant takes no plain steps."""
        return not self.literal

    def plan(self, problem: Problem) -> Plan:
        """Yield the fresh noises, and a job for each generation."""
        shape, end = self.shape(problem), problem.space.end
        states, population = problem.fresh(shape.fresh), None
        for start, count in zip((0, *shape.starts), (0, *shape.children), strict=True):
            transition: tuple[Transition, ...] | None = (Ancestral(1.0),) * end if self.literal else None
            if population is not None:
                states = self._children(problem, population, start, count)
                transition = self._leaving(end - start) if start else transition
            later = tuple(sorted({one for one in shape.starts if one > start}))
            (found,) = yield Job(states, end, keep=later, transition=transition)
            born = Population(replace(found, kept={}), {**found.kept, start: states[: len(found)]})
            population = born if population is None else population.best(problem, shape.elites).joined(born)
        if not self.literal and (more := problem.nfe_left // end) > 0:
            yield Job(problem.fresh(more), end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """Where generations start, and how many images each finishes, the fresh noises first, as plain JSON."""
        shape = self.shape(terms)
        rows = [shape.fresh, *shape.children]
        return {"steps": terms.space.end, "starts": [0, *shape.starts], "finished": rows, "elites": shape.elites}

    def shape(self, terms: "Terms | Problem") -> "Shape":
        """Starts and populations over a grid and a budget; fewer generations where it holds no two fresh noises."""
        end, nfe = terms.space.end, terms.nfe_total
        ours = _STARTS if terms.model.can_mix else (0.0,)
        points = [round(share * end) for share in self.starts or (_PUBLISHED_STARTS if self.literal else ours)]
        starts = tuple(one for one in points if one < end and (one == 0 or terms.model.can_mix))
        if self.literal:
            fresh, *children = (rows // (_DIVIDED if nfe < _SMALL else 1) for rows in _PUBLISHED)
            able = [rows for one, rows in zip(points, children, strict=True) if one in starts]
            return Shape(starts, fresh, tuple(able), _PUBLISHED_ELITES // (_DIVIDED if nfe < _SMALL else 1))
        for at in range(len(starts)):
            costs = [end - one for one in starts[at:]]
            each = int((1 - self.first) * nfe) // sum(costs)
            fresh = (nfe - each * sum(costs)) // end
            if each and fresh > 1:
                left = nfe - each * sum(costs) - fresh * end
                children = [each] * (len(costs) - 1) + [each + left // costs[-1]]
                return Shape(starts[at:], fresh, tuple(children), self.elites or max(1, round(each / 5)))
        return Shape((), nfe // end, (), 1)

    def _children(self, problem: Problem, population: "Population", start: int, count: int) -> State:
        space, states = problem.space, population.states[start]
        parents = states[population.tournaments(problem, count)]
        if start:
            return space.branch(parents, problem.seeds(count))
        if self.crossing is not None:
            others = states[population.tournaments(problem, count)]
            if self.crossing == "mean":
                parents = space.mean([parents, others])
            else:
                parents = space.crossover(parents, others, problem.seeds(count), by=self.crossing)
        moved = space.pcn(parents, problem.seeds(count), self.beta)
        return space.repair(moved) if self.repair else moved

    def _leaving(self, steps: int) -> tuple[Transition, ...]:
        eta = 1.0 if self.literal else self.eta
        if eta is not None:
            return (Ancestral(eta),) * steps
        return (Mix(0.0), *[Deterministic()] * (steps - 1))


@dataclass(frozen=True)
class Shape:
    """A search over a budget.

    Attributes:
        starts: of the generations, as grid points.
        fresh: noises before the first of them.
        children: of each generation.
        elites: kept from one population to the next.
    """

    starts: tuple[int, ...]
    fresh: int
    children: tuple[int, ...]
    elites: int


@dataclass(frozen=True)
class Population:
    """Members, row by row.

    Attributes:
        scored: their finished images.
        states: by grid point, what their trajectories passed.
    """

    scored: Evaluation
    states: Mapping[int, State]

    def best(self, problem: Problem, count: int) -> "Population":
        """So many of them."""
        rows = problem.rank(self.scored)[:count]
        return Population(self.scored[rows], {at: states[rows] for at, states in self.states.items()})

    def joined(self, others: "Population") -> "Population":
        """Both, where both passed."""
        states = {at: State.cat([self.states[at], some]) for at, some in others.states.items()}
        return Population(Evaluation.cat([self.scored, others.scored]), states)

    def tournaments(self, problem: Problem, count: int) -> list[int]:
        """The rows that win so many tournaments, in each of which a random 90 % compete."""
        order = problem.rank(self.scored)
        some = math.ceil(_TOURNAMENT * len(order))
        return [order[problem.rng.permutation(len(order))[:some].min()] for _ in range(count)]
