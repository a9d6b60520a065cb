"""What climbing is worth, and by which settings: `python notebooks/bench/sweeps.py climb ratio moves settings far`.

`climb` runs evaluation prompts of "shapes-hard" into `results/climb.csv`, the others run validation prompts into
`results/sweeps.csv`: the share of the warm start (`ratio`), the moves (`moves`), further settings (`settings`), and the
moves at large budgets (`far`). Of particles, trees and evolution `published` tells what they are worth, on evaluation
prompts (`results/field.csv`), and `field` by which settings (`results/field_sweeps.csv`). Prompts are searched in
lockstep, 8 at once; what a file has isn't run again.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import torch

import noise_search
from noise_search import BFS, Climb, EvoSearch, Halving, MonteCarloTreeSearch, TreeSearch
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.arguments import first_seed
from noise_search.prompt_sets import load

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("model", "verifier", "algorithm", "candidates", "prompt", "score", "oracle", "nfe", "seconds")
TASK = "shapes-hard"
FLOW, DDIM = "shapes-flow", "shapes-ddim"
_AT_ONCE = 8


@dataclass(frozen=True)
class Case:
    """One setting on one model by one verifier, on so many prompts of each family."""

    model: str
    verifier: str
    algorithm: str
    candidates: int
    per_family: int


ALGORITHMS: dict[str, SearchAlgorithm] = {
    "climb": Climb(),
    "halving": Halving(),
    "climb, neighbours alone": Climb(moves=("neighbour",)),
    "climb, branches alone": Climb(moves=("branch",)),
    **{f"climb, warm start {share}": Climb(warm_start=share) for share in (0.2, 0.4, 0.6, 0.8)},
}
SETTINGS: dict[str, SearchAlgorithm] = {
    "climb, as it is": Climb(),
    "climb, 3 children": Climb(children=3),
    "climb, 12 children": Climb(children=12),
    "climb, first cosine 0.9": Climb(cosine=0.9),
    "climb, first cosine 0.99": Climb(cosine=0.99),
    "climb, patience 1": Climb(patience=1),
    "climb, patience 4": Climb(patience=4),
    "climb, one finished": Climb(finish=1),
    "climb, rungs 0.3 and 0.5": Climb(rungs=(0.3, 0.5)),
}
FIELD: dict[str, SearchAlgorithm] = {
    "bfs, as it is": BFS(),
    "bfs, strength 2": BFS(strength=2),
    "bfs, strength 8": BFS(strength=8),
    "bfs, from .45": BFS(start=0.45),
    "bfs, mix": BFS(transition="mix"),
    "bfs, rho .7": BFS(rho=0.7),
    "dts, as it is": TreeSearch(),
    "dts, 1 at once": TreeSearch(parallel=1),
    "dts, nodes at .15, .25, .35 and .45, 1 at once": TreeSearch(points=(0.15, 0.25, 0.35, 0.45), parallel=1),
    "mcts, as it is": MonteCarloTreeSearch(),
    "mcts, 1 at once": MonteCarloTreeSearch(parallel=1),
    "mcts, nodes at .2 and .35, 1 at once": MonteCarloTreeSearch(points=(0.2, 0.35), parallel=1),
    **{
        f"evo-search, starts {', '.join(map(str, starts))}": EvoSearch(starts=starts)
        for starts in ((0, 0.4, 0.6, 0.8), (0, 0.2, 0.4), (0.2, 0.4), (0.1, 0.2, 0.3), (0.2,), (0,))
    },
}
PUBLISHED = ("fk", "das", "svdd", "bfs", "beam", "lookahead", "dts", "mcts", "evo-search", "halving")
ALGORITHMS |= SETTINGS | FIELD
RATIOS = [name for name in ALGORITHMS if "warm" in name]
ALONE = [name for name in ALGORITHMS if "alone" in name]
SWEEPS: dict[str, list[Case]] = {
    "climb": [
        Case(FLOW, "clip", "climb", 48, 6),
        Case(DDIM, "aesthetic", "climb", 48, 15),
        Case(FLOW, "vlm", "climb", 48, 15),
    ],
    "ratio": [Case(FLOW, "aesthetic", name, 16, 6) for name in (*RATIOS, "halving")],
    "moves": [Case(DDIM, "aesthetic", name, 48, 3) for name in (*ALONE, "climb", "halving")],
    "settings": [Case(FLOW, "aesthetic", name, 40, 3) for name in SETTINGS],
    "published": [
        Case(model, "aesthetic", name, n, 3) for n in (8, 16, 48) for model in (FLOW, DDIM) for name in PUBLISHED
    ],
    "field": [Case(FLOW, "aesthetic", name, 16, 3) for name in FIELD],
    "far": [
        Case(FLOW, verifier, name, count, 2)
        for count in (24, 96, 256)
        for verifier in ("aesthetic", "vlm")
        for name in ALONE
    ],
}

FILES = {
    "climb": ("evaluation", "climb.csv"),
    "field": ("validation", "field_sweeps.csv"),
    "published": ("evaluation", "field.csv"),
}


def run(case: Case, split: str, file: Path) -> None:
    """Search the prompts that the file doesn't have, and append them."""
    asked = (case.model, case.verifier, case.algorithm, str(case.candidates))
    have = set()
    if file.exists():
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            have = {row["prompt"] for row in rows if tuple(row[name] for name in COLUMNS[:4]) == asked}
    texts = [one for one in load(TASK, split=split, per_family=case.per_family).texts if one not in have]
    for at in range(0, len(texts), _AT_ONCE):
        some = texts[at : at + _AT_ONCE]
        made = noise_search.search(
            some,
            model=case.model,
            algorithm=ALGORITHMS.get(case.algorithm, case.algorithm),
            verifier=case.verifier,
            judges=["oracle"],
            candidates=case.candidates,
            seed=[first_seed(text) for text in some],
            batch_size=32,
            top_k=1,
            progress=False,
        )
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            for text, one in zip(some, made, strict=True):
                (right,) = one.best.judges.values()
                seconds = sum(one.ledger.seconds.values())
                writer.writerow((*asked, text, round(one.score, 5), int(right), one.ledger.nfe, round(seconds, 3)))
        print(*asked, f"{at + len(some)} of {len(texts)}", flush=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="+", choices=SWEEPS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # the shipped candidates were made without
    for name in asked.sweeps:
        split, file = FILES.get(name, ("validation", "sweeps.csv"))
        for case in SWEEPS[name]:
            run(case, split, asked.results / file)


if __name__ == "__main__":
    main()
