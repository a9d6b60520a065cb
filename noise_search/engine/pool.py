"""One prompt's candidates: what is best, what would be finished next, and which pictures are kept."""

from collections.abc import Sequence

import numpy as np

from noise_search.engine.evaluator import Outcome
from noise_search.results.candidate import Candidate, best_finished, components
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator


class Pool:
    """The candidates of one prompt, as they come.

    Args:
        space: of finished images; rows of any other grid are drafts.
        aggregator: ranks candidates; one that waits for a reference is replaced once it has that of this prompt.
        top_k: how many pictures to keep besides the first and every new best.

    Attributes:
        candidates: everything that was scored, in order.
        best: the best finished one; None before there is one.
        bests, bests_nfe: every new best, in order, and the NFE spent when it became the best.
        partial: the unfinished row, a draft's noise included, that outranks all that is finished, and its state.
        fallback: a row that is on its way, to be finished where nothing better is there.
    """

    def __init__(self, space: NoiseSpace, aggregator: Aggregator, top_k: int) -> None:
        self.space, self.aggregator = space, aggregator
        self.candidates: list[Candidate] = []
        self.best: Candidate | None = None
        self.bests: list[Candidate] = []
        self.bests_nfe: list[int] = []
        self.partial: tuple[Candidate, State] | None = None
        self.fallback: State | None = None
        self._pooled, self._top_k = not aggregator.absolute, top_k
        self._draft: Candidate | None = None
        self._noises: dict[int, State] = {}
        self._rendered: set[str] = set()
        self._pictured: list[Candidate] = []

    @property
    def first(self) -> Candidate | None:
        """The first finished candidate: random search's first noise."""
        return next((c for c in self.candidates if c.finished), None)

    @property
    def since_best(self) -> int:
        """Candidates without a new best: finished ones, or drafts while there are only drafts to compare."""
        drafting = bool(self.candidates) and self.candidates[-1].draft
        best = self._draft if drafting else self.best
        rivals = [c for c in self.candidates if (c.draft if drafting else c.finished)]
        return 0 if best is None else sum(c.id > best.id for c in rivals)

    @property
    def pending(self) -> State | None:
        """The row to be finished before the search can end well; None where the best is finished already."""
        if self.partial is not None:
            return self.partial[1]
        return self.fallback if self.best is None else None

    @property
    def shown(self) -> list[Candidate]:
        """What is kept to look at: the top k, every new best, and the first."""
        chosen = [*best_finished(self.candidates, self._top_k), *self.bests]
        chosen += [] if self.first is None else [self.first]
        return list({candidate.id: candidate for candidate in chosen}.values())

    def settle(self) -> None:
        """Nothing is pending any more."""
        self.partial = self.fallback = None

    def take(self, outcome: Outcome, spent: int) -> Candidate | None:
        """Take a row in, at `spent` NFE of the search; returns its candidate where it was scored."""
        job = outcome.work.job
        if job.states.grid == self.space.id:
            before = job.states.recipes[outcome.row].key
            self._rendered.add(before)
            if self.partial is not None and self.partial[1].recipes[0].key == before:
                self.partial = None
        if not job.score:
            if self.best is None and self.partial is None and outcome.state.step < self.space.end:
                self.fallback = outcome.state
            return None
        candidate = self._candidate(outcome, spent)
        if candidate.draft:
            self._add_draft(candidate, job.states[[outcome.row]])
        elif candidate.finished:
            self._add_finished(candidate)
            self._keep_pictures(candidate, outcome)
        else:
            self._add_partial(candidate, outcome.state)
        return candidate

    def _candidate(self, outcome: Outcome, spent: int) -> Candidate:
        draft = outcome.state.grid != self.space.id
        found = Candidate(
            id=outcome.id,
            recipe=outcome.state.recipes[0],
            step=outcome.state.step,
            finished=not draft and outcome.state.step == self.space.end,
            draft=draft,
            nfe=spent,
            scores=dict(outcome.components),
            failure=outcome.failure,
        )
        self.candidates.append(found)
        return found

    def _values(self, pool: Sequence[Candidate]) -> np.ndarray:
        return self.aggregator.combine(self._components(pool))

    def _components(self, pool: Sequence[Candidate]) -> dict[str, np.ndarray]:
        return components(pool, (verifier.key for verifier in self.aggregator.verifiers))

    def _valued(self, pool: Sequence[Candidate], before: Candidate | None) -> Candidate | None:
        """Value a pool; its best, or the one before where that is as good."""
        for member, value in zip(pool, self._values(pool), strict=True):
            member.score = float(value)
        rivals = [c for c in (*pool, before) if c is not None and np.isfinite(c.score)]
        return min(rivals, key=lambda c: (-c.score, c.id), default=None)

    def _freeze(self) -> None:
        """Once enough candidates are finished, freeze an aggregator that waits for them, and value everything anew."""
        pool = [c for c in self.candidates if c.finished]
        wanted = self.aggregator.freeze_after
        if wanted is None or self.aggregator.absolute or len(pool) < wanted:
            return
        if np.isfinite(self._values(pool)).sum() >= wanted:
            self.aggregator = self.aggregator.freeze(self._components(pool))
            self._valued(self.candidates, None)

    def _add_finished(self, candidate: Candidate) -> None:
        """Value the new candidate; where values depend on the pool, value the whole pool again."""
        self._freeze()
        pool = [c for c in self.candidates if c.finished] if self._pooled else [candidate]
        best = self._valued(pool, self.best)
        if best is not None and best is not self.best:
            self.best = best
            self.bests.append(best)
            self.bests_nfe.append(candidate.nfe)

    def _add_draft(self, candidate: Candidate, noise: State) -> None:
        """Value a draft among drafts; remember the best one's noise, which a search that ends early renders."""
        self._noises[candidate.id] = self.space.adopt(noise)
        best = self._valued([c for c in self.candidates if c.draft] if self._pooled else [candidate], self._draft)
        if best is not None:
            self._draft, noise = best, self._noises[best.id]
            self.partial = None if noise.recipes[0].key in self._rendered else (best, noise)
        if not self._pooled:  # a draft once beaten stays beaten
            self._noises = {i: kept for i, kept in self._noises.items() if best is not None and i == best.id}

    def _add_partial(self, candidate: Candidate, state: State) -> None:
        """Remember an unfinished row that outranks every finished one: it is completed at the end."""
        rivals = [c for c in (self.best, self.partial[0] if self.partial else None) if c is not None]
        *others, own = self._values([*rivals, candidate])
        candidate.score = float(own)
        if np.isfinite(own) and all(own > value for value in others):
            self.partial = (candidate, state)
        elif self.best is None and self.partial is None:
            self.fallback = state

    def _keep_pictures(self, candidate: Candidate, outcome: Outcome) -> None:
        if outcome.pixels is not None:
            candidate.keep(outcome.pixels, outcome.x0)
        pictured = [*self._pictured, candidate]
        keep = {c.id for c in self.shown} | self._may_still_rise(pictured)
        for other in pictured:
            if other.id not in keep:
                other.keep(None)
        self._pictured = [c for c in pictured if c.pixels is not None]

    def _may_still_rise(self, pictured: Sequence[Candidate]) -> set[int]:
        """Candidates that later ones can lift into the top k, where values depend on the pool and may reorder it.

        Not those than which k others are better by every verifier, or as good and earlier, as aggregators are monotone.
        """
        if self.aggregator.absolute:
            return set()
        pool = [c for c in self.candidates if c.finished and np.isfinite(c.score)]
        keys = [verifier.key for verifier in self.aggregator.scores]
        table, ids = np.array([[c.scores[k] for k in keys] for c in pool]), np.array([c.id for c in pool])
        found = set()
        for candidate in pictured:
            if np.isfinite(candidate.score):
                own = [candidate.scores[k] for k in keys]
                above = (table > own).all(1) | ((table >= own).all(1) & (ids < candidate.id))
                if int(above.sum()) < self._top_k:
                    found.add(candidate.id)
        return found
