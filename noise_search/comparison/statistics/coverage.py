"""How many searches each algorithm and budget of a comparison rests on."""

from collections.abc import Sequence
from dataclasses import dataclass

from noise_search.comparison.records import Record
from noise_search.comparison.statistics.measures import by_cell


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
        parts = ("prompt", "seed", "algorithm", "budget")
        wanted = 1
        for part in parts:
            wanted *= len({getattr(one, part) for one in records})
        cells = list(by_cell(records).values())
        prompts = [len({one.prompt for one in rows}) for rows in cells] or [0]
        searches = [len(rows) for rows in cells] or [0]
        return cls(len(records), wanted, (min(prompts), max(prompts)), (min(searches), max(searches)))

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


def number(count: int, noun: str) -> str:
    """A count in words: 1 prompt, 3 prompts, 2 searches."""
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("ch") else "s")


def span(ends: tuple[int, int], noun: str) -> str:
    """A range of counts in words: 2 prompts, from 2 to 4 prompts."""
    low, high = ends
    return number(high, noun) if low == high else f"from {low} to {number(high, noun)}"
