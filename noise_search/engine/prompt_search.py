"""The search of one prompt: its algorithm's view of it, its budget, and the best it has found."""

from collections.abc import Sequence

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Jobs, SearchAlgorithm
from noise_search.engine.evaluator import Outcome, Work
from noise_search.results.candidate import Candidate, best_finished, components
from noise_search.results.ledger import Ledger
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.ranks import Aggregator


class PromptSearch:
    """One prompt's algorithm, budget, candidates and incumbent.

    Args:
        index: position of the prompt in the search.
        prompt: its text.
        space: of the sampler.
        condition: the sampler's index of the prompt.
        aggregator: ranks candidates; one that waits for a reference is replaced once it has that of this prompt.
        algorithm: proposes jobs.
        nfe: budget.
        seed: of the first noise, and of the algorithm's choices.
        top_k: how many images to keep.
    """

    def __init__(
        self,
        index: int,
        prompt: str,
        space: NoiseSpace,
        condition: int,
        aggregator: Aggregator,
        algorithm: SearchAlgorithm,
        nfe: int,
        seed: int,
        top_k: int,
    ) -> None:
        self.index, self.prompt, self.space, self.aggregator = index, prompt, space, aggregator
        self._pooled = not aggregator.absolute
        self.ledger = Ledger(nfe_budget=nfe)
        self.candidates: list[Candidate] = []
        self.bests: list[Candidate] = []
        self.bests_nfe: list[int] = []
        self.best: Candidate | None = None
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self._partial: tuple[Candidate, State] | None = None
        self._draft: Candidate | None = None
        self._noises: dict[int, State] = {}
        self._rendered: set[str] = set()
        self._fallback: State | None = None
        self._top_k = top_k
        self._plan = algorithm.plan(ProblemView(self, space, condition, seed))
        self._works: list[Work] = []
        self._outcomes: dict[int, Outcome] = {}
        self._trimmed = False
        self._next_id = 0
        self._pictured: list[Candidate] = []

    @property
    def running(self) -> bool:
        """Whether the algorithm may still be asked."""
        return self.stop_reason is None

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """End the search; the first reason stays."""
        self.stop_reason, self.error = self.stop_reason or reason, error

    @property
    def reserve(self) -> int:
        """NFE held back so that the best candidate can be finished."""
        if self._partial is not None:
            return self.space.end - self._partial[1].step
        if self.best is None and self._fallback is not None:
            return self.space.end - self._fallback.step
        return 0

    @property
    def since_best(self) -> int:
        """Candidates without a new best: finished ones, or drafts while there are only drafts to compare."""
        drafting = bool(self.candidates) and self.candidates[-1].draft
        best = self._draft if drafting else self.best
        rivals = [c for c in self.candidates if (c.draft if drafting else c.finished)]
        return 0 if best is None else sum(c.id > best.id for c in rivals)

    def next_round(self) -> list[Work]:
        """Ask the algorithm, and trim its jobs to the budget; empty when the search has ended."""
        jobs = self._ask()
        if jobs is None:
            return []
        counts = self._affordable(jobs)
        self._trimmed = sum(counts) < sum(map(len, jobs))
        self._works, self._outcomes = [], {}
        for job, count in zip(jobs, counts, strict=True):
            if count:
                ids = tuple(range(self._next_id, self._next_id + count))
                self._next_id += count
                rows = Job(job.states[:count], job.stop, job.score, job.keep, job.rho)
                self._works.append(Work(self.index, rows, ids))
        if not self._works:
            self.stop("budget spent")
        return self._works

    def _ask(self) -> list[Job] | None:
        if self._trimmed:
            self._end("budget spent")
        if not self.running:
            return None
        try:
            jobs: Jobs = self._plan.send(self._round_evaluations()) if self._works else next(self._plan)
        except StopIteration:
            self._end("budget spent" if self.ledger.left < self.space.end else "the algorithm ended")
            return None
        asked = jobs if isinstance(jobs, list) else [jobs]
        if not asked or not all(isinstance(job, Job) for job in asked):
            raise TypeError(f"the algorithm yielded {jobs!r:.200}; expected a Job or a list of at least one Job")
        return asked

    def _end(self, reason: str) -> None:
        self._plan.close()
        self.stop(reason)

    def _affordable(self, jobs: Sequence[Job]) -> list[int]:
        """Rows of each job that fit, keeping the reserve; everything after the first row that doesn't fit is cut."""
        left, end = self.ledger.left, self.space.end
        partial = self._partial[1].recipes[0].key if self._partial else None
        partial_reserve = end - self._partial[1].step if self._partial else 0
        safe = self.best is not None or self._partial is not None
        fallback_reserve = 0 if safe or self._fallback is None else end - self._fallback.step
        counts = [0] * len(jobs)
        for which, job in enumerate(jobs):
            for row in range(len(job)):
                unfinished = self._unfinished(job)
                if unfinished == 0:
                    safe, after_fallback = True, 0
                    continues = job.states.recipes[row].key == partial
                    after_partial = 0 if continues else partial_reserve
                else:
                    after_partial = max(partial_reserve, unfinished) if job.score else partial_reserve
                    after_fallback = fallback_reserve if safe else max(fallback_reserve, unfinished)
                if job.stop - job.states.step + max(after_partial, after_fallback) > left:
                    return counts
                left -= job.stop - job.states.step
                partial_reserve, fallback_reserve = after_partial, after_fallback
                counts[which] += 1
        return counts

    def _unfinished(self, job: Job) -> int:
        """NFE from where a job's rows stop to finished images; a draft has the whole trajectory before it."""
        return self.space.end - (job.stop if job.states.grid == self.space.id else 0)

    def record(self, outcomes: Sequence[Outcome]) -> list[Candidate]:
        """Take in the rows of a micro-batch; returns the candidates that were scored."""
        scored = []
        spent = self.ledger.nfe - sum(o.cost for o in outcomes)
        for outcome in outcomes:
            spent += outcome.cost
            self._outcomes[outcome.id] = outcome
            job = outcome.work.job
            before = job.states.recipes[outcome.row].key
            if job.states.grid == self.space.id:
                self._rendered.add(before)
                if self._partial is not None and self._partial[1].recipes[0].key == before:
                    self._partial = None
            if job.score:
                candidate = self._candidate(outcome, spent)
                if candidate.draft:
                    self._update_draft(candidate, job.states[[outcome.row]])
                elif candidate.finished:
                    self._update_best(candidate)
                    self._keep_pixels(candidate, outcome)
                else:
                    self._update_partial(candidate, outcome)
                scored.append(candidate)
            elif self.best is None and self._partial is None and outcome.state.step < self.space.end:
                self._fallback = outcome.state
        return scored

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

    def _freeze(self) -> None:
        """Once enough candidates are finished, freeze an aggregator that waits for them, and value everything anew."""
        pool = [c for c in self.candidates if c.finished]
        wanted = self.aggregator.freeze_after
        if wanted is None or self.aggregator.absolute or len(pool) < wanted:
            return
        if np.isfinite(self._values(pool)).sum() >= wanted:
            self.aggregator = self.aggregator.freeze(self._components(pool))
            for member, value in zip(self.candidates, self._values(self.candidates), strict=True):
                member.score = float(value)

    def _update_best(self, candidate: Candidate) -> None:
        """Value the new candidate; where values depend on the pool, value the whole pool again."""
        self._freeze()
        pool = [c for c in self.candidates if c.finished] if self._pooled else [candidate]
        for member, value in zip(pool, self._values(pool), strict=True):
            member.score = float(value)
        rivals = [c for c in (*pool, self.best) if c is not None and np.isfinite(c.score)]
        best = min(rivals, key=lambda c: (-c.score, c.id), default=None)
        if best is not None and best is not self.best:
            self.best = best
            self.bests.append(best)
            self.bests_nfe.append(candidate.nfe)

    def _update_draft(self, candidate: Candidate, noise: State) -> None:
        """Value a draft among drafts; remember the best one's noise, which a search that ends early renders."""
        pool = [c for c in self.candidates if c.draft] if self._pooled else [candidate]
        for member, value in zip(pool, self._values(pool), strict=True):
            member.score = float(value)
        self._noises[candidate.id] = self.space.adopt(noise)
        rivals = [c for c in (*pool, self._draft) if c is not None and np.isfinite(c.score)]
        best = min(rivals, key=lambda c: (-c.score, c.id), default=None)
        if best is not None:
            self._draft, noise = best, self._noises[best.id]
            self._partial = None if noise.recipes[0].key in self._rendered else (best, noise)
        if not self._pooled:  # a draft once beaten stays beaten
            self._noises = {i: kept for i, kept in self._noises.items() if best is not None and i == best.id}

    def _update_partial(self, candidate: Candidate, outcome: Outcome) -> None:
        """Remember an unfinished row that outranks every finished one: it is completed at the end."""
        rivals = [c for c in (self.best, self._partial[0] if self._partial else None) if c is not None]
        values = self._values([*rivals, candidate])
        candidate.score = float(values[-1])
        if np.isfinite(values[-1]) and all(values[-1] > v for v in values[:-1]):
            self._partial = (candidate, outcome.state)
        elif self.best is None and self._partial is None:
            self._fallback = outcome.state

    def _keep_pixels(self, candidate: Candidate, outcome: Outcome) -> None:
        if outcome.pixels is not None:
            candidate.keep(outcome.pixels, outcome.x0)
        pictured = [*self._pictured, candidate]
        keep = {c.id for c in (*self.top(self._top_k), *self.bests, self.first) if c is not None}
        keep |= self._may_still_rise(pictured)
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

    @property
    def first(self) -> Candidate | None:
        """The first finished candidate: random search's first noise."""
        return next((c for c in self.candidates if c.finished), None)

    def top(self, count: int) -> list[Candidate]:
        """The best finished candidates, best first."""
        return best_finished(self.candidates, count)

    def finishing_work(self) -> list[Work]:
        """What remains to be run so that the best candidate is a finished image."""
        state = self._partial[1] if self._partial is not None else None
        if state is None and self.best is None:
            state = self._fallback
        if state is None:
            return []
        self._partial = self._fallback = None
        ids = (self._next_id,)
        self._next_id += 1
        return [Work(self.index, Job(state, self.space.end), ids)]

    def _round_evaluations(self) -> list[Evaluation]:
        keys = [v.key for v in self.aggregator.verifiers]
        evaluations = []
        for work in self._works:
            rows = [self._outcomes[i] for i in work.ids]
            components = {
                k: np.array([np.nan if r.failure else r.components.get(k, np.nan) for r in rows]) for k in keys
            }
            kept = {step: State.cat([r.kept[step] for r in rows]) for step in work.job.keep}
            evaluations.append(Evaluation(work.ids, State.cat([r.state for r in rows]), kept, components))
        return evaluations


class ProblemView:
    """What an algorithm sees of a `PromptSearch`; see `noise_search.algorithms.base.Problem`."""

    def __init__(self, search: PromptSearch, space: NoiseSpace, condition: int, seed: int) -> None:
        self._search, self._space, self._condition = search, space, condition
        self._seed, self._drawn = seed, 0
        self._rng = np.random.default_rng([seed, 0x6E73])

    @property
    def space(self) -> NoiseSpace:
        """Where noises live."""
        return self._space

    @property
    def rng(self) -> np.random.Generator:
        """Randomness of the algorithm's own choices."""
        return self._rng

    @property
    def nfe_total(self) -> int:
        """The budget."""
        return self._search.ledger.nfe_budget

    @property
    def nfe_left(self) -> int:
        """What may still be spent, less what finishing the best candidate takes."""
        return self._search.ledger.left - self._search.reserve

    def cost(self, start: int, stop: int) -> int:
        """NFE of one row between two grid points: one denoiser evaluation at each point from start on."""
        return stop - start

    def fresh(self, count: int) -> State:
        """The next noises of random search's stream."""
        seeds = range(self._seed + self._drawn, self._seed + self._drawn + count)
        self._drawn += count
        return self._space.fresh(list(seeds), condition=self._condition)

    def seeds(self, count: int) -> list[int]:
        """New seeds from `rng`."""
        return [int(s) for s in self._rng.integers(0, 2**53, count)]

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows from best to worst, ties to the lowest id, failed rows last."""
        values = self._search.aggregator.combine(pool.components)
        return sorted(range(len(pool)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), pool.ids[i]))
