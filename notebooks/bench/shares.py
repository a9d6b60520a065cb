"""What sharing a budget over prompts is worth, replayed on the shipped candidates: `python -m notebooks.bench.shares`.

The 60 evaluation prompts of "shapes-hard" share the budget of `candidates` each, of their 256 random candidates in
several random orders. `noise_search.engine.shares.Shares` decides as in a search; a table answers in place of the
model, and no prompt gets more than its 256. A target is a quantile of all candidates' scores, and a prompt passes that
reaches it. What is saved is the share of NFE that isn't needed for the pass rate of equal budgets that don't stop.
Equal budgets that do pass as many; and so does "threshold" with a pool of what these spend, as both run every prompt
until the target, or equally far: their chances are exact. For "difficulty" pass rates are interpolated between budgets.
Intervals are the bootstrap's over prompts, with what each was granted held fixed. It writes `results/shares.csv`.
"""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noise_search.comparison.standard_pools import StandardPools
from noise_search.engine.shares import Share, Shares
from noise_search.shapes import EMBEDDED_MODELS

FILE = Path(__file__).parent / "results" / "shares.csv"
VERIFIERS = ("vlm", "clip", "aesthetic")
QUANTILES, COUNTS = (0.6, 0.75, 0.9), (4, 8, 16, 32)
GRID = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
"""Budgets at which ways to share are replayed, in candidates a prompt."""
ORDERS, RESAMPLED = 8, 2000
STOPPED = "equal, stopped"
COLUMNS = ("model", "verifier", "target", "candidates", "share", *("rate", "low", "high"))
COLUMNS += tuple(f"{what}{end}" for what in ("more", "beyond", "saved") for end in ("", "_low", "_high"))

Values = NDArray[np.float64]


def played(shares: Shares, tables: Values, pool: int) -> NDArray[np.int64]:
    """Candidates that each prompt gets of a pool, `[prompt]`, from its row of scores."""
    prompts, most = tables.shape
    goal = np.inf if shares.target is None else shares.target
    needed = np.where((tables >= goal).any(1), (tables >= goal).argmax(1) + 1, most)
    tries = np.zeros(prompts, dtype=np.int64)
    while True:
        scores = [row[:count] for row, count in zip(tables, tries, strict=True)]
        grants = shares.grants(scores, list(tries < needed), pool - int(tries.sum()))
        if not any(grants):
            return tries
        tries = np.minimum(tries + grants, needed)


def orders(scores: Values) -> Iterator[Values]:
    """Every prompt's candidates in random orders."""
    for seed in range(ORDERS):
        yield np.random.default_rng(seed).permuted(scores, axis=1)


def best(tables: Values, tries: NDArray[np.int64]) -> Values:
    """The best of each prompt's first candidates."""
    return np.array([row[:count].max() for row, count in zip(tables, tries, strict=True)])


@cache
def drawn(prompts: int) -> NDArray[np.int64]:
    """Resampled prompts `[sample, prompt]`, the prompts themselves first."""
    found = np.random.default_rng(0).integers(0, prompts, (RESAMPLED, prompts))
    return np.concatenate([np.arange(prompts)[None], found])


def told(name: str, values: Values) -> dict[str, float]:
    """The value, which stands first, and the 95 % interval of the resampled others."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    ends = {name: values[0], f"{name}_low": low, f"{name}_high": high}
    return {key: round(float(value), 4) for key, value in ends.items()}


def missed(scores: Values, target: float) -> Values:
    """The chance of each prompt that its first n candidates in random order all miss, `[prompt, n]` from n = 0 on."""
    most = scores.shape[1]
    misses = (scores < target).sum(1)[:, None]
    each = np.clip(misses - np.arange(most), 0, None) / (most - np.arange(most))
    return np.concatenate([np.ones((len(scores), 1)), np.cumprod(each, axis=1)], axis=1)


def passing(scores: Values, target: float, quantile: float) -> Iterator[dict[str, object]]:
    """Pass rates by each way to share, at equal NFE, and the NFE that each needs for an equal pass rate."""
    sample, alone = drawn(len(scores)), missed(scores, target)

    def rates(rule: Share, count: int) -> Values:
        """Of the prompts, and of the resampled ones."""
        pool = count * len(scores)
        passed = [best(one, played(Shares(rule, target), one, pool)) >= target for one in orders(scores)]
        return np.asarray(np.mean(passed, axis=0)[sample].mean(1))

    by_difficulty = {count: rates("difficulty", count) for count in GRID}
    curves = np.stack([*by_difficulty.values()], axis=1)
    for count in COUNTS:
        where = {"target": quantile, "candidates": count}
        equal, threshold = (1 - alone[:, count])[sample].mean(1), rates("threshold", count)
        difficulty = by_difficulty[count]
        spent = told("saved", 1 - alone[:, :count].sum(1)[sample].mean(1) / count)
        needed = np.array([np.interp(rate, *_rising(curve)) for rate, curve in zip(equal, curves, strict=True)])
        yield {**where, "share": "equal", **_rated(equal)}
        yield {**where, "share": STOPPED, **_rated(equal), **spent}
        yield {**where, "share": "threshold", **_rated(threshold), **told("more", threshold - equal), **spent}
        more = told("more", difficulty - equal) | told("beyond", difficulty - threshold)
        yield {**where, "share": "difficulty", **_rated(difficulty), **more, **told("saved", 1 - needed / count)}


def _rated(values: Values) -> dict[str, float]:
    """A pass rate with its interval."""
    return dict(zip(("rate", "low", "high"), told("rate", values).values(), strict=True))


def _rising(rates: Values) -> tuple[Values, Values]:
    """Rates that rise with the budget, and the least budgets of each."""
    found, first = np.unique(np.maximum.accumulate([0.0, *rates]), return_index=True)
    return found, np.array([0, *GRID], dtype=float)[first]


def raising(scores: Values) -> Iterator[dict[str, object]]:
    """Without a target: the mean best score less that of equal budgets, in standard deviations within a prompt."""
    spread, sample = scores.std(axis=1, ddof=1).mean(), drawn(len(scores))
    for count in COUNTS:
        more = [
            best(one, played(Shares("difficulty"), one, count * len(scores))) - one[:, :count].max(1)
            for one in orders(scores)
        ]
        gained = np.mean(more, axis=0)[sample].mean(1) / spread
        yield {"target": "", "candidates": count, "share": "difficulty", **told("more", gained)}


def main() -> None:
    """Write the file."""
    rows: list[dict[str, object]] = []
    for model in EMBEDDED_MODELS:
        pools = StandardPools.load(model, "evaluation")
        for verifier in VERIFIERS:
            scores, where = pools.scores[verifier], {"model": model, "verifier": verifier}
            for quantile in QUANTILES:
                target = float(np.quantile(scores, quantile))
                rows += [{**where, **one} for one in passing(scores, target, quantile)]
            rows += [{**where, **one} for one in raising(scores)]
            print(f"{model}, {verifier}", flush=True)
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
