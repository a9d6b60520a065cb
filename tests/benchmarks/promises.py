"""How often a comparison's intervals, verdicts, worths and alarms are right: `python tests/benchmarks/promises.py`.

Scores are drawn, so that the truth is known: Gaussian within a prompt, a judge's correlated with them. Takes some
minutes; `--repeats` makes it longer and its rates surer. The suite has small versions of the same.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from noise_search.comparison.comparison import Comparison
from noise_search.comparison.statistics.intervals import mean_interval
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.statistics.transfer import alarms, transfers
from noise_search.comparison.views.answer import answer
from tiny.made_up import NFE, gaussian_pools, pool, random_search, record

PROMPT, NOISE, REST = 0.193, 0.0447, 0.494
"""Variances of a prompt, of a noise over all prompts, and of the rest: "aesthetic" on shapes-flow."""


def coverage(prompts: int, seeds: int, repeats: int, rng: np.random.Generator) -> tuple[float, float]:
    """How often the interval of a mean holds the truth, and that of a difference of two equal ones excludes 0."""
    names = [f"p{i:03d}" for i in range(prompts) for _ in range(seeds)]
    held = false = 0
    for _ in range(repeats):
        one, other = rng.normal(0, (NOISE + REST) ** 0.5, (2, 4, prompts, seeds)).max(axis=1)
        single = rng.normal(0, PROMPT**0.5, (prompts, 1)) + rng.normal(0, (NOISE + REST) ** 0.5, (prompts, seeds))
        found = mean_interval(single.ravel(), names)
        held += found.low <= 0 <= found.high
        false += mean_interval((one - other).ravel(), names).side != 0
    return held / repeats, false / repeats


def named(prompts: int, others: int, repeats: int, rng: np.random.Generator) -> float:
    """How many reports name a winner or a loser among algorithms that are all random search with other noises."""
    told = 0
    for _ in range(repeats):
        pools = gaussian_pools(prompts, 1, 16, 0.4, rng)
        records = random_search(pools, [4, 16])
        for which in range(others):
            mine = gaussian_pools(prompts, 1, 16, 0.4, np.random.default_rng(rng.integers(2**32)))
            shifted = _with_means_of(mine, pools)
            records += [_as(one, f"other {which}") for one in random_search(shifted, [4, 16])]
        first, details, judged = answer(Comparison(tuple(records), tuple(pools), {}))
        told += (
            "is better than" in first
            or "Clearly worse" in details
            or "finds them better" in judged
            or "finds them worse" in judged
        )
    return told / repeats


def _with_means_of(mine, pools):
    """Pools of other candidates for the same prompts."""
    found = []
    for one, other in zip(mine, pools, strict=True):
        scores = np.array(one.scores["clip"]) - np.mean(one.scores["clip"])
        judge = np.array(one.judges["oracle"]) - np.mean(one.judges["oracle"])
        means = np.mean(other.scores["clip"]), np.mean(other.judges["oracle"])
        found.append(pool(scores + means[0], other.prompt, other.seed, judge + means[1]))
    return found


def _as(one, algorithm):
    return record(one.prompt, algorithm, one.budget, one.seed, one.scores["clip"], one.judges["oracle"])


def worth(prompts: int, budget: int, times: float, limit: int, repeats: int, rng: np.random.Generator):
    """Coverage, median and share of bounds of what is worth so many times, with pools that grow as `compare`'s do."""
    held, values, bounds = 0, [], 0
    for _ in range(repeats):
        best = rng.normal(size=(prompts, round(budget * times))).max(axis=1)
        records = [record(f"p{i:03d}", "paths", budget * NFE, 0, score) for i, score in enumerate(best)]
        candidates, known = rng.normal(size=(prompts, budget * limit)), budget
        while True:
            pools = [pool(one[:known], f"p{i:03d}") for i, one in enumerate(candidates)]
            found = multipliers(records, pools)[0].times
            if not found.at_least or known == budget * limit:
                break
            known = min(2 * known, budget * limit)
        low = 0 if "low" in found.at_most else found.low
        high = np.inf if "high" in found.at_least else found.high
        held += low <= times <= high
        bounds += "value" in found.at_least
        values.append(found.value)
    return held / repeats, float(np.median(values)), bounds / repeats


def alarmed(prompts: int, correlation: float, repeats: int, rng: np.random.Generator) -> float:
    """How many comparisons sound an alarm where nothing is hacked."""
    told = 0
    for _ in range(repeats):
        pools = gaussian_pools(prompts, 1, 16, correlation, rng)
        told += bool(alarms(transfers(random_search(pools, [4, 16]), pools)))
    return told / repeats


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    for prompts, seeds in ((12, 1), (30, 1), (30, 2), (120, 2)):
        held, false = coverage(prompts, seeds, repeats, rng)
        print(f"{prompts} prompts, {seeds} seeds: intervals hold {held:.3f}, false differences {false:.3f}", flush=True)
    for prompts in (2, 4, 8, 12, 30, 120):
        for others in (1, 2, 5):
            print(
                f"{prompts} prompts, {others} others: named {named(prompts, others, repeats // 4, rng):.3f}", flush=True
            )
    for prompts in (6, 12, 30):
        for budget, times in ((4, 1), (4, 2), (16, 1), (16, 2), (16, 4)):
            held, median, bounds = worth(prompts, budget, times, 16, repeats, rng)
            told = f"worth {times} reads {median:.2f}, held {held:.3f}, bounds {bounds:.3f}"
            print(f"{prompts} prompts, {budget} candidates: {told}", flush=True)
    for prompts in (8, 12, 30):
        for correlation in (0.0, 0.4):
            told = alarmed(prompts, correlation, repeats, rng)
            print(f"{prompts} prompts, correlation {correlation}: false alarms {told:.3f}", flush=True)


if __name__ == "__main__":
    main()
