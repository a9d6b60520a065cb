"""Searches that run for a page, in threads: what they cost, whose turn it is, how they end and go on."""

import io
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.disk.files import new_run
from noise_search.engine.driver import search
from noise_search.engine.loading import load
from noise_search.engine.setup import opened, set_up
from noise_search.models import ModelCard, pipeline_class, read_card
from noise_search.resolve import resolve_algorithm, resolve_verifier
from noise_search.results.candidate import Candidate
from noise_search.results.result import SearchResult
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.studio.asked import ME, Asked, about
from noise_search.studio.board import Refused
from noise_search.words import one_line
from verifiers import HumanVerifier

log = logging.getLogger(__name__)

SMALL = 256
"""Pixels of a side below which pictures are shown by their pixels."""
_AT_ONCE = 4
"""Images of an embedded model in a batch: fewer than by default, as each is shown, or stopped after then."""
_KEPT = 24
"""Pictures of a round that judges see; all are kept."""


@dataclass
class Round:
    """A search in its thread.

    Attributes:
        run: the name of its run.
        algorithm: None to go on with what the run holds.
        state: "waiting" for its turn, "running", "ended", "stopped", or "failed".
        cost: what it takes, in words.
        held: candidates of before, of a run that is gone on with.
        seen: the candidates so far, those of before among them.
        message: how it ended, in words.
        question: number and PNG of the image that a person is asked to rate now.
    """

    run: str
    asked: Asked
    algorithm: SearchAlgorithm | None
    nfe: int | None = None
    state: str = "waiting"
    cost: str = ""
    held: Sequence[Candidate] = ()
    seen: list[Candidate] = field(default_factory=list)
    message: str = ""
    question: tuple[int, bytes] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    answers: "queue.SimpleQueue[float]" = field(default_factory=queue.SimpleQueue)
    questions: int = 0
    small: bool = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("ended", "stopped", "failed")

    @property
    def shown(self) -> list[Candidate]:
        """The candidates so far; those of before until a run that is gone on with has come as far again."""
        seen = list(self.seen)
        return seen if len(seen) >= len(self.held) else list(self.held)

    def take(self, candidate: Candidate) -> None:
        """A candidate has come; once it is enough, KeyboardInterrupt, by which a search returns the best so far."""
        self.seen.append(candidate)
        if self.stopping.is_set():
            raise KeyboardInterrupt

    def ask(self, image: Image.Image, prompt: str) -> float:
        """Wait, in the search's thread, for what a person says of an image."""
        stream = io.BytesIO()
        image.save(stream, "PNG")
        self.small = max(image.size) < SMALL
        self.questions += 1
        self.question = self.questions, stream.getvalue()
        try:
            while not self.stopping.is_set():
                try:
                    return self.answers.get(timeout=0.1)
                except queue.Empty:
                    continue
            raise KeyboardInterrupt
        finally:
            self.question = None


class _Named(NamedTuple):
    """What names of verifiers are resolved for: a model that isn't loaded."""

    name: str

    @property
    def card(self) -> ModelCard:
        """Of an embedded model or a directory; of others none."""
        place = EMBEDDED_MODELS.get(self.name, Path(self.name))
        return read_card(place) if place.is_dir() else ModelCard()


class Searches:
    """What is searched, one of a model at a time, each in a run directory of its own.

    Args:
        runs: the directory of runs.
        models: the only ones that may be asked for; None for all.

    Attributes:
        rounds: by the names of their runs.
    """

    def __init__(self, runs: Path, models: Sequence[str] | None) -> None:
        self.rounds: dict[str, Round] = {}
        self._runs, self._models = runs, models
        self._turns: dict[str, ThreadPoolExecutor] = {}
        self._ready: set[str] = set()
        self._lock = threading.Lock()
        self._importing = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._plans: dict[Asked, str] = {}

    def running(self) -> dict[str, Round]:
        """Those that wait or run."""
        return {name: one for name, one in [*self.rounds.items()] if not one.over}

    def check(self, asked: Asked) -> None:
        """Refuse what no search could take, without loading a model.

        Raises:
            Refused: with the field that it is about.
        """
        if self._models is not None and asked.model not in self._models:
            raise Refused("model", f"model {asked.model!r:.60} isn't offered here; take {', '.join(self._models)}")
        # A library that two threads import at once is half there for one of them.
        with about("model"), self._importing:
            pipeline_class(asked.model)
        if asked.verifier != ME:
            with about("verifier"):
                resolve_verifier(asked.verifier, _Named(asked.model))

    def cost(self, asked: Asked) -> str:
        """What a search takes and how it spends that, in words, before it starts; of models that are at hand.

        Raises:
            Refused: with the field that it is about.
        """
        self.check(asked)
        worth = f"The worth of {asked.candidates} whole images; in NFE once"
        if asked.model not in EMBEDDED_MODELS and asked.model not in self._ready:
            return f"{worth} the model is loaded, by its first search."
        known = replace(asked, prompt="", seed=0)
        if known not in self._plans:
            planned = self.planned_now(asked, resolve_algorithm(asked.algorithm))
            if planned is None:
                return f"{worth} the search that runs with {asked.model} is done."
            self._plans[known] = planned
        return self._plans[known]

    def planned_now(self, asked: Asked, algorithm: SearchAlgorithm, nfe: int | None = None) -> str | None:
        """What `_planned` says; None while a search has the model, whose end that would wait for."""
        with self._one_by_one(asked.model):
            if any(one.asked.model == asked.model for one in self.running().values()):
                return None
            return self._planned(asked, algorithm, nfe)

    def _one_by_one(self, model: str) -> threading.Lock:
        with self._lock:
            return self._opening.setdefault(model, threading.Lock())

    def _planned(self, asked: Asked, algorithm: SearchAlgorithm, nfe: int | None) -> str:
        """What a search takes, in words; the model is loaded for it, and called once for its grid."""
        settings = ModelSettings(steps=asked.steps, guidance=asked.guidance)
        verifier = HumanVerifier(lambda image, prompt: 0) if asked.verifier == ME else asked.verifier
        with about("model"):
            loaded, aggregator, judges = opened(
                asked.model, settings, asked.prompt, [algorithm], verifier, "mean-z", self._judges(asked)
            )
        budget = (nfe, None if nfe is not None else asked.candidates)
        with about("candidates"), loaded.sampler:
            said = set_up(algorithm, loaded, aggregator, judges, *budget, None, None).in_words()
        self._ready.add(asked.model)
        return said

    @staticmethod
    def _judges(asked: Asked) -> list[str]:
        return ["oracle"] if asked.model in EMBEDDED_MODELS and asked.verifier != "oracle" else []

    def begin(self, asked: Asked, algorithm: SearchAlgorithm, nfe: int | None = None) -> str:
        """Begin a search after those that wait for the same model; returns its run.

        Its number stays taken even where nothing comes of it: boards and pages know it by then.
        """
        return self._wait_for_turn(Round(new_run(self._runs).name, asked, algorithm, nfe))

    def go_on(self, run: str, asked: Asked, held: Sequence[Candidate]) -> str:
        """Go on with a run that holds these candidates, in the same way."""
        before = self.rounds.get(run)
        asked_before = 0 if before is None else before.questions
        return self._wait_for_turn(Round(run, asked, None, held=held, questions=asked_before))

    def in_turn(self, model: str, do: Callable[[], Any]) -> Any:
        """Do something else with a model, at once or not at all.

        Raises:
            Refused: a search has the model, or waits for it.
        """
        if any(one.asked.model == model for one in self.running().values()):
            raise Refused("picture", f"a search with {model} runs: replay the picture when it is done")
        return self._turn(model).submit(do).result()

    def _wait_for_turn(self, made: Round) -> str:
        self.rounds[made.run] = made
        self._turn(made.asked.model).submit(self._search, made)
        return made.run

    def _turn(self, model: str) -> ThreadPoolExecutor:
        with self._lock:
            return self._turns.setdefault(model, ThreadPoolExecutor(1, "search"))

    def _search(self, made: Round) -> None:
        where = self._runs / made.run
        try:
            if made.stopping.is_set():
                raise KeyboardInterrupt
            made.state = "running"
            result = self._resumed(made, where) if made.algorithm is None else self._searched(made, made.algorithm)
            try:
                result.save(where)
            except (OSError, ValueError) as error:  # all of it is journalled: these are copies for people
                log.warning("%s: best.png and result.json aren't written (%s)", where, error)
            made.message = result.stop_reason
            made.state = "stopped" if isinstance(result.error, KeyboardInterrupt) else "ended"
        except KeyboardInterrupt:
            made.state, made.message = "stopped", "stopped before a first image was done"
        except Exception as error:
            log.debug("a search failed", exc_info=error)
            made.state, made.message = "failed", one_line(f"{error}" or type(error).__name__, 300)

    def _searched(self, made: Round, algorithm: SearchAlgorithm) -> SearchResult:
        asked = made.asked
        with self._one_by_one(asked.model):
            made.cost = self._planned(asked, algorithm, made.nfe)
        result = search(
            asked.prompt,
            model=asked.model,
            algorithm=algorithm,
            verifier=HumanVerifier(made.ask) if asked.verifier == ME else asked.verifier,
            judges=self._judges(asked),
            nfe=made.nfe,
            candidates=None if made.nfe is not None else asked.candidates,
            seed=asked.seed,
            steps=asked.steps,
            guidance=asked.guidance,
            batch_size=1 if asked.verifier == ME else _AT_ONCE if asked.model in EMBEDDED_MODELS else None,
            top_k=_KEPT,
            keep_images="all",
            run=self._runs / made.run,
            on_candidate=made.take,
            on_interrupt="return",
            progress=False,
        )
        assert not isinstance(result, list)
        return result

    @staticmethod
    def _resumed(made: Round, where: Path) -> SearchResult:
        more: dict[str, Any] = {"verifier": HumanVerifier(made.ask)} if made.asked.verifier == ME else {}
        known = load(where)
        assert not isinstance(known, list)
        result = known.resume(on_candidate=made.take, on_interrupt="return", progress=False, **more)
        assert not isinstance(result, list)
        return result

    def close(self) -> None:
        """End everything, and wait for it."""
        for one in [*self.rounds.values()]:
            one.stopping.set()
        for turn in self._turns.values():
            turn.shutdown(wait=True)
