"""Plots of a comparison by kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import style

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.views.figures import Plot, save_figure
from noise_search.comparison.views.grid import grid_plot
from noise_search.comparison.views.paper import paper_plot
from noise_search.comparison.views.scores import difference_plot, score_plot
from noise_search.comparison.views.trade import judge_plot, multiplier_plot, pareto_plot
from noise_search.words import unknown

_DRAWN: dict[str, Callable[[ComparisonData], Plot]] = {
    "score": score_plot,
    "difference": difference_plot,
    "judge": judge_plot,
    "multiplier": multiplier_plot,
    "pareto": pareto_plot,
    "grid": grid_plot,
}
KINDS = tuple(_DRAWN)
"""What can be drawn."""


def draw(
    comparison: ComparisonData, kind: str = "score", *, paper: str | None = None, algorithm: str | None = None
) -> Plot:
    """A figure of a comparison, as of `Comparison.plot`; `save_figure` writes it, `figure_alt` says what it shows.

    Raises:
        ValueError: no such kind, curve or algorithm; or the comparison lacks what the figure shows: records, judges,
            pools or images.
    """
    if kind not in _DRAWN:
        raise unknown("kind", kind, KINDS)
    if not comparison.records:
        raise ValueError("the comparison has no records yet; run compare() further")
    for name, given, wanted in (("paper", paper, "score"), ("algorithm", algorithm, "grid")):
        if given is not None and kind != wanted:
            raise ValueError(f"{name}={given!r} goes with kind={wanted!r} alone, not with {kind!r}")
    # Ink on white, whatever style the user has: a dark one would write in white on it.
    with style.context("default"):
        if paper is not None:
            return paper_plot(comparison, paper)
        return grid_plot(comparison, algorithm) if kind == "grid" else _DRAWN[kind](comparison)


def figures(comparison: ComparisonData) -> tuple[dict[str, Plot], dict[str, str]]:
    """All figures that the comparison has the data for, by kind; and for the others why not."""
    drawn, reasons = {}, {}
    for kind in KINDS:
        try:
            drawn[kind] = draw(comparison, kind)
        except ValueError as error:
            reasons[kind] = str(error)
    return drawn, reasons


def save_figures(drawn: Mapping[str, Plot], directory: Path) -> dict[str, Path]:
    """Write figures, by kind, as PNG and SVG; returns their paths by "score.png" and so on."""
    saved = {kind: save_figure(figure, directory / kind) for kind, figure in drawn.items()}
    return {f"{kind}.{suffix}": file for kind, paths in saved.items() for suffix, file in paths.items()}
