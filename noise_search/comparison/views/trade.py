"""What a search's score is worth: to a judge, in random candidates, and in seconds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.intervals import Interval
from noise_search.comparison.statistics.means import SECONDS
from noise_search.comparison.statistics.measures import OWN, by_cell
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
from noise_search.comparison.views.scores import apart, nfe_label
from noise_search.comparison.views.wording import own_label


def judge_plot(comparison: ComparisonData) -> Plot:
    """A judge's mean score against the own one, a path over budgets per algorithm and a panel per judge."""
    judges = comparison.judges
    if not judges:
        raise ValueError("no judge looked at the winners; give compare() judges=, such as judges=['oracle']")
    own, own_axis = _scores(comparison), f"mean own score: {own_label(comparison)}"
    width, height = (5.2, 3.8) if len(judges) == 1 else (4.2, 3.5)
    figure, axes = new_panels("Held-out judges against own score", len(judges), width=width, height=height)
    told = []
    for panel, judge in zip(axes, judges, strict=True):
        held = _scores(comparison, judge)
        for name, look in looks(comparison.algorithms).items():
            places = [place for place in own if place[0] == name]
            _path(panel, name, look, [own[place] for place in places], [held[place] for place in places])
            path = ", ".join(f"own {own[one]} and {judge} {held[one]} at {one[1]} NFE" for one in places)
            told.append(f"{name}: {path}.")
        heading = f"{judge}; markers grow from {_range(comparison)}"
        label(panel, heading, own_axis, f"mean score: {judge} (held-out judge)", width=60)
    legend_below(figure, axes)
    figure.alt = (
        "Mean score of held-out judges against the mean own score, one path over budgets per algorithm, with 95 % "
        "intervals in both directions. A path that rises to the right makes better images by the judge too. "
        + " ".join(told)
    )
    return figure


def multiplier_plot(comparison: ComparisonData) -> Plot:
    """How many random candidates a search is worth, over how many its NFE would buy, against NFE."""
    others = [name for name in comparison.algorithms if name != RANDOM] or list(comparison.algorithms)
    found = [one for one in comparison.multipliers() if one.algorithm in others]
    figure, (panel,) = new_panels("Best-of-N equivalent against NFE", 1, width=6.0, height=3.6)
    for position, name in enumerate(others):
        look = looks(comparison.algorithms)[name]
        points = [one for one in found if one.algorithm == name and np.isfinite(one.times.value)]
        x = [one.budget * apart(position, len(others)) for one in points]
        known = [np.nan if _is_bound(one.times) else one.times.value for one in points]
        panel.plot(x, [one.times.value for one in points], color=look.colour, linestyle=(0, (1, 2.5)), linewidth=1)
        panel.plot(x, known, **look.style, linewidth=1.6, markersize=6, label=shown(name))
        for at, one in zip(x, points, strict=True):
            _bar(panel, at, one.times, look)
            if _is_bound(one.times):
                panel.plot([at], [one.times.value], color=look.colour, marker=look.marker, markerfacecolor="white")
    panel.axhline(1, color=looks(comparison.algorithms).get(RANDOM, Look(GREY, "", "-")).colour, label="random search")
    # All random candidates there are, over what the budget buys: of any algorithm, as each may have prompts of its own.
    limits: dict[float, float] = {}
    for one in sorted(found, key=lambda one: one.budget):
        limits[one.budget] = max(one.known / one.bought, limits.get(one.budget, 0.0))
    dashed = (0, (8, 4))
    panel.plot(
        *zip(*limits.items(), strict=True), color=GREY, linewidth=1, linestyle=dashed, label="most that could be told"
    )
    log_axis(panel, "x", comparison.budgets)
    log_axis(panel, "y", digits=(1, 1.5, 2, 3, 5, 7))
    panel.margins(y=0.18)  # arrows end beyond what is drawn
    bounded = any(one.times.at_least or one.times.at_most for one in found)
    label(
        panel,
        "Above 1 beats random search" + ("; hollow or arrow: the truth lies beyond" if bounded else ""),
        nfe_label(comparison),
        "random candidates it is worth,\nover those its NFE buys (log scale)",
        width=70,
    )
    legend_below(figure, [panel])
    told = ". ".join(f"{one.algorithm} at {one.budget} NFE: {one.times} times" for one in found)
    figure.alt = (
        "How many random candidates have the same expected best score as a search, over how many its NFE would have "
        f"bought, against NFE, both axes logarithmic, with 95 % intervals; 1 is random search. {told}."
    )
    return figure


def pareto_plot(comparison: ComparisonData) -> Plot:
    """Mean own score against mean seconds of a search, and the cells that no other beats in both."""
    own = _scores(comparison)
    rows = by_cell(comparison.records)
    seconds = {place: float(np.mean([one.seconds for one in rows[place]])) for place in own}
    figure, (panel,) = new_panels("Score against seconds", 1, width=6.0, height=3.6)
    best = front([(seconds[place], own[place].value) for place in own])
    for name, look in looks(comparison.algorithms).items():
        places = [place for place in own if place[0] == name]
        spent = [Interval(seconds[place], np.nan, np.nan, 0, 0) for place in places]
        _path(panel, name, look, spent, [own[place] for place in places])
    panel.plot(
        *np.reshape(best, (-1, 2)).T, drawstyle="steps-post", color="#bdc1c6", linewidth=5, solid_capstyle="round",
        label="Pareto front", zorder=0,
    )  # fmt: skip
    log_axis(panel, "x")
    label(
        panel,
        f"Markers grow from {_range(comparison)}",
        "seconds per search, as its share of a batched run (log scale)",
        f"mean own score: {own_label(comparison)}",
        width=70,
    )
    legend_below(figure, [panel])
    told = "; ".join(f"{name} at {nfe} NFE: {own[name, nfe]} in {seconds[name, nfe]:.3g} s" for name, nfe in own)
    on_front = [f"{one[0]} at {one[1]} NFE" for one in own if (seconds[one], own[one].value) in best]
    figure.alt = (
        f"Mean own score against mean seconds of a search on a log axis. {SECONDS} {told}. "
        f"On the Pareto front: {', '.join(on_front)}."
    )
    return figure


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, value) that no other beats or equals in both, by cost; those with NaN are none."""
    found: list[tuple[float, float]] = []
    for cost, value in sorted((p for p in points if np.isfinite(p).all()), key=lambda p: (p[0], -p[1])):
        if not found or value > found[-1][1]:
            found.append((cost, value))
    return found


def _scores(comparison: ComparisonData, measure: str = OWN) -> dict[tuple[str, int], Interval]:
    return {(one.algorithm, one.budget): one.score for one in comparison.means(measure)}


def _path(panel: Axes, name: str, look: Look, xs: Sequence[Interval], ys: Sequence[Interval]) -> None:
    """A line over budgets with the intervals of both coordinates, where they are known, and growing markers."""
    x, y = [one.value for one in xs], [one.value for one in ys]
    panel.plot(x, y, **look.style, linewidth=1.4, markersize=6, markevery=[], label=shown(name))
    panel.vlines(x, [one.low for one in ys], [one.high for one in ys], color=look.colour, linewidth=0.8, alpha=0.6)
    panel.hlines(y, [one.low for one in xs], [one.high for one in xs], color=look.colour, linewidth=0.8, alpha=0.6)
    sizes = np.linspace(4, 10, len(x)) if len(x) > 1 else np.array([7.0])
    face = look.colour if look.filled else "white"
    panel.scatter(x, y, s=sizes**2, marker=look.marker, facecolors=face, edgecolors=look.colour, zorder=2)


def _range(comparison: ComparisonData) -> str:
    first, *more = comparison.budgets
    return f"{first} NFE to {more[-1]}" if more else f"{first} NFE"


def _bar(panel: Axes, x: float, times: Interval, look: Look) -> None:
    """The interval, with an arrow where its end, or the value itself, is a bound."""
    ends = [end for end in (times.low, times.value, times.high) if np.isfinite(end)]
    panel.vlines([x], min(ends), max(ends), color=look.colour, linewidth=1.1)
    for bounds, end, start, up in (
        (times.at_least, "high", max(ends), 16),
        (times.at_most, "low", min(ends), -16),
    ):
        if {"value", end} & set(bounds):
            arrow = {"arrowstyle": "<|-", "color": look.colour, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1}
            panel.annotate("", xy=(x, start), xytext=(0, up), textcoords="offset points", arrowprops=arrow)


def _is_bound(times: Interval) -> bool:
    return "value" in times.at_least or "value" in times.at_most
