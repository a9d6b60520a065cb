"""A search in a run directory: what it has evaluated is journalled, and never computed twice.

An algorithm is a generator that its seed and its evaluations determine. So going on is asking it again from its start:
what it proposes is looked up by what it is (prompt, recipe, grid, where from and where to), and only what the journal
doesn't have is run. Nothing of an algorithm is saved.
"""

import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from noise_search.disk.files import plain
from noise_search.disk.png import picture_png
from noise_search.disk.run import RunFiles
from noise_search.disk.writer import Writer
from noise_search.engine.evaluator import Glance, Outcome, Work
from noise_search.engine.prompt_search import PromptSearch
from noise_search.results.candidate import Candidate, middle
from noise_search.results.ledger import Ledger
from samplers.recipe import Recipe
from samplers.state import State

log = logging.getLogger(__name__)

KeepImages = Literal["top", "bests", "all"]

_BOOKED = ("nfe_waste", "denoiser_rows", "decodes", "verifier_images", "judge_images")
"""What a ledger counts beside NFE, which are charged again where an evaluation is answered."""


_WAIT = 5.0
"""Seconds of evaluations that a loss of power may take, so that small batches needn't wait for the disk each; a killed
process loses what it is running, and what it is writing."""


class Run:
    """One attempt at a search in its directory: the first, or one that goes on.

    Args:
        files: of the directory, which is held for writing.
        lines: what was journalled before.
        searches: one for each prompt, before anything of them was run.
        every_state: whether latents of finished rows are kept too, as algorithms from elsewhere may read them.
        every_image: whether the images of all finished rows are kept, rather than of those that are shown.
        retry_failed: whether what failed is run again.
        settings: of the search, for the records in pictures.
    """

    def __init__(
        self,
        files: RunFiles,
        lines: Sequence[Mapping[str, Any]],
        searches: Sequence[PromptSearch],
        *,
        every_state: bool,
        every_image: bool,
        retry_failed: bool,
        settings: Callable[[PromptSearch], Mapping[str, Any]],
    ) -> None:
        self.files, self._searches, self._settings = files, searches, settings
        self._every_state, self._every_image = every_state, every_image
        self._known: dict[str, Mapping[str, Any]] = {}
        self._judged: dict[tuple[str, str], float] = {}
        self._named: dict[tuple[int, int], str] = {}
        self._times: Counter[str] = Counter()
        self._reused: set[str] = set()
        self._pictures: dict[str, Candidate | None] = {}
        self._candidates: list[dict[int, Candidate]] = [{} for _ in searches]
        self._rows: list[dict[int, str]] = [{} for _ in searches]
        self._told = Told.read(lines, len(searches))
        self._loaded: tuple[str, dict[str, np.ndarray]] = ("", {})
        self._nfe_before, self._nfe_told = [0] * len(searches), [0] * len(searches)
        self._batches, self._durable_until = 0, 0.0
        self._writer = Writer()
        for line in lines:
            if "key" in line and line.get("kind") == "judge":
                self._judged[line["key"], line["judge"]] = line["score"]
            elif "key" in line:
                self._nfe_before[line["prompt"]] += line["nfe"]
                self._batches = max(self._batches, int(line["states"][0]) if "states" in line else 0)
                if line["key"] not in self._known or self._known[line["key"]]["failure"] is not None:
                    self._known[line["key"]] = line
        if retry_failed:
            self._known = {key: line for key, line in self._known.items() if line["failure"] is None}
        for one in searches:
            for line in lines:
                book(one.ledger, line.get("cost", {}).get(str(one.index), {}))
        self._booked = [_booking(one) for one in searches]

    @property
    def known(self) -> int:
        """Evaluations that needn't be computed."""
        return len(self._known)

    def answers(self, works: Sequence[Work]) -> list[Outcome]:
        """What the journal has of the rows that are about to be run, which all get their names."""
        found, lost = [], 0
        for work in works:
            for row, index in enumerate(work.ids):
                name = self._name(work, row)
                self._named[work.prompt, index] = name
                line = self._known.get(name)
                outcome = None if line is None else self._outcome(line, work, row)
                lost += work.job.cost if line is not None and outcome is None else 0
                if outcome is not None:
                    self._reused.add(name)
                    self._rows[work.prompt][index] = name
                    self._nfe_told[work.prompt] += outcome.cost
                    found.append(outcome)
        if lost:
            log.warning(
                "latents of evaluations aren't in %s any more: these run again, %d NFE", self.files.directory, lost
            )
        return found

    def commit(self, outcomes: Iterable[Outcome]) -> None:
        """Write down what was run and taken in: pictures and latents first, then the lines that name them.

        It is done once `flush` returns, and while the next is computed.

        Raises:
            OSError: as `flush`, of what was written before.
        """
        if (write := self._written(outcomes)) is not None:
            with self._said_full():
                self._writer.put(write)

    def flush(self) -> None:
        """Return once everything is written.

        Raises:
            OSError: it can't be written; what was journalled before is whole.
        """
        with self._said_full():
            self._writer.flush()

    def close(self) -> None:
        """The attempt is over; what is being written still is, or it is said."""
        with _told():
            self._writer.close()

    @contextmanager
    def _said_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"it can't be written to ({error.strerror}); what is there is whole, and goes on once there is room"
            raise OSError(error.errno, said, str(self.files.directory)) from error

    def _written(self, outcomes: Iterable[Outcome]) -> Callable[[], None] | None:
        """What writes these down, with everything that it needs and that may change meanwhile; None for none."""
        latents: dict[str, np.ndarray] = {}
        pictures: list[Callable[[], None]] = []
        lines: list[dict[str, Any]] = []
        self._look_at_candidates()
        for outcome in outcomes:
            prompt, name = outcome.work.prompt, self._named[outcome.work.prompt, outcome.id]
            own = self._latents(outcome, name)
            line = self._line(outcome, name)
            if (picture := self._picture(outcome, name)) is not None:
                pictures.append(picture)
                line["picture"] = True
            if own:
                latents |= own
                line["states"] = [f"{self._batches + 1:06d}"]
            lines.append(line)
            self._rows[prompt][outcome.id] = name
            self._nfe_told[prompt] += outcome.cost
        if not lines:
            return None
        self._batches += bool(latents)
        states = self.files.states(f"{self._batches:06d}")
        lines[0]["cost"] = self._costs()
        told = self._turns({line["prompt"] for line in lines}, lines)
        durable = time.monotonic() > self._durable_until
        if durable:
            self._durable_until = time.monotonic() + _WAIT
        shed = self._shed()

        def write() -> None:
            for picture in pictures:
                picture()
            whole = self.files.write_arrays(states, latents) if latents else ""
            for line in lines:
                if "states" in line:
                    line["states"].append(whole)
            self.files.journal.append([*lines, *told], durable=durable)
            for name in shed:
                self.files.remove_picture(name)

        return write

    def judged(self, prompt: int, candidate: Candidate, judge: str) -> float | None:
        """What a judge said of a candidate before; None where it didn't."""
        return self._judged.get((self._rows[prompt].get(candidate.id, ""), judge))

    def commit_judged(self, prompt: int, scores: Mapping[int, float], judge: str) -> None:
        """Write down what a judge said of candidates, by their ids, and what that cost."""
        lines: list[dict[str, Any]] = [
            {"kind": "judge", "key": self._rows[prompt][index], "judge": judge, "score": score}
            for index, score in scores.items()
            if math.isfinite(score) and index in self._rows[prompt]
        ]
        if lines:
            lines[0]["cost"] = self._costs()
        self.flush()
        self.files.journal.append(lines)

    def settle(self, again: Callable[[PromptSearch, Candidate], np.ndarray] | None) -> None:
        """See to it that what is shown has pictures, and book what was computed and led nowhere.

        Args:
            again: makes a picture again, whose file is gone; None where there is no time for that.
        """
        with _told():
            self.flush()
        self._look_at_candidates()
        for one in self._searches:
            one.pool.settle()
            missing = [c for c in one.pool.shown if c.pixels is None and c.failure is None]
            if again is None:
                continue
            if missing:
                log.warning(
                    "%d pictures of %s aren't there any more: they are made again", len(missing), self.files.directory
                )
            for candidate in missing:
                try:
                    raw = again(one, candidate)
                except Exception as error:  # a picture is missing, and all else is there
                    log.warning("candidate %d can't be made again (%s: %s)", candidate.id, type(error).__name__, error)
                    continue
                candidate.keep(raw)
                name = self._rows[one.index][candidate.id]
                self._pictures[name] = candidate
                with _told():
                    self._painted(one, name, candidate, raw, {})()
        # Rows that ended in their scoring, or were rescued, keep their charge, of which no line tells the next attempt.
        for one, told, booked in zip(self._searches, self._nfe_told, self._booked, strict=True):
            booked["nfe_waste"] -= one.ledger.nfe + one.beyond - told
        for name in self._reused:
            self._nfe_before[self._known[name]["prompt"]] -= self._known[name]["nfe"]
        for one, unused in zip(self._searches, self._nfe_before, strict=True):
            one.ledger.nfe_waste += unused
            one.beyond += unused

    def end(self, reasons: Sequence[str], failed: bool, more: Mapping[str, Any]) -> None:
        """Write down how this attempt ended.

        Args:
            reasons: in words, of each prompt.
            failed: whether it was an error, or an interruption.
            more: settings that are known by now.
        """
        last = {
            "kind": "end",
            "reasons": list(reasons),
            "complete": not failed,
            "settings": more,
            "ledgers": [one.ledger.to_json() for one in self._searches],
            "verifiers": [one.pool.aggregator.describe() for one in self._searches],
            "cost": self._costs(),
        }
        with _told():
            self.flush()
            self.files.journal.append([*self._turns(range(len(self._searches)), []), last])
        for name in self._shed():
            self.files.remove_picture(name)

    def _name(self, work: Work, row: int) -> str:
        """What an evaluation is called: by all that determines it, and counted where it is asked for again."""
        job = work.job
        states, how = job.states, repr(job.transition)
        told = [states.recipes[row].key, states.grid, states.step, job.stop, job.score, job.keep, job.looks, how]
        if job.thumbnails:
            told.append("thumbnails")
        name = hashlib.blake2b(json.dumps([work.prompt, *told]).encode(), digest_size=10).hexdigest()
        self._times[name] += 1
        return name if self._times[name] == 1 else f"{name}-{self._times[name]}"

    def _line(self, outcome: Outcome, name: str) -> dict[str, Any]:
        job, state = outcome.work.job, outcome.state
        space = self._searches[outcome.work.prompt].space
        finished = state.grid == space.id and state.step == space.end
        line: dict[str, Any] = {
            "key": name,
            "prompt": outcome.work.prompt,
            "id": outcome.id,
            "nfe": outcome.cost,
            "scored": job.score,
            "step": state.step,
            "finished": finished,
            "draft": state.grid != space.id,
            "recipe": [dict(op) for op in state.recipes[0].operations],
            "scores": _numbers(outcome.components),
            "failure": outcome.failure,
        }
        if outcome.pixels is not None and outcome.pixels.ndim == 4:
            line["clip"] = True
        if outcome.thumbnail is not None:
            line["thumbnail"] = outcome.thumbnail.tobytes().hex()
        if outcome.compared:
            line["compared"] = _numbers(outcome.compared)
        if outcome.looks:
            line["looks"] = {str(point): _numbers(look.components) for point, look in outcome.looks.items()}
        return line

    def _latents(self, outcome: Outcome, name: str) -> dict[str, np.ndarray]:
        """The arrays from which the states of an evaluation are read again."""
        space = self._searches[outcome.work.prompt].space
        states = {**outcome.kept, **{point: look.state for point, look in outcome.looks.items()}}
        if self._every_state or not (outcome.state.grid == space.id and outcome.state.step == space.end):
            states[outcome.state.step] = outcome.state
        found = {f"{name}/{point}": state.x for point, state in states.items()}
        found |= {f"{name}/{point}/x0": state.x0 for point, state in states.items() if state.x0 is not None}
        return {one: x.detach().cpu().numpy() for one, x in found.items()}

    def _outcome(self, line: Mapping[str, Any], work: Work, row: int) -> Outcome | None:
        """An evaluation as it was; None where what it needs isn't there any more."""
        job, start = work.job, work.job.states[[row]]
        arrays = self._arrays(line)
        recipe = Recipe.from_json(line["recipe"])
        name = str(line["key"])

        def at(point: int) -> State | None:
            x = arrays.get(f"{name}/{point}")
            if x is None or x.shape[1:] != tuple(start.x.shape[1:]):
                return None
            predicted = arrays.get(f"{name}/{point}/x0")
            x0 = None if predicted is None else torch.from_numpy(predicted.copy())
            made = (_until(recipe, point),)
            return State(torch.from_numpy(x.copy()), point, x0, made, start.conditions, start.grid)

        kept, looked = {point: at(point) for point in job.keep}, {point: at(point) for point in job.looks}
        final = at(job.stop)
        if final is None and line["finished"] and not self._every_state:  # only scores and pictures of it are needed
            blank = torch.full_like(start.x, math.nan)
            final = State(blank, job.stop, None, (recipe,), start.conditions, start.grid)
        if final is None or None in kept.values() or None in looked.values():
            return None
        looks = {
            point: Glance(state, read_scores(line["looks"][str(point)]))
            for point, state in looked.items()
            if state is not None
        }
        pixels, x0 = self._read_picture(line) if job.score else (None, {})
        return Outcome(
            work=work,
            row=row,
            state=final,
            kept={point: state for point, state in kept.items() if state is not None},
            pixels=pixels,
            components=read_scores(line["scores"]),
            failure=line["failure"],
            x0=x0,
            looks=looks,
            thumbnail=np.frombuffer(bytes.fromhex(line["thumbnail"]), np.uint8) if "thumbnail" in line else None,
            compared=read_scores(line.get("compared", {})),
        )

    def _arrays(self, line: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if "states" not in line:
            return {}
        name, whole = line["states"]
        if self._loaded[0] != name:
            self._loaded = name, self.files.read_arrays(self.files.states(name), whole)
        return self._loaded[1]

    def _picture(self, outcome: Outcome, name: str) -> Callable[[], None] | None:
        """What writes an evaluation's picture; None where it isn't kept."""
        if outcome.pixels is None:
            return None
        candidate = self._candidates[outcome.work.prompt].get(outcome.id)  # None while it waits for those before it
        if candidate is not None and candidate.raw is None and not self._every_image:
            return None
        if not outcome.state.step == self._searches[outcome.work.prompt].space.end:
            return None
        made = Candidate(outcome.id, outcome.state.recipes[0], outcome.state.step, True, 0, scores=outcome.components)
        one = self._searches[outcome.work.prompt]
        self._pictures[name] = candidate
        return self._painted(one, name, made if candidate is None else candidate, outcome.pixels, outcome.x0)

    def _painted(
        self, one: PromptSearch, name: str, candidate: Candidate, raw: np.ndarray, x0: Mapping[float, np.ndarray]
    ) -> Callable[[], None]:
        """What packs a picture and writes it."""
        image = raw[middle(len(raw))] if raw.ndim == 4 else raw
        about = {"candidate": candidate.id, "scores": _numbers(candidate.scores)}
        settings = plain(self._settings(one))
        more = {f"x0/{level}": seen for level, seen in x0.items()} | ({"clip": raw} if raw.ndim == 4 else {})

        def write() -> None:
            if more:
                self.files.write_arrays(self.files.arrays(name), more)
            self.files.write_picture(name, picture_png(image, one.prompt, candidate.recipe, settings, about))

        return write

    def _read_picture(self, line: Mapping[str, Any]) -> tuple[np.ndarray | None, dict[float, np.ndarray]]:
        if not line.get("picture"):
            return None, {}
        return read_picture(self.files, line)

    def _look_at_candidates(self) -> None:
        """Take note of candidates that came since, whose pictures may have been written before."""
        for one, known in zip(self._searches, self._candidates, strict=True):
            for candidate in one.pool.candidates[len(known) :]:
                known[candidate.id] = candidate
                name = self._named.get((one.index, candidate.id), "")
                if name in self._pictures or (candidate.raw is not None and name in self._reused):
                    self._pictures[name] = candidate

    def _shed(self) -> list[str]:
        """Pictures that are kept no longer, to be removed after what is kept in their place was journalled."""
        if self._every_image:
            return []
        shed = [name for name, candidate in self._pictures.items() if candidate is not None and candidate.raw is None]
        for name in shed:
            del self._pictures[name]
        return shed

    def _costs(self) -> dict[str, Any]:
        """What each ledger counted since this was last asked."""
        now = [_booking(one) for one in self._searches]
        found = {str(at): _less(new, old) for at, (new, old) in enumerate(zip(now, self._booked, strict=True))}
        self._booked = now
        return {at: cost for at, cost in found.items() if cost}

    def _turns(self, prompts: Iterable[int], lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the lines alone wouldn't tell of these prompts: other rows than before, limits, references."""
        for line in lines:
            self._told[line["prompt"]].rows[line["id"]] = str(line["key"])
        found = []
        for at in prompts:
            one = self._searches[at]
            here = Told(dict(self._rows[at]), list(one.reached), list(one.referred))
            if here != self._told[at]:
                self._told[at] = here
                rows = [[index, name] for index, name in sorted(here.rows.items())]
                found.append({"kind": "turn", "prompt": at, "rows": rows, "limits": here.limits, "refer": here.refer})
        return found


class Told:
    """What a journal says of one prompt: its rows by id, limits that were reached, and what z-scores refer to.

    Attributes:
        rows: the name of each evaluation that counts, by the id of its row.
        limits: [in words, the first id beyond, the first id of the next round].
        refer: ids of the rows that z-scores refer to.
    """

    def __init__(self, rows: dict[int, str], limits: list[Any], refer: list[int]) -> None:
        self.rows, self.limits, self.refer = rows, [list(one) for one in limits], list(refer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def read(cls, lines: Iterable[Mapping[str, Any]], prompts: int) -> "list[Told]":
        """Of each prompt, by all lines."""
        found = [cls({}, [], []) for _ in range(prompts)]
        for line in lines:
            if line.get("kind") == "turn":
                found[line["prompt"]] = cls({at: name for at, name in line["rows"]}, line["limits"], line["refer"])
            elif "prompt" in line:
                found[line["prompt"]].rows[line["id"]] = str(line["key"])
        return found


def read_picture(files: RunFiles, line: Mapping[str, Any]) -> tuple[np.ndarray | None, dict[float, np.ndarray]]:
    """A picture, or clip, and the x0 predictions on its way by noise level; None where it isn't there or not whole."""
    name = str(line["key"])
    image, arrays = files.read_picture(name), files.read_arrays(files.arrays(name))
    x0 = {float(one.removeprefix("x0/")): array for one, array in arrays.items() if one.startswith("x0/")}
    still = None if line.get("clip") else image  # without its frames a clip would pass for a picture
    return (image if image is None else arrays.get("clip", still)), x0


@contextmanager
def _told() -> Iterator[None]:
    """Say, and no more, that something can't be written whose loss costs no evaluation."""
    try:
        yield
    except OSError as error:
        log.warning("the run can't be written to (%s); every evaluation is journalled", error.strerror)


def _until(recipe: Recipe, point: int) -> Recipe:
    """The recipe of a row where it was at a grid point on its way."""
    for one in recipe.beginnings():
        op = one.last
        if op["op"] == "run" and op["from"] < point <= op["to"] and one.before is not None:
            if op["to"] == point:
                return one
            return one.before.then(
                "run", **{**{k: v for k, v in op.items() if k not in ("op", "v", "parent")}, "to": point}
            )
    return recipe


def _numbers(scores: Mapping[str, float]) -> dict[str, float | str]:
    """Scores as JSON has them: those that aren't finite by their names."""
    return {key: value if math.isfinite(value) else str(value) for key, value in scores.items()}


def read_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a line, as they were to the last bit."""
    return {key: float(value) for key, value in scores.items()}


def _booking(one: PromptSearch) -> dict[str, Any]:
    """What a ledger has counted that isn't told by the lines themselves: rows beyond a limit are."""
    ledger = one.ledger
    counted = {name: getattr(ledger, name) for name in _BOOKED}
    counted["nfe_waste"] -= one.beyond
    return {**counted, "rows_per_evaluation": ledger.rows_per_evaluation, "seconds": dict(ledger.seconds)}


def _less(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    counted = {name: new[name] - old[name] for name in _BOOKED if new[name] != old[name]}
    seconds = {name: round(value - old["seconds"].get(name, 0), 6) for name, value in new["seconds"].items()}
    seconds = {name: value for name, value in seconds.items() if value}
    if not counted and not seconds:
        return {}
    return {**counted, "rows_per_evaluation": new["rows_per_evaluation"], "seconds": seconds}


def book(ledger: Ledger, cost: Mapping[str, Any]) -> None:
    """Add what lines say was counted."""
    for name in _BOOKED:
        setattr(ledger, name, getattr(ledger, name) + cost.get(name, 0))
    ledger.rows_per_evaluation = cost.get("rows_per_evaluation", ledger.rows_per_evaluation)
    for phase, seconds in cost.get("seconds", {}).items():
        ledger.seconds[phase] += seconds
