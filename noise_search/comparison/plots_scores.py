"""Scores against NFE: as they are, as paired differences to random search, and as gains over the paper's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from noise_search import paper
from noise_search.comparison.bootstrap import Interval, interval, nothing, resampled
from noise_search.comparison.cells import RANDOM
from noise_search.comparison.figures import (
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
from noise_search.comparison.measures import OWN, Measures, by_cell
from noise_search.comparison.statistics import Mean, differences, means

if TYPE_CHECKING:
    from noise_search.comparison.comparison import Comparison

Curves = dict[str, list[tuple[float, Interval]]]
"""Of each algorithm: x and the interval there, in order of x."""

_COMPARABLE = 4.0
"""Times that the larger of two gains may be for both to share an axis."""


def own_label(comparison: "Comparison") -> str:
    """What the own score is."""
    names = comparison.verifiers
    return names[0] if len(names) == 1 else f"mean z-score of {', '.join(names)}"


def nfe_label(comparison: "Comparison") -> str:
    """The axis of budgets, and what an image takes."""
    each = {one.nfe for one in comparison.pools}
    return f"NFE (log scale; one image takes {each.pop()})" if len(each) == 1 else "NFE (log scale)"


def measure_label(comparison: "Comparison", measure: str) -> str:
    """A measure with its part in the comparison."""
    return f"{own_label(comparison)} (searched by)" if measure == OWN else f"{measure} (held-out judge)"


def score_plot(comparison: "Comparison") -> Plot:
    """Mean score of the winners against NFE with 95 % bands: the own score, and a panel per judge."""
    measures = (OWN, *comparison.judges)
    figure = new_plot(*panel_size(len(measures)), "Score against NFE")
    axes = panels(figure, len(measures))
    told = []
    plain = _plain_scores(comparison)
    for panel, measure in zip(axes, measures, strict=True):
        curves = _by_algorithm(
            comparison, [(one.algorithm, one.budget, one.score) for one in _means(comparison, measure)]
        )
        if measure in plain:
            panel.axhline(plain[measure], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="mean random candidate")
        _curves(panel, curves, looks(comparison.algorithms))
        log_ticks(panel, comparison.budgets)
        label(panel, nfe_label(comparison), f"mean score: {short_label(comparison, measure)}")
        title(panel, measure_label(comparison, measure))
        told.append(_told(measure_label(comparison, measure), curves, "NFE"))
        if measure in plain:
            told[-1] += f" One random candidate has {plain[measure]:.3g} on average."
    legend_below(figure, axes)
    figure.alt = (
        f"Line charts of mean score against NFE on a log axis, {len(measures)} of them, with 95 % intervals over "
        f"{len(comparison.prompts)} prompts and {len(comparison.seeds)} seeds as bands. " + " ".join(told)
    )
    return figure


def difference_plot(comparison: "Comparison") -> Plot:
    """Paired differences to random search at equal NFE, prompt and seed, with 95 % intervals; above 0 is better.

    Raises:
        ValueError: random search is the only algorithm, or isn't among them.
    """
    if comparison.algorithms == (RANDOM,):
        raise ValueError("random search is the only algorithm; there is nothing to hold against it")
    measures = (OWN, *comparison.judges)
    figure = new_plot(*panel_size(len(measures)), "Difference to random search at equal NFE")
    axes = panels(figure, len(measures))
    told = []
    for panel, measure in zip(axes, measures, strict=True):
        found = differences(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)
        curves = _by_algorithm(comparison, [(one.algorithm, one.budget, one.difference) for one in found])
        panel.axhline(0, color=looks(comparison.algorithms)[RANDOM].colour, linewidth=1, label="random search")
        _bars(panel, curves, looks(comparison.algorithms))
        log_ticks(panel, comparison.budgets)
        label(panel, nfe_label(comparison), f"score less random search's: {short_label(comparison, measure)}")
        title(panel, measure_label(comparison, measure))
        told.append(_told(measure_label(comparison, measure), curves, "NFE"))
    legend_below(figure, axes)
    figure.alt = (
        "Paired differences of each algorithm to random search at equal prompt, seed and NFE, with 95 % intervals; 0 "
        "is random search. " + " ".join(told)
    )
    return figure


def paper_plot(comparison: "Comparison", name: str) -> Plot:
    """Gains in % over one plain sample against compute in plain samples, with the paper's curves over them.

    Compute in units of one plain sample makes models of other step counts comparable. Where gains differ much in scale,
    the paper's have an axis of their own at the right.

    Raises:
        ValueError: the paper has no such curve, or no mean score of a random candidate differs from 0.
    """
    published = [paper.gain(one) for one in paper.matching(name)]
    measures = [*(comparison.verifiers or (OWN,)), *comparison.judges]
    found = {measure: _gains(comparison, measure) for measure in measures}
    drawn = {measure: curves for measure, curves in found.items() if curves}
    if not drawn:
        raise ValueError("random candidates have a mean score of 0, over which there is no relative gain in %")
    figure = new_plot(*panel_size(len(drawn), width=5.2, height=3.8), f"Gain over one plain sample, and {name}")
    axes = panels(figure, len(drawn))
    told, legends = [], list(axes)
    for panel, (measure, curves) in zip(axes, drawn.items(), strict=True):
        _curves(panel, curves, looks(comparison.algorithms))
        legends.append(_published(panel, published, curves))
        compute = {x for points in curves.values() for x, _ in points}
        log_ticks(panel, [*compute, *(x / one.xs[0] for one in published for x in one.xs)])
        label(panel, "compute in plain samples (log scale)", "gain over one plain sample (%)")
        part = "held-out judge" if measure in comparison.judges else "searched by"
        title(panel, f"{measure} ({part})")
        told.append(_told(f"{measure} ({part}), gain in %", curves, "plain samples"))
    legend_below(figure, legends)
    theirs = "; ".join(f"{_paper_label(one)} ends at {one.ys[-1]:.3g} %" for one in published)
    figure.alt = (
        "Relative gain in % over one plain sample against compute in plain samples on a log axis, with the published "
        f"curves of {paper.CITATION}: {theirs}. " + " ".join(told)
    )
    return figure


def _published(panel: Axes, published: Sequence[paper.PaperCurve], curves: Curves) -> Axes:
    """Draw the paper's curves, on an axis of their own where the gains differ in scale; returns that axis."""
    own = max((abs(one.value) for points in curves.values() for _, one in points), default=0.0)
    theirs = max(abs(y) for one in published for y in one.ys)
    shared = max(own, theirs) <= _COMPARABLE * min(own, theirs)
    target = panel if shared else panel.twinx()
    side = "" if shared else ", right axis"
    for one, marker in zip(published, "hdp<>8+x14" * len(published), strict=False):
        target.plot(
            [x / one.xs[0] for x in one.xs],
            one.ys,
            color=GREY,
            linewidth=1.2,
            linestyle=(0, (2, 1)),
            marker=marker,
            markersize=5,
            markerfacecolor="white",
            label=f"{_paper_label(one)}{side}",
        )
    if not shared:
        target.set_ylabel("the paper's gain (%)", fontsize=9, color=GREY)
        target.tick_params(colors=GREY, labelsize=8)
        target.spines[:].set_visible(False)
        target.spines["right"].set(visible=True, color=GREY)
        _align_zeros(panel, target)
    return target


def _align_zeros(panel: Axes, other: Axes) -> None:
    """Give both axes their 0 at one height, so that equal signs of gain lie on one side of it."""
    low, high = panel.get_ylim()
    other_low, other_high = other.get_ylim()
    low, other_low, high, other_high = min(low, 0.0), min(other_low, 0.0), max(high, 0.0), max(other_high, 0.0)
    below = max(low / (low - high), other_low / (other_low - other_high))  # share of the height that is below 0
    for axes, down, up in ((panel, low, high), (other, other_low, other_high)):
        height = max(up / (1 - below), -down / below if below else 0.0)
        axes.set_ylim(-below * height, (1 - below) * height)


def _paper_label(one: paper.PaperCurve) -> str:
    return f"paper {one.figure}: {one.name or one.label}"


def _gains(comparison: "Comparison", measure: str) -> Curves:
    """100 (score - plain) / |plain| by compute in plain samples, beginning with (1, 0); empty where plain is 0."""
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    found = []
    for (algorithm, budget), rows in by_cell(comparison.records).items():
        own = np.array([measures.of_record(one, measure) for one in rows])
        plain = np.array([_mean(measures.of_pool(measures.pool(one), measure)) for one in rows])
        there = np.isfinite(own) & np.isfinite(plain)
        if not there.any():
            found.append((algorithm, budget / measures.pool(rows[0]).nfe, nothing(len(rows))))
            continue
        prompts = [one.prompt for one, known in zip(rows, there, strict=True) if known]
        weights = resampled(prompts)
        base, level = weights @ plain[there], weights @ own[there]
        if base[0] == 0:
            return {}
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = 100 * (level - base) / np.abs(base)
        found.append((algorithm, budget / measures.pool(rows[0]).nfe, interval(gain, prompts, int((~there).sum()))))
    curves = _by_algorithm(comparison, found)
    start = Interval(0.0, 0.0, 0.0, len(comparison.prompts), len(comparison.records))
    return {name: points if points[0][0] <= 1 else [(1.0, start), *points] for name, points in curves.items()}


def _plain_scores(comparison: "Comparison") -> dict[str, float]:
    """Mean of random candidates by measure, over prompts and seeds that have a pool; {} without pools."""
    if not comparison.pools:
        return {}
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    found = {}
    for measure in (OWN, *comparison.judges):
        by_prompt: dict[str, list[float]] = {}
        for one in comparison.pools:
            by_prompt.setdefault(one.prompt, []).append(_mean(measures.of_pool(one, measure)))
        found[measure] = _mean(np.array([_mean(np.array(values)) for values in by_prompt.values()]))
    return {measure: value for measure, value in found.items() if np.isfinite(value)}


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _means(comparison: "Comparison", measure: str) -> tuple[Mean, ...]:
    return means(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)


def short_label(comparison: "Comparison", measure: str) -> str:
    """A measure by name."""
    return own_label(comparison) if measure == OWN else measure


def _by_algorithm(comparison: "Comparison", found: Sequence[tuple[str, float, Interval]]) -> Curves:
    return {
        name: sorted(((x, one) for algorithm, x, one in found if algorithm == name), key=lambda point: point[0])
        for name in comparison.algorithms
        if any(algorithm == name for algorithm, _, _ in found)
    }


def _curves(panel: Axes, curves: Curves, known: dict[str, Look]) -> None:
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


def _told(what: str, curves: Curves, unit: str) -> str:
    """The numbers of a panel in words."""
    lines = [f"{name}: " + ", ".join(f"{one} at {x:g} {unit}" for x, one in points) for name, points in curves.items()]
    return f"{what}: " + "; ".join(lines) + "."
