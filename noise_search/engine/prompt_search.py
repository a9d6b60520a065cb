"""The search of one prompt: its conversation with its algorithm, within its budget."""

from collections.abc import Sequence

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Jobs, SearchAlgorithm
from noise_search.engine.evaluator import Outcome, Work
from noise_search.engine.pool import Pool
from noise_search.results.candidate import Candidate
from noise_search.results.ledger import Ledger
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator


class PromptSearch:
    """One prompt's algorithm, budget and pool.

    Args:
        index: position of the prompt in the search.
        prompt: its text.
        space: of the sampler.
        condition: the sampler's index of the prompt.
        aggregator: ranks candidates.
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
        self.index, self.prompt, self.space = index, prompt, space
        self.pool = Pool(space, aggregator, top_k)
        self.ledger = Ledger(nfe_budget=nfe)
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self._plan = algorithm.plan(ProblemView(self, space, condition, seed))
        self._works: list[Work] = []
        self._outcomes: dict[int, Outcome] = {}
        self._trimmed = False
        self._next_id = 0

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
        pending = self.pool.pending
        return 0 if pending is None else self.space.end - pending.step

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
                self._works.append(self._work(Job(job.states[:count], job.stop, job.score, job.keep, job.rho)))
        if not self._works:
            self.stop("budget spent")
        return self._works

    def finishing_work(self) -> list[Work]:
        """What remains to be run so that the best candidate is a finished image."""
        pending = self.pool.pending
        self.pool.settle()
        return [] if pending is None else [self._work(Job(pending, self.space.end))]

    def record(self, outcomes: Sequence[Outcome]) -> list[Candidate]:
        """Take in the rows of a micro-batch; returns the candidates that were scored."""
        scored = []
        spent = self.ledger.nfe - sum(outcome.cost for outcome in outcomes)
        for outcome in outcomes:
            spent += outcome.cost
            self._outcomes[outcome.id] = outcome
            if (candidate := self.pool.take(outcome, spent)) is not None:
                scored.append(candidate)
        return scored

    def _work(self, job: Job) -> Work:
        ids = tuple(range(self._next_id, self._next_id + len(job)))
        self._next_id += len(job)
        return Work(self.index, job, ids)

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
        left, end, pool = self.ledger.left, self.space.end, self.pool
        partial = pool.partial[1].recipes[0].key if pool.partial else None
        partial_reserve = end - pool.partial[1].step if pool.partial else 0
        safe = pool.best is not None or pool.partial is not None
        fallback_reserve = 0 if safe or pool.fallback is None else end - pool.fallback.step
        counts = [0] * len(jobs)
        for which, job in enumerate(jobs):
            # NFE from where the rows stop to finished images; a draft has the whole trajectory before it.
            unfinished = end - (job.stop if job.states.grid == self.space.id else 0)
            for row in range(len(job)):
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

    def _round_evaluations(self) -> list[Evaluation]:
        keys = [verifier.key for verifier in self.pool.aggregator.verifiers]
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
        values = self._search.pool.aggregator.combine(pool.components)
        return sorted(range(len(pool)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), pool.ids[i]))
