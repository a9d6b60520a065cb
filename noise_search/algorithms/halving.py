"""Successive halving: many trajectories begin, x0 predictions choose which go on, and a few are finished."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.algorithms.knowledge import Calibration
from noise_search.arguments import check_between, check_counts, check_given
from noise_search.choosing.sets import check_diversity, cosine_distances, pick_set, shown_by, unexplained

_FEW, _SOME = 6, 8
"""Whole trajectories below which there is one rung, and below which one candidate is finished."""
_ALONE = 0.8
"""Rank correlation with the final score from which on a rung may prune that is alone; as `TRUSTED`."""
_RUNGS, _DEAR_RUNGS, _ALONE_AT = (0.30, 0.45, 0.65), (0.35, 0.55), 0.4
"""Shares of the steps where nothing was measured."""
_SHORT = 8
"""Steps below which there is one rung, halfway, where nothing was measured."""


@dataclass(frozen=True)
class Halving:
    """Best of many noises, most of which are only begun (successive halving, Jamieson & Talwalkar, arXiv 1502.07943).

    All noises run to the first rung, where verifiers score their x0 predictions. The better half goes on to the next,
    and the best of the last rung are finished, as many as the budget pays. A trajectory that goes on continues where it
    was, so nothing is run twice. Pruning at fixed steps by x0 predictions is TTSp's (arXiv 2511.22242). Where the rungs
    lie follows from the calibration of model and verifier: the first where predictions and final scores have a rank
    correlation of .55 within a prompt, the last where it is .88. Without one they are at 30, 45 and 65 % of the steps,
    or at 35 and 55 % where a look costs as much as a step. Below 6 whole trajectories there is one rung; with fewer
    than 5 steps none, and the search is random search. Noise 0 takes part, and is finished in the end where it was
    pruned.

    The scores of the first rung are the reference of z-scores, where an ensemble of them is searched by.

    With a `diversity` it looks for a set of `finish` images that are good and different, as Group Inference does (arXiv
    2508.15773): a rung lets the set go on that `pick_set` finds best, by scores and by how different the x0 predictions
    are, as thumbnails. `result.diverse(finish, diversity)` then picks among the finished images.

    Attributes:
        rungs: shares of the steps at which x0 predictions are ranked, in (0, 1), rising; None as above. One that rounds
            to no step between the first and the last is left out.
        keep: the share of a rung that goes on to the next, in (0, 1); of the last one `finish` count.
        finish: how many are finished at least; None for 2, and 1 below 8 whole trajectories.
        diversity: standard deviations of quality that one of mean pairwise difference is worth, 0 or more, such as 1.5;
            None ranks candidates alone.

    Raises:
        ValueError: a number out of range, rungs that don't rise, or a diversity without a set to finish.
        TypeError: a number of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=Halving(), nfe=320)
        result.schedule
    """

    name: ClassVar[str] = "halving"
    whole_calls: ClassVar[bool] = False
    refers: ClassVar[bool] = True

    TRUSTED: ClassVar[float] = 0.55
    """Rank correlation with the final score from which on the first rung may prune: the best of .55 to .7 on validation
    prompts of the embedded world."""
    SURE: ClassVar[float] = 0.88
    """And the last rung: of .85, .9 and .95 there .9 was best; .88 lies a step or two earlier in two of six cases."""
    SHORTEST: ClassVar[int] = 5
    """Steps below which there is no rung."""

    rungs: tuple[float, ...] | None = None
    keep: float = 0.5
    finish: int | None = None
    diversity: float | None = None

    def __post_init__(self) -> None:
        check_given(keep=self.keep)
        check_counts(finish=self.finish)
        check_between("keep", self.keep, 0, 1)
        if not isinstance(self.rungs, tuple | list | None):
            raise TypeError(f"rungs={self.rungs!r:.40} must be shares of the steps, such as [0.3, 0.45]")
        for rung in self.rungs or ():
            check_given(rungs=rung)
            check_between("rungs", rung, 0, 1)
        if self.rungs is not None and (not self.rungs or sorted(set(self.rungs)) != list(self.rungs)):
            raise ValueError(f"rungs={self.rungs} must be shares of the steps that rise, such as [0.3, 0.45]")
        check_diversity(self.diversity)
        if self.diversity is not None and (self.finish or 1) < 2:
            raise ValueError(
                f"diversity={self.diversity} looks for a set, and finish={self.finish} finishes none: give finish=4, "
                "or another number from 2 on"
            )

    def plan(self, problem: Problem) -> Plan:
        """Yield a job to each rung, and then the finalists, best first, of which the driver runs what is affordable."""
        shape = self.shape(problem)
        states = problem.fresh(shape.rows[0])
        for at, (rung, rows) in enumerate(zip(shape.rungs, shape.rows[1:], strict=True)):
            (found,) = yield Job(states, rung, reference=at == 0, thumbnails=self.diversity is not None)
            last = at == len(shape.rungs) - 1
            states = found.states[self._order(problem, found, rows)[: len(found) if last else rows]]
        yield Job(states, problem.space.end)
        if (more := problem.nfe_left // problem.space.end) > 0:
            yield Job(problem.fresh(more), problem.space.end)

    def _order(self, problem: Problem, found: Evaluation, count: int) -> list[int]:
        """Rows from best to worst; with a diversity the set of `count` comes first."""
        ranked = problem.rank(found)
        values = problem.values(found)[ranked]
        usable = int(np.isfinite(values).sum())  # failed rows come last
        if self.diversity is None or found.thumbnails is None or not usable:
            return ranked
        differing = unexplained(shown_by(found.thumbnails[ranked[:usable]]), values[:usable])
        chosen = pick_set(values[:usable], cosine_distances(differing), count, self.diversity)
        return [ranked[at] for at in (*chosen, *sorted({*range(len(ranked))} - {*chosen}))]

    def describe(self, terms: Terms) -> dict[str, Any]:
        """The rungs and how many rows run to each, as plain JSON."""
        shape = self.shape(terms)
        return {"steps": terms.space.end, "rungs": list(shape.rungs), "rows": list(shape.rows)}

    def shape(self, terms: "Terms | Problem") -> "Shape":
        """The largest race that the budget pays."""
        end, nfe = terms.space.end, terms.nfe_total
        few = nfe < _FEW * end
        rungs = self._points(terms, few)
        finish = self.finish or (1 if nfe < _SOME * end else 2)
        race = Race(rungs, self.keep, finish, end, terms.baseline)
        rows = race.largest(nfe)
        if rows <= nfe // end:  # no more than whole trajectories, each of which is finished
            return Shape((), (nfe // end,))
        return Shape(rungs, race.rows(rows))

    def _points(self, terms: "Terms | Problem", few: bool) -> tuple[int, ...]:
        end = terms.space.end
        if self.rungs is not None:
            points = {round(share * end) for share in self.rungs}
        elif end < self.SHORTEST:
            points = set()
        elif terms.calibration is not None:
            points = self._calibrated(terms.calibration, few)
        elif end < _SHORT:
            points = {math.ceil(end / 2)}
        else:
            price = terms.model.look_price
            shares = (_ALONE_AT,) if few else _DEAR_RUNGS if price is not None and price >= 1 else _RUNGS
            points = {round(share * end) for share in shares}
        return tuple(sorted(one for one in points if 0 < one < end))

    def _calibrated(self, known: Calibration, few: bool) -> set[int]:
        asked = (_ALONE,) if few else (self.TRUSTED, self.SURE)
        return {at for least in asked if (at := known.first_above(least)) is not None}


@dataclass(frozen=True)
class Shape:
    """A race over a budget: its rungs, and how many rows run to each, and to the end."""

    rungs: tuple[int, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Race:
    """What halving costs.

    Attributes:
        rungs: grid points.
        keep: share of a rung that goes on.
        finish: rows that are finished at least.
        end: the clean end.
        baseline: whether noise 0 is finished, too, which is dearest where it is pruned first.
    """

    rungs: tuple[int, ...]
    keep: float
    finish: int
    end: int
    baseline: bool

    def rows(self, begun: int) -> tuple[int, ...]:
        """How many run to each rung, and how many of the last go on."""
        found = [begun]
        for at in range(len(self.rungs)):
            kept = self.finish if at == len(self.rungs) - 1 else math.ceil(found[-1] * self.keep - 1e-9)
            found.append(min(found[-1], max(kept, self.finish)))
        return tuple(found)

    def cost(self, begun: int) -> int:
        """NFE of a race that begins with so many, at most."""
        points = [0, *self.rungs, self.end]
        run = sum(rows * (b - a) for rows, a, b in zip(self.rows(begun), points, points[1:], strict=False))
        return run + (self.end - self.rungs[0] if self.baseline and begun > self.finish else 0)

    def largest(self, nfe: int) -> int:
        """The most that can begin; 0 without rungs, or where the budget pays none."""
        begun = 0
        while self.rungs and self.cost(begun + 1) <= nfe:
            begun += 1
        return begun
