"""Random search: the best of n independent noises."""

from dataclasses import dataclass
from typing import ClassVar

from noise_search.algorithms.base import Job, Plan, Problem

_ROUND = 64


@dataclass(frozen=True)
class RandomSearch:
    """Best of n independent noises (Ma et al. 2025, arXiv 2501.09732, section 3.1).

    The budget sets n: NFE over the steps of one trajectory. Noise i is `torch.Generator().manual_seed(seed + i)`, so
    the winner is a seed to paste into plain diffusers. Every other algorithm is measured against it.

    Example:
        result = noise_search.search("a red circle", algorithm=RandomSearch(), nfe=640)
    """

    name: ClassVar[str] = "random"
    whole_calls: ClassVar[bool] = True
    anytime: ClassVar[bool] = True

    def plan(self, problem: Problem) -> Plan:
        """Yield rounds of fresh noises until the budget holds no further trajectory."""
        end = problem.space.end
        while (count := problem.nfe_left // problem.cost(0, end)) > 0:
            # Rounds bound the memory that waiting noises take.
            yield Job(problem.fresh(min(count, _ROUND)), stop=end)
