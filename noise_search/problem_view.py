"""What an algorithm sees of a prompt's search: read-only, so that it can spend nothing."""

from typing import TYPE_CHECKING

import numpy as np

from noise_search.protocol import Evaluation
from samplers.space import NoiseSpace
from samplers.state import State

if TYPE_CHECKING:
    from noise_search.prompt_search import PromptSearch


class ProblemView:
    """What an algorithm sees of a `PromptSearch`; see `noise_search.protocol.Problem`."""

    def __init__(self, search: "PromptSearch", space: NoiseSpace, condition: int, seed: int) -> None:
        self._search, self._space, self._condition = search, space, condition
        self._seed, self._drawn = seed, 0
        self._rng = np.random.default_rng([seed, 0x6E73])

    @property
    def space(self) -> NoiseSpace:
        """Where noises live."""
        return self._space

    @property
    def rng(self) -> np.random.Generator:
        """Randomness of the algorithm's own choices."""
        return self._rng

    @property
    def nfe_total(self) -> int:
        """The budget."""
        return self._search.ledger.nfe_budget

    @property
    def nfe_left(self) -> int:
        """What may still be spent, less what finishing the best candidate takes."""
        return self._search.ledger.left - self._search.reserve

    def cost(self, start: int, stop: int) -> int:
        """NFE of one row between two grid points: one denoiser evaluation at each point from start on."""
        return stop - start

    def fresh(self, count: int) -> State:
        """The next noises of random search's stream."""
        seeds = range(self._seed + self._drawn, self._seed + self._drawn + count)
        self._drawn += count
        return self._space.fresh(list(seeds), condition=self._condition)

    def seeds(self, count: int) -> list[int]:
        """New seeds from `rng`."""
        return [int(s) for s in self._rng.integers(0, 2**53, count)]

    def rank(self, pool: Evaluation) -> list[int]:
        """Rows from best to worst, ties to the lowest id, failed rows last."""
        values = self._search.aggregator.combine(pool.components)
        return sorted(range(len(pool)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), pool.ids[i]))
