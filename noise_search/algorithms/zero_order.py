"""Zero-order search: climb from a noise to its best neighbour, round by round."""

from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import ClassVar

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem
from noise_search.arguments import check_counts, check_flags, check_numbers
from samplers.state import State


@dataclass(frozen=True)
class ZeroOrderSearch:
    """Local search without gradients (Ma et al. 2025, arXiv 2501.09732, section 3.1, "ZO-N").

    The pivot is a fresh noise, scored like any candidate. A round scores `neighbours` noises at a fixed cosine to it,
    of its norm, and moves to the best of them where it beats the pivot. A round costs `neighbours` trajectories. The
    best of all candidates wins, so the centres of every chain and restart are compared at the end, as one pool.

    Attributes:
        neighbours: candidates per round and chain, N; the paper uses 2 for text-to-image and finds 4 a good estimate
            of the local optimum.
        cosine: between a neighbour and its pivot, in [-1, 1); smaller steps are closer to 1. The paper doesn't
            publish its step; .95 is the first author's.
        patience: rounds without a better neighbour after which a chain restarts from a fresh noise; None for never.
        chains: pivots that climb side by side, noise 0 to chains - 1 of random search: the same NFE in fewer, larger
            rounds.
        literal: the published variant: the first pivot is never scored, so that K rounds cost exactly N K
            trajectories, and the best neighbour becomes the pivot even where it is worse.

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

    def __post_init__(self) -> None:
        check_flags(literal=self.literal)
        check_counts(neighbours=self.neighbours, chains=self.chains, patience=self.patience)
        check_numbers(cosine=self.cosine)
        if not -1 <= self.cosine < 1:
            raise ValueError(f"cosine={self.cosine!r} must be at least -1 and below 1, where a neighbour is its pivot")
        if self.literal and (self.chains > 1 or self.patience is not None):
            raise ValueError("literal=True is the published variant: one chain without restarts; leave them out")

    @property
    def baseline(self) -> bool:
        """The published variant finishes no plain sample."""
        return not self.literal

    def plan(self, problem: Problem) -> Plan:
        """Yield the pivots, then rounds of neighbours until the budget is spent."""
        if self.literal:
            yield from self._published(problem)
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


def _noises(found: Evaluation, noises: State) -> Evaluation:
    """The evaluation with the noises that were run in place of the images they became."""
    return replace(found, states=noises)


def _in_turn(proposals: list[State]) -> tuple[State, list[int]]:
    """The first row of every chain, then the second of each, so that a trimmed round stays fair; and whose they are."""
    columns = [[(owner, rows[[i]]) for i in range(len(rows))] for owner, rows in enumerate(proposals)]
    turns = [pair for pair in chain.from_iterable(zip_longest(*columns)) if pair is not None]
    return State.cat([row for _, row in turns]), [owner for owner, _ in turns]
