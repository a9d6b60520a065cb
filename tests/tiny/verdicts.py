"""Searches by random search whose scores are drawn, with judges of a known rank correlation, and their verdicts."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from noise_search.diagnosis.checks import Rescoring, WrongPrompts
from noise_search.diagnosis.judges import heldout
from noise_search.diagnosis.verdict import judged
from noise_search.results.candidate import Candidate
from noise_search.results.ledger import Ledger
from noise_search.results.result import SearchResult
from samplers.recipe import Recipe

KEPT, OTHER = Rescoring({"flip": 1.0}, {}, {}), WrongPrompts(1.0, {"other": 0.0}, {})
"""Nothing but the judges speaks against a gain."""


@cache
def _fresh(count: int) -> list[Recipe]:
    return [Recipe.start("fresh", seed=i) for i in range(count)]


def searched(own: np.ndarray, judges: np.ndarray, top_k: int | None = None, recipes: Sequence[Recipe] = ()):
    """The result of a search with these values `[pool]` and scores `[judge, pool]`; judged is what such a search keeps.

    Args:
        own: by the verifier.
        judges: of all candidates.
        top_k: how many of the best it keeps, besides the first and every new best; all when None.
        recipes: of the candidates; fresh noises when left out.
    """
    count = len(own)
    bests = [i for i in range(count) if own[i] == own[: i + 1].max()]
    kept = {0, *bests, *np.argsort(-own)[:top_k].tolist()}
    recipes = recipes or _fresh(count)
    names = [f"j{row}@1" for row in range(len(judges))]
    candidates = [
        Candidate(
            id=i,
            recipe=recipes[i],
            step=1,
            finished=True,
            nfe=i + 1,
            score=float(own[i]),
            scores={"v@1": float(own[i])},
            judges={name: float(row[i]) for name, row in zip(names, judges, strict=True)} if i in kept else {},
        )
        for i in range(count)
    ]
    described = {"name": "v", "verifiers": [{"name": "v", "version": "1", "kind": "score"}]}
    return SearchResult(
        prompt="a",
        candidates=tuple(candidates),
        bests=tuple(candidates[i] for i in bests),
        bests_nfe=tuple(i + 1 for i in bests),
        ledger=Ledger(nfe_budget=count),
        stop_reason="budget spent",
        settings={"seed": 0, "verifier": described, "families": {}},
    )


def correlated(
    rng: np.random.Generator, count: int, rank_correlations: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Normal values `[pool]`, and scores `[judge, pool]` of these rank correlations with them."""
    own = rng.normal(size=count)
    mix = 2 * np.sin(math.pi / 6 * np.array(rank_correlations))[:, None]  # what Spearman's is of normal scores
    return own, mix * own + np.sqrt(1 - mix**2) * rng.normal(size=(len(mix), count))


def verdict_of(result: SearchResult) -> str:
    return judged(2.0, (), KEPT, OTHER, heldout(result)).status


def rates(
    candidates: int, rank_correlations: Sequence[float], top_k: int | None = None, searches: int = 500, seed: int = 0
) -> dict[str, float]:
    """The share of each verdict among searches with a gain."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    while found.total() < searches:
        own, judges = correlated(rng, candidates, rank_correlations)
        if own.argmax():
            found[verdict_of(searched(own, judges, top_k))] += 1
    return {status: found[status] / searches for status in ("real", "not real", "can't tell", "doubtful")}


def climbed(rng: np.random.Generator, rounds: int, neighbours: int, cosine: float = 0.9, size: int = 48):
    """A climb by a linear verifier, and an unrelated linear judge of it: values, scores and recipes."""
    pivot, recipe = rng.normal(size=size), Recipe.start("fresh", seed=0)
    verifier, judge = np.linalg.qr(rng.normal(size=(size, 2)))[0].T  # orthogonal, so that they are unrelated
    noises, recipes = [pivot], [recipe]
    for turn in range(rounds):
        moved = cosine * pivot + math.sqrt(1 - cosine**2) * rng.normal(size=(neighbours, size))
        made = [recipe.then("neighbour", seed=turn * neighbours + i, cosine=cosine) for i in range(neighbours)]
        noises, recipes = [*noises, *moved], [*recipes, *made]
        best = int((moved @ verifier).argmax())
        if moved[best] @ verifier > pivot @ verifier:
            pivot, recipe = moved[best], made[best]
    return np.array(noises) @ verifier, (np.array(noises) @ judge)[None], recipes
