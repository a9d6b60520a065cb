"""One prompt's candidates: what is best, what would be finished next, and which pictures are kept.

What a candidate costs here grows with their number only in a few numpy operations over a column of them.
"""

from bisect import insort
from collections.abc import Mapping, Sequence

import numpy as np

from noise_search.algorithms.base import Job
from noise_search.engine.evaluator import Outcome
from noise_search.results.candidate import Candidate, components
from noise_search.results.lineage import walk
from samplers.recipe import Recipe
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator

_SPARE = 4
"""Pictures that are kept for a while without need."""


class Ranking:
    """Candidates of one kind, finished ones or drafts, as they come, and the best of them.

    Where values depend on the pool, each newcomer changes those of all.

    Args:
        aggregator: ranks them; what it waits to freeze is frozen once these candidates have it.
        kept: how many of the best are told apart from the rest.

    Attributes:
        members: in their order.
        best: None before one has a value.
        since_best: members after the one that brought the latest best.
    """

    def __init__(self, aggregator: Aggregator, kept: int) -> None:
        self.aggregator, self._kept = aggregator, kept
        self.members: list[Candidate] = []
        self._known: list[float] = []
        self._values = np.empty(0)
        self.best: Candidate | None = None
        self.since_best = 0
        self._pool = None if _settled(aggregator) else aggregator.pool()
        self._top: list[tuple[float, int, Candidate]] = []
        self._rising = np.empty(0, dtype=int)
        self._rising_scores = np.empty((0, len(aggregator.scores)))
        self._above = np.empty(0, dtype=int)

    @property
    def values(self) -> list[float]:
        """What each of them is worth in the pool as it is, NaN where it can't win."""
        return self._known if self._pool is None else self._values.tolist()

    @property
    def latest(self) -> float:
        """That of the latest."""
        return self._known[-1] if self._pool is None else float(self._values[-1])

    def add(self, candidate: Candidate) -> bool:
        """Take in a candidate; whether there is a new best."""
        self.members.append(candidate)
        self.since_best += 1
        scores = components([candidate], (v.key for v in self.aggregator.verifiers))
        if self._pool is None:
            [value] = self.aggregator.combine(scores)
            self._insert(candidate, float(value))
        else:
            self._values = self._pool.add({key: float(score[0]) for key, score in scores.items()})
            self._lift(candidate)
            self._freeze()
        best = self._first()
        if best is None or best is self.best:
            return False
        self.best, self.since_best = best, 0
        return True

    def _first(self) -> Candidate | None:
        if self._pool is None:
            return self._top[0][-1] if self._top else None
        comparable = np.where(np.isnan(self._values), -np.inf, self._values)
        best = int(comparable.argmax())
        return self.members[best] if comparable[best] > -np.inf else None

    def top(self, count: int) -> list[Candidate]:
        """The best, best first, ties to the earlier; at most as many as are `kept`."""
        if self._pool is None:
            return [candidate for *_, candidate in self._top[:count]]
        found = np.flatnonzero(np.isfinite(self._values))
        if len(found) > count:  # those at the limit compete by their order
            least = np.partition(self._values[found], -count)[-count]
            found = found[self._values[found] >= least]
        return [self.members[i] for i in found[np.argsort(-self._values[found], kind="stable")][:count]]

    def may_rise(self) -> list[Candidate]:
        """Those that later ones can lift into the best `kept`, where values depend on the pool and may reorder it.

        Not those than which so many others are better by every verifier, or as good and earlier, as aggregators are
        monotone.
        """
        return [self.members[i] for i in self._rising]

    def _insert(self, candidate: Candidate, value: float) -> None:
        self._known.append(value)
        if np.isfinite(value):
            insort(self._top, (-value, candidate.id, candidate))
            del self._top[self._kept :]

    def _lift(self, candidate: Candidate) -> None:
        assert self._pool is not None
        if not np.isfinite(self._values[-1]):
            return
        keys = [verifier.key for verifier in self.aggregator.scores]
        own = np.array([candidate.scores[key] for key in keys])
        above = self._above + (own > self._rising_scores).all(1)
        raw = self._pool.components
        as_good = np.isfinite(self._values[:-1])
        for key, value in zip(keys, own, strict=True):
            as_good &= raw[key][:-1] >= value
        above = np.append(above, as_good.sum())
        may = above < self._kept
        self._above, self._rising_scores = above[may], np.vstack([self._rising_scores, own])[may]
        self._rising = np.append(self._rising, len(self.members) - 1)[may]

    def refer(self, components: Mapping[str, np.ndarray]) -> bool:
        """Take what values refer to from these scores, where nothing was before; whether that changed anything."""
        before = self.aggregator
        if before.unfrozen and not before.absolute and np.isfinite(before.combine(components)).any():
            self._refrozen(before.freeze(components))
        return self.aggregator is not before

    def _freeze(self) -> None:
        """Once enough are there, freeze what the aggregator waits for them to tell, and value everything anew."""
        wanted = 1 if self.aggregator.absolute else self.aggregator.freeze_after
        if self._pool is None or wanted is None or np.isfinite(self._values).sum() < wanted:
            return
        self._refrozen(self.aggregator.freeze(self._pool.components))

    def _refrozen(self, aggregator: Aggregator) -> None:
        """Value everything anew by an aggregator with another reference."""
        if aggregator is self.aggregator or self._pool is None:
            return
        self.aggregator, raw = aggregator, self._pool.components
        self._values = self.aggregator.combine(raw)
        if _settled(self.aggregator):
            self._pool, self._rising = None, np.empty(0, dtype=int)
            for member, value in zip(self.members, self._values, strict=True):
                self._insert(member, float(value))
        else:
            self._pool = self.aggregator.pool()
            for row in range(len(self.members)):
                self._pool.add({key: float(scores[row]) for key, scores in raw.items()})


def _settled(aggregator: Aggregator) -> bool:
    """Whether a value depends on no pool, now and later."""
    return aggregator.absolute and not aggregator.unfrozen


class Pool:
    """The candidates of one prompt.

    Args:
        space: of finished images; rows of any other grid are drafts.
        aggregator: ranks candidates.
        top_k: how many pictures to keep besides the first and every new best.
        first: the recipe of random search's noise 0, where that is to be finished in any case.

    Attributes:
        candidates: everything that was scored, in order.
        finished, drafts: those of them, ranked.
        bests, bests_nfe: every new best, in order, and the NFE spent when it became the best.
        partial: the unfinished row, a draft's noise included, that outranks all that is finished, and its state.
        fallback: a row that is on its way, to be finished where nothing better is there.
        baseline: the finished candidate of noise 0; None before there is one.
    """

    def __init__(self, space: NoiseSpace, aggregator: Aggregator, top_k: int, first: Recipe | None = None) -> None:
        self.space = space
        self.noise_0_key = None if first is None else first.key
        self._noise_0: State | None = None
        self.candidates: list[Candidate] = []
        self.finished, self.drafts = Ranking(aggregator, top_k), Ranking(aggregator, 1)
        self.bests: list[Candidate] = []
        self.bests_nfe: list[int] = []
        self.partial: tuple[Candidate, State] | None = None
        self.fallback: State | None = None
        self.baseline: Candidate | None = None
        self._top_k = top_k
        self._rendered: set[str] = set()
        self._pictured: list[Candidate] = []
        self._shed_at = 0

    @property
    def aggregator(self) -> Aggregator:
        """What ranks, frozen once it is."""
        return self.finished.aggregator

    @property
    def best(self) -> Candidate | None:
        """The best finished one; None before there is one."""
        return self.finished.best

    @property
    def since_best(self) -> int:
        """Candidates without a new best: finished ones, or drafts while there are only drafts to compare."""
        drafting = bool(self.candidates) and self.candidates[-1].draft
        ranking = self.drafts if drafting else self.finished
        return 0 if ranking.best is None else ranking.since_best

    @property
    def shown(self) -> list[Candidate]:
        """What is kept to look at: the top k, every new best, and the first."""
        first = self.finished.members[:1] if self.baseline is None else [self.baseline]
        chosen = [*self.finished.top(self._top_k), *self.bests, *first]
        return list({candidate.id: candidate for candidate in chosen}.values())

    @property
    def pending(self) -> State | None:
        """The row to be finished before the search can end well; None where the best is finished already."""
        if self.partial is not None:
            return self.partial[1]
        return self.fallback if self.best is None else None

    @property
    def unfinished(self) -> list[State]:
        """The rows to be finished before the search can end well: the one `pending`, and noise 0 once it has begun.

        One where both are on the same way, as a look ahead of noise 0 is: they would end as the same image.
        """
        found = [state for state in (self.pending, self._noise_0) if state is not None]
        return list({walk(state.recipes[0]): state for state in found}.values())

    def is_noise_0(self, job: Job, row: int) -> bool:
        """Whether a row of a job carries noise 0 on, as the sampler itself would."""
        on_its_way = job.states.grid == self.space.id and job.transition is None
        return on_its_way and job.states.recipes[row].key == self.noise_0_key

    def carries_on(self, job: Job, row: int) -> bool:
        """Whether a row of a job carries on the unfinished row that is the best, or a branch of it."""
        if self.partial is None or job.states.grid != self.space.id:
            return False
        held = self.partial[1].recipes[0].key
        for recipe in job.states.recipes[row].beginnings():
            if recipe.key == held:
                return True
            if recipe.last["op"] != "branch":
                return False
        return False

    def refer(self, components: Mapping[str, np.ndarray]) -> None:
        """Make these scores what z-scores refer to, unless something is; drafts refer to the same."""
        if self.finished.refer(components):
            self.drafts.refer(components)
            self._price()

    def settle(self) -> None:
        """Make every score what it is worth in the end, and keep the pictures of what is shown then."""
        self._price()
        self._shed()

    def take(self, outcome: Outcome, spent: int) -> Candidate | None:
        """Take a row in, at `spent` NFE of the search; returns its candidate where it was scored."""
        job, row, state = outcome.work.job, outcome.row, outcome.state
        full = state.grid == self.space.id
        finished = full and state.step == self.space.end
        if full:
            self._rendered.add(job.states.recipes[row].key)
        first = self.is_noise_0(job, row)
        if first:
            self._noise_0, self.noise_0_key = None if finished else state, state.recipes[0].key
        if self.partial is not None and self.carries_on(job, row):
            self.partial = None if finished or job.score else (self.partial[0], state)
        if not job.score:
            if self.best is None and self.partial is None and full and not finished:
                self.fallback = state
            return None
        candidate = self.unranked(outcome, spent)
        if candidate.draft:
            self._add_draft(candidate, job.states.conditions[row])
        elif candidate.finished:
            self.baseline = candidate if first else self.baseline
            self._add_finished(candidate, outcome)
        else:
            self._add_partial(candidate, state)
        return candidate

    def unranked(self, outcome: Outcome, spent: int, failure: str | None = None) -> Candidate:
        """Put a scored row among the candidates, without a rank."""
        draft = outcome.state.grid != self.space.id
        found = Candidate(
            id=outcome.id,
            recipe=outcome.state.recipes[0],
            step=outcome.state.step,
            finished=not draft and outcome.state.step == self.space.end,
            draft=draft,
            nfe=spent,
            scores=dict(outcome.components),
            failure=failure or outcome.failure,
            looks={step: look.components for step, look in outcome.looks.items()},
        )
        self.candidates.append(found)
        return found

    def remember(self, candidate: Candidate, baseline: bool) -> None:
        """Take in a candidate of a search that is read back, as far as its value and rank go."""
        self.candidates.append(candidate)
        if candidate.draft:
            self.drafts.add(candidate)
        if not candidate.finished:
            candidate.score = self._alone(candidate)
            return
        self.baseline = candidate if baseline else self.baseline
        self._rank(candidate)

    def _add_finished(self, candidate: Candidate, outcome: Outcome) -> None:
        self._rank(candidate)
        if outcome.pixels is not None:
            candidate.keep(outcome.pixels, outcome.x0)
            self._pictured.append(candidate)
        if len(self._pictured) > self._shed_at:
            self._shed()

    def _rank(self, candidate: Candidate) -> None:
        before = self.aggregator
        if self.finished.add(candidate):
            assert self.finished.best is not None
            self.bests.append(self.finished.best)
            self.bests_nfe.append(candidate.nfe)
        candidate.score = self.finished.latest
        if self.aggregator is not before:  # frozen by this one
            self._price()

    def _shed(self) -> None:
        """Let go of pictures that won't be shown; only now and then, as that looks at all that are kept."""
        keep = {one.id for one in (*self.shown, *self.finished.may_rise())}
        for one in self._pictured:
            if one.id not in keep:
                one.keep(None)
        self._pictured = [one for one in self._pictured if one.pixels is not None]
        self._shed_at = len(self._pictured) + _SPARE

    def _add_draft(self, candidate: Candidate, condition: int) -> None:
        """Rank a draft among drafts; make the best one's noise again, which a search that ends early renders."""
        candidate.score = self._alone(candidate)
        if not self.drafts.add(candidate):
            return
        best = self.drafts.best
        assert best is not None
        noise = best.recipe.before_runs
        self.partial = None if noise.key in self._rendered else (best, self.space.noise(noise, condition))

    def _add_partial(self, candidate: Candidate, state: State) -> None:
        """Remember an unfinished row that outranks every finished one: it is completed at the end."""
        rivals = [c for c in (self.best, self.partial[0] if self.partial else None) if c is not None]
        *others, own = self._values([*rivals, candidate])
        candidate.score = self._alone(candidate)
        if np.isfinite(own) and all(own > value for value in others):
            self.partial = (candidate, state)
        elif self.best is None and self.partial is None:
            self.fallback = state

    def _price(self) -> None:
        """Make every score what the candidate is worth by now.

        What isn't finished is worth its own value where that is absolute, and nothing where values are only within the
        pool of finished candidates, in which it isn't.
        """
        for member, value in zip(self.finished.members, self.finished.values, strict=True):
            member.score = value
        if self.aggregator.absolute:
            for one in self.candidates:
                one.score = one.score if one.finished else self._alone(one)

    def _alone(self, candidate: Candidate) -> float:
        """What a candidate is worth by itself; NaN where values are only within a pool."""
        return float(self._values([candidate])[0]) if self.aggregator.absolute else float("nan")

    def _values(self, pool: Sequence[Candidate]) -> np.ndarray:
        return self.aggregator.combine(components(pool, (verifier.key for verifier in self.aggregator.verifiers)))
