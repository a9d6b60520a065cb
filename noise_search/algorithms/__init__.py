"""Search algorithms, one file each."""

from noise_search.algorithms.paths import SearchOverPaths
from noise_search.algorithms.random_search import RandomSearch
from noise_search.algorithms.zero_order import ZeroOrderSearch

ALGORITHMS = {kind.name: kind for kind in (RandomSearch, ZeroOrderSearch, SearchOverPaths)}
"""Algorithms by the name that `search(algorithm=...)` takes."""

__all__ = ["ALGORITHMS", "RandomSearch", "SearchOverPaths", "ZeroOrderSearch"]
