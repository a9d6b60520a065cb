"""Search algorithms, one file each."""

from noise_search.algorithms.auto import Auto
from noise_search.algorithms.climb import Climb
from noise_search.algorithms.evosearch import EvoSearch
from noise_search.algorithms.halving import Halving
from noise_search.algorithms.particles import BFS, DAS, FK, SVDD, Beam, Lookahead
from noise_search.algorithms.paths import SearchOverPaths
from noise_search.algorithms.random_search import RandomSearch
from noise_search.algorithms.tree import MonteCarloTreeSearch, TreeSearch
from noise_search.algorithms.variations import Variations
from noise_search.algorithms.zero_order import ZeroOrderSearch

ALGORITHMS = {
    kind.name: kind
    for kind in (
        Auto,
        Climb,
        Halving,
        RandomSearch,
        ZeroOrderSearch,
        SearchOverPaths,
        *(FK, DAS, SVDD, BFS, Beam, Lookahead),
        TreeSearch,
        MonteCarloTreeSearch,
        EvoSearch,
    )
}
"""Algorithms by the name that `search(algorithm=...)` takes."""

RECORDED = {**ALGORITHMS, Variations.name: Variations}
"""Those that a record can be asked for again by; variations are of recipes, and have no name alone."""

__all__ = [
    "ALGORITHMS",
    "BFS",
    "DAS",
    "FK",
    "RECORDED",
    "SVDD",
    "Auto",
    "Beam",
    "Climb",
    "EvoSearch",
    "Halving",
    "Lookahead",
    "MonteCarloTreeSearch",
    "RandomSearch",
    "SearchOverPaths",
    "TreeSearch",
    "Variations",
    "ZeroOrderSearch",
]
