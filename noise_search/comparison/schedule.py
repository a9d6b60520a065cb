"""What is still to be run: its projected time, and running it with a bar."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from noise_search.comparison.cells import RANDOM, Task, tasks
from noise_search.comparison.running import Runner
from noise_search.comparison.store import Store

log = logging.getLogger(__name__)

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

    def of(self, nfe: int, judged: int) -> float:
        """Projected seconds of so many NFE and judged images."""
        return self.nfe * nfe + self.judged * judged


class Schedule:
    """The searches that a comparison lacks."""

    def __init__(self, runner: Runner, store: Store, budgets: Sequence[int], seeds: Sequence[int], steps: int) -> None:
        """Take what runs and what keeps; `steps` are NFE of one trajectory."""
        self._runner, self._store, self._steps = runner, store, steps
        self._budgets, self._seeds = tuple(budgets), tuple(seeds)

    def left(self, speed: Speed | None = None) -> list[Task]:
        """Tasks for every cell that is missing, in chunks that suit the speed."""
        return list(
            tasks(
                dict(self._runner.algorithms),
                self._budgets,
                self._seeds,
                len(self._runner.prompts),
                drafts=self._runner.drafting,
                missing=self._missing,
                pools=self._lacks_pool,
                chunk=lambda budget: self._chunk(budget, speed),
            )
        )

    def run(self, progress: bool) -> None:
        """Run what is missing; each task is kept as soon as it is done. Ctrl-C ends it, with a warning."""
        todo = self.left()
        if not todo:
            return
        try:
            total = sum(task.nfe for task in todo)
            # A probe of what is small would cost as much again.
            speed = self._measured() if total >= _WORTH_A_PROBE * self._steps else None
            todo = self.left(speed)
            if progress:
                tqdm.write(self._projected(todo, speed), file=sys.stderr)
            with tqdm(total=total, unit="NFE", disable=not progress, leave=False) as bar:
                for task in todo:
                    bar.set_postfix_str(f"{task.algorithm}, {max(task.budgets)} NFE, seed {task.seed}")
                    self._store.add(self._runner.run(task))
                    bar.update(task.nfe)
        except KeyboardInterrupt:
            missing = sum(len(task.budgets) * len(task.prompts) for task in self.left() if not task.pool)
            kept = "what is done is kept" if self._store.records else "nothing is done yet"
            log.warning("interrupted with %d cells to go; %s", missing, kept)

    def _projected(self, todo: Sequence[Task], speed: Speed | None) -> str:
        """What is to be run, in one line: NFE, searches, judged images, and the time where it was measured."""
        nfe = sum(task.nfe for task in todo)
        judged = sum(self._runner.judged(task, self._steps) for task in todo)
        names = ", ".join(one.name for one in self._runner.judges)
        told = [f"{nfe} NFE in {len(todo)} searches"]
        told += [f"at least {judged} images for {names} to judge"] if judged else []
        told += [] if speed is None else [f"about {_told(speed.of(nfe, judged))}"]
        return ", ".join(told)

    def _missing(self, name: str, prompt: int, budget: int, seed: int) -> bool:
        text = self._runner.prompts[prompt]
        record = self._store.records.get((name, text, budget, seed))
        if record is None or name != RANDOM or self._runner.drafting:
            return record is None
        return self._pooled(text, seed) < record.nfe // self._steps  # a run was killed while it wrote

    def _lacks_pool(self, prompt: int, seed: int) -> bool:
        return self._pooled(self._runner.prompts[prompt], seed) < max(self._budgets) // self._steps

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
        return Speed(spent / nfe, judged / max(images, 1), max(pictures, default=1))

    def _chunk(self, budget: int, speed: Speed | None) -> int:
        if speed is None:
            return _CHUNK
        by_time = int(_SECONDS / max(speed.nfe * budget, 1e-9))
        by_memory = _BYTES // (budget // self._steps * speed.picture)
        return max(1, min(_CHUNK, by_time, by_memory))


def _told(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
