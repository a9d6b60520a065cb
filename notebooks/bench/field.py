"""What the bench doesn't tell of the field's searches: `python -m notebooks.bench.field glass seconds`.

`glass`: whether single samples lose quality where all of their steps take fresh noise. Evaluation prompts of
"shapes-hard", up to `--per-family` of a family, have two noises each, which the embedded flow model brings to the end
by the ODE and by transitions with rho = .4; rows of `results/glass.csv`, from which it goes on.

`seconds`: processor seconds of one search of 16 candidates by each algorithm, on one thread, the model loaded and warm;
wall-clock times depend on what else the machine does. Rows of `results/seconds.csv`.
"""

import argparse
import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from noise_search import ALGORITHMS, prompt_sets, search
from noise_search.arguments import first_seed
from noise_search.models import load_model
from noise_search.resolve import resolve_verifier
from samplers import Glass, Mix

RESULTS = Path(__file__).parent / "results"
GLASS, SECONDS = RESULTS / "glass.csv", RESULTS / "seconds.csv"
STEPS, SEEDS, COUNT = 20, 2, 16
WAYS = {
    "ODE": None,
    "GLASS, 4 for each step": Glass(0.4, 4, stride=1),
    "GLASS, 4 for 4 steps": Glass(0.4, 4),
    "mix": Mix(0.4),
}
SCORES = ("aesthetic", "clip", "vlm", "oracle")
Row = dict[str, object]


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("glass", "seconds"))
    parser.add_argument("--per-family", type=int, default=6)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if "glass" in asked.what:
        append(GLASS, glass(asked.per_family, known(GLASS, "prompt")))
    if "seconds" in asked.what:
        append(SECONDS, seconds(known(SECONDS, "algorithm")))


def known(file: Path, name: str) -> set[str]:
    """What a column of a file has so far."""
    if not file.is_file():
        return set()
    with file.open(encoding="utf-8", newline="") as lines:
        return {row[name] for row in csv.DictReader(lines)}


def append(file: Path, found: Iterable[list[Row]]) -> None:
    """Write rows as they come."""
    for rows in found:
        new = not file.is_file()
        with file.open("a", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, rows[0], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)


def glass(per_family: int, done: set[str]) -> Iterator[list[Row]]:
    """By prompt, noise and way, the scores of the image."""
    model = load_model("shapes-flow")
    verifiers = {name: resolve_verifier(name, model) for name in SCORES}
    space = model.sampler.space(steps=STEPS)
    for prompt in prompt_sets.load("shapes-hard", split="evaluation", per_family=per_family).texts:
        if prompt in done:
            continue
        seeds = [first_seed(prompt) + i for i in range(SEEDS)]
        noise, rows = space.fresh(seeds, model.sampler.condition(prompt)), list[Row]()
        for way, transition in WAYS.items():
            images = model.sampler.decode(model.sampler.run(noise, space.end, transition=transition).final)
            scores = {name: one(images, [prompt] * SEEDS).tolist() for name, one in verifiers.items()}
            cost = space.cost(0, space.end, transition)
            for i, seed in enumerate(seeds):
                told = {name: round(float(values[i]), 5) for name, values in scores.items()}
                rows.append({"prompt": prompt, "seed": seed, "way": way, "nfe": cost, **told})
        yield rows


def seconds(done: set[str]) -> Iterator[list[Row]]:
    """By algorithm, what a search of so many candidates takes of a processor."""
    asked: Mapping[str, object] = {"model": "shapes-flow", "verifier": "aesthetic", "progress": False}
    search("a red circle", algorithm="random", candidates=2, **asked)
    for name in ALGORITHMS:
        if name not in done:
            began = time.process_time()
            found = search("two yellow stars and a blue ring", algorithm=name, candidates=COUNT, **asked)
            spent = time.process_time() - began
            yield [{"algorithm": name, "candidates": COUNT, "nfe": found.ledger.nfe, "seconds": round(spent, 2)}]


if __name__ == "__main__":
    main()
