"""Print the table of `docs/bench.md` from `results/bench.csv` and the shipped candidates.

python notebooks/bench/table.py
"""

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from noise_search import Comparison
from noise_search.comparison.records import Record
from noise_search.comparison.standard_pools import StandardPools
from noise_search.comparison.statistics.multiplier import Multiplier

FILE = Path(__file__).parent / "results" / "bench.csv"


def comparisons() -> Iterator[tuple[str, str, Comparison]]:
    """The comparison of each model and verifier that was run."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for (model, verifier), some in groupby(rows, lambda row: (row["model"], row["verifier"])):
        pools = StandardPools.load(model, "evaluation")
        run = [
            Record(
                row["prompt"],
                pools.families[pools.prompts.index(row["prompt"])],
                row["algorithm"],
                int(row["candidates"]) * pools.steps,
                0,
                nfe=int(row["nfe"]),
                rows=0,
                seconds=float(row["seconds"]),
                scores={verifier: float(row["score"])},
                judges={"oracle": float(row["oracle"])},
            )
            for row in some
        ]
        budgets = sorted({one.budget for one in run})
        prompts = list(dict.fromkeys(one.prompt for one in run))
        known = pools.records(prompts, budgets, verifier, ["oracle"], float("nan"))
        records = [one for one in known if isinstance(one, Record)]
        shipped = [one for one in known if not isinstance(one, Record)]
        yield model, verifier, Comparison((*records, *run), tuple(shipped), {})


def worth(found: Multiplier) -> str:
    """How many random candidates one of the search's is worth, with the interval; bounds are said as such."""
    sign = {"at_least": "≥ ", "at_most": "≤ "}
    ends = ("value", "low", "high")
    texts = [
        next((mark for side, mark in sign.items() if end in getattr(found.times, side)), "")
        + f"{getattr(found.times, end):.2f}"
        for end in ends
    ]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def main() -> None:
    """Print the table as Markdown."""
    print("| model | verifier | algorithm | candidates | worth | oracle less random |")
    print("|---|---|---|---|---|---|")
    for model, verifier, found in comparisons():
        truth = {(one.algorithm, one.budget): one.difference for one in found.differences("oracle")}
        for one in found.multipliers():
            if one.algorithm != "random":
                by = truth[one.algorithm, one.budget]
                told = f"{by.value:+.2f} [{by.low:+.2f}, {by.high:+.2f}]"
                print(f"| {model} | {verifier} | {one.algorithm} | {one.bought} | {worth(one)} | {told} |")


if __name__ == "__main__":
    main()
