"""Scores of x0 predictions on the way, and of the finished images: what pruned searches are replayed from.

`python -m noise_search.shapes.train.ladders sample --shards DIRECTORY` writes a file per model and prompt, and leaves
out those that are there: a minute for each on one CPU core. Several processes may share the work, one of them with
`--reverse`. `pack` writes what the bench reads. Of the hard prompts only the way is run, as their finished images have
been scored by `noise_search.shapes.train.pools`. The task "common" has the same noises for all prompts: what seeds are
worth over prompts is learned from it.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save

from noise_search.arguments import first_seed
from noise_search.disk.files import write_atomically
from noise_search.engine.scoring import Scorer
from noise_search.models import load_model
from noise_search.prompt_sets import load
from noise_search.resolve import resolve_verifier
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.oracle import judge

log = logging.getLogger("noise_search.shapes.train.ladders")
VERIFIERS = ("clip", "aesthetic", "vlm")
LOOKS = (4, 5, 6, 7, 8, 9, 10)
_BATCH = 32


@dataclass(frozen=True)
class Task:
    """Evaluation prompts, and which noises they are run with.

    Attributes:
        prompts: the set's name.
        per_family: how many of each family; None for all.
        noises: how many.
        common: whether all prompts have the noises of seeds 0, 1, ..., or each its own.
        finish: whether they are run to the end.
    """

    prompts: str
    per_family: int | None = None
    noises: int = 40
    common: bool = False
    finish: bool = True

    def seeds(self, prompt: str) -> range:
        """Of a prompt's noises."""
        first = 0 if self.common else first_seed(prompt)
        return range(first, first + self.noises)


TASKS = {
    "shapes": Task("shapes", 6),
    "shapes-hard": Task("shapes-hard", finish=False),
    "common": Task("shapes", 6, noises=64, common=True),
}


@dataclass(frozen=True)
class Shard:
    """One model's noises for one prompt, and the file that holds their scores."""

    file: Path
    model: str
    task: str
    prompt: str

    @classmethod
    def all(
        cls, directory: Path, models: Iterable[str] = EMBEDDED_MODELS, tasks: Iterable[str] = TASKS
    ) -> Iterator["Shard"]:
        """Those of every model, task and prompt."""
        for model in models:
            for task in tasks:
                asked = TASKS[task]
                for prompt in load(asked.prompts, split="evaluation", per_family=asked.per_family).texts:
                    yield cls(directory / f"{model}-{task}-{first_seed(prompt):010d}.safetensors", model, task, prompt)


class Ladders:
    """One model with all verifiers, ready to run prompts."""

    def __init__(self, model: str, device: str) -> None:
        loaded = load_model(model, ModelSettings(device=device))
        verifiers = [resolve_verifier(one, loaded) for one in VERIFIERS]
        for one in verifiers:
            one.load(device)
        self.names = {one.key: one.name for one in verifiers}
        self._scorer, self.sampler = Scorer(verifiers), loaded.sampler

    def run(self, prompt: str, task: Task) -> dict[str, np.ndarray]:
        """Float32 scores `[noise, look]` by verifier, of the finished images last and with verdicts where wanted."""
        condition = self.sampler.condition(prompt)
        space = self.sampler.space()
        points = [*LOOKS, *([space.end] if task.finish else [])]
        seeds = task.seeds(prompt)
        parts: list[dict[str, np.ndarray]] = []
        for at in range(0, len(seeds), _BATCH):
            noises = space.fresh(seeds[at : at + _BATCH], condition)
            run = self.sampler.run(noises, points[-1], keep=tuple(points[:-1]))
            found: dict[str, list[np.ndarray]] = {}
            for point in points:
                images = self.sampler.decode(run.final if point == points[-1] else run.kept[point])
                scores, _ = self._scorer.score(images, [prompt] * len(noises))
                for key, values in scores.items():
                    found.setdefault(self.names[key], []).append(values)
            part = {name: np.stack(values, 1).astype(np.float32) for name, values in found.items()}
            if task.finish:
                verdicts = judge(images, [prompt] * len(noises))
                part["oracle"] = np.array([-1 if v.strict is None else int(v.strict) for v in verdicts], np.int8)
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sample(directory: Path, models: Sequence[str], tasks: Sequence[str], device: str, reverse: bool) -> None:
    """Run what is missing."""
    started = time.perf_counter()
    for model in models:
        ladders = Ladders(model, device)
        with ladders.sampler:
            shards = list(Shard.all(directory, [model], tasks))
            for shard in reversed(shards) if reverse else shards:
                if shard.file.exists():
                    continue
                scores = ladders.run(shard.prompt, TASKS[shard.task])
                about = {
                    "model": model,
                    "task": shard.task,
                    "prompt": shard.prompt,
                    "verifiers": json.dumps(ladders.names),
                }
                write_atomically(shard.file, save(scores, about))
                log.info("%6.1f s  %s  %s", time.perf_counter() - started, model, shard.prompt)


def pack(directory: Path, file: Path, models: Sequence[str], tasks: Sequence[str]) -> None:
    """Write shards into one file: `[prompt, noise, look]` under model/task/verifier; a missing one is an error."""
    tensors: dict[str, list[np.ndarray]] = {}
    prompts: dict[str, list[str]] = {}
    keys: dict[str, str] = {}
    for shard in Shard.all(directory, models, tasks):
        with safe_open(shard.file, "np") as content:
            keys |= json.loads(content.metadata()["verifiers"])
            for name in content.keys():
                tensors.setdefault(f"{shard.model}/{shard.task}/{name}", []).append(content.get_tensor(name))
        if shard.prompt not in (known := prompts.setdefault(shard.task, [])):
            known.append(shard.prompt)
    about = {"looks": LOOKS, "prompts": prompts, "keys": {name: key for key, name in keys.items()}}
    stacked = {name: np.stack(values) for name, values in tensors.items()}
    write_atomically(file, save(stacked, {"about": json.dumps(about)}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m noise_search.shapes.train.ladders", description=__doc__)
    parser.add_argument("what", choices=("sample", "pack"))
    parser.add_argument("--shards", type=Path, required=True, help="directory of the files")
    parser.add_argument("--file", type=Path, help="what pack writes")
    parser.add_argument("--models", nargs="*", default=list(EMBEDDED_MODELS))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--reverse", action="store_true", help="begin with the last prompt")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    asked.shards.mkdir(parents=True, exist_ok=True)
    if asked.what == "sample":
        sample(asked.shards, asked.models, asked.tasks, asked.device, asked.reverse)
    else:
        pack(asked.shards, asked.file, asked.models, asked.tasks)


if __name__ == "__main__":
    main()
