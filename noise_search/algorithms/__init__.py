"""Search algorithms, one file each."""

from noise_search.algorithms.auto import Auto
from noise_search.algorithms.climb import Climb
from noise_search.algorithms.halving import Halving
from noise_search.algorithms.paths import SearchOverPaths
from noise_search.algorithms.random_search import RandomSearch
from noise_search.algorithms.zero_order import ZeroOrderSearch

ALGORITHMS = {kind.name: kind for kind in (Auto, Climb, Halving, RandomSearch, ZeroOrderSearch, SearchOverPaths)}
"""Algorithms by the name that `search(algorithm=...)` takes."""

__all__ = ["ALGORITHMS", "Auto", "Climb", "Halving", "RandomSearch", "SearchOverPaths", "ZeroOrderSearch"]
