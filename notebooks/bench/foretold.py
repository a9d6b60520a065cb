"""Whether budgets foretold by a calibration hold on other prompts: `python -m notebooks.bench.foretold`.

Of the 24 validation prompts of "shapes-hard", 32 of the shipped candidates make up a calibration, which foretells how
many candidates reach a target with a chance of 80 %; 8 times, with other candidates each. The 60 evaluation prompts
show how often so many random ones of a prompt's 256 do, exactly. Beside it stands what a normal of the same prompts'
level, differences and spread foretells. It writes `results/foretold.csv`.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, stdtrit

from noise_search.algorithms.knowledge import Calibration
from noise_search.comparison.standard_pools import StandardPools
from noise_search.shapes import EMBEDDED_MODELS
from notebooks.bench.shares import VERIFIERS, missed

FILE = Path(__file__).parent / "results" / "foretold.csv"
QUANTILES, NOISES, CHANCE = (0.5, 0.6, 0.75, 0.9), 32, 0.8
COLUMNS = ("model", "verifier", "target", "by", "told", "candidates", "reached", "low", "high")

Values = NDArray[np.float64]


def by_scores(known: Values) -> Callable[[float], float]:
    """As a search foretells it."""
    kept = tuple(map(tuple, known.tolist()))
    return Calibration("", "", 0, {}, scores=kept).candidates_for


def by_normal(known: Values) -> Callable[[float], float]:
    """The least n with a mean of 1 - Phi((target - m) / spread)^n over a normal's levels m, by Gauss-Hermite."""
    means, spread = known.mean(1), known.std(axis=1, ddof=1).mean()
    between = np.sqrt(max(0.0, means.var(ddof=1) - spread**2 / known.shape[1]))
    nodes, weights = np.polynomial.hermite.hermgauss(64)
    levels = means.mean() + np.sqrt(2) * between * nodes

    def candidates_for(target: float) -> float:
        counts = np.arange(1, 8 * known.shape[1] + 1)[:, None]
        reached = -np.expm1(counts * log_ndtr((target - levels) / spread)) @ weights / np.sqrt(np.pi)
        return float(np.argmax(reached >= CHANCE) + 1) if reached[-1] >= CHANCE else np.inf

    return candidates_for


WAYS = {"scores": by_scores, "normal": by_normal}


def measured(model: str, verifier: str) -> Iterator[dict[str, object]]:
    """A row for each target and way to foretell."""
    known, asked = (StandardPools.load(model, split).scores[verifier] for split in ("validation", "evaluation"))
    parts = np.split(known, known.shape[1] // NOISES, axis=1)
    for quantile in QUANTILES:
        target = float(np.quantile(known, quantile))
        missing = missed(asked, target)
        for name, way in WAYS.items():
            counts = [way(part)(target) for part in parts]
            told = [int(count) for count in counts if count < missing.shape[1]]
            row = {"model": model, "verifier": verifier, "target": quantile, "by": name, "told": len(told)}
            if told:
                reached = 1 - missing[:, told].mean(1)
                half = float(stdtrit(len(reached) - 1, 0.975)) * reached.std(ddof=1) / np.sqrt(len(reached))
                ends = {"reached": reached.mean(), "low": reached.mean() - half, "high": reached.mean() + half}
                row |= {"candidates": float(np.median(told)), **{k: round(float(v), 4) for k, v in ends.items()}}
            yield row


def main() -> None:
    """Write the file."""
    rows = [row for model in EMBEDDED_MODELS for verifier in VERIFIERS for row in measured(model, verifier)]
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
