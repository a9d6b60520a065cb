"""Scores against NFE: as they are, and as paired differences to random search."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.intervals import Interval, mean_interval
from noise_search.comparison.statistics.measures import OWN, Measures
from noise_search.comparison.views.figures import (
    GREY,
    Look,
    Plot,
    label,
    legend_below,
    log_axis,
    looks,
    new_panels,
    shown,
)
from noise_search.comparison.views.wording import measure_label, short_label

Curves = dict[str, list[tuple[float, Interval]]]
"""Of each algorithm: x and the interval there, in order of x."""


def score_plot(comparison: ComparisonData) -> Plot:
    """Mean score of the winners against NFE with 95 % bands: the own score, and a panel per judge."""
    measures = (OWN, *comparison.judges)
    figure, axes = new_panels("Score against NFE", len(measures))
    plain = plain_scores(comparison)
    told = []
    for panel, measure in zip(axes, measures, strict=True):
        found = [(one.algorithm, one.budget, one.score) for one in comparison.means(measure)]
        told.append(_measure(comparison, panel, measure, "mean score", found))
        if measure in plain:
            panel.axhline(plain[measure], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="mean random candidate")
            told[-1] += f" One random candidate has {plain[measure]:.3g} on average."
    legend_below(figure, axes)
    figure.alt = (
        f"Line charts of mean score against NFE on a log axis, {len(measures)} of them, with 95 % intervals over "
        f"prompts and seeds as bands; {comparison.coverage}. " + " ".join(told)
    )
    return figure


def difference_plot(comparison: ComparisonData) -> Plot:
    """Paired differences to random search at equal budget, prompt and seed, with 95 % intervals; above 0 is better."""
    if comparison.algorithms == (RANDOM,):
        raise ValueError("random search is the only algorithm; there is nothing to hold against it")
    measures = (OWN, *comparison.judges)
    figure, axes = new_panels("Difference to random search at equal budgets", len(measures))
    told = []
    for panel, measure in zip(axes, measures, strict=True):
        found = [(one.algorithm, one.budget, one.difference) for one in comparison.differences(measure)]
        told.append(_measure(comparison, panel, measure, "score less random search's", found, barred=True))
        panel.axhline(0, color=looks(comparison.algorithms)[RANDOM].colour, linewidth=1, label="random search")
    legend_below(figure, axes)
    figure.alt = (
        "Paired differences of each algorithm to random search at equal prompt, seed and budget, with 95 % intervals; "
        "0 is random search. " + " ".join(told)
    )
    return figure


def _measure(
    comparison: ComparisonData,
    panel: Axes,
    measure: str,
    what: str,
    found: Sequence[tuple[str, float, Interval]],
    barred: bool = False,
) -> str:
    """Draw one measure against NFE; returns its numbers in words."""
    curves = by_algorithm(comparison, found)
    draw_curves(panel, curves, looks(comparison.algorithms), barred=barred)
    log_axis(panel, "x", comparison.budgets)
    heading = measure_label(comparison, measure)
    label(panel, heading, nfe_label(comparison), f"{what}: {short_label(comparison, measure)}")
    return curves_told(heading, curves, "NFE")


def nfe_label(comparison: ComparisonData) -> str:
    """The axis of budgets, and what an image takes."""
    each = {one.nfe for one in comparison.pools}
    return f"NFE (log scale; one image takes {each.pop()})" if len(each) == 1 else "NFE (log scale)"


def plain_scores(comparison: ComparisonData, asked: Sequence[str] = ()) -> dict[str, float]:
    """Mean of random candidates by measure, over prompts and seeds that have a pool; {} without pools.

    The measures are the own score and the judges where none are asked for.
    """
    if not comparison.pools:
        return {}
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    pools = sorted(comparison.pools, key=lambda one: one.prompt)
    found = {}
    for measure in asked or (OWN, *comparison.judges):
        values = np.array([measures.mean_candidate(one, measure) for one in pools])
        found[measure] = mean_interval(values, [one.prompt for one in pools]).value
    return {measure: value for measure, value in found.items() if np.isfinite(value)}


def by_algorithm(comparison: ComparisonData, found: Iterable[tuple[str, float, Interval]]) -> Curves:
    """Points of (algorithm, x, interval) as curves."""
    curves: Curves = {name: [] for name in comparison.algorithms}
    for algorithm, x, one in sorted(found, key=lambda point: point[1]):
        curves[algorithm].append((x, one))
    return {name: points for name, points in curves.items() if points}


def draw_curves(panel: Axes, curves: Curves, known: Mapping[str, Look], *, barred: bool = False) -> None:
    """Lines with bands, or with error bars that are moved apart so that none hides another; one point has a bar."""
    for position, (name, points) in enumerate(curves.items()):
        look, bars = known[name], barred or len(points) < 2
        x = np.array([x for x, _ in points]) * (apart(position, len(curves)) if bars else 1.0)
        y, low, high = (np.array([getattr(one, end) for _, one in points]) for end in ("value", "low", "high"))
        panel.plot(x, y, **look.style, markersize=5, linewidth=1.6, label=shown(name), zorder=3)
        if bars:
            panel.vlines(x, low, high, color=look.colour, linewidth=1.1, zorder=2)
        else:
            panel.fill_between(x, low, high, color=look.colour, alpha=0.09, linewidth=0, zorder=1)
            panel.plot(x, np.stack([low, high], 1), color=look.colour, linestyle=look.line, linewidth=0.5, alpha=0.6)


def apart(position: int, count: int) -> float:
    """By what to multiply x of one of so many curves on a log axis, so that bars stand side by side."""
    return float(1.025 ** (position - (count - 1) / 2))


def curves_told(what: str, curves: Curves, unit: str) -> str:
    """The numbers of a panel in words."""
    lines = [f"{name}: " + ", ".join(f"{one} at {x:g} {unit}" for x, one in points) for name, points in curves.items()]
    return f"{what}: " + "; ".join(lines) + "."
