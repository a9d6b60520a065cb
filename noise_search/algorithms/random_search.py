"""Random search: the best of n independent noises."""

from dataclasses import dataclass, field
from typing import ClassVar

from noise_search.algorithms.base import Job, Plan, Problem
from noise_search.arguments import check_counts, check_given


@dataclass(frozen=True)
class RandomSearch:
    """Best of n independent noises (Ma et al. 2025, arXiv 2501.09732, section 3.1).

    The budget sets n: NFE over the steps of one trajectory. Noise i is `torch.Generator().manual_seed(seed + i)`, so
    the winner is a seed to paste into plain diffusers. Every other algorithm is measured against it.

    Attributes:
        round: how many noises wait at a time, which bounds the memory that they take. Results don't depend on it; many
            workers want several for each.

    Raises:
        ValueError: a round below 1.

    Example:
        result = noise_search.search("a red circle", algorithm=RandomSearch(), nfe=640)
    """

    name: ClassVar[str] = "random"
    whole_calls: ClassVar[bool] = True
    anytime: ClassVar[bool] = True

    round: int = field(default=64, repr=False, compare=False)  # not of what is searched: runs go on with another

    def __post_init__(self) -> None:
        check_given(round=self.round)
        check_counts(round=self.round)

    def plan(self, problem: Problem) -> Plan:
        """Yield rounds of fresh noises until the budget holds no further trajectory."""
        end = problem.space.end
        while (count := problem.nfe_left // problem.cost(0, end)) > 0:
            yield Job(problem.fresh(min(count, self.round)), stop=end)
