"""Drafts: a search over step-0 noises on a grid of fewer steps, whose best noises are then rendered in full."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from noise_search.algorithms.base import Evaluation, Job, LimitReached, Plan, Problem, SearchAlgorithm, Terms
from samplers.space import NoiseSpace
from samplers.state import State

RENDERS = 4
DraftSteps = int | Sequence[int]
"""How many steps a draft has on a grid of its own, or which steps of the full grid it evaluates."""


def plain(steps: DraftSteps) -> int | list[int]:
    """As plain JSON: how many, or which."""
    return [int(one) for one in steps] if isinstance(steps, Sequence) else int(steps)


def grid_of(steps: DraftSteps) -> dict[str, Any]:
    """What to ask a sampler's `space` for."""
    return {"points" if isinstance(steps, Sequence) else "steps": plain(steps)}


@dataclass(frozen=True, repr=False)
class Drafted:
    """Another algorithm on a coarser grid, and the full render of what it likes best.

    Noise 0 is rendered in full first, as by every search; then the algorithm spends what is left on drafts, but for the
    renders of its best noises. A draft's score decides only which noises are rendered: the winner is a full image.

    Attributes:
        algorithm: searches over step-0 noises, with whole trajectories.
        steps: how many a draft has.
        renders: how many noises are rendered at most; never more than half of what noise 0 leaves.
    """

    algorithm: SearchAlgorithm
    steps: int
    renders: int = RENDERS

    @property
    def name(self) -> str:
        """The algorithm's."""
        return self.algorithm.name

    @property
    def whole_calls(self) -> bool:
        """Drafts and renders run whole."""
        return True

    def __repr__(self) -> str:
        return repr(self.algorithm)

    def plan(self, problem: Problem) -> Plan:
        """Yield noise 0, then the algorithm's jobs as far as they are affordable, then the renders."""
        end, draft = problem.space.end, problem.grid(self.steps)
        first = problem.fresh(1)
        yield Job(first, end)
        drafts, renders = self._shares(problem.space, draft, problem.nfe_total)
        view: Any = _DraftProblem(problem, draft, first, lambda: drafts * draft.end)
        plan, pool = self.algorithm.plan(view), list[Evaluation]()
        jobs = next(plan, None)
        while jobs is not None and drafts:
            asked = jobs if isinstance(jobs, list) else [jobs]
            counts = _cut([len(job) for job in asked], drafts)
            trimmed = sum(counts) < sum(map(len, asked))
            drafts -= sum(counts)
            kept = [replace(job, states=job.states[:n]) for job, n in zip(asked, counts, strict=True) if n]
            try:
                found = yield kept
                jobs = None if trimmed else _sent(plan, found)
            except LimitReached as limit:
                found, jobs = limit.found, None
            pool += [_without_noises(e, job.states) for e, job in zip(found, kept, strict=True)]
        plan.close()
        if best := self._best(problem, pool, renders, first):
            yield Job(State.cat(best), end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """How the budget is shared, as plain JSON."""
        draft = terms.grids[self.steps]
        drafts, renders = self._shares(terms.space, draft, terms.nfe_total)
        return {"steps": terms.space.end, "draft_steps": draft.end, "drafts": drafts, "renders": renders}

    def _shares(self, space: NoiseSpace, draft: NoiseSpace, nfe: int) -> tuple[int, int]:
        """How many drafts, and how many renders besides noise 0's."""
        left = nfe - space.end
        renders = max(1, min(self.renders, left // (2 * space.end)))
        return (left - renders * space.end) // draft.end, renders

    def _best(self, problem: Problem, pool: list[Evaluation], renders: int, first: State) -> list[State]:
        """The noises to render, best first; noise 0 is rendered already."""
        if not pool:
            return []
        scored = Evaluation.cat(pool)
        best = [scored.states.recipes[row] for row in problem.rank(scored)[: renders + 1]]
        [condition] = first.conditions
        return [problem.space.noise(recipe, condition) for recipe in best if recipe != first.recipes[0]][:renders]


def check_drafts(algorithm: SearchAlgorithm, space: NoiseSpace, draft: NoiseSpace, nfe: int) -> None:
    """Refuse drafts that can't work, before anything is computed.

    Raises:
        ValueError: an algorithm that stops inside trajectories, as many steps as the full grid has, or a budget without
            room for two drafts and a render.
    """
    if not algorithm.whole_calls:
        raise ValueError(
            f"draft_steps={draft.end} works with searches over step-0 noises (random, zero-order): algorithm "
            f"{algorithm.name!r} stops at grid points inside trajectories, which a draft's grid doesn't share with the "
            "full one, so that its states can't be rendered in full; leave draft_steps out"
        )
    if draft.end >= space.end:
        raise ValueError(
            f"draft_steps={draft.end} must be below the {space.end} steps of a full trajectory; raise steps, or leave "
            "draft_steps out"
        )
    least = 2 * space.end + 2 * draft.end
    if nfe < least:
        raise ValueError(
            f"a budget of {nfe} NFE is too small for drafts of {draft.end} steps; the least that works is nfe={least}: "
            f"noise 0 in full, two drafts, and a render of {space.end} steps"
        )


class _DraftProblem:
    """The problem as the algorithm sees it: the draft's grid, and random search's stream from noise 0 on."""

    def __init__(self, problem: Problem, space: NoiseSpace, first: State, left: Callable[[], int]) -> None:
        self._problem, self._space, self._first, self._left = problem, space, first, left
        self._total = left()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    @property
    def space(self) -> NoiseSpace:
        return self._space

    @property
    def nfe_total(self) -> int:
        return self._total

    @property
    def nfe_left(self) -> int:
        return self._left()

    def fresh(self, count: int = 0, *, seeds: Sequence[int] = ()) -> State:
        if len(seeds):
            return self._space.adopt(self._problem.fresh(count, seeds=seeds))
        again, self._first = self._first[:count], self._first[count:]
        return self._space.adopt(State.cat([again, self._problem.fresh(count - len(again))]))


def _without_noises(scored: Evaluation, noises: State) -> Evaluation:
    """The evaluation with the recipes of its noises; drafts are many, and what is rendered is made again."""
    rows = noises[: len(scored)]
    return replace(scored, states=replace(rows, x=rows.x.new_empty(len(rows), 0), x0=None), kept={})


def _cut(counts: list[int], limit: int) -> list[int]:
    """As many of each in turn as the limit allows."""
    cut: list[int] = []
    for count in counts:
        cut.append(min(count, limit - sum(cut)))
    return cut


def _sent(plan: Plan, found: list[Evaluation]) -> Any:
    try:
        return plan.send(found)
    except StopIteration:
        return None
