"""Print the table of `docs/bench.md` from `results/bench.csv` and the shipped candidates.

python notebooks/bench/table.py
"""

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from noise_search import Comparison
from noise_search.comparison.cells import first_seed
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
                offset=first_seed(row["prompt"]),
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
    marks = {"≥ ": found.times.at_least, "≤ ": found.times.at_most}
    ends = {end: f"{getattr(found.times, end):.2f}" for end in ("value", "low", "high")}
    for mark, bounded in marks.items():
        ends |= {end: mark + ends[end] for end in bounded}
    return f"{ends['value']} [{ends['low']}, {ends['high']}]"


def main() -> None:
    """Print as Markdown what a search's candidates are worth, and by how much its images are right more often."""
    worths: dict[tuple[str, ...], list[str]] = {}
    truths: dict[tuple[str, ...], list[str]] = {}
    counts: dict[int, None] = {}
    for model, verifier, found in comparisons():
        for one in found.multipliers():
            if one.algorithm != "random":
                counts[one.bought] = None
                worths.setdefault((model, verifier, one.algorithm), []).append(worth(one))
        for other in found.differences("oracle"):
            by = other.difference
            told = f"{by.value:+.2f} [{by.low:+.2f}, {by.high:+.2f}]"
            truths.setdefault((model, verifier, other.algorithm), []).append(told)
    for title, cells in (("worth", worths), ("oracle less random's", truths)):
        print(f"| {title} | {' | '.join(f'{count} candidates' for count in counts)} |")
        print("|---" * (1 + len(counts)) + "|")
        for names, told in cells.items():
            print(f"| {', '.join(f'`{name}`' for name in names)} | {' | '.join(told)} |")
        print()


if __name__ == "__main__":
    main()
