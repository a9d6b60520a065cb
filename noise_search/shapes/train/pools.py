"""Random search's candidates on the hard prompts, with every embedded verifier's score and the oracle's verdict.

`python -m noise_search.shapes.train.pools sample --shards DIRECTORY` writes a file per model and prompt, and leaves out
those that are there. On one GPU all of it takes minutes, on two CPU cores some hours. `families` prints what the choice
of families rests on, `pack` writes what is shipped, and `gains` prints how random search goes on gaining there.
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save

from noise_search.arguments import first_seed
from noise_search.comparison.cells import sharing
from noise_search.comparison.standard_pools import FILE
from noise_search.disk.files import write_atomically
from noise_search.engine.scoring import Scorer, as_images
from noise_search.engine.worker import Batch, LocalWorker, Rows
from noise_search.engine.x0_predictions import Predictions
from noise_search.models import load_model
from noise_search.order_statistics import expected_best
from noise_search.resolve import resolve_verifier
from noise_search.results.record import environment
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.captions import Prompt
from noise_search.shapes.hard_prompts import hard_prompts, measured_prompts
from noise_search.shapes.oracle import judge

log = logging.getLogger("noise_search.shapes.train.pools")
VERIFIERS = ("vlm", "aesthetic", "clip", "consistency")
CANDIDATES = 256
_JUDGED = 32
"""Images that a process judges at once."""

Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """One model's candidates for one prompt, and the file that holds them."""

    file: Path
    model: str
    split: str
    prompt: Prompt

    @classmethod
    def all(cls, directory: Path) -> list["Shard"]:
        """Those of every model and measured prompt; validation first."""
        prompts = [(split, prompt) for split in ("validation", "evaluation") for prompt in measured_prompts(split)]
        drawn = {first_seed(prompt.text): CANDIDATES for _, prompt in prompts}
        if len(drawn) < len(prompts) or sharing(drawn):
            raise ValueError(f"two of the {len(prompts)} prompts share noises; change the prompts")
        return [
            cls(directory / f"{model}-{split}-{first_seed(prompt.text):010d}.safetensors", model, split, prompt)
            for model, (split, prompt) in itertools.product(EMBEDDED_MODELS, prompts)
        ]

    def write(self, scores: Scores, made: dict[str, str]) -> None:
        """Write the scores, whole or not at all."""
        about = {"model": self.model, "split": self.split, "prompt": self.prompt.text, "family": self.prompt.family}
        write_atomically(self.file, save(scores, {**about, "seed": str(first_seed(self.prompt.text)), **made}))


class Pools:
    """One model with all verifiers, ready to run prompts."""

    def __init__(self, name: str, device: str) -> None:
        loaded = load_model(name, ModelSettings(device=device))
        verifiers = [resolve_verifier(one, loaded) for one in VERIFIERS]
        for one in verifiers:
            one.load(device)
        self._names = {one.key: one.name for one in verifiers}
        self._worker, self.sampler = LocalWorker(loaded.sampler, Scorer(verifiers)), loaded.sampler
        loaded.sampler.condition(measured_prompts("validation")[0].text)
        self._space = loaded.sampler.space()
        self._predictions = Predictions.of(verifiers, (), self._space).points[self._space.id]
        self.made = {
            "steps": str(self._space.end),
            "verifiers": json.dumps(self._names),
            "fingerprint": loaded.fingerprint,
            "environment": json.dumps({**environment(), "device": device}),
        }

    def run(self, prompt: str, count: int, batch: int) -> tuple[Scores, np.ndarray]:
        """Scores `[candidate]` by verifier, and pixels, of the prompt's first noises."""
        first, parts, pixels = first_seed(prompt), [], []
        for at in range(0, count, batch):
            seeds = range(first + at, first + min(at + batch, count))
            rows = Rows.of(self._space.fresh(list(seeds)))
            asked = Batch(rows, (prompt,) * len(seeds), self._space.end, predictions=self._predictions)
            done = self._worker.run(asked)
            assert done.pixels is not None
            pixels.append(done.pixels)
            parts.append({self._names[key]: values for key, values in done.scores.items()})
        scores = {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
        return scores, np.concatenate(pixels)


def judged(pixels: np.ndarray, prompt: str) -> Scores:
    """The oracle's verdict `[image]`, 1 or 0, -1 where it can't tell, and the share of facts that hold."""
    verdicts = judge(as_images(list(pixels), "cpu"), [prompt] * len(pixels))
    strict = [-1 if verdict.strict is None else int(verdict.strict) for verdict in verdicts]
    facts = [np.nan if verdict.facts is None else verdict.facts for verdict in verdicts]
    return {"oracle": np.array(strict, np.int8), "oracle-facts": np.array(facts, np.float16)}


def _one_thread() -> None:
    torch.set_num_threads(1)


def sample(shards: Iterable[Shard], device: str, count: int, batch: int, processes: int) -> None:
    """Run what is missing; judging goes on beside it in processes of its own."""
    if device.startswith("cuda"):  # the same numbers as on a CPU, to rounding
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # of the processes, which import numpy anew
    missing = [shard for shard in shards if not shard.file.exists()]
    started = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _one_thread) as executor:
        waiting: list[tuple[Shard, Scores, list[Future[Scores]], dict[str, str]]] = []
        for model, some in itertools.groupby(missing, lambda shard: shard.model):
            pools = Pools(model, device)
            with pools.sampler:
                for shard in some:
                    text = shard.prompt.text
                    scores, pixels = pools.run(text, count, batch)
                    chunks = [pixels[at : at + _JUDGED] for at in range(0, count, _JUDGED)]
                    waiting.append((shard, scores, [executor.submit(judged, one, text) for one in chunks], pools.made))
                    waiting = _written(waiting, wait=len(waiting) > 2 * processes)
                    log.info("%6.1f s  %s  %s", time.perf_counter() - started, model, text)
        while waiting:
            waiting = _written(waiting, wait=True)
    log.info("%6.1f s  %d files written", time.perf_counter() - started, len(missing))


def _written(
    waiting: list[tuple[Shard, Scores, list[Future[Scores]], dict[str, str]]], wait: bool
) -> list[tuple[Shard, Scores, list[Future[Scores]], dict[str, str]]]:
    """Write those that are judged, and the first in any case where `wait` is set; returns the others."""
    left = []
    for at, (shard, scores, futures, made) in enumerate(waiting):
        if (wait and at == 0) or all(one.done() for one in futures):
            parts = [one.result() for one in futures]
            verdicts = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            shard.write({**scores, **verdicts}, made)
        else:
            left.append((shard, scores, futures, made))
    return left


@dataclass(frozen=True)
class Measured:
    """A shard as it was read."""

    about: dict[str, str]
    scores: Scores

    @classmethod
    def read(cls, shard: Shard) -> "Measured":
        """Read a shard.

        Raises:
            ValueError: it isn't there whole.
        """
        if not shard.file.exists():
            raise ValueError(f"no {shard.file}; run 'sample' first")
        with safe_open(shard.file, "np") as file:
            found = cls(file.metadata(), {name: file.get_tensor(name) for name in file.keys()})
        if any(len(values) != CANDIDATES for values in found.scores.values()):
            raise ValueError(f"{shard.file} has other than {CANDIDATES} candidates; remove it and run 'sample' again")
        return found


def families(directory: Path) -> dict[str, Any]:
    """On the validation prompts, by family and model: how often one sample is right, and what a search can gain."""
    found: dict[str, Any] = {}
    for shard in Shard.all(directory):
        if shard.split == "validation":
            found.setdefault(shard.prompt.family, {}).setdefault(shard.model, []).append(Measured.read(shard).scores)
    return {family: {model: _family(some) for model, some in by_model.items()} for family, by_model in found.items()}


def _family(scores: Sequence[Scores]) -> dict[str, Any]:
    strict = np.array([one["oracle"] for one in scores], float)
    names = [name for name in scores[0] if not name.startswith("oracle")]
    return {
        "one_sample": round(float(strict.mean()), 4),
        "best_of_256_oracle": round(float(strict.max(1).mean()), 4),
        "gain_32_to_64_sd": {name: round(_gain([one[name] for one in scores], 32), 3) for name in names},
    }


def _gain(scores: Sequence[np.ndarray], n: int) -> float:
    return float(np.mean([_doubling(one, n) for one in scores]))


def _doubling(values: np.ndarray, n: int) -> float:
    """Gain of random search from n to 2 n candidates, in standard deviations of the pool."""
    values = values.astype(float)
    few, more = expected_best(values, np.array([float(n), 2.0 * n]))
    return float((more - few) / values.std())


def pack(directory: Path, file: Path) -> None:
    """Write the candidates of the task's prompts into one file, as `StandardPools` reads it."""
    prompts = [(split, prompt) for split in ("validation", "evaluation") for prompt in hard_prompts(split)]
    measured = {(shard.model, shard.prompt.text): shard for shard in Shard.all(directory)}
    tensors: Scores = {}
    models = {}
    for model in EMBEDDED_MODELS:
        read = [Measured.read(measured[model, prompt.text]) for _, prompt in prompts]
        made = read[0].about
        models[model] = {
            "steps": int(made["steps"]),
            "keys": {name: key for key, name in json.loads(made["verifiers"]).items()},
            "environment": json.loads(made["environment"]),
        }
        tensors |= {f"{model}/{name}": np.stack([one.scores[name] for one in read]) for name in read[0].scores}
    listed = [{"prompt": prompt.text, "family": prompt.family, "split": split} for split, prompt in prompts]
    write_atomically(file, save(tensors, {"about": json.dumps({"prompts": listed, "models": models})}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m noise_search.shapes.train.pools", description=__doc__)
    parser.add_argument("what", nargs="?", default="sample", choices=("sample", "families", "pack"))
    parser.add_argument("--shards", type=Path, required=True, help="directory of the files")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=256, help="candidates at once")
    parser.add_argument("--count", type=int, default=CANDIDATES, help="candidates a prompt")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that judge")
    parser.add_argument("--models", nargs="*", default=list(EMBEDDED_MODELS))
    parser.add_argument("--families", nargs="*", help="of prompts; all when not given")
    parser.add_argument("--limit", type=int, help="prompts of each model and split; all when not given")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if asked.what == "families":
        print(json.dumps(families(asked.shards), indent=2))
        return
    if asked.what == "pack":
        pack(asked.shards, FILE)
        return
    asked.shards.mkdir(parents=True, exist_ok=True)
    wanted = [
        shard
        for shard in Shard.all(asked.shards)
        if shard.model in asked.models and (not asked.families or shard.prompt.family in asked.families)
    ]
    groups = itertools.groupby(wanted, lambda shard: (shard.model, shard.split))
    limited = [shard for _, some in groups for shard in list(some)[: asked.limit]]
    sample(limited, asked.device, asked.count, asked.batch, asked.processes)


if __name__ == "__main__":
    main()
