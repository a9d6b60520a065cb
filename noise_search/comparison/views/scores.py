"""Scores against NFE: as they are, and as paired differences to random search."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.bootstrap import Interval
from noise_search.comparison.statistics.means import Mean, differences, means
from noise_search.comparison.statistics.measures import OWN, Measures, mean_of_known
from noise_search.comparison.views.figures import (
    GREY,
    Look,
    Plot,
    label,
    legend_below,
    log_ticks,
    looks,
    new_plot,
    panel_size,
    panels,
    shown,
    title,
)
from noise_search.comparison.views.wording import measure_label, short_label

Curves = dict[str, list[tuple[float, Interval]]]
"""Of each algorithm: x and the interval there, in order of x."""


def nfe_label(comparison: ComparisonData) -> str:
    """The axis of budgets, and what an image takes."""
    each = {one.nfe for one in comparison.pools}
    return f"NFE (log scale; one image takes {each.pop()})" if len(each) == 1 else "NFE (log scale)"


def score_plot(comparison: ComparisonData) -> Plot:
    """Mean score of the winners against NFE with 95 % bands: the own score, and a panel per judge."""
    measures = (OWN, *comparison.judges)
    figure = new_plot(*panel_size(len(measures)), "Score against NFE")
    axes = panels(figure, len(measures))
    told = []
    plain = plain_scores(comparison)
    for panel, measure in zip(axes, measures, strict=True):
        curves = by_algorithm(
            comparison, [(one.algorithm, one.budget, one.score) for one in _means(comparison, measure)]
        )
        if measure in plain:
            panel.axhline(plain[measure], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="mean random candidate")
        draw_curves(panel, curves, looks(comparison.algorithms))
        log_ticks(panel, comparison.budgets)
        label(panel, nfe_label(comparison), f"mean score: {short_label(comparison, measure)}")
        title(panel, measure_label(comparison, measure))
        told.append(curves_told(measure_label(comparison, measure), curves, "NFE"))
        if measure in plain:
            told[-1] += f" One random candidate has {plain[measure]:.3g} on average."
    legend_below(figure, axes)
    figure.alt = (
        f"Line charts of mean score against NFE on a log axis, {len(measures)} of them, with 95 % intervals over "
        f"prompts and seeds as bands; {comparison.coverage}. " + " ".join(told)
    )
    return figure


def difference_plot(comparison: ComparisonData) -> Plot:
    """Paired differences to random search at equal budget, prompt and seed, with 95 % intervals; above 0 is better.

    Raises:
        ValueError: random search is the only algorithm, or isn't among them.
    """
    if comparison.algorithms == (RANDOM,):
        raise ValueError("random search is the only algorithm; there is nothing to hold against it")
    measures = (OWN, *comparison.judges)
    figure = new_plot(*panel_size(len(measures)), "Difference to random search at equal budgets")
    axes = panels(figure, len(measures))
    told = []
    for panel, measure in zip(axes, measures, strict=True):
        found = differences(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)
        curves = by_algorithm(comparison, [(one.algorithm, one.budget, one.difference) for one in found])
        panel.axhline(0, color=looks(comparison.algorithms)[RANDOM].colour, linewidth=1, label="random search")
        _bars(panel, curves, looks(comparison.algorithms))
        log_ticks(panel, comparison.budgets)
        label(panel, nfe_label(comparison), f"score less random search's: {short_label(comparison, measure)}")
        title(panel, measure_label(comparison, measure))
        told.append(curves_told(measure_label(comparison, measure), curves, "NFE"))
    legend_below(figure, axes)
    figure.alt = (
        "Paired differences of each algorithm to random search at equal prompt, seed and budget, with 95 % intervals; "
        "0 is random search. " + " ".join(told)
    )
    return figure


def plain_scores(comparison: ComparisonData, asked: Sequence[str] = ()) -> dict[str, float]:
    """Mean of random candidates by measure, over prompts and seeds that have a pool; {} without pools.

    The measures are the own score and the judges where none are asked for.
    """
    if not comparison.pools:
        return {}
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    found = {}
    for measure in asked or (OWN, *comparison.judges):
        by_prompt: dict[str, list[float]] = {}
        for one in comparison.pools:
            by_prompt.setdefault(one.prompt, []).append(measures.mean_candidate(one, measure))
        found[measure] = mean_of_known(np.array([mean_of_known(np.array(values)) for values in by_prompt.values()]))
    return {measure: value for measure, value in found.items() if np.isfinite(value)}


def _means(comparison: ComparisonData, measure: str) -> tuple[Mean, ...]:
    return means(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)


def by_algorithm(comparison: ComparisonData, found: Sequence[tuple[str, float, Interval]]) -> Curves:
    """Points of (algorithm, x, interval) as curves."""
    return {
        name: sorted(((x, one) for algorithm, x, one in found if algorithm == name), key=lambda point: point[0])
        for name in comparison.algorithms
        if any(algorithm == name for algorithm, _, _ in found)
    }


def draw_curves(panel: Axes, curves: Curves, known: dict[str, Look]) -> None:
    """Lines with bands; bars where an algorithm has one point only, which has no band."""
    _each(panel, curves, known, lambda points: len(points) < 2)


def _bars(panel: Axes, curves: Curves, known: dict[str, Look]) -> None:
    """Lines with error bars, moved apart a little so that none hides another."""
    _each(panel, curves, known, lambda points: True)


def _each(panel: Axes, curves: Curves, known: dict[str, Look], barred: Callable[[Sequence[object]], bool]) -> None:
    for position, (name, points) in enumerate(curves.items()):
        look = known[name]
        bars = barred(points)
        apart = 1.025 ** (position - (len(curves) - 1) / 2) if bars else 1.0
        x = np.array([x for x, _ in points]) * apart
        y, low, high = (np.array([getattr(one, end) for _, one in points]) for end in ("value", "low", "high"))
        panel.plot(x, y, **look.style, markersize=5, linewidth=1.6, label=shown(name), zorder=3)
        if bars:
            panel.vlines(x, low, high, color=look.colour, linewidth=1.1, zorder=2)
        else:
            panel.fill_between(x, low, high, color=look.colour, alpha=0.09, linewidth=0, zorder=1)
            for edge in (low, high):
                panel.plot(x, edge, color=look.colour, linestyle=look.line, linewidth=0.5, alpha=0.6, zorder=1)


def curves_told(what: str, curves: Curves, unit: str) -> str:
    """The numbers of a panel in words."""
    lines = [f"{name}: " + ", ".join(f"{one} at {x:g} {unit}" for x, one in points) for name, points in curves.items()]
    return f"{what}: " + "; ".join(lines) + "."
