"""Random, zero-order and path search at equal NFE on the embedded pipelines, by verifier (Ma et al., Table 2).

    python tests/benchmarks/three_algorithms.py run shapes-flow --out runs/three
    python tests/benchmarks/three_algorithms.py report --out runs/three

`run` may be killed and started again: it appends a line per prompt to a file per model and skips what is there. All of
it is 120 prompts, 2 repeats, 3 verifiers and budgets of 4 and 16 candidates: about an hour of one core and model.
`report` prints the table and writes `table.json` and `table.png`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from three_algorithms_report import report

from noise_search import RandomSearch, SearchOverPaths, SearchResult, ZeroOrderSearch, search
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.shapes.captions import evaluation_prompts
from verifiers.aggregators.ranks import ranks

BUDGETS = (4, 16)
REPEATS = (0, 1)
SPACING = 1000
"""Between the seeds of two repeats: random search's noise i is seed + i, and repeats must not share noises."""
CHUNK = 24
VERIFIERS = {"clip": ["clip"], "aesthetic": ["aesthetic"], "ensemble": ["clip", "aesthetic"]}
MEASURES = ("clip", "aesthetic", "oracle")


class Task(NamedTuple):
    """One call of `search`: a chunk of prompts under one algorithm."""

    repeat: int
    chunk: int
    algorithm: str
    verifier: str
    candidates: int


def tasks(chunks: int) -> Iterator[Task]:
    """Everything that one model has to run; random search's candidates don't depend on the verifier, so once."""
    for repeat in REPEATS:
        for chunk in range(chunks):
            yield Task(repeat, chunk, "random", "clip", max(BUDGETS))
            for verifier in VERIFIERS:
                yield Task(repeat, chunk, "zero-order", verifier, max(BUDGETS))
                for budget in BUDGETS:
                    yield Task(repeat, chunk, "paths", verifier, budget)


def run(model: str, out: Path) -> None:
    """Run what is missing."""
    prompts = [p.text for p in evaluation_prompts()]
    chunks = [prompts[i : i + CHUNK] for i in range(0, len(prompts), CHUNK)]
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{model}.jsonl"
    done = {tuple(json.loads(line)["task"]) for line in file.read_text().splitlines()} if file.exists() else set()
    algorithms = {a.name: a for a in (RandomSearch(), ZeroOrderSearch(), SearchOverPaths())}
    for task in tasks(len(chunks)):
        if tuple(task) in done:
            continue
        asked = VERIFIERS[task.verifier]
        results = search(
            chunks[task.chunk],
            model=model,
            algorithm=algorithms[task.algorithm],
            verifier=asked,
            judges=[m for m in MEASURES if m not in asked],
            candidates=task.candidates,
            seed=SPACING * task.repeat,
            top_k=task.candidates if task.algorithm == "random" else 1,
            batch_size=32,
            progress=False,
        )
        records = [record for result in results for record in _records(task, result)]
        with file.open("a") as stream:
            stream.write(json.dumps({"task": task, "records": records}) + "\n")
        print(model, *task, f"{results[0].ledger.seconds['denoise']:.0f} s denoising per prompt", flush=True)


def _records(task: Task, result: SearchResult) -> Iterator[dict[str, Any]]:
    """A record per verifier and budget that this one search answers for."""
    for verifier in VERIFIERS if task.algorithm == "random" else [task.verifier]:
        for budget in BUDGETS if task.algorithm != "paths" else [task.candidates]:
            winner, nfe = result.candidates.index(result.best), result.ledger.nfe
            if task.algorithm != "paths":  # their first candidates are what a smaller budget gives
                winner, nfe = _best_of(result, verifier, budget), result.candidates[budget - 1].nfe
            yield {
                "repeat": task.repeat,
                "prompt": result.prompt,
                "algorithm": task.algorithm,
                "verifier": verifier,
                "budget": budget,
                "nfe": nfe,
                "first": _measured(result, 0),
                "values": _measured(result, winner),
            }


def _best_of(result: SearchResult, verifier: str, count: int) -> int:
    """The winner among the first candidates, by score or mean rank."""
    table = [np.array([_all(result, i)[name] for i in range(count)]) for name in VERIFIERS[verifier]]
    values = table[0] if len(table) == 1 else np.mean([ranks(row) for row in table], axis=0)
    return int(values.argmax())


def _all(result: SearchResult, which: int) -> dict[str, float]:
    candidate = result.candidates[which]
    return {key.split("@")[0]: value for key, value in (candidate.scores | candidate.judges).items()}


def _measured(result: SearchResult, which: int) -> dict[str, float]:
    found = _all(result, which)
    return {name: found[name] for name in MEASURES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("model", choices=sorted(EMBEDDED_MODELS))
    runner.add_argument("--threads", type=int, default=1)
    reporter = commands.add_parser("report")
    for each in (runner, reporter):
        each.add_argument("--out", type=Path, default=Path("runs/three"))
    given = parser.parse_args(arguments)
    if given.command == "run":
        torch.set_num_threads(given.threads)
        run(given.model, given.out)
    else:
        report(given.out)


if __name__ == "__main__":
    main()
