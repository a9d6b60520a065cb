"""Made-up comparisons with known truth: scores are drawn, not computed from images."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from noise_search.comparison.records import Pool, Record

NFE = 10


def record(prompt="p", algorithm="random", budget=NFE, seed=0, score=0.0, judge=None, **more) -> Record:
    judges = {} if judge is None else {"oracle": judge}
    return Record(
        prompt,
        "",
        algorithm,
        budget,
        seed,
        nfe=budget,
        rows=budget,
        seconds=more.pop("seconds", 1.0),
        **{"scores": {"clip": score}, "judges": judges, **more},
    )


def pool(scores: Sequence[float], prompt="p", seed=0, judge: Sequence[float] | None = None, **more) -> Pool:
    judges = {} if judge is None else {"oracle": tuple(judge)}
    return Pool(
        prompt, "", seed, **{"nfe": NFE, "seconds": 0.5, "scores": {"clip": tuple(scores)}, "judges": judges, **more}
    )


def gaussian_pools(
    prompts: int, seeds: int, candidates: int, correlation: float, rng: np.random.Generator
) -> list[Pool]:
    """Own scores and an oracle's, correlated within prompts, with other means and spreads per measure and prompt."""
    found = []
    for p in range(prompts):
        mean, held_mean = rng.normal(size=2)
        for s in range(seeds):
            own, noise = rng.normal(size=(2, candidates))
            held = correlation * own + np.sqrt(1 - correlation**2) * noise
            found.append(pool(0.3 * own + mean, f"p{p:03d}", s, 20 * held + held_mean))
    return found


def random_search(pools: Sequence[Pool], counts: Sequence[int]) -> list[Record]:
    """The winners of the first n candidates."""
    found = []
    for one in pools:
        for n in counts:
            best = int(np.nanargmax(one.scores["clip"][:n]))
            judge = one.judges["oracle"][best] if one.judges else None
            found.append(record(one.prompt, "random", n * NFE, one.seed, one.scores["clip"][best], judge))
    return found


def ragged(seed: int) -> tuple[list[Record], list[Pool]]:
    """Four prompts with budgets of 1 and 2 candidates, two of them with 8 and another seed too; "paths" copies random.

    A small budget of a prompt that has a large one is read off the large run, so its pool is the large one.
    """
    pools = gaussian_pools(4, 2, 8, 0.5, np.random.default_rng(seed))
    large = [one for one in pools if one.prompt in ("p000", "p001")]
    small = [
        replace(one, scores={"clip": one.scores["clip"][:2]}, judges={"oracle": one.judges["oracle"][:2]})
        for one in pools
        if one not in large and one.seed == 0
    ]
    records = random_search(small, [1, 2]) + random_search(large, [1, 2, 8])
    return records + [replace(one, algorithm="paths") for one in records], small + large


def shifted(
    pools: Sequence[Pool], algorithm: str, budget: int, move: Callable[[Pool], tuple[float, float]]
) -> list[Record]:
    """Winners whose own score and judge's are so much more than the pool's means."""
    found = []
    for one in pools:
        own, judge = move(one)
        score = float(np.mean(one.scores["clip"])) + own
        held = float(np.mean(one.judges["oracle"])) + judge
        found.append(record(one.prompt, algorithm, budget, one.seed, score, held))
    return found


def rescaled(one, factor: float, shift: float, kind: str = "scores"):
    """The record or pool with another unit of its scores, or its judges."""
    told = {name: factor * np.asarray(values) + shift for name, values in getattr(one, kind).items()}
    plain = {name: float(v) if v.ndim == 0 else tuple(v) for name, v in told.items()}
    return replace(one, **{kind: plain})
