"""Search algorithms, one file each."""

from noise_search.algorithms.random_search import RandomSearch

ALGORITHMS = {RandomSearch.name: RandomSearch}
"""Algorithms by the name that `search(algorithm=...)` takes."""

__all__ = ["ALGORITHMS", "RandomSearch"]
