"""How the pages put what was measured: numbers with their intervals, tables and paragraphs of Markdown."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

Told = tuple[float, float, float]
"""A mean with the ends of its 95 % interval."""


def number(value: float, digits: int, sign: str = "") -> str:
    """Rounded: -0.00 is a little below zero, and zero has no minus. `sign="+"` marks what isn't below."""
    return f"{round(value, 9) + 0.0:{sign}.{digits}f}"


def told(found: Told, digits: int = 3, sign: str = "", bold: bool = False) -> str:
    """`value [low, high]`; the value in bold where asked for."""
    value, low, high = (number(one, digits, sign) for one in found)
    return f"{f'**{value}**' if bold else value} [{low}, {high}]"


def clear(found: Told) -> bool:
    """Whether the interval of a difference excludes zero."""
    return found[1] > 0 or found[2] < 0


def difference(found: Told, digits: int = 3) -> str:
    """As `told`, in bold where it is clear."""
    return told(found, digits, bold=clear(found))


def table(head: Sequence[object], rows: Mapping[str, Sequence[str]]) -> str:
    """A row for each name."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *([name, *row] for name, row in rows.items()))]
    return "\n".join([lines[0].replace("|  |", "| |"), "|---" * len(head) + "|", *lines[1:]])


def paragraph(*sentences: str) -> str:
    """Lines of at most 120 characters."""
    return textwrap.fill(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False)


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last
