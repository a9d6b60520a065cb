"""From one call of `search` to the records of all cells that it answers for."""

import functools
import hashlib
import json
import logging
import math
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from noise_search.algorithms.auto import Auto
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.choosing.features import Features
from noise_search.comparison.cells import RANDOM, Task, first_noise
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.diagnoses import numbers
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.store import Store
from noise_search.comparison.views.wording import duration
from noise_search.diagnosis import diagnose
from noise_search.disk.files import write_atomically
from noise_search.disk.lease import lease
from noise_search.engine.driver import search
from noise_search.engine.manifest import AnotherSearch
from noise_search.engine.scoring import as_images
from noise_search.engine.shares import Share
from noise_search.results.candidate import Candidate
from noise_search.results.data import AllCandidatesFailed
from noise_search.results.result import SearchResult
from noise_search.results.saving import png_bytes
from noise_search.tracking import Event, Listener
from noise_search.words import counted
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier

log = logging.getLogger(__name__)

TASKS = "tasks"
"""Where runs of tasks are that aren't over."""
IMAGES = "images"
"""Where winners are kept, in the comparison's directory."""


@dataclass(frozen=True)
class Runner:
    """Runs tasks with what all of them share.

    Attributes:
        families: the category of each prompt.
        model: as in `search`.
        algorithms: by label.
        aggregator: of the verifiers searched by.
        judges: held-out verifiers.
        options: further arguments of `search`.
        features: for diversity.
        directory: where images go; None keeps none.
        pictured: of how many prompts, from the first on, the winners' images are kept.
        diagnosed: of how many prompts, from the first on, the winners are diagnosed; None for all.
        device: where the model's images are, and so their features.
        offsets: what is added to the seeds for each prompt's own noises.
        share, target: how prompts share the budgets of all algorithms but random search, as in `search`.
        log: whom searches are told to, and `title` what the comparison is called there.
    """

    families: Mapping[str, str]
    model: Any
    algorithms: Mapping[str, SearchAlgorithm]
    aggregator: Aggregator
    judges: Sequence[Verifier]
    options: Mapping[str, Any]
    features: Features
    directory: Path | None
    pictured: int
    diagnosed: int | None
    device: str | None
    offsets: Mapping[str, int]
    share: Share = "equal"
    target: float | None = None
    log: Listener | None = None
    title: str = ""

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Texts."""
        return tuple(self.families)

    @cached_property
    def names(self) -> dict[str, str]:
        """What records call verifiers and judges, by key: their names, where no two have the same."""
        names = {one.key: one.name for one in (*self.aggregator.verifiers, *self.judges)}
        counts = Counter(names.values())
        return {key: key if counts[name] > 1 else name for key, name in names.items()}

    def run(self, task: Task) -> list[Record | Pool]:
        """Run a task and read its cells off it.

        Raises:
            KeyboardInterrupt, Exception: what ended the search early; nothing of it is kept then.
        """
        results = self.search(task, self._begin(task), self._telling(task))
        found: list[Record | Pool] = []
        for prompt, result in zip(task.prompts, results, strict=True):
            # The pool goes first: a record that is on disk has what it is measured against.
            if self.pools(task) and any(c.finished for c in result.candidates):
                found.append(self._pool(task, prompt, result))
            if not task.pool:
                found += [self._record(task, prompt, budget, result) for budget in task.budgets]
        return found

    @property
    def drafting(self) -> bool:
        """Whether searches draft their trajectories."""
        return self.options.get("draft_steps") is not None

    def shares(self, algorithm: str) -> bool:
        """Whether prompts share the budgets of an algorithm: random search is what it is measured against."""
        return self.share != "equal" and algorithm != RANDOM

    def pools(self, task: Task) -> bool:
        """Whether a task gives pools: all candidates are whole ones of random search, each with all judges' scores."""
        return task.pool or (task.algorithm == RANDOM and not self.drafting)

    def judged(self, task: Task, steps: int) -> int:
        """Images of a task that are judged: all candidates of a pool; else the first and the best, if no new bests."""
        if not self.judges:
            return 0
        return task.nfe // steps if self.pools(task) else 2 * len(task.prompts)

    def _begin(self, task: Task) -> Path | None:
        """The run of a task, so that one that is killed in the middle goes on there; None without a directory."""
        if self.directory is None:
            return None
        told = {**asdict(task), "prompts": [self.prompts[at] for at in task.prompts]}
        content = json.dumps(told)
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        (self.directory / TASKS).mkdir(exist_ok=True)
        write_atomically(self.directory / TASKS / f"{name}.json", content.encode())
        return self.directory / TASKS / name

    def begun(self) -> list[tuple[Path, Task]]:
        """Tasks that were stopped in the middle, those first that were begun first; others' are let alone."""
        found = []
        places = {text: at for at, text in enumerate(self.prompts)}
        for file in sorted((self.directory / TASKS).glob("*.json"), key=os.path.getmtime) if self.directory else ():
            try:
                told = json.loads(file.read_bytes())
                told |= {"prompts": tuple(places[text] for text in told["prompts"]), "budgets": tuple(told["budgets"])}
                found.append((file, Task(**told)))
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.debug("%s is no task of this comparison (%r)", file, error)
        return found

    def end(self, task: Task) -> None:
        """Remove the run of a task whose records are kept."""
        for file, one in self.begun():
            if one == task:
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)
                file.unlink()
        if self.directory is not None and not any((self.directory / TASKS).glob("*")):
            (self.directory / TASKS).rmdir()

    def _telling(self, task: Task) -> Callable[[Event], None] | None:
        """Tells the events of a task's search as those of this comparison."""
        if self.log is None:
            return None
        tell = self.log
        label = f"{task.algorithm}, pool" if task.pool else task.algorithm
        search = {"algorithm": label, "nfe": max(task.budgets), "seed": task.seed}
        run = None if self.directory is None else str(self.directory)
        whole = {"prompts": len(self.prompts), "run": run}  # the task's own run doesn't stay

        def told(event: Event) -> None:
            of_start = whole if event["event"] == "start" else {}
            place = task.prompts[event["index"]]
            tell({**event, **of_start, "index": place, "comparison": run or self.title, "search": search})

        return told

    def search(
        self, task: Task, run: Path | None = None, log: Callable[[Event], None] | None = None
    ) -> list[SearchResult]:
        """The search of a task, one result per prompt, in a run directory where one is given."""
        nfe = max(task.budgets)
        left_out = ("draft_steps", "draft_renders") if task.pool else ()
        if self.algorithms[task.algorithm].whole_calls and not isinstance(self.algorithms[task.algorithm], Auto):
            left_out = (*left_out, "preview")  # it shows nothing on the way
        if task.algorithm == RANDOM:  # the yardstick, whose noises are independent
            left_out = (*left_out, "prior")
        shared = {"share": self.share, "target_score": self.target} if self.shares(task.algorithm) else {}
        results: Sequence[SearchResult]
        asked: Callable[..., Any] = functools.partial(
            search,
            [self.prompts[i] for i in task.prompts],
            model=self.model,
            algorithm=self.algorithms[task.algorithm],
            verifier=self.aggregator,
            judges=list(self.judges),
            nfe=nfe,
            seed=[first_noise(task.seed + task.skipped, self.offsets[self.prompts[i]]) for i in task.prompts],
            top_k=nfe if self.judges and self.pools(task) else 1,  # the pool's judges give their spread
            log=log,
            on_interrupt="return",
            progress=False,
            **{name: value for name, value in {**self.options, **shared}.items() if name not in left_out},
        )
        try:
            try:
                results = asked(run=run)
            except AnotherSearch:  # nothing is known that it could go on with
                results = asked(run=run, overwrite=True)
        except AllCandidatesFailed as error:  # a finding too: cells without a winner
            results = error.results
        for one in results:
            if one.error is not None:
                raise one.error
        return list(results)

    def _record(self, task: Task, prompt: int, budget: int, result: SearchResult) -> Record:
        limit = result.ledger.nfe_budget if self.shares(task.algorithm) else budget
        best, text = winner(result, limit), self.prompts[prompt]
        nfe = max((c.nfe for c in result.candidates if c.nfe <= limit), default=0)
        share = nfe / result.ledger.nfe if result.ledger.nfe else 0.0
        record = Record(
            text,
            self.families[text],
            task.algorithm,
            budget,
            task.seed,
            nfe=nfe,
            rows=round(result.ledger.denoiser_rows * share),
            seconds=_search_seconds(result) * share,
            scores={self.names[one.key]: math.nan for one in self.aggregator.scores},
            shared=budget != max(task.budgets),
            offset=self.offsets[text],
        )
        if best is None:
            return record
        diagnosed = not record.shared and (self.diagnosed is None or prompt < self.diagnosed)
        return replace(
            record,
            scores=self._scored(best),
            judges=self._judged(best),
            first_scores=self._scored(result.first),
            first_judges=self._judged(result.first),
            embedding=tuple(round(float(x), 5) for x in self._embed(best)),
            image=self._picture(record, result, best) if prompt < self.pictured else "",
            recipe=best.recipe.to_json(),
            diagnosis=self._diagnosis(result) if diagnosed else {},
        )

    def _diagnosis(self, result: SearchResult) -> dict[str, Any]:
        options = self.options.get("model_options")
        model = None if isinstance(self.model, str) else self.model
        return numbers(diagnose(result, verifier=self.aggregator, model=model, model_options=options))

    def _pool(self, task: Task, prompt: int, result: SearchResult) -> Pool:
        candidates, text = [c for c in result.candidates if c.finished], self.prompts[prompt]
        return Pool(
            text,
            self.families[text],
            task.seed,
            nfe=result.ledger.nfe // len(candidates),
            seconds=_search_seconds(result) / len(candidates),
            scores={
                self.names[one.key]: tuple(c.scores[one.key] if np.isfinite(c.score) else math.nan for c in candidates)
                for one in self.aggregator.scores
            },
            judges={
                self.names[one.key]: tuple(c.judges.get(one.key, math.nan) for c in candidates) for one in self.judges
            },
            offset=self.offsets[text],
        )

    def _scored(self, candidate: Candidate) -> dict[str, float]:
        """Its scores; constraints only exclude, and what wins satisfies them."""
        return {self.names[one.key]: candidate.scores[one.key] for one in self.aggregator.scores}

    def _judged(self, candidate: Candidate) -> dict[str, float]:
        return {self.names[key]: float(value) for key, value in candidate.judges.items()}

    def _embed(self, candidate: Candidate) -> np.ndarray:
        assert candidate.pixels is not None
        images = as_images([candidate.pixels], torch.device(self.device or "cpu"))
        features: np.ndarray = self.features(images)[0]
        return features

    def _picture(self, record: Record, result: SearchResult, best: Candidate) -> str:
        if self.directory is None:
            return ""
        # By the prompt's text, not its place: another call on the same directory may have other prompts there.
        cell = hashlib.sha256(json.dumps([record.prompt, record.algorithm]).encode()).hexdigest()[:10]
        letters = "".join(c if c.isalnum() else "-" for c in record.algorithm)
        name = f"{IMAGES}/{cell}-{letters}-{record.budget}-{record.seed}.png"
        (self.directory / IMAGES).mkdir(exist_ok=True)
        write_atomically(self.directory / name, png_bytes(result, best))
        return name


def winner(result: SearchResult, budget: int) -> Candidate | None:
    """The best candidate once so many NFE were spent; None where there was none yet."""
    found = [one for one, nfe in zip(result.bests, result.bests_nfe, strict=True) if nfe <= budget]
    # By what was known then, as a search of this budget has it: scores may have another reference by the end.
    return found[-1] if found else None


def _search_seconds(result: SearchResult) -> float:
    return sum(seconds for phase, seconds in result.ledger.seconds.items() if phase != "judge")


_Search = tuple[int, str, tuple[int, ...]]
"""Its algorithm's place among all and name, and the budgets that it answers for."""

_POOL = -1
"""The place of pools: before all algorithms, so that no record is without what it is measured against."""

_WORTH_A_PROBE = 8
"""Trajectories from which on the speed is measured first, by 3 to 5 more of random search."""

_CHUNK, _SECONDS, _BYTES = 24, 30.0, 2**29
"""Of one search: at most so many prompts, about so many seconds, and so much memory for pictures that are judged."""


@dataclass(frozen=True)
class Speed:
    """Seconds per NFE of a search, and per image of all judges; and the bytes of an image, or of a clip."""

    nfe: float
    judged: float
    picture: int


class Schedule:
    """The searches that a comparison lacks."""

    def __init__(
        self,
        runner: Runner,
        store: Store,
        budgets: Sequence[int],
        seeds: Sequence[int],
        steps: int,
        pool_limit: int = 1,
    ) -> None:
        """Take what runs and what keeps; `steps` are NFE of one trajectory, `pool_limit` as in `compare`."""
        self._runner, self._store, self._steps = runner, store, steps
        self._most = max(budgets) // steps * pool_limit
        self._budgets, self._seeds = tuple(sorted(budgets)), tuple(seeds)

    def left(self, speed: Speed | None = None) -> list[Task]:
        """Searches for every cell that is missing, in chunks of prompts that suit the speed.

        Searches whose prompts share a budget aren't divided. Seed by seed, and of each chunk all algorithms with
        random search first: a machine that grows slower or faster with the hours does so for all of them alike. One
        run of an algorithm whose candidates don't depend on the budget (`anytime`) answers for all budgets. With
        drafts all depend on it, and the pool of random search is a search of its own, of the largest budget without
        drafts; it goes first.
        """
        size, found = self._chunk(max(self._budgets), speed), []
        for seed in self._seeds:
            asked = [(at, some) for at in range(len(self._runner.prompts)) if (some := self._asked(at, seed))]
            for start in range(0, len(asked), size):
                groups: dict[_Search, list[int]] = defaultdict(list)
                for at, some in asked[start : start + size]:
                    for one in some:
                        groups[one].append(at)
                for (place, name, budgets), prompts in sorted(groups.items()):
                    found.append(Task(name, seed, budgets, tuple(prompts), pool=place == _POOL))
            found += self._shared(seed)
        return found

    def _shared(self, seed: int) -> list[Task]:
        """Searches whose prompts share a budget, whole where anything of them is missing."""
        prompts = self._runner.prompts
        return [
            Task(name, seed, (budget,), tuple(range(len(prompts))))
            for name in self._runner.algorithms
            for budget in self._budgets
            if self._runner.shares(name) and any(self._missing(name, text, budget, seed) for text in prompts)
        ]

    def _asked(self, prompt: int, seed: int) -> list[_Search]:
        """What is missing of one prompt and seed."""
        text, drafting, algorithms = self._runner.prompts[prompt], self._runner.drafting, self._runner.algorithms
        lacks_pool = drafting and self._pooled(text, seed) < max(self._budgets) // self._steps
        found: list[_Search] = [(_POOL, RANDOM, (max(self._budgets),))] if lacks_pool else []
        for place, name in enumerate(sorted(algorithms, key=lambda one: one != RANDOM)):
            if self._runner.shares(name):
                continue
            wanted = tuple(one for one in self._budgets if self._missing(name, text, one, seed))
            together = getattr(algorithms[name], "anytime", False) and not drafting
            found += [(place, name, some) for some in ([wanted] if together else [(one,) for one in wanted]) if some]
        return found

    def growing(self, speed: Speed | None = None) -> list[Task]:
        """Searches for further random candidates: twice as many at most, where they may tell what a score is worth.

        Every pool grows by the same steps, as their curves are averaged. None where the curve surely passes the scores
        of all algorithms, where these saturate, or where the limit is reached.
        """
        pools = {
            (at, seed): self._pooled(self._runner.prompts[at], seed)
            for at in range(len(self._runner.prompts))
            for seed in self._seeds
        }
        least, largest = min(pools.values()), min(max(pools.values()), self._most)
        if not 0 < least < self._most:
            return []
        if least == largest and not self._bounded():
            return []
        # First all are as large as the largest: a growth that was stopped goes on, and new prompts catch up.
        target, found = largest if least < largest else min(2 * least, self._most), []
        size = self._chunk(target * self._steps, speed)
        for seed in self._seeds:
            groups: dict[int, list[int]] = defaultdict(list)
            for at in range(len(self._runner.prompts)):
                if (there := pools[at, seed]) < target:
                    groups[there].append(at)
            for there, some in groups.items():
                for start in range(0, len(some), size):
                    budget, prompts = (target - there) * self._steps, tuple(some[start : start + size])
                    found.append(Task(RANDOM, seed, (budget,), prompts, pool=True, skipped=there))
        return found

    def _bounded(self) -> bool:
        """Whether what an algorithm is worth, or the upper end of that, lies beyond the pools that there are."""
        asked = [
            one
            for one in self._store.records.values()
            if not self._runner.shares(one.algorithm)
            if one.prompt in self._runner.families and one.seed in self._seeds and one.budget in self._budgets
        ]
        try:
            found = multipliers(asked, tuple(self._store.pools.values()))
        except ValueError:  # a prompt without any usable candidate has no pool, and no number would help
            return False
        return any(
            one.algorithm != RANDOM and one.algorithm in self._runner.algorithms and one.times.at_least for one in found
        )

    def run(self, progress: bool) -> bool:
        """Run what is missing; each task is kept as soon as it is done. False if Ctrl-C ended it, with a warning.

        Raises:
            ValueError: another process writes to the directory.
        """
        with nullcontext() if self._store.directory is None else lease(self._store.directory):
            return self._whole(progress)

    def _whole(self, progress: bool) -> bool:
        todo = self.left()
        if progress and self._store.directory is not None and self._store.records:
            tqdm.write(self._found(todo), file=sys.stderr)
        try:
            speed = None
            if begun := self._begun():
                self._run(begun, progress)
                todo = self.left()
            if todo:
                # A probe of what is small would cost as much again.
                if sum(task.nfe for task in todo) >= _WORTH_A_PROBE * self._steps:
                    speed = self._measured()
                todo = self.left(speed)
                if progress:
                    tqdm.write(self._projected(todo, speed), file=sys.stderr)
                self._run(todo, progress)
            done: list[Task] = []
            while (more := self.growing(speed)) and more != done:  # the same again: no candidate could be finished
                self._run(more, progress)
                done = more
        except KeyboardInterrupt:
            missing = sum(len(task.budgets) * len(task.prompts) for task in self.left() if not task.pool)
            kept = "what is done is kept" if self._store.records else "nothing is done yet"
            log.warning("interrupted with %s to go; %s", counted(missing, "cell"), kept)
            return False
        return True

    def _begun(self) -> list[Task]:
        """Tasks that were stopped in the middle and are still asked for; what is left of others is removed."""
        found = []
        for _, task in self._runner.begun():
            cells = [(at, budget) for at in task.prompts for budget in task.budgets]
            asked = task.algorithm in self._runner.algorithms and task.seed in self._seeds
            if task.pool:
                wanted = all(self._pooled(self._runner.prompts[at], task.seed) == task.skipped for at in task.prompts)
            else:
                wanted = all(budget in self._budgets for budget in task.budgets) and all(
                    self._missing(task.algorithm, self._runner.prompts[at], budget, task.seed) for at, budget in cells
                )
            if asked and wanted:
                found.append(task)
            else:
                self._runner.end(task)
        return found

    def _found(self, todo: Sequence[Task]) -> str:
        """That a directory goes on, and from where, in one line."""
        runner, missing = self._runner, sum(len(task.budgets) * len(task.prompts) for task in todo if not task.pool)
        asked = len(runner.algorithms) * len(self._budgets) * len(self._seeds) * len(runner.prompts)
        return f"going on in {str(self._store.directory)!r}, which has {asked - missing} of {counted(asked, 'cell')}"

    def _run(self, todo: Sequence[Task], progress: bool) -> None:
        with tqdm(total=sum(task.nfe for task in todo), unit="NFE", disable=not progress, leave=False) as bar:
            for task in todo:
                bar.set_postfix_str(f"{task.algorithm}, {max(task.budgets)} NFE, seed {task.seed}")
                found = self._runner.run(task)
                if task.skipped:
                    pools = self._store.pools
                    found = [pools[one.prompt, one.seed].joined(one) for one in found if isinstance(one, Pool)]
                self._store.add(found)
                self._runner.end(task)
                bar.update(task.nfe)

    def _projected(self, todo: Sequence[Task], speed: Speed | None) -> str:
        """What is to be run, in one line: NFE, searches, judged images, and the time where it was measured."""
        nfe = sum(task.nfe for task in todo)
        judged = sum(self._runner.judged(task, self._steps) for task in todo)
        names = ", ".join(one.name for one in self._runner.judges)
        told = [f"{nfe} NFE in {counted(len(todo), 'search')}"]
        told += [f"at least {counted(judged, 'image')} for {names} to judge"] if judged else []
        told += [] if speed is None else [f"about {duration(speed.nfe * nfe + speed.judged * judged)}"]
        if more := (self._most - max(self._budgets) // self._steps) * len(self._runner.prompts) * len(self._seeds):
            nfe, judged = more * self._steps, more if self._runner.judges else 0
            time = "" if speed is None else f", about {duration(speed.nfe * nfe + speed.judged * judged)}"
            told += [f"and up to {more} further random candidates ({nfe} NFE{time}), as pool_limit allows"]
        return ", ".join(told)

    def _missing(self, name: str, prompt: str, budget: int, seed: int) -> bool:
        record = self._store.records.get((name, prompt, budget, seed))
        if record is None or name != RANDOM or self._runner.drafting:
            return record is None
        return self._pooled(prompt, seed) < record.nfe // self._steps  # a run was killed while it wrote

    def _pooled(self, prompt: str, seed: int) -> int:
        """Candidates of the pool; none where it holds what drafts had chosen, which costs more than whole ones."""
        pool = self._store.pools.get((prompt, seed))
        return 0 if pool is None or pool.nfe != self._steps else len(pool)

    def _measured(self) -> Speed:
        """By two small searches of whole trajectories, of which the first warms everything up."""
        count = min(2, len(self._runner.prompts))
        seed = self._seeds[0]
        self._runner.search(Task(RANDOM, seed, (self._steps,), (0,), pool=True))
        probe = Task(RANDOM, seed, (2 * self._steps,), tuple(range(count)), pool=True)
        results = self._runner.search(probe)
        judged = sum(one.ledger.seconds.get("judge", 0.0) for one in results)
        spent = sum(sum(one.ledger.seconds.values()) for one in results) - judged
        images = sum(one.ledger.judge_images for one in results)
        pictures = [c.raw.nbytes for one in results for c in one.candidates if c.raw is not None]
        nfe = sum(one.ledger.nfe for one in results)
        workers = getattr(self._runner.options.get("workers"), "size", 1)  # whose seconds are added up
        return Speed(spent / nfe / workers, judged / max(images, 1), max(pictures, default=1))

    def _chunk(self, budget: int, speed: Speed | None) -> int:
        if speed is None:
            return _CHUNK
        by_time = int(_SECONDS / max(speed.nfe * budget, 1e-9))
        by_memory = _BYTES // (budget // self._steps * speed.picture)
        return max(1, min(_CHUNK, by_time, by_memory))
