"""Zero-order search: climb from a noise to its best neighbour, round by round."""

import math
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import ClassVar

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem
from noise_search.arguments import check_counts, check_flags, check_given, check_numbers
from samplers.state import State

_STARTS, _PATIENCE, _PARENTS = 8, 3, 3
"""Of the adaptive variant: noises to start from, rounds without gain until a restart, and parents of a mean."""
_WINNERS = 0.25
"""Share of neighbours that should beat their pivot: the best of one to twenty of them is largest by such steps."""
_SINES = (0.05, 0.95)


@dataclass(frozen=True)
class ZeroOrderSearch:
    """Local search without gradients (Ma et al. 2025, arXiv 2501.09732, section 3.1, "ZO-N").

    The pivot is a fresh noise, scored like any candidate. A round scores `neighbours` noises at a fixed cosine to it,
    of its norm, and moves to the best of them where it beats the pivot. A round costs `neighbours` trajectories. The
    best of all candidates wins, so the centres of every chain and restart are compared at the end, as one pool.

    Attributes:
        neighbours: candidates per round and chain, N; the paper uses 2 for text-to-image and finds 4 a good estimate
            of the local optimum.
        cosine: between a neighbour and its pivot, in [-1, 1), of the adaptive variant in [0, 1); smaller steps are
            closer to 1. The paper doesn't publish its step; .95 is the first author's.
        patience: rounds without a better neighbour after which a chain restarts from a fresh noise; None for never.
        chains: pivots that climb side by side, noise 0 to chains - 1 of random search: the same NFE in fewer, larger
            rounds.
        literal: the published variant: the first pivot is never scored, so that K rounds cost exactly N K
            trajectories, and the best neighbour becomes the pivot even where it is worse.
        adaptive: starts from the best of 8 fresh noises, and from the next best where `patience` rounds, 3 when None,
            brought nothing. `cosine` is that of the first step; from then on steps grow where more than a quarter of a
            round beat the pivot and shrink where fewer do, as evolution strategies do (Rechenberg 1973). Each further
            round tries the mean of the three best neighbours of the one before, too, or of two where there are no more.

    Raises:
        ValueError: a number out of range, or what the published variant doesn't have.
        TypeError: a number or flag of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=ZeroOrderSearch(neighbours=4, cosine=0.9), nfe=640)
    """

    name: ClassVar[str] = "zero-order"
    whole_calls: ClassVar[bool] = True
    anytime: ClassVar[bool] = True
    moves_noise: ClassVar[bool] = True

    neighbours: int = 4
    cosine: float = 0.95
    patience: int | None = None
    chains: int = 1
    literal: bool = False
    adaptive: bool = False

    def __post_init__(self) -> None:
        check_flags(literal=self.literal, adaptive=self.adaptive)
        check_given(neighbours=self.neighbours, chains=self.chains, cosine=self.cosine)
        check_counts(neighbours=self.neighbours, chains=self.chains, patience=self.patience)
        check_numbers(cosine=self.cosine)
        if not -1 <= self.cosine < 1:
            raise ValueError(f"cosine={self.cosine!r} must be at least -1 and below 1, where a neighbour is its pivot")
        if self.adaptive and self.cosine < 0:
            raise ValueError(
                f"cosine={self.cosine!r} must be at least 0 with adaptive=True, whose steps go by the sine of the angle"
            )
        if self.literal and (self.chains > 1 or self.patience is not None):
            raise ValueError("literal=True is the published variant: one chain without restarts; leave them out")
        if self.adaptive and (self.chains > 1 or self.literal):
            raise ValueError("adaptive=True is one chain that isn't published: leave chains and literal out")

    @property
    def baseline(self) -> bool:
        """The published variant finishes no plain sample."""
        return not self.literal

    def plan(self, problem: Problem) -> Plan:
        """Yield the pivots, then rounds of neighbours until the budget is spent."""
        if self.literal:
            yield from self._published(problem)
        if self.adaptive:
            yield from self._adaptive(problem)
        pivots = problem.fresh(self.chains)
        (found,) = yield Job(pivots, problem.space.end)
        centres = [_noises(found, pivots)[[i]] for i in range(self.chains)]
        stalled = [0] * self.chains
        while True:
            proposals = [self._propose(problem, *pair) for pair in zip(centres, stalled, strict=True)]
            states, owners = _in_turn(proposals)
            (found,) = yield Job(states, problem.space.end)
            scored = _noises(found, states)
            for which, centre in enumerate(centres):
                mine = scored[[row for row, owner in enumerate(owners) if owner == which]]
                if stalled[which] == self.patience:
                    centres[which], stalled[which] = mine, 0
                    continue
                pool = Evaluation.cat([centre, mine])
                # Ties go to the lowest id, which is the pivot's: it is kept unless beaten.
                best = problem.rank(pool)[0]
                centres[which] = pool[[best]]
                stalled[which] = 0 if best else stalled[which] + 1

    def _propose(self, problem: Problem, centre: Evaluation, stalled: int) -> State:
        if stalled == self.patience:
            return problem.fresh(1)
        return problem.space.neighbour(centre.states, problem.seeds(self.neighbours), self.cosine)

    def _published(self, problem: Problem) -> Plan:
        pivot = problem.fresh(1)
        while True:
            states = problem.space.neighbour(pivot, problem.seeds(self.neighbours), self.cosine)
            (found,) = yield Job(states, problem.space.end)
            pivot = states[problem.rank(found)[0]]

    def _adaptive(self, problem: Problem) -> Plan:
        space, first_sine = problem.space, math.sqrt(1 - self.cosine**2)
        noises = problem.fresh(_STARTS)
        (found,) = yield Job(noises, space.end)
        starts = _noises(found, noises)
        waiting, stalled, sine, parents = problem.rank(starts), self.patience or _PATIENCE, first_sine, None
        while True:
            if stalled == (self.patience or _PATIENCE):
                if not waiting:
                    noises = problem.fresh(1)
                    (found,) = yield Job(noises, space.end)
                    starts, waiting = _noises(found, noises), [0]
                pivot, stalled, sine, parents = starts[[waiting.pop(0)]], 0, first_sine, None
            children = space.neighbour(pivot.states, problem.seeds(self.neighbours), math.sqrt(1 - sine**2))
            if parents is not None and len(parents) > 1:  # the mean of one is that one, which was run already
                children = State.cat([children, space.mean([parents[[i]] for i in range(len(parents))])])
            (found,) = yield Job(children, space.end)
            pool = Evaluation.cat([pivot, _noises(found, children)])
            order = problem.rank(pool)  # ties to the pivot, whose id is the lowest
            won = order.index(0)
            parents = pool.states[[i for i in order if i][:_PARENTS]]
            sine = min(max(sine * math.exp(won / len(children) - _WINNERS), _SINES[0]), _SINES[1])
            pivot, stalled = pool[order[:1]], 0 if won else stalled + 1


def _noises(found: Evaluation, noises: State) -> Evaluation:
    """The evaluation with the noises that were run in place of the images they became."""
    return replace(found, states=noises)


def _in_turn(proposals: list[State]) -> tuple[State, list[int]]:
    """The first row of every chain, then the second of each, so that a trimmed round stays fair; and whose they are."""
    columns = [[(owner, rows[[i]]) for i in range(len(rows))] for owner, rows in enumerate(proposals)]
    turns = [pair for pair in chain.from_iterable(zip_longest(*columns)) if pair is not None]
    return State.cat([row for _, row in turns]), [owner for owner, _ in turns]
