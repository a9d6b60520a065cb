"""How many searches each algorithm and budget of a comparison rests on."""

from collections.abc import Sequence
from dataclasses import dataclass

from noise_search.comparison.records import Record
from noise_search.comparison.statistics.measures import CELL, table
from noise_search.words import counted


@dataclass(frozen=True)
class Coverage:
    """How many searches an algorithm and budget have, the fewest and the most.

    Attributes:
        searched: combinations of prompt, seed, algorithm and budget that have a record.
        wanted: all combinations of those that occur.
        prompts, searches: fewest and most of an algorithm and budget.
    """

    searched: int
    wanted: int
    prompts: tuple[int, int]
    searches: tuple[int, int]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Coverage":
        """The coverage of these records."""
        searches = table(records, {}).index.droplevel("noise").to_frame(index=False)
        cells = searches.groupby(CELL)
        each = [(int(some.min()), int(some.max())) for some in (cells.prompt.nunique(), cells.size()) if len(some)]
        return cls(len(records), int(searches.nunique().prod()), *(each or [(0, 0), (0, 0)]))

    @property
    def is_whole(self) -> bool:
        """Whether every prompt was searched with every seed, algorithm and budget."""
        return self.searched == self.wanted

    def __str__(self) -> str:
        return f"{span(self.prompts, 'prompt')} and {span(self.searches, 'search')} per algorithm and NFE"

    @property
    def warning(self) -> str:
        """What to beware of; "" where nothing is missing."""
        if self.is_whole:
            return ""
        told = (
            f"Only {self.searched} of {self.wanted} combinations of prompt, seed, algorithm and NFE were searched: "
            f"{self}."
        )
        if self.searches[0] == self.searches[1]:
            return told
        return (
            f"{told} Rows with fewer searches are means over other prompts or seeds: hold rows against each other by "
            "their differences to random search, which are paired."
        )


def span(ends: tuple[int, int], noun: str) -> str:
    """A range of counts in words: 2 prompts, from 2 to 4 prompts."""
    low, high = ends
    return counted(high, noun) if low == high else f"from {low} to {counted(high, noun)}"
