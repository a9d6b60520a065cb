"""Particles: many trajectories at once, of which weights say at some points who goes on, and in how many branches.

One engine and three small functions: a `potential` of what a particle's x0 predictions scored so far, a `temperature`
by which it counts, and an `offspring` drawn from the weights. The published searches are names for their choices.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.algorithms.offspring import OFFSPRING, effective, normalised, round_robin
from noise_search.arguments import check_between, check_counts, check_flags, check_numbers
from noise_search.words import unknown
from samplers.transition import Ancestral, Deterministic, Glass, Mix, Transition


def current(history: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """What the latest prediction scores; `history` is `[point, particle]`, `temperatures` one for each point."""
    latest: np.ndarray = temperatures[-1] * history[-1]
    return latest


def difference(history: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """What it gained since the last point: gains add up, so that particles are tilted by exp of their last score."""
    earlier = temperatures[-2] * history[-2] if len(history) > 1 else 0.0
    return current(history, temperatures) - earlier


def highest(history: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """The best that its predictions scored so far."""
    best: np.ndarray = temperatures[-1] * history.max(0)
    return best


POTENTIALS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "current": current,
    "difference": difference,
    "max": highest,
}
TEMPERATURES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "increase": lambda share: share,
    "tempering": lambda share: min(1.008 ** (100 * share) - 1, 1.0),
    "infinite": lambda share: math.inf,
}
"""By the share of the steps that are done. "tempering" is DAS's for 100 steps."""
TRANSITIONS = ("glass", "mix", "ancestral")


@dataclass(frozen=True)
class Scheme:
    """The choices of one search.

    Attributes:
        potential, temperature, offspring: by name.
        transition, rho, inner: how particles branch: "glass" and "mix" with rho, "ancestral" (eta 1).
        strength: what scores are multiplied by before exp, in their own units, or in their standard deviation over
            particles where `standard`.
        standard: as above.
        start, every, until: shares of the steps: of the first point where particles are weighed, between two, and of
            the last at most.
        ahead: steps of the ODE that are taken to look at a particle, and taken back.
        width: branches of each that "top" keeps.
        resample: least share of the particles that may count (effective sample size) before branches are drawn; 1 for
            always.
        plain: whether particles follow the sampler's own steps to the first point, where their noises differ anyway.
        particles: of one population; None for as many as the budget pays.
        apart: steps between two points at least. What a prediction is made from comes before the last step's noise, so
            that branches are told apart from two steps on.
    """

    potential: str = "max"
    temperature: str = "increase"
    offspring: str = "systematic"
    transition: str = "glass"
    rho: float = 0.4
    inner: int = 4
    strength: float = 4.0
    standard: bool = True
    start: float = 0.3
    every: float = 0.15
    until: float = 0.8
    ahead: int = 0
    width: int = 2
    resample: float = 1.0
    plain: bool = True
    particles: int | None = None
    apart: int = 2

    @property
    def step(self) -> Transition:
        """How particles go on from where they branch."""
        if self.transition == "ancestral":
            return Ancestral(1.0)
        return Mix(self.rho) if self.transition == "mix" else Glass(self.rho, self.inner)

    def points(self, end: int) -> tuple[int, ...]:
        """Grid points where particles are weighed."""
        found, at = list[int](), max(1, round(self.start * end))
        last = min(end - 1, round(self.until * end))
        while at <= last:
            found.append(at)
            at = max(at + self.apart, round((self.start + len(found) * self.every) * end))
        return tuple(found)


@dataclass(frozen=True)
class Particles:
    """What all particle searches share; take one by its name, such as `BFS`.

    A population of noises runs to a first point, where verifiers score its x0 predictions. Weights follow, particles
    without offspring end, others branch, and so on to the end, where the best image wins. All cost what random search
    costs but for the rest of noise 0, which is finished for its own sake, and for looks `ahead`. Where the budget pays
    several populations of the asked size, one follows the other. With fewer steps than make a point, a budget below two
    particles, or a model whose trajectories can't branch, the search is random search. What predictions are scored with
    comes from before the last step's noise, so points lie two steps apart at least, or a look goes ahead.

    Attributes:
        particles: of one population; None for as many as the budget pays.
        potential: "current", "difference" or "max" of what a particle's predictions scored.
        temperature: "constant", "increase" or "infinite" (the best alone goes on), or "tempering".
        offspring: "multinomial", "systematic", "ssp", or "top", which branches the best in equal parts.
        strength: how much a standard deviation of the scores counts; in a published variant a unit of them.
        transition: how branches part: "glass", "mix" or "ancestral".
        rho: of "glass" and "mix".
        inner: evaluations of a "glass" transition, and steps that it passes over.
        start, every: shares of the steps, to the first point and between points.
        ahead: steps of the ODE that are taken to look at a particle, and taken back.
        width: branches of each that "top" keeps.
        literal: the published variant, which finishes no plain sample.

    None stands for the choices of the search's scheme. Which lineages lived is in `result.parents` and
    `result.lineages`.

    Raises:
        ValueError: a number out of range, or an unknown name.
        TypeError: a number or flag of another type.
    """

    name: ClassVar[str]
    whole_calls: ClassVar[bool] = False
    refers: ClassVar[bool] = True
    OURS: ClassVar[Scheme] = Scheme()
    PAPER: ClassVar[Scheme] = Scheme()

    particles: int | None = None
    potential: str | None = None
    temperature: str | None = None
    offspring: str | None = None
    strength: float | None = None
    transition: str | None = None
    rho: float | None = None
    inner: int | None = None
    start: float | None = None
    every: float | None = None
    ahead: int | None = None
    width: int | None = None
    literal: bool = False

    def __post_init__(self) -> None:
        check_flags(literal=self.literal)
        check_counts(particles=self.particles, inner=self.inner, width=self.width)
        check_counts(least=0, ahead=self.ahead)
        check_numbers(strength=self.strength, rho=self.rho)
        for name, known in _NAMES.items():
            if (value := getattr(self, name)) is not None and value not in known:
                raise unknown(name, str(value), known)
        for name in ("start", "every"):
            check_between(name, getattr(self, name), 0, 1)
        if self.strength is not None and not 0 < self.strength < math.inf:
            raise ValueError(f"strength={self.strength!r} must be a number greater than 0")
        self.scheme.step  # noqa: B018  (refuses a rho or inner that it can't take)

    @property
    def baseline(self) -> bool:
        """The published variant finishes no plain sample for its own sake."""
        return not self.literal

    @property
    def scheme(self) -> Scheme:
        """Its choices, with those that were asked for."""
        own = {name: getattr(self, name) for name in _ASKED if getattr(self, name) is not None}
        return replace(self.PAPER if self.literal else self.OURS, **own)

    def plan(self, problem: Problem) -> Plan:
        """Yield populations as long as the budget pays them, and then plain noises."""
        scheme, end, first = self.scheme, problem.space.end, True
        while (count := self._count(problem, first)) > 1:
            yield from _population(problem, scheme, count, first)
            first = False
        if (more := problem.nfe_left // end) > 0:
            yield Job(problem.fresh(more), end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """Where how many particles are weighed, and how they go on, as plain JSON."""
        scheme, end = self.scheme, terms.space.end
        count = self._affordable(terms, terms.nfe_total, first=True)
        points = list(scheme.points(end)) if count > 1 else []
        return {"steps": end, "particles": max(count, 1), "points": points, "transition": repr(scheme.step)}

    def _count(self, problem: Problem, first: bool) -> int:
        return self._affordable(problem, problem.nfe_left, first)

    def _affordable(self, terms: "Terms | Problem", nfe: int, first: bool) -> int:
        """Particles of a population that the budget pays to the end; 0 where it has no points."""
        scheme, end = self.scheme, terms.space.end
        points = scheme.points(end)
        if not points or not terms.model.can_mix:
            return 0
        spare = 0
        if first and terms.baseline:  # noise 0, from where it branches
            spare += end - points[0]
        if scheme.ahead:  # the best look, which the driver may have to finish
            spare += max(0, end - points[0] - scheme.ahead)
        first_step = None if scheme.plain else scheme.step
        each = terms.space.cost(0, points[0], first_step)
        each += sum(terms.space.cost(a, b, scheme.step) for a, b in zip(points, (*points[1:], end), strict=True))
        each += sum(min(scheme.ahead, end - point) for point in points)
        count = max(0, nfe - spare) // each
        return min(count, scheme.particles or count)


_NAMES: dict[str, Any] = {
    "potential": POTENTIALS,
    "temperature": TEMPERATURES,
    "offspring": OFFSPRING,
    "transition": dict.fromkeys(TRANSITIONS),
}
_ASKED = ("particles", "strength", "rho", "inner", "start", "every", "ahead", "width", *_NAMES)


def _population(problem: Problem, scheme: Scheme, count: int, first: bool) -> Plan:
    """Yield the jobs of one population, to its finished images."""
    space, end = problem.space, problem.space.end
    weigh = Weighing(scheme, end, pooled=problem.verifier.pooled)
    states = problem.fresh(count)
    for point in scheme.points(end):
        how = None if scheme.plain and states.step == 0 else scheme.step
        (found,) = yield Job(
            states, point, score=not scheme.ahead, transition=how, reference=first and not scheme.ahead
        )
        states, seen = found.states, found
        if scheme.ahead:
            (seen,) = yield Job(states, min(point + scheme.ahead, end), transition=Deterministic(), reference=first)
        first = False
        parents = weigh.parents(point, _values(problem, seen), problem.rng)
        states = space.branch(states[parents], problem.seeds(len(parents)))
    yield Job(states, end, transition=scheme.step)


def _values(problem: Problem, seen: Evaluation) -> np.ndarray:
    values = problem.values(seen)
    return np.where(np.isfinite(values), values, -np.inf)


class Weighing:
    """The weights of one population, from point to point.

    Attributes:
        history: scores `[point, particle]` of those that live, along their own past.
        temperatures: by point.
        log_weights: of the particles since they last branched.
    """

    def __init__(self, scheme: Scheme, end: int, pooled: bool = False) -> None:
        self._scheme, self._end = scheme, end
        # Values within a pool say nothing beside those of another one.
        self._potential = POTENTIALS["current" if pooled else scheme.potential]
        self._adds_up = self._potential is difference
        self._scale = 0.0
        self.history = np.empty((0, 0))
        self.temperatures = np.empty(0)
        self.log_weights = np.empty(0)

    def parents(self, point: int, values: np.ndarray, rng: np.random.Generator) -> list[int]:
        """Who goes on from here, a row for each branch: everybody's first before anybody's second."""
        weights = self.weights(point, values)
        if effective(weights) >= self._scheme.resample * len(weights) and self._scheme.resample < 1:
            return list(range(len(weights)))
        counts = OFFSPRING[self._scheme.offspring](weights, rng, self._scheme.width)
        parents = round_robin(counts, weights)
        self.history = self.history[:, parents]
        self.log_weights = np.zeros(len(parents))
        return parents

    def weights(self, point: int, values: np.ndarray) -> np.ndarray:
        """Of particles that score so at a grid point; they sum to 1."""
        scheme = self._scheme
        if not len(self.history):
            self.history, self.log_weights = np.empty((0, len(values))), np.zeros(len(values))
        temperature = TEMPERATURES[scheme.temperature](point / self._end)
        greedy = math.isinf(temperature)
        self.history = np.vstack([self.history, values])
        self.temperatures = np.append(self.temperatures, 1.0 if greedy else temperature)
        with np.errstate(invalid="ignore"):
            found = self._potential(self.history, self.temperatures)
        found = np.where(np.isnan(found), -np.inf, found)
        if greedy:
            return normalised(np.where(found == found.max(), 0.0, -np.inf))
        found = scheme.strength * found / self._spread(values)
        if self._adds_up:
            with np.errstate(invalid="ignore"):  # a failed image's gain over a failed one
                found = self.log_weights + found
        self.log_weights = np.where(np.isnan(found), -np.inf, found)
        return normalised(self.log_weights)

    def _spread(self, values: np.ndarray) -> float:
        """Standard deviation of the scores, the largest so far, as that of branches is small; 1 where units count."""
        if not self._scheme.standard:
            return 1.0
        usable = values[np.isfinite(values)]
        self._scale = max(self._scale, float(usable.std()) if len(usable) else 0.0)
        return self._scale or 1.0


@dataclass(frozen=True)
class FK(Particles):
    """Feynman-Kac steering (Singhal et al. 2025, arXiv 2501.06848): branches in proportion to exp(best score so far).

    Published: four particles, ancestral steps, weights exp(10 max r) at 20, 40, 60 and 80 % of the steps, multinomial
    offspring. The 10 is for ImageReward.
    """

    name: ClassVar[str] = "fk"
    OURS: ClassVar[Scheme] = Scheme(temperature="constant")
    PAPER: ClassVar[Scheme] = Scheme(
        "max",
        "constant",
        "multinomial",
        "ancestral",
        strength=10.0,
        standard=False,
        start=0.2,
        every=0.2,
        until=0.8,
        plain=False,
        particles=4,
    )


@dataclass(frozen=True)
class DAS(Particles):
    """DAS without its gradient (Kim et al. 2025, arXiv 2501.05803): tempered, weighted by what a prediction gained.

    Published: four particles, ancestral steps, target p exp(r / .005) (their number for an aesthetic score), reached by
    rising temperatures, weighed in every step, SSP offspring once half of the particles count. Here the prediction that
    is weighed lags a step behind the state, where the paper pays an evaluation more.
    """

    name: ClassVar[str] = "das"
    OURS: ClassVar[Scheme] = Scheme(potential="difference", offspring="ssp")
    PAPER: ClassVar[Scheme] = Scheme(
        "difference",
        "tempering",
        "ssp",
        "ancestral",
        strength=200.0,
        standard=False,
        start=0.01,
        every=0.01,
        until=1.0,
        resample=0.5,
        plain=False,
        particles=4,
        apart=1,
    )


@dataclass(frozen=True)
class SVDD(Particles):
    """SVDD (Li et al. 2024, arXiv 2408.08252): all branches are the best particle's.

    Published: in every step, by the prediction one step ahead, which is an evaluation more for each; ancestral steps.
    Choosing greedily in every step finds less than random search in published tables.
    """

    name: ClassVar[str] = "svdd"
    OURS: ClassVar[Scheme] = Scheme("current", "infinite", "multinomial")
    PAPER: ClassVar[Scheme] = Scheme(
        "current",
        "infinite",
        "multinomial",
        "ancestral",
        start=0.01,
        every=0.01,
        until=1.0,
        ahead=1,
        plain=False,
        particles=4,
        apart=1,
    )


@dataclass(frozen=True)
class BFS(Particles):
    """Breadth-first search (Zhang et al. 2025, arXiv 2505.23614): best score so far, rising temperature.

    Published: eight particles, ancestral steps, weighed at every quarter of the steps, SSP offspring. What their
    temperature rises to isn't published for every score; the literal variant rises towards FK's 10, of which the last
    point has 7.5.
    """

    name: ClassVar[str] = "bfs"
    OURS: ClassVar[Scheme] = Scheme()
    PAPER: ClassVar[Scheme] = Scheme(
        "max",
        "increase",
        "ssp",
        "ancestral",
        strength=10.0,
        standard=False,
        start=0.25,
        every=0.25,
        until=0.75,
        plain=False,
        particles=8,
    )


@dataclass(frozen=True)
class Beam(Particles):
    """Beam search, as language models have it (Snell et al. 2024, arXiv 2408.03314): the best in M branches each.

    N particles; N / M of them go on, M is the `width`. Published: M = 4, in many small steps; here at every tenth of
    the steps, and no closer than predictions tell branches apart. It is told to win at small budgets, and to fall below
    random search at large ones.
    """

    name: ClassVar[str] = "beam"
    OURS: ClassVar[Scheme] = Scheme("current", "constant", "top")
    PAPER: ClassVar[Scheme] = Scheme(
        "current", "constant", "top", "ancestral", width=4, start=0.1, every=0.1, until=1.0, plain=False, particles=16
    )


@dataclass(frozen=True)
class Lookahead(Particles):
    """Beam search by what is seen `ahead` steps of the ODE later (Snell et al. 2024, arXiv 2408.03314).

    A look costs its steps for every particle, and they are taken back: 2, and 3 as published. Told to be worst at equal
    cost.
    """

    name: ClassVar[str] = "lookahead"
    OURS: ClassVar[Scheme] = replace(Beam.OURS, ahead=2)
    PAPER: ClassVar[Scheme] = replace(Beam.PAPER, ahead=3)
