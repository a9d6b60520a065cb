"""Gains of a comparison with the paper's published curves over them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.intervals import Interval, Searches, nothing
from noise_search.comparison.statistics.measures import OWN, Measures, by_cell
from noise_search.comparison.views import paper_curves as paper
from noise_search.comparison.views.figures import GREY, Plot, label, legend_below, log_axis, looks, new_panels
from noise_search.comparison.views.scores import Curves, by_algorithm, curves_told, draw_curves, plain_scores

_COMPARABLE = 4.0
"""Times that the larger of two gains may be for both to share an axis."""


def paper_plot(comparison: ComparisonData, name: str) -> Plot:
    """Gains in % over one plain sample against compute in plain samples, with the paper's curves over them.

    Compute in units of one plain sample makes models of other step counts comparable. Where gains differ much in scale,
    the paper's have an axis of their own at the right. A measure by which the mean random candidate has 0 or less is
    left out: its scores have no zero that a gain in % could be counted from, as log-odds have none.

    Raises:
        ValueError: the paper has no such curve, there are no random candidates, or every measure is left out.
    """
    # Curves of denoising steps alone begin far below one plain sample: they are drawn when asked for by name.
    matching = [one for one in paper.matching(name) if "-steps" in name or "-steps-" not in one.name]
    published = [paper.gain(one) for one in matching]
    measures = [*(comparison.verifiers or (OWN,)), *comparison.judges]
    if not comparison.pools:
        raise ValueError("no random candidates were kept, over whose mean score gains could be counted")
    plain = plain_scores(comparison, measures)
    drawn = {one: _gains(comparison, one) for one in measures if plain.get(one, 0.0) > 0}
    left = ", ".join(one for one in measures if one not in drawn)
    if not drawn:
        raise ValueError(
            f"random candidates have a mean score of 0 or less by {left}, over which there is no gain in %: draw "
            "plot('difference') instead"
        )
    figure, axes = new_panels(f"Gain over one plain sample, and {name}", len(drawn), width=5.2, height=3.8)
    told, legends = [], list(axes)
    for panel, (measure, curves) in zip(axes, drawn.items(), strict=True):
        draw_curves(panel, curves, looks(comparison.algorithms))
        theirs = _of_measure(published, measure, measure in comparison.judges)
        legends.append(_published(panel, theirs, curves))
        log_axis(panel, "x", base=2, digits=(1,))
        heading = f"{measure} ({'held-out judge' if measure in comparison.judges else 'searched by'})"
        label(panel, heading, "compute in plain samples (log scale)", "gain over one plain sample (%)")
        told.append(curves_told(f"{heading}, gain in %", curves, "plain samples"))
    legend_below(figure, legends)
    ends = "; ".join(f"paper {one.figure}: {one.name} ends at {one.ys[-1]:.3g} %" for one in published)
    figure.alt = (
        "Relative gain in % over one plain sample against compute in plain samples on a log axis, with the published "
        f"curves of {paper.CITATION}: {ends}. " + " ".join(told)
    )
    if left:
        figure.alt += f" Left out, as a mean random candidate scores 0 or less, over which no gain in % counts: {left}."
    return figure


def _of_measure(published: Sequence[paper.PaperCurve], measure: str, held_out: bool) -> Sequence[paper.PaperCurve]:
    """Curves of the panel's own measure, or of the paper's held-out judge, its LLM grader; all where it has neither."""
    alike = [one for one in published if one.name.endswith(f"-{measure.replace('-', '')}")]
    graded = [one for one in published if held_out and one.name.endswith("-llm")]
    return alike or graded or published


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
            label=f"paper {one.figure}: {one.name}{side}",
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


def _gains(comparison: ComparisonData, measure: str) -> Curves:
    """100 (score - plain) / plain by compute in plain samples, beginning with (1, 0); NaN where plain isn't above 0."""
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    found = []
    for (algorithm, budget), rows in by_cell(comparison.records).items():
        own = np.array([measures.of_record(one, measure) for one in rows])
        plain = np.array([measures.mean_candidate(measures.pool(one), measure) for one in rows])
        there = np.isfinite(own) & np.isfinite(plain)
        if not there.any():
            found.append((algorithm, budget / measures.pool(rows[0]).nfe, nothing(len(rows))))
            continue
        prompts = [one.prompt for one, known in zip(rows, there, strict=True) if known]
        noises = [one.noise for one, known in zip(rows, there, strict=True) if known]
        searches = Searches(prompts, noises)
        base, level = searches.means(np.stack([plain[there], own[there]], 1)).T
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(base > 0, 100 * (level - base) / base, np.nan)
        found.append((algorithm, budget / measures.pool(rows[0]).nfe, searches.interval(gain, int((~there).sum()))))
    curves = by_algorithm(comparison, found)
    start = Interval(0.0, 0.0, 0.0, len(comparison.prompts), len(comparison.records))
    return {name: points if points[0][0] <= 1 else [(1.0, start), *points] for name, points in curves.items()}
