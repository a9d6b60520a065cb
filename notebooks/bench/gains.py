"""How random search goes on gaining on "shapes-hard", from the shipped candidates: `python notebooks/bench/gains.py`.

It writes `results/gains.csv`: for each model, split and verifier the gain from n to 2 n candidates, in standard
deviations of the prompt's 256 candidates, with the 95 % interval of Student's t over prompts; and how often the oracle
finds the best of n right.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from noise_search.comparison.standard_pools import StandardPools
from noise_search.order_statistics import expected_best
from noise_search.shapes import EMBEDDED_MODELS

FILE = Path(__file__).parent / "results" / "gains.csv"
SPLITS = ("validation", "evaluation")
DOUBLINGS = (8, 16, 32, 64, 128)
TRUTHS = (1, 8, 16, 48, 96, 256)
_SURE, _SEEN = 1.96, 0.84
"""Of a two-sided test at 5 %, and of a power of 80 %."""


def gain(values: np.ndarray, n: int) -> float:
    """Of the expected best, from n to 2 n candidates, in standard deviations of the pool."""
    few, more = expected_best(values, np.array([float(n), 2.0 * n]))
    return float((more - few) / values.std())


def spread(values: np.ndarray, n: int) -> float:
    """Standard deviation of the best of n candidates, in standard deviations of the pool."""
    size = np.array([float(n)])
    mean, square = expected_best(values, size), expected_best(values, size, values**2)
    return float(np.sqrt(max(0.0, float(square[0] - mean[0] ** 2))) / values.std())


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean with the ends of its interval."""
    half = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def rows() -> Iterator[dict[str, object]]:
    """One for each model, split, verifier and statistic."""
    for model in EMBEDDED_MODELS:
        for split in SPLITS:
            pools = StandardPools.load(model, split)
            right = pools.scores["oracle"]
            for verifier in ("vlm", "aesthetic", "clip"):
                where = {"model": model, "split": split, "verifier": verifier}
                pool = pools.scores[verifier]
                for n in DOUBLINGS:
                    found = interval(np.array([gain(row, n) for row in pool]))
                    told = dict(zip(("value", "low", "high"), (round(one, 4) for one in found), strict=True))
                    yield {**where, "what": f"gain {n} to {2 * n}", **told}
                rises = float(np.mean([gain(row, 48) for row in pool]))
                spreads = float(np.sqrt(np.mean([spread(row, 48) ** 2 for row in pool])))
                needed = ((_SURE + _SEEN) * spreads / rises) ** 2
                yield {**where, "what": "prompts that tell twice 48 from 48", "value": round(needed)}
                true = {n: np.array([_right(*one, n) for one in zip(pool, right, strict=True)]) for n in TRUTHS}
                true = {f"best of {n}": found for n, found in true.items()}
                true["best of 256 less best of 48"] = true["best of 256"] - true["best of 48"]
                for name, values in true.items():
                    told = dict(zip(("value", "low", "high"), (round(one, 4) for one in interval(values)), strict=True))
                    yield {**where, "what": f"right, {name}", **told}


def _right(scores: np.ndarray, verdicts: np.ndarray, n: int) -> float:
    return float(expected_best(scores, np.array([float(n)]), verdicts)[0])


def main() -> None:
    """Write the file."""
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ("model", "split", "verifier", "what", "value", "low", "high"), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows())


if __name__ == "__main__":
    main()
