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

_CHUNK, _SECONDS, _BYTES = 24, 30.0, 2**29
"""Of one search: at most so many prompts, about so many seconds, and so much memory for pictures that are judged."""


@dataclass(frozen=True)
class Speed:
    """Seconds per NFE of a search, and per image of all judges; and the bytes of an image, or of a clip."""

    nfe: float
    judged: float
    picture: int

    def of(self, task: Task, steps: int) -> float:
        """Projected seconds of a task."""
        judged = task.nfe // steps if task.algorithm == RANDOM else 2 * len(task.prompts)
        return self.nfe * task.nfe + self.judged * judged


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
                drafts=bool(self._runner.options.get("draft_steps")),
                missing=self._missing,
                chunk=lambda budget: self._chunk(budget, speed),
            )
        )

    def run(self, progress: bool) -> None:
        """Run what is missing; each task is kept as soon as it is done. Ctrl-C ends it, with a warning."""
        if not self.left():
            return
        try:
            speed = self._measured()
            todo = self.left(speed)
            total = sum(task.nfe for task in todo)
            if progress:
                seconds = sum(speed.of(task, self._steps) for task in todo)
                tqdm.write(f"{total} NFE in {len(todo)} searches, about {_told(seconds)}", file=sys.stderr)
            with tqdm(total=total, unit="NFE", disable=not progress, leave=False) as bar:
                for task in todo:
                    bar.set_postfix_str(f"{task.algorithm}, {max(task.budgets)} NFE, seed {task.seed}")
                    self._store.add(self._runner.run(task))
                    bar.update(task.nfe)
        except KeyboardInterrupt:
            missing = sum(len(task.budgets) * len(task.prompts) for task in self.left())
            log.warning("interrupted with %d cells to go; what is done is kept", missing)

    def _missing(self, name: str, prompt: int, budget: int, seed: int) -> bool:
        return (name, self._runner.prompts[prompt], budget, seed) not in self._store.records

    def _measured(self) -> Speed:
        """By two small searches, of which the first warms everything up."""
        count = min(2, len(self._runner.prompts))
        seed = self._seeds[0]
        each = self._steps if not self._runner.options.get("draft_steps") else min(self._budgets)
        self._runner.search(Task(RANDOM, seed, (each,), (0,)))
        probe = Task(RANDOM, seed, (2 * each,), tuple(range(count)))
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
