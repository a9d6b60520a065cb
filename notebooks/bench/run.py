"""Run the bench of all algorithms: `python notebooks/bench/run.py --models shapes-flow shapes-ddim --out runs/bench`.

Every model and verifier has a directory of its own, where it goes on if it was stopped; `--results` writes what
the pages' tables are made from.
"""

import argparse
import csv
from pathlib import Path

import torch

import noise_search
from noise_search import ALGORITHMS, Comparison
from noise_search.shapes import EMBEDDED_MODELS

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("model", "verifier", "algorithm", "candidates", "prompt", "score", "oracle", "nfe", "seconds")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(EMBEDDED_MODELS))
    parser.add_argument("--algorithms", nargs="*", default=[name for name in ALGORITHMS if name != "random"])
    parser.add_argument("--verifiers", nargs="*", default=["vlm"])
    parser.add_argument("--budgets", nargs="*", type=int, default=[8, 16, 48])
    parser.add_argument("--per-family", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--results", type=Path, default=None, help=f"file to write, such as {RESULTS / 'bench.csv'}")
    asked = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # the shipped candidates were made without
    found: list[dict[str, object]] = []
    for verifier in asked.verifiers:
        for model in asked.models:
            made = noise_search.bench(
                asked.algorithms,
                model=model,
                verifier=verifier,
                budgets=asked.budgets,
                per_family=asked.per_family,
                batch_size=asked.batch_size,
                device=asked.device,
                out=asked.out / f"{model}-{verifier}",
            )
            print(f"{model}, {verifier}: {made!r}", flush=True)
            found += rows(made, model, verifier)
    if asked.results is not None:
        with asked.results.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


def rows(made: Comparison, model: str, verifier: str) -> list[dict[str, object]]:
    """What was run, a row for each search; random search is left out, as its candidates are shipped."""
    steps = made.settings["steps"]
    return [
        {
            "model": model,
            "verifier": verifier,
            "algorithm": one.algorithm,
            "candidates": one.budget // steps,
            "prompt": one.prompt,
            "score": round(one.scores[verifier], 5),
            "oracle": int(one.judges["oracle"]),
            "nfe": one.nfe,
            "seconds": round(one.seconds, 3),
        }
        for one in sorted(made.records, key=lambda one: (one.algorithm, one.budget, one.prompt))
        if one.algorithm != "random"
    ]


if __name__ == "__main__":
    main()
