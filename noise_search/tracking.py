"""What a search tells while it runs: events, to a function of yours, or to runs of wandb, trackio or TensorBoard."""

import contextvars
import importlib.util
import logging
import math
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from noise_search.disk.files import new_run
from noise_search.results.candidate import Candidate, number
from noise_search.results.data import ResultData
from noise_search.words import one_line, short_names, unknown

log = logging.getLogger(__name__)

Event = Mapping[str, Any]
LogLike = Literal["wandb", "trackio", "tensorboard"] | Callable[[Event], None]

_NAMED = 60
"""Characters of a prompt that name a run."""


class Events:
    """Tells the events of one search, of several prompts each its own; who fails to listen is told no more.

    Every event says its kind as "event", the place of its prompt as "index", and "prompt". Besides,

    - "start": "prompts", how many; "settings" of the search as plain JSON; "run", its directory or None;
    - "candidate", for everything that was scored, in order: "id", "seed" (None where the noise was moved), "finished",
      "score" and "scores" by verifier (None where they failed), "best" the best score so far (None before there is one,
      and where scores only rank a pool), "is_best" whether this one brought it, "nfe" spent so far, "seconds" since the
      start, "image" (PIL) of a new best, else None;
    - "end": "score", "first_score", "judges", "ledger", "stop_reason", "seconds"; after an error the last two alone.

    Of a comparison they all have two more: "comparison", its directory or else its name, and "search", which of its
    searches: "algorithm" (its label), "nfe" and "seed". Places of prompts, their number and "run" are the comparison's.
    """

    def __init__(self, asked: LogLike | None) -> None:
        """Take a function or the name of a tracker.

        Raises:
            ValueError: another name.
            TypeError: neither.
            ImportError: the tracker isn't installed.
        """
        self._tell = None if asked is None else Listener(asked)
        self._began = time.monotonic()
        self._best: dict[int, float] = {}
        self._running: dict[int, str] = {}

    def start(self, prompts: Sequence[str], settings: Iterable[Mapping[str, Any]], run: str | Path | None) -> None:
        """Tell of the start, once for each prompt."""
        if self._tell is None:
            return
        self._began = time.monotonic()
        for index, (prompt, one) in enumerate(zip(prompts, settings, strict=True)):
            self._running[index] = prompt
            told = {"prompts": len(prompts), "settings": dict(one), "run": None if run is None else str(run)}
            self._say("start", index, prompt, **told)

    def candidate(self, index: int, candidate: Candidate, bests: Sequence[Candidate], absolute: bool) -> None:
        """Tell of one that was scored, given every new best so far and whether scores mean something by themselves."""
        if self._tell is None:
            return
        is_best = any(one is candidate for one in bests)
        if is_best and absolute:
            self._best[index] = max(candidate.score, self._best.get(index, -math.inf))
        names = short_names(candidate.scores)
        self._say(
            "candidate",
            index,
            self._running[index],
            id=candidate.id,
            seed=candidate.seed,
            finished=candidate.finished,
            score=number(candidate.score),
            scores={names[key]: number(value) for key, value in candidate.scores.items()},
            best=self._best.get(index),
            is_best=is_best,
            nfe=candidate.nfe,
            image=candidate.image if is_best else None,
        )

    def end(self, results: Sequence[ResultData]) -> None:
        """Tell what was found, once for each prompt."""
        for index, one in enumerate(results if self._tell is not None else ()):
            found: dict[str, Any] = {"score": None, "first_score": None, "judges": {}}
            if not one.failed:
                names = short_names(one.judges)
                judges = {names[key]: {k: number(v) for k, v in told.items()} for key, told in one.judges.items()}
                first = None if one.first_score is None else number(one.first_score)
                found = {"score": number(one.score), "first_score": first, "judges": judges}
            prompt = self._running.pop(index, one.prompt)
            self._say("end", index, prompt, **found, ledger=one.ledger.to_json(), stop_reason=one.stop_reason)

    def close(self) -> None:
        """End what was begun and has no result, as the search raised."""
        for index, prompt in list(self._running.items()):
            self._say("end", index, prompt, stop_reason="failed")
        self._running.clear()

    def _say(self, event: str, index: int, prompt: str, **told: Any) -> None:
        if self._tell is not None:
            seconds = time.monotonic() - self._began
            self._tell({"event": event, "index": index, "prompt": prompt, "seconds": seconds, **told})


class Listener:
    """Whom events are told; who fails to listen is told no more, of none of the searches that share it."""

    def __init__(self, asked: LogLike) -> None:
        """Take a function or the name of a tracker; errors as of `Events`."""
        self._tell: Callable[[Event], None] | None = _teller(asked)
        self._called = asked if isinstance(asked, str) else getattr(asked, "__name__", type(asked).__name__)

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        if self._tell is None:
            return
        try:
            self._tell(event)
        except Exception as error:
            self._tell = None
            problem = " ".join(str(error).split())
            log.warning(
                "log %s failed (%s: %s); the search goes on without it", self._called, type(error).__name__, problem
            )
            log.debug("it failed here", exc_info=error)


class _Tracker(ABC):
    """A run of a tracker for each prompt: what it is called with are events."""

    package: str

    def __init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise ImportError(f"log={self.package!r} needs {self.package}: pip install {self.package}")
        self._runs: dict[int, Any] = {}

    def __call__(self, event: Event) -> None:
        kind, index = event["event"], event["index"]
        if kind == "start":
            self._runs[index] = self.begin(event)
        elif kind == "candidate":
            self.log(self._runs[index], dict(_numbers(event)), event["nfe"], _picture(event))
        else:
            run = self._runs.pop(index)
            found = dict(_numbers(event))
            self.log(run, {name if "/" in name else f"end/{name}": value for name, value in found.items()}, None, None)
            self.finish(run)

    @abstractmethod
    def begin(self, event: Event) -> Any:
        """The run of a prompt."""

    @abstractmethod
    def log(self, run: Any, numbers: dict[str, float], step: int | None, picture: tuple[Any, str] | None) -> None:
        """Write numbers at a step, which counts NFE, and a picture with its caption; None at the end."""

    @abstractmethod
    def finish(self, run: Any) -> None:
        """Close the run of a prompt."""


class Wandb(_Tracker):
    """A run of Weights & Biases for each prompt, in one group where there are several or searches are compared.

    Args:
        init: arguments of `wandb.init`, such as `project`, `entity`, `mode="offline"`.
    """

    package = "wandb"

    def __init__(self, **init: Any) -> None:
        super().__init__()
        self._init = {"project": "noise-search", **init}

    def begin(self, event: Event) -> Any:
        """See the class."""
        import wandb

        asked = {"name": _name(event), "config": _config(event), "group": _group(event)}
        asked["job_type"] = event["search"]["algorithm"] if "search" in event else None
        # Prompts run side by side, and the words of the command are no log of wandb's.
        beside = {"reinit": "create_new", "settings": wandb.Settings(console="off")}
        return wandb.init(**{**asked, **beside, **self._init})

    def log(self, run: Any, numbers: dict[str, float], step: int | None, picture: tuple[Any, str] | None) -> None:
        """See the base class."""
        import wandb

        if step is None:
            run.summary.update(numbers)
            return
        shown = {} if picture is None else {"best image": wandb.Image(picture[0], caption=picture[1])}
        run.log({**numbers, **shown}, step=step)

    def finish(self, run: Any) -> None:
        """See the base class."""
        run.finish()


class Trackio(_Tracker):
    """A run of trackio for each prompt, in one group where there are several or searches are compared.

    Local unless you say where else.

    Args:
        init: arguments of `trackio.init`, such as `project` or `space_id`.
    """

    package = "trackio"

    def __init__(self, **init: Any) -> None:
        super().__init__()
        self._init = {"project": "noise-search", **init}

    def begin(self, event: Event) -> Any:
        """See the class."""
        import trackio

        asked = {"name": _name(event), "config": _config(event), "group": _group(event)}
        alone = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        # In a context of its own, as a new run would end the one before, which is another prompt's or the user's.
        with _aside():
            context = contextvars.copy_context()
            context.run(trackio.context_vars.current_run.set, None)
            return context.run(trackio.init, **{**asked, **alone, **self._init})

    def log(self, run: Any, numbers: dict[str, float], step: int | None, picture: tuple[Any, str] | None) -> None:
        """See the base class."""
        import trackio

        shown = {} if picture is None else {"best image": trackio.Image(picture[0], caption=picture[1])}
        run.log({**numbers, **shown}, step=step)

    def finish(self, run: Any) -> None:
        """See the base class."""
        with _aside():
            run.finish()


class TensorBoard(_Tracker):
    """Event files of TensorBoard, for each prompt in a numbered directory of its own, of a comparison by search.

    Args:
        directory: where these are; `tensorboard --logdir` of it shows them.
    """

    package = "tensorboard"

    def __init__(self, directory: str | Path = "tensorboard") -> None:
        super().__init__()
        self._directory, self._last = Path(directory), 0

    def begin(self, event: Event) -> Any:
        """See the class."""
        from torch.utils.tensorboard import SummaryWriter

        place = self._directory.joinpath(*([_searched(event), _named(event["prompt"])] if "search" in event else []))
        place.mkdir(parents=True, exist_ok=True)
        writer: Any = SummaryWriter(str(new_run(place)))
        writer.add_text("prompt", event["prompt"])
        return writer

    def log(self, run: Any, numbers: dict[str, float], step: int | None, picture: tuple[Any, str] | None) -> None:
        """See the base class."""
        import numpy as np

        for name, value in numbers.items():
            run.add_scalar(name, value, step)
        if picture is not None:
            run.add_image("best image", np.asarray(picture[0]), step, dataformats="HWC")

    def finish(self, run: Any) -> None:
        """See the base class."""
        run.close()


_TRACKERS: dict[str, type[_Tracker]] = {kind.package: kind for kind in (Wandb, Trackio, TensorBoard)}


def _teller(asked: Any) -> Callable[[Event], None]:
    if isinstance(asked, str):
        if asked not in _TRACKERS:
            raise unknown("log", asked, _TRACKERS, more=", or a function of events")
        return _TRACKERS[asked]()
    if not callable(asked):
        known = ", ".join(map(repr, _TRACKERS))
        raise TypeError(f"log={asked!r} is a {type(asked).__name__}; expected {known}, or a function of events")
    tell: Callable[[Event], None] = asked
    return tell


def _numbers(event: Event) -> Iterator[tuple[str, float]]:
    """What of an event is a number that is known, by a name with the part that it belongs to."""
    for name, value in event.items():
        if isinstance(value, Mapping) and name not in ("settings", "search"):
            yield from ((f"{name}/{part}", one) for part, one in _numbers(value))
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in ("index", "id", "seed"):
            yield name, value


def _picture(event: Event) -> tuple[Any, str] | None:
    if event["image"] is None:
        return None
    seed = "" if event["seed"] is None else f", seed {event['seed']}"
    score = "" if event["score"] is None else f", {event['score']:.4f}"
    return event["image"], f"candidate {event['id']}{seed}{score}"


def _name(event: Event) -> str:
    prompt = _named(event["prompt"])
    return f"{_searched(event)}, {prompt}" if "search" in event else prompt


def _searched(event: Event) -> str:
    """Which search of a comparison it is."""
    search = event["search"]
    return f"{_named(search['algorithm'])}, {search['nfe']} NFE, seed {search['seed']}"


def _named(text: str) -> str:
    """The beginning of a text, without what could be a path: trackio and TensorBoard have directories of names."""
    return re.sub(r"(?<!\d)\.|[^\w ,.'()=-]", "-", one_line(text, _NAMED)).strip() or "prompt"


def _config(event: Event) -> dict[str, Any]:
    search = {"search": event["search"]} if "search" in event else {}
    return {"prompt": event["prompt"], "run": event["run"], **search, **event["settings"]}


def _group(event: Event) -> str | None:
    """What the prompts of one search, or the searches of a comparison, have in common; nothing where there is one."""
    if "comparison" in event:
        return str(event["comparison"])
    if event["prompts"] == 1:
        return None
    return event["run"] or f"{event['prompts']} prompts, {time.strftime('%Y-%m-%d %H:%M')}"


@contextmanager
def _aside() -> Iterator[None]:
    """What a tracker prints goes to standard error: the other one may hold a command's JSON."""
    with redirect_stdout(sys.stderr):
        yield
