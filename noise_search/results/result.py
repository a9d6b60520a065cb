"""What a search hands back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from noise_search.results.data import ResultData
from noise_search.results.html import result_html
from noise_search.results.saving import save_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class SearchResult(ResultData):
    """The best image of a search, how to make it again, all that was tried, and what it cost.

    Its values are those of `ResultData`.
    """

    def plot(self) -> "Figure":
        """The first sample, the winner, and score against NFE: every finished candidate and the best so far."""
        from noise_search.results.plots import overview

        return overview(self)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write result.json, best.png, top.png, curve.png and the top k as top/01.png, ...; returns their paths.

        best.png and those in top/ hold the recipe of their candidate, for `noise_search.replay`. A clip adds best.gif.

        Args:
            directory: new, or empty.
            overwrite: replace what an earlier search wrote there; files of anybody else stay.

        Raises:
            ValueError: it holds something else, or can't be written to.
        """
        return save_result(self, Path(directory), overwrite)

    def _repr_html_(self) -> str:
        return result_html(self)
