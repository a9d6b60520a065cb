"""The search of one prompt: its conversation with its algorithm, within its budget."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Jobs, LimitReached, SearchAlgorithm
from noise_search.arguments import check_counts, check_numbers
from noise_search.engine.evaluator import Outcome, Work
from noise_search.engine.pool import Pool
from noise_search.results.candidate import Candidate
from noise_search.results.ledger import Ledger
from samplers.space import NoiseSpace
from samplers.state import State
from verifiers.aggregators.base import Aggregator


@dataclass(frozen=True)
class Limits:
    """Seconds, a score and a number of candidates without a new best; None for never."""

    time: float | None = None
    target_score: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_numbers(time_limit=self.time, target_score=self.target_score)
        check_counts(patience=self.patience)
        if self.time is not None and not self.time > 0:
            raise ValueError(f"time_limit={self.time!r} must be greater than 0")

    def check(self, aggregator: Aggregator, finished: int) -> None:
        """Refuse a target score that could never be applied.

        Args:
            aggregator: whose values it is a target for.
            finished: how many finished candidates there will be at least.
        """
        if self.target_score is None or aggregator.absolute:
            return
        needs = f"target_score={self.target_score} needs a verifier with absolute values; {aggregator.name}"
        if aggregator.freeze_after is None:
            raise ValueError(f"{needs} only ranks a pool: give one verifier, or MeanZ with a reference or freeze_after")
        if finished < aggregator.freeze_after:
            raise ValueError(
                f"{needs} has them after {aggregator.freeze_after} finished candidates, and only {finished} are sure: "
                "give one verifier, MeanZ with a reference, or a larger budget of whole trajectories without drafts"
            )

    def reached(self, pool: Pool) -> str | None:
        """Which of them, but for the time, the candidates so far have reached, in words."""
        if pool.best is None:
            return None
        if self.target_score is not None and pool.aggregator.absolute and pool.best.score >= self.target_score:
            return f"target score {self.target_score:g} reached"
        if self.patience is not None and pool.since_best >= self.patience:
            return f"no better candidate among {self.patience}"
        return None

    def expired(self, seconds: float) -> str | None:
        """That the time is over, in words."""
        return f"time limit of {self.time:g} s" if self.time is not None and seconds >= self.time else None


class PromptSearch:
    """One prompt's algorithm, budget, limits and pool.

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
        limits: what ends it besides the budget.
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
        limits: Limits,
    ) -> None:
        self.index, self.prompt, self.space, self._limits = index, prompt, space, limits
        self.pool = Pool(space, aggregator, top_k)
        self.ledger = Ledger(nfe_budget=nfe)
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self.seed = seed
        self._plan = algorithm.plan(ProblemView(self, space, condition, seed))
        if not isinstance(self._plan, Generator):
            raise TypeError(
                f"the plan of algorithm {algorithm.name!r} is a {type(self._plan).__name__}; expected a generator: "
                "yield jobs, and receive their evaluations"
            )
        self._works: list[Work] = []
        self._outcomes: dict[int, Outcome] = {}
        self._trimmed = False
        self._next_id = self._next_taken = self._spent = 0
        self._counted: int | None = None
        self._limit: str | None = None  # reached in this round, whose other rows are beyond it
        self._ending: str | None = None  # a limit reached before, after which the plan yields what it owes

    @property
    def running(self) -> bool:
        """Whether the algorithm may still be asked."""
        return self.stop_reason is None

    @property
    def cut(self) -> bool:
        """Whether the rest of the round needn't run."""
        return not self.running or self._limit is not None

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """End the search; the first reason stays, a limit that was reached before among them."""
        if error is None:
            reason = self._ending or self._limit or reason
        elif self._limit is not None and not self.pool.candidates[-1].draft:  # drafts are owed their renders
            reason, error = self._limit, None
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
        self._works, self._outcomes, self._counted = [], {}, None
        for job, count in zip(jobs, counts, strict=True):
            if count:
                self._works.append(self._work(Job(job.states[:count], job.stop, job.score, job.keep, job.rho)))
        if not self._works:
            self.stop("budget spent")
        return self._works

    def finishing_work(self) -> list[Work]:
        """What remains to be run so that the best candidate is a finished image, as far as it can be afforded."""
        self.flush()
        pending, pool = self.pool.pending, self.pool
        pool.partial = pool.fallback = None
        if pending is None or self.space.end - pending.step > self.ledger.left:
            return []
        return [self._work(Job(pending, self.space.end))]

    def record(self, outcomes: Sequence[Outcome]) -> list[Candidate]:
        """Take in the rows of a micro-batch, in the order of their ids; returns the candidates that were scored.

        Rows wait for those before them, so that nothing depends on batches: limits count candidates in their order, and
        rows beyond the one that reached a limit can't win and are waste.
        """
        self._outcomes |= {outcome.id: outcome for outcome in outcomes}
        scored: list[Candidate] = []
        while (outcome := self._outcomes.get(self._next_taken)) is not None:
            self._next_taken += 1
            scored += self._take(outcome)
        return scored

    def flush(self) -> list[Candidate]:
        """Take in rows that wait for others, which won't come."""
        waiting = sorted(i for i in self._outcomes if i >= self._next_taken)
        self._next_taken = self._next_id
        return [candidate for i in waiting for candidate in self._take(self._outcomes[i])]

    def _take(self, outcome: Outcome) -> list[Candidate]:
        if self._limit is not None:
            self.ledger.refund(outcome.cost)
            self.ledger.nfe_waste += outcome.cost
            if outcome.work.job.score:
                self.pool.unranked(outcome, self._spent, failure=f"beyond the end of the search ({self._limit})")
            return []
        self._spent += outcome.cost
        candidate = self.pool.take(outcome, self._spent)
        if self.running and (reached := self._limits.reached(self.pool)) is not None:
            self._limit, self._counted = reached, self._next_taken
        return [] if candidate is None else [candidate]

    def _work(self, job: Job) -> Work:
        ids = tuple(range(self._next_id, self._next_id + len(job)))
        self._next_id += len(job)
        return Work(self.index, job, ids)

    def _ask(self) -> list[Job] | None:
        if self._trimmed and self._limit is None:
            self._end("budget spent")
        if not self.running:
            return None
        limit, self._limit = self._limit, None
        try:
            jobs: Jobs
            if limit is not None:
                self._ending, self._limits = limit, Limits()
                jobs = self._plan.throw(LimitReached(self._round_evaluations()))
            else:
                jobs = self._plan.send(self._round_evaluations()) if self._works else next(self._plan)
        except (StopIteration, LimitReached):
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
                if unfinished == 0 and job.score:
                    safe, after_fallback = True, 0
                    continues = job.states.recipes[row].key == partial
                    after_partial = 0 if continues else partial_reserve
                else:  # a finished row that isn't scored can't win: what is held back stays
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
            ids = work.ids if self._counted is None else tuple(i for i in work.ids if i < self._counted)
            if not ids:
                nothing = {key: np.empty(0) for key in keys}
                evaluations.append(Evaluation((), work.job.states[:0], {}, nothing))
                continue
            rows = [self._outcomes[i] for i in ids]
            components = {
                k: np.array([np.nan if r.failure else r.components.get(k, np.nan) for r in rows]) for k in keys
            }
            kept = {step: State.cat([r.kept[step] for r in rows]) for step in work.job.keep}
            evaluations.append(Evaluation(ids, State.cat([r.state for r in rows]), kept, components))
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
        first = self._seed + self._drawn
        self._drawn += count
        # Torch keeps as many bits: behind the last of its seeds comes its first one, also in records.
        return self._space.fresh([seed % 2**32 for seed in range(first, first + count)], condition=self._condition)

    def seeds(self, count: int) -> list[int]:
        """New seeds from `rng`."""
        return [int(s) for s in self._rng.integers(0, 2**53, count)]

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows from best to worst, ties to the lowest id, failed rows last."""
        values = self._search.pool.aggregator.combine(pool.components)
        return sorted(range(len(pool)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), pool.ids[i]))
