"""What a search's score is worth: to a judge, in random candidates, and in seconds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.bootstrap import Interval
from noise_search.comparison.statistics.means import SECONDS, means
from noise_search.comparison.statistics.measures import OWN, by_cell
from noise_search.comparison.statistics.multiplier import Multiplier, multipliers
from noise_search.comparison.views.figures import (
    GREY,
    Look,
    Plot,
    label,
    legend_below,
    log_ticks,
    looks,
    new_plot,
    nice_log_ticks,
    panel_size,
    panels,
    shown,
    title,
)
from noise_search.comparison.views.scores import nfe_label
from noise_search.comparison.views.wording import own_label

Cells = dict[tuple[str, int], Interval]


def judge_plot(comparison: ComparisonData) -> Plot:
    """A judge's mean score against the own one, a path over budgets per algorithm and a panel per judge.

    Raises:
        ValueError: nothing was judged.
    """
    if not comparison.judges:
        raise ValueError("no judge looked at the winners; give compare() judges=, such as judges=['oracle']")
    own = _means(comparison, OWN)
    one = len(comparison.judges) == 1
    size = panel_size(len(comparison.judges), width=5.2 if one else 4.2, height=3.8 if one else 3.5)
    figure = new_plot(*size, "Held-out judges against own score")
    axes = panels(figure, len(comparison.judges))
    told = []
    for panel, judge in zip(axes, comparison.judges, strict=True):
        held = _means(comparison, judge)
        for name, look in looks(comparison.algorithms).items():
            budgets = [budget for algorithm, budget in own if algorithm == name]
            _path(panel, name, look, [own[name, b] for b in budgets], [held[name, b] for b in budgets])
            path = ", ".join(f"own {own[name, b]} and {judge} {held[name, b]} at {b} NFE" for b in budgets)
            told.append(f"{name}: {path}.")
        label(panel, f"mean own score: {own_label(comparison)}", f"mean score: {judge} (held-out judge)")
        title(panel, f"{judge}; markers grow from {_range(comparison.budgets)}", 60)
    legend_below(figure, axes)
    figure.alt = (
        "Mean score of held-out judges against the mean own score, one path over budgets per algorithm, with 95 % "
        "intervals in both directions. A path that rises to the right makes better images by the judge too. "
        + " ".join(told)
    )
    return figure


def multiplier_plot(comparison: ComparisonData) -> Plot:
    """How many random candidates a search is worth, over how many its NFE would buy, against NFE.

    Raises:
        ValueError: as `multipliers`.
    """
    found = multipliers(comparison.records, comparison.pools, verifiers=comparison.verifiers)
    others = [name for name in comparison.algorithms if name != RANDOM] or list(comparison.algorithms)
    figure = new_plot(6.0, 4.0, "Best-of-N equivalent against NFE")
    (panel,) = panels(figure, 1)
    panel.axhline(1, color=looks(comparison.algorithms).get(RANDOM, Look(GREY, "", "-")).colour, label="random search")
    limit = _limit([one for one in found if one.algorithm in others])
    panel.plot(*zip(*limit, strict=True), color=GREY, linewidth=1, linestyle=(0, (8, 4)), label=_LIMIT)
    values = [1.0, *(y for _, y in limit)]
    for position, name in enumerate(others):
        look = looks(comparison.algorithms)[name]
        points = [one for one in found if one.algorithm == name and np.isfinite(one.times.value)]
        apart = 1.025 ** (position - (len(others) - 1) / 2)
        x = [one.budget * apart for one in points]
        times = [one.times.value for one in points]
        known = [np.nan if _is_bound(one.times) else one.times.value for one in points]
        panel.plot(x, times, color=look.colour, linestyle=(0, (1, 2.5)), linewidth=1)
        panel.plot(x, known, **look.style, linewidth=1.6, markersize=6, label=shown(name))
        for at, one in zip(x, points, strict=True):
            _bar(panel, at, one.times, look)
            if _is_bound(one.times):
                panel.plot([at], [one.times.value], color=look.colour, marker=look.marker, markerfacecolor="white")
            values += [v for v in (one.times.value, one.times.low, one.times.high) if np.isfinite(v) and v > 0]
    log_ticks(panel, comparison.budgets)
    panel.set_yscale("log")
    panel.set_ylim(min(0.8, min(values) / 1.3), max(1.25, max(values) * 1.4))
    nice_log_ticks(panel, "y")
    label(panel, nfe_label(comparison), "random candidates it is worth,\nover those its NFE buys (log scale)")
    bounded = any(one.times.at_least or one.times.at_most for one in found if one.algorithm in others)
    title(panel, "Above 1 beats random search" + ("; hollow or arrow: the truth lies beyond" if bounded else ""), 70)
    legend_below(figure, [panel])
    told = ". ".join(_worth(one) for one in found if one.algorithm in others)
    figure.alt = (
        "How many random candidates have the same expected best score as a search, over how many its NFE would have "
        f"bought, against NFE, both axes logarithmic, with 95 % intervals; 1 is random search. {told}."
    )
    return figure


_LIMIT = "most that could be told"


def _limit(found: Sequence[Multiplier]) -> list[tuple[float, float]]:
    """All random candidates there are, over what each budget buys: a multiplier above that can't be seen.

    Where algorithms were run with different prompts and seeds, the most that could be told of any.
    """
    most: dict[float, float] = {}
    for one in found:
        most[float(one.budget)] = max(one.known / one.bought, most.get(float(one.budget), 0.0))
    return sorted(most.items())


def pareto_plot(comparison: ComparisonData) -> Plot:
    """Mean own score against mean seconds of a search, and the cells that no other beats in both."""
    own = _means(comparison, OWN)
    rows = by_cell(comparison.records)
    seconds = {cell: float(np.mean([one.seconds for one in rows[cell]])) for cell in own}
    figure = new_plot(6.0, 4.0, "Score against seconds")
    (panel,) = panels(figure, 1)
    best = front([(seconds[cell], own[cell].value) for cell in own])
    panel.plot(
        *zip(*best, strict=True) if best else ((), ()),
        drawstyle="steps-post",
        color="#bdc1c6",
        linewidth=5,
        solid_capstyle="round",
        label="Pareto front",
        zorder=0,
    )
    for name, look in looks(comparison.algorithms).items():
        cells = [cell for cell in own if cell[0] == name]
        sizes = _sizes(len(cells))
        x = [seconds[cell] for cell in cells]
        panel.plot(x, [own[cell].value for cell in cells], color=look.colour, linestyle=look.line, linewidth=1.3)
        panel.vlines(x, [own[c].low for c in cells], [own[c].high for c in cells], color=look.colour, linewidth=0.8)
        _markers(panel, x, [own[cell].value for cell in cells], look, sizes)
        panel.plot([], [], **look.style, markersize=6, linewidth=1.3, label=shown(name))
    nice_log_ticks(panel, "x")
    label(
        panel,
        "seconds per search, as its share of a batched run (log scale)",
        f"mean own score: {own_label(comparison)}",
    )
    title(panel, f"Markers grow from {_range(comparison.budgets)}", 70)
    legend_below(figure, [panel])
    told = "; ".join(
        f"{name} at {budget} NFE: {own[name, budget]} in {seconds[name, budget]:.3g} s" for name, budget in own
    )
    on_front = ", ".join(f"{name} at {budget} NFE" for name, budget in own if _is_on(best, name, budget, own, seconds))
    figure.alt = (
        f"Mean own score against mean seconds of a search on a log axis. {SECONDS} {told}. "
        f"On the Pareto front: {on_front}."
    )
    return figure


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, value) that no other beats or equals in both, by cost; those with NaN are none."""
    found: list[tuple[float, float]] = []
    for cost, value in sorted((p for p in points if np.isfinite(p).all()), key=lambda p: (p[0], -p[1])):
        if not found or value > found[-1][1]:
            found.append((cost, value))
    return found


def _is_on(
    best: Sequence[tuple[float, float]], name: str, budget: int, own: Cells, seconds: dict[tuple[str, int], float]
) -> bool:
    return (seconds[name, budget], own[name, budget].value) in best


def _means(comparison: ComparisonData, measure: str) -> Cells:
    found = means(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)
    return {(one.algorithm, one.budget): one.score for one in found}


def _path(panel: Axes, name: str, look: Look, own: Sequence[Interval], held: Sequence[Interval]) -> None:
    x, y = [one.value for one in own], [one.value for one in held]
    panel.plot(x, y, color=look.colour, linestyle=look.line, linewidth=1.5)
    panel.vlines(x, [one.low for one in held], [one.high for one in held], color=look.colour, linewidth=0.7, alpha=0.5)
    panel.hlines(y, [one.low for one in own], [one.high for one in own], color=look.colour, linewidth=0.7, alpha=0.5)
    _markers(panel, x, y, look, _sizes(len(x)))
    panel.plot([], [], **look.style, markersize=6, linewidth=1.5, label=shown(name))


def _markers(panel: Axes, x: Sequence[float], y: Sequence[float], look: Look, sizes: Sequence[float]) -> None:
    face = look.colour if look.filled else "white"
    for at, height, size in zip(x, y, sizes, strict=True):
        panel.plot([at], [height], color=look.colour, marker=look.marker, markersize=size, markerfacecolor=face)


def _sizes(count: int) -> list[float]:
    return [float(size) for size in np.linspace(4, 10, count)] if count > 1 else [7.0]


def _range(budgets: Sequence[int]) -> str:
    return f"{budgets[0]} NFE" if len(budgets) == 1 else f"{budgets[0]} NFE to {budgets[-1]}"


def _bar(panel: Axes, x: float, times: Interval, look: Look) -> None:
    """The interval, with an arrow where its end, or the value itself, is a bound."""
    ends = [end for end in (times.low, times.high) if np.isfinite(end)]
    panel.vlines([x], min([*ends, times.value]), max([*ends, times.value]), color=look.colour, linewidth=1.1)
    for bounded, start, up in (
        (times.at_least, max([*ends, times.value]), 16),
        (times.at_most, min([*ends, times.value]), -16),
    ):
        if {"value", "high" if up > 0 else "low"} & set(bounded):
            arrow = {"arrowstyle": "<|-", "color": look.colour, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1}
            panel.annotate("", xy=(x, start), xytext=(0, up), textcoords="offset points", arrowprops=arrow)


def _is_bound(times: Interval) -> bool:
    return "value" in times.at_least or "value" in times.at_most


def _worth(one: Multiplier) -> str:
    return f"{one.algorithm} at {one.budget} NFE: {one.times} times"
