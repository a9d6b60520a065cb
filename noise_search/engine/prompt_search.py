"""The search of one prompt: its conversation with its algorithm, within its budget."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count as counting
from itertools import islice

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Jobs, LimitReached, SearchAlgorithm, Terms
from noise_search.algorithms.knowledge import Calibration, ModelFacts, SeedPrior, VerifierFacts
from noise_search.arguments import check_counts, check_numbers
from noise_search.choosing.features import BLANK
from noise_search.engine.evaluator import Outcome, Work
from noise_search.engine.pool import Pool
from noise_search.results.candidate import Candidate
from noise_search.results.data import BEYOND
from noise_search.results.ledger import Ledger
from samplers.recipe import Recipe
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Transitions
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
        if self.target_score is not None and not np.isfinite(self.target_score):
            raise ValueError(
                f"target_score={self.target_score!r} must be finite: leave it out to search without a target"
            )
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
        terms: what is known of the search, the budget among it.
        condition: the sampler's index of the prompt.
        aggregator: ranks candidates.
        algorithm: proposes jobs.
        seed: of the first noise, and of the algorithm's choices.
        top_k: how many images to keep.
        limits: what ends it besides the budget.
        shared: whether it begins without a budget, and is granted one by instalments.

    Attributes:
        reached: of each limit that was reached, its words, the first id beyond it, and the first of the next round.
        referred: ids of the rows that z-scores refer to by the algorithm's wish.
        beyond: NFE of whole rows that are waste: beyond a limit, or asked for no more where a run goes on.
    """

    def __init__(
        self,
        index: int,
        prompt: str,
        terms: Terms,
        condition: int,
        aggregator: Aggregator,
        algorithm: SearchAlgorithm,
        seed: int,
        top_k: int,
        limits: Limits,
        shared: bool = False,
    ) -> None:
        self.index, self.prompt, self.space, self._limits = index, prompt, terms.space, limits
        self.condition = condition
        first = Recipe.start("fresh", seed=seed % SEEDS) if terms.baseline else None
        self.pool = Pool(terms.space, aggregator, top_k, first)
        self.ledger = Ledger(nfe_budget=0 if shared else terms.nfe_total)
        self.grantable = 0
        self._shared = shared
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self.seed = seed
        self._plan = algorithm.plan(ProblemView(self, terms, condition, seed))
        if not isinstance(self._plan, Generator):
            raise TypeError(
                f"the plan of algorithm {algorithm.name!r} is a {type(self._plan).__name__}; expected a generator: "
                "yield jobs, and receive their evaluations"
            )
        self._jobs: list[Job] = []  # of this round, and the ids of those of their rows that were run
        self._ids: list[tuple[int, ...]] = []
        self._outcomes: dict[int, Outcome] = {}
        self._next_id = self._next_taken = self._spent = 0
        self._counted: int | None = None
        self.reached: list[tuple[str, int, int]] = []
        self.referred: tuple[int, ...] = ()
        self.beyond = 0
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

    def grant(self, nfe: int, grantable: int) -> None:
        """Raise the budget of a shared search, and say how much more it may be granted at most."""
        self.ledger.nfe_budget += nfe
        self.grantable = grantable

    def give_back(self) -> int:
        """Give back what was granted and isn't spent; returns the NFE."""
        left = self.ledger.left
        self.ledger.nfe_budget -= left
        return left

    @property
    def reserve(self) -> int:
        """NFE held back so that the best candidate, and noise 0, can be finished."""
        return sum(self.space.end - state.step for state in self.pool.unfinished)

    def next_round(self) -> list[Work]:
        """Ask the algorithm, and trim its jobs to the budget; empty when the search has ended.

        Where the budget comes by instalments, rows that the last one didn't pay for go first.
        """
        if not (self._shared and self._trimmed and self._limit is None):
            jobs = self._ask()
            if jobs is None:
                return []
            self._jobs, self._ids, self._outcomes, self._counted = jobs, [()] * len(jobs), {}, None
        waiting = [
            replace(job, states=job.states[len(ids) :]) if ids else job
            for job, ids in zip(self._jobs, self._ids, strict=True)
        ]
        works = []
        for at, (job, count) in enumerate(zip(waiting, self._affordable(waiting), strict=True)):
            if count:
                works.append(self._work(replace(job, states=job.states[:count])))
                self._ids[at] += works[-1].ids
        if not works:
            self.stop("budget spent")
        return works

    @property
    def _trimmed(self) -> bool:
        """Whether rows of this round are left that there was no budget for."""
        return sum(map(len, self._ids)) < sum(map(len, self._jobs))

    def finishing_work(self) -> list[Work]:
        """What remains to be run so that the best candidate, and noise 0, are finished images, as far as affordable."""
        self.flush()
        works, left = [], self.ledger.left
        for state in self.pool.unfinished:
            if (cost := self.space.end - state.step) <= left:
                left -= cost
                works.append(self._work(Job(state, self.space.end)))
        self.pool.partial = self.pool.fallback = None
        return works

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
            self.beyond += outcome.cost
            if outcome.work.job.score:
                self.pool.unranked(outcome, self._spent, failure=f"{BEYOND} ({self._limit})")
            return []
        self._spent += outcome.cost
        candidate = self.pool.take(outcome, self._spent)
        if self.running and (reached := self._limits.reached(self.pool)) is not None:
            self._limit, self._counted = reached, self._next_taken
            self.reached.append((reached, self._next_taken, self._next_id))
        return [] if candidate is None else [candidate]

    def _work(self, job: Job) -> Work:
        ids = tuple(range(self._next_id, self._next_id + len(job)))
        self._next_id += len(job)
        return Work(self.index, job, ids)

    def _ask(self) -> list[Job] | None:
        if self._trimmed and self._limit is None:
            self.end("budget spent")
        if not self.running:
            return None
        limit, self._limit = self._limit, None
        try:
            jobs: Jobs
            if limit is not None:
                self._ending, self._limits = limit, Limits()
                jobs = self._plan.throw(LimitReached(self._round_evaluations()))
            else:
                jobs = self._plan.send(self._round_evaluations()) if self._jobs else next(self._plan)
        except (StopIteration, LimitReached):
            self.end("budget spent" if self.ledger.left < self.space.end else "the algorithm ended")
            return None
        asked = jobs if isinstance(jobs, list) else [jobs]
        if not asked or not all(isinstance(job, Job) for job in asked):
            raise TypeError(f"the algorithm yielded {jobs!r:.200}; expected a Job or a list of at least one Job")
        return asked

    def end(self, reason: str) -> None:
        """Close the plan, and end the search."""
        self._plan.close()
        self.stop(reason)

    def _affordable(self, jobs: Sequence[Job]) -> list[int]:
        """Rows of each job that fit, keeping the reserve; everything after the first row that doesn't fit is cut."""
        left, end, pool = self.ledger.left, self.space.end, self.pool
        held = {state.recipes[0].key: end - state.step for state in pool.unfinished}
        noise_0_reserve = held.get(pool.noise_0_key or "", 0)

        def reserved(state: State | None) -> int:  # what is held for noise 0 suffices where it is the best, too
            key = None if state is None else state.recipes[0].key
            return 0 if key is None or key == pool.noise_0_key else held.get(key, 0)

        partial_reserve = reserved(pool.partial[1] if pool.partial else None)
        safe = pool.best is not None or pool.partial is not None
        fallback_reserve = 0 if safe else reserved(pool.fallback)
        counts = [0] * len(jobs)
        for which, job in enumerate(jobs):
            # NFE from where the rows stop to finished images; a draft has the whole trajectory before it.
            unfinished = end - (job.stop if job.states.grid == self.space.id else 0)
            for row in range(len(job)):
                # What carries the best on frees what was held for where it was.
                carries_on, noise_0 = pool.carries_on(job, row), pool.is_noise_0(job, row)
                after_partial = 0 if carries_on else partial_reserve
                after_fallback, after_noise_0 = fallback_reserve, noise_0_reserve
                if noise_0:
                    after_noise_0 = unfinished
                elif job.score or carries_on:
                    after_partial = max(after_partial, unfinished)
                if unfinished == 0 and job.score:
                    safe, after_fallback = True, 0
                elif not noise_0:  # a finished row that isn't scored can't win: what is held back stays
                    after_fallback = fallback_reserve if safe else max(fallback_reserve, unfinished)
                if job.cost + max(after_partial, after_fallback) + after_noise_0 > left:
                    return counts
                left -= job.cost
                partial_reserve, fallback_reserve, noise_0_reserve = after_partial, after_fallback, after_noise_0
                counts[which] += 1
        return counts

    def _round_evaluations(self) -> list[Evaluation]:
        keys = [verifier.key for verifier in self.pool.aggregator.verifiers]
        evaluations = []
        referred = False
        for job, run in zip(self._jobs, self._ids, strict=True):
            if not run:
                continue
            ids = run if self._counted is None else tuple(i for i in run if i < self._counted)
            rows = [self._outcomes[i] for i in ids]
            found = self._evaluation(job, ids, rows, keys)
            if job.reference and not referred and rows:
                self.pool.refer(found.components)
                self.referred, referred = self.referred or ids, True
            evaluations.append(found)
        return evaluations

    @staticmethod
    def _evaluation(job: Job, ids: tuple[int, ...], rows: Sequence[Outcome], keys: Sequence[str]) -> Evaluation:
        if not rows:
            return Evaluation((), job.states[:0], {}, {key: np.empty(0) for key in keys})
        components = {k: np.array([np.nan if r.failure else r.components.get(k, np.nan) for r in rows]) for k in keys}
        kept = {step: State.cat([r.kept[step] for r in rows]) for step in job.keep}
        looks = {
            step: Evaluation(
                ids,
                State.cat([r.looks[step].state for r in rows]),
                {},
                {k: np.array([r.looks[step].components.get(k, np.nan) for r in rows]) for k in keys},
            )
            for step in job.looks
        }
        seen = [BLANK if r.thumbnail is None else r.thumbnail for r in rows]
        shown = np.stack(seen) if job.thumbnails else None
        return Evaluation(ids, State.cat([r.state for r in rows]), kept, components, looks, shown)


SEEDS = 2**32
"""Torch keeps as many bits of a seed: behind the last one comes the first, also in records."""


class ProblemView:
    """What an algorithm sees of a `PromptSearch`; see `noise_search.algorithms.base.Problem`."""

    def __init__(self, search: PromptSearch, terms: Terms, condition: int, seed: int) -> None:
        self._search, self._terms, self._condition = search, terms, condition
        self._stream = _stream(seed, terms)
        self._rng = np.random.default_rng([seed, 0x6E73])

    @property
    def space(self) -> NoiseSpace:
        """Where noises live."""
        return self._terms.space

    @property
    def baseline(self) -> bool:
        """Whether noise 0 is finished in any case."""
        return self._terms.baseline

    @property
    def model(self) -> ModelFacts:
        """The model that is searched."""
        return self._terms.model

    @property
    def verifier(self) -> VerifierFacts:
        """What ranks the candidates."""
        return self._terms.verifier

    @property
    def calibration(self) -> Calibration | None:
        """What was measured of both."""
        return self._terms.calibration

    @property
    def prior(self) -> SeedPrior | None:
        """What seeds were worth on other prompts."""
        return self._terms.prior

    def grid(self, steps: int) -> NoiseSpace:
        """A further grid that the algorithm named."""
        if steps not in self._terms.grids:
            known = ", ".join(map(str, self._terms.grids)) or "none"
            raise ValueError(f"no grid of {steps} steps: the algorithm's attribute grids names {known}; add it there")
        return self._terms.grids[steps]

    @property
    def rng(self) -> np.random.Generator:
        """Randomness of the algorithm's own choices."""
        return self._rng

    @property
    def nfe_total(self) -> int:
        """The budget; where prompts share one, what it could be by now."""
        return self._search.ledger.nfe_budget + self._search.grantable

    @property
    def nfe_left(self) -> int:
        """What may still be spent, less what finishing the best candidate, and noise 0, takes."""
        return self._search.ledger.left + self._search.grantable - self._search.reserve

    def cost(self, start: int, stop: int, transition: Transitions = None) -> int:
        """NFE of one row between two grid points."""
        return self.space.cost(start, stop, transition)

    def fresh(self, count: int = 0, *, seeds: Sequence[int] = ()) -> State:
        """The next noises of random search's stream, the prior's before it, or those of seeds."""
        if count and len(seeds):
            raise ValueError(f"fresh({count}, seeds={list(seeds)!r:.60}): give a count or seeds, not both")
        if not len(seeds):
            seeds = list(islice(self._stream, count))
        return self.space.fresh([seed % SEEDS for seed in seeds], condition=self._condition)

    def seeds(self, count: int) -> list[int]:
        """New seeds from `rng`."""
        return [int(s) for s in self._rng.integers(0, 2**53, count)]

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows from best to worst, ties to the lowest id, failed rows last."""
        values = self.values(pool)
        return sorted(range(len(pool)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), pool.ids[i]))

    def values(self, pool: Evaluation) -> np.ndarray:
        """What each row is worth, NaN where it failed."""
        return self._search.pool.aggregator.combine(pool.components)


def _stream(seed: int, terms: Terms) -> Iterator[int]:
    """The seeds of fresh noises, in the order that `Problem.fresh` promises."""
    if (prior := terms.prior) is None:
        yield from counting(seed)
        return
    first = [seed % SEEDS] if terms.baseline else []
    yield from dict.fromkeys((*first, *prior.best()))
    known = {*first, *prior.values}
    yield from (one for one in counting(seed) if one % SEEDS not in known)
