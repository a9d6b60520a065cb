"""The loop of a search: algorithms are asked, what they ask for is run and taken in, until every prompt has ended."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from noise_search.engine.evaluator import Evaluator, Outcome, Work
from noise_search.engine.interrupts import Interrupts
from noise_search.engine.progress import Reporter
from noise_search.engine.prompt_search import Limits, PromptSearch
from noise_search.engine.run import Run
from noise_search.engine.shares import Purse
from noise_search.previews import Agreement
from noise_search.results.candidate import Candidate
from noise_search.tracking import Events

log = logging.getLogger(__name__)


class Size:
    """The size of image asked for, and whether it was made: pipelines round what doesn't suit their latents."""

    def __init__(self, height: int | None, width: int | None) -> None:
        self._asked: tuple[int | None, int | None] | None = (height, width) if height or width else None

    def look_at(self, outcomes: Sequence[Outcome]) -> None:
        """Say, once, that the images have another size."""
        raw = next((one.pixels for one in outcomes if one.pixels is not None), None)
        if raw is None or self._asked is None:
            return
        (height, width), made = self._asked, raw.shape[-3:-1]
        self._asked = None
        if (height or made[0], width or made[1]) != made:
            asked = " and ".join(f"{name}={value}" for name, value in (("height", height), ("width", width)) if value)
            log.warning("%s: the model makes images of %d x %d (width x height)", asked, made[1], made[0])


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds of a search, with all that takes part in them or looks on.

    Attributes:
        searches: one for each prompt.
        purse: what they share; None where each has a budget of its own.
        evaluator: runs what they ask for.
        limits: end them early.
        interrupts: after one nothing starts.
        journal: of a run directory; None where there is none.
        reporter, on_candidate, events: are told of what was found.
        size: that was asked for.
        agreement: of a small decoder with the model's own.
    """

    searches: list[PromptSearch]
    purse: Purse | None
    evaluator: Evaluator
    limits: Limits
    interrupts: Interrupts
    journal: Run | None
    reporter: Reporter
    on_candidate: Callable[[Candidate], None] | None
    events: Events
    size: Size
    agreement: Agreement

    def run(self) -> BaseException | None:
        """Run until every prompt has ended; returns the error that ended them early, if one did."""
        started = time.monotonic()
        try:
            for works in self._asked():
                self._advance(works, started)
            finishing = [work for one in self.searches for work in one.finishing_work()]
            for _ in self._run(finishing, lambda _: self.interrupts.asked > 0):
                self.reporter.update()
        except BaseException as error:
            return self._ended_by(error)
        self.reporter.close()
        return None

    def _asked(self) -> Iterator[list[Work]]:
        """What is to be run, round by round."""
        while asked := self._running() if self.purse is None else self.purse.grant(self.searches):
            if works := [work for one in asked for work in one.next_round()]:
                yield works

    def _running(self) -> list[PromptSearch]:
        return [one for one in self.searches if one.running]

    def _advance(self, works: list[Work], started: float) -> None:
        # After Ctrl-C none starts either, and what runs is waited for: of several workers it is worth keeping.
        for _ in self._run(works, lambda work: self.searches[work.prompt].cut or self.interrupts.asked > 0):
            if (told := self.limits.expired(time.monotonic() - started)) is not None:
                for one in self.searches:
                    one.stop(told)
            self.reporter.update()

    def _run(self, works: list[Work], cancelled: Callable[[Work], bool]) -> Iterator[None]:
        """Run what isn't known from the journal, and take all of it in."""
        known = [] if self.journal is None else self.journal.answers(works)
        for outcome in known:
            self.searches[outcome.work.prompt].ledger.charge(outcome.cost)
        if known:
            self._take(known, known=True)
        for outcomes in self.evaluator.run(works, cancelled, {(one.work.prompt, one.id) for one in known}):
            self._take(outcomes)
            yield
        if self.journal is not None:  # so that a disk that is full ends the search where it was, not after its end
            self.journal.flush()
        self.reporter.update()
        self.interrupts.heed()

    def _take(self, outcomes: list[Outcome], known: bool = False) -> None:
        scored: list[tuple[PromptSearch, Candidate]] = []
        self.size.look_at(outcomes)
        for outcome in outcomes:
            self.agreement.add(outcome.looked, outcome.compared)
        for one in self.searches:
            if mine := [o for o in outcomes if o.work.prompt == one.index]:
                scored += [(one, candidate) for candidate in one.record(mine)]
        if self.journal is not None and not known:
            self.journal.commit(outcomes)
        # All prompts have taken in their rows, and they are journalled, before the callback, which may fail, sees any.
        if scored and self.on_candidate is not None and self.journal is not None:
            self.journal.flush()
        for one, candidate in scored:
            self.events.candidate(one.index, candidate, one.pool.bests, one.pool.aggregator.absolute)
            if self.on_candidate is not None:
                self.on_candidate(candidate)

    def _ended_by(self, error: BaseException) -> BaseException:
        """What ended the search early, where something was found that can be handed back; else it is raised."""
        self.reporter.close()
        for one in self.searches:
            one.flush()
        if isinstance(error, Exception | KeyboardInterrupt):
            self._rescue()
        nothing = all(one.pool.best is None for one in self.searches)
        if not isinstance(error, Exception | KeyboardInterrupt) or nothing:
            raise error
        name = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        log.warning("search ended early (%s); returning the best so far", name)
        log.debug("it ended here", exc_info=error)
        # Prompts that had ended before are whole, unless it was the finishing of incumbents that failed.
        for one in self._running() or self.searches:
            one.stop(name, error)
        return error

    def _rescue(self) -> None:
        """Finish what each prompt without an image would finish next, as far as that can be done."""
        works = [work for one in self.searches if one.pool.best is None for work in one.finishing_work()[:1]]
        try:
            for outcomes in self.evaluator.run(works, lambda _: False):
                for one in self.searches:
                    one.record([outcome for outcome in outcomes if outcome.work.prompt == one.index])
        except Exception as error:
            log.debug("what was begun couldn't be finished", exc_info=error)
