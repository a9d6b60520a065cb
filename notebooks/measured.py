"""Write what was measured into the pages, from what is stored of it: `python -m notebooks.measured`.

A block of a page stands between `<!-- measured: NAME -->` and `<!-- end -->`, and is made here alone: to change its
words, change the function of that name in `paper/told.py` or in one of `bench/told*.py`. These also list the claims
that the words make; one that no longer follows from the numbers is an error.
"""

import re
from collections.abc import Callable
from pathlib import Path

from notebooks.bench import told as bench
from notebooks.bench import told_budgets, told_field
from notebooks.paper import told as paper

ROOT = Path(__file__).parents[1]
TOLD = (bench, told_budgets, told_field, paper)
PAGES = ("README.md", "docs/bench.md", "docs/budgets.md", "docs/field.md", "notebooks/README.md")
BLOCKS: dict[str, Callable[[], str]] = {one.__name__.replace("_", "-"): one for told in TOLD for one in told.BLOCKS}
_BLOCK = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def claims() -> dict[str, bool]:
    """Every claim of the pages, and whether it follows from the numbers."""
    return {claim: holds for told in TOLD for claim, holds in told.claims().items()}


def names(text: str) -> list[str]:
    """Of a page's blocks."""
    return [name for _, name, _ in _BLOCK.findall(text)]


def written(text: str) -> str:
    """A page with its blocks made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    """Write the pages, and refuse claims that don't follow."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        (ROOT / page).write_text(written(text), encoding="utf-8")
    if wrong := [claim for claim, holds in claims().items() if not holds]:
        raise SystemExit("the pages claim what their numbers don't show: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
