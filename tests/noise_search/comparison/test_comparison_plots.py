"""Figures of comparisons: what is drawn is what the statistics say, and each says in words what it shows."""

import io
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from noise_search.comparison.comparison import Comparison
from noise_search.comparison.store import SAVED
from noise_search.comparison.views import paper_curves as paper
from noise_search.comparison.views.figures import (
    DPI,
    figure_alt,
    figure_svg,
    log_axis,
    looks,
    new_plot,
    save_figure,
)
from noise_search.comparison.views.plots import KINDS, draw, figures, save_figures
from noise_search.comparison.views.trade import front
from tiny.drawn import COUNTS, comparison, lifted
from tiny.made_up import NFE, pool, ragged, record

BUDGETS = [count * NFE for count in COUNTS]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def better():
    return comparison()


@pytest.fixture
def pictured(tmp_path):
    return comparison(directory=tmp_path, prompts=3)


def scores(found, measure="own", name="better"):
    return [one.score for one in found.means(measure) if one.algorithm == name]


def times(found):
    return [one.times for one in found.multipliers() if one.algorithm == "better"]


def arrows(panel, up=True):
    """Arrows up, or down."""
    found = [one for one in panel.texts if isinstance(one, Annotation)]
    return [one for one in found if one.get_position()[1] == (16 if up else -16)]


def line(panel, label):
    (found,) = [one for one in panel.lines if one.get_label() == label]
    return found


def test_every_kind_is_saved_as_png_and_svg_that_say_what_they_show(pictured, tmp_path):
    out = tmp_path / "figures"
    paths = save_figures(figures(pictured)[0], out)
    assert set(paths) == {f"{kind}.{suffix}" for kind in KINDS for suffix in ("png", "svg")}
    assert {*paths, "records.csv", "report.html"} == {*SAVED}
    for kind in KINDS:
        alt = draw(pictured, kind).alt
        assert len(alt) > 80 and ("better" in alt)  # the algorithm's name and its numbers
        with Image.open(paths[f"{kind}.png"]) as image:
            assert image.info["Description"] == alt
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
        root = ET.parse(paths[f"{kind}.svg"]).getroot()
        title, desc = root[0], root[1]
        assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
        assert desc.text == alt and root.get("role") == "img" and root.get("aria-label") == title.text


def test_figures_leave_pyplot_alone_and_are_the_same_each_time(better):
    before = plt.get_fignums()
    assert figure_svg(draw(better, "score")) == figure_svg(draw(better, "score"))
    assert plt.get_fignums() == before


def test_scores_are_drawn_at_their_means_with_bands_of_their_intervals(better):
    figure = draw(better, "score")
    own, judge = figure.axes
    for panel, measure in ((own, "own"), (judge, "oracle")):
        for name in better.algorithms:
            expected = scores(better, measure, name)
            drawn = line(panel, name)
            np.testing.assert_allclose(drawn.get_xdata(), BUDGETS)
            np.testing.assert_allclose(drawn.get_ydata(), [one.value for one in expected])
            band = panel.collections[better.algorithms.index(name)]
            assert isinstance(band, PolyCollection)
            corners = band.get_paths()[0].vertices[:, 1]
            ends = [end for one in expected for end in (one.low, one.high)]
            assert corners.min() == pytest.approx(min(ends)) and corners.max() == pytest.approx(max(ends))
        assert panel.get_xscale() == "log"
        assert [tick for tick in panel.xaxis.get_major_locator()()] == BUDGETS
    value = np.mean([np.mean(one.scores["clip"]) for one in better.pools])
    assert line(own, "mean random candidate").get_ydata()[0] == pytest.approx(value)
    assert f"better: {expected[0]} at {BUDGETS[0]} NFE" in figure.alt


def test_differences_are_the_paired_ones(better):
    panel = draw(better, "difference").axes[0]
    expected = [one.difference for one in better.differences()]
    np.testing.assert_allclose(line(panel, "better").get_ydata(), [one.value for one in expected])
    (bars,) = [one for one in panel.collections if isinstance(one, LineCollection)]
    drawn = [(segment[0, 1], segment[1, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(drawn, [(one.low, one.high) for one in expected])


def test_the_judge_is_drawn_against_the_own_score(better):
    (panel,) = draw(better, "judge").axes
    own, held = ([one.value for one in scores(better, measure)] for measure in ("own", "oracle"))
    paths = [(list(one.get_xdata()), list(one.get_ydata())) for one in panel.lines]
    assert (pytest.approx(own), pytest.approx(held)) in paths
    markers = [one for one in panel.collections if isinstance(one, PathCollection)][-1]
    np.testing.assert_allclose(markers.get_offsets(), list(zip(own, held, strict=True)))
    assert (np.diff(markers.get_sizes()) > 0).all()


@pytest.mark.parametrize(("own", "up"), [(3.0, True), (-3.0, False)])
def test_a_multiplier_beyond_the_pool_has_an_arrow(own, up):
    found = comparison(own=own)
    figure = draw(found, "multiplier")
    (panel,), expected = figure.axes, times(found)
    known = [np.nan if one.at_least or one.at_most else one.value for one in expected]
    np.testing.assert_allclose(line(panel, "better").get_ydata(), known)
    hollow = [one.get_ydata()[0] for one in panel.lines if one.get_markerfacecolor() == "white"]
    np.testing.assert_allclose(hollow, [one.value for one in expected if one.at_least or one.at_most])
    np.testing.assert_allclose(line(panel, "most that could be told").get_ydata(), [8 / 2, 8 / 4, 8 / 8])
    ends = {"value", "high" if up else "low"}
    bounds = [one for one in expected if ends & set(one.at_least if up else one.at_most)]
    assert len(arrows(panel, up)) == len(bounds) >= 2
    assert (">" if up else "<") in figure.alt


def test_the_most_that_could_be_told_is_that_of_each_budget():
    records, pools = ragged(5)
    (panel,) = draw(Comparison(tuple(records), tuple(pools), {}), "multiplier").axes
    limit = line(panel, "most that could be told")
    assert (list(limit.get_xdata()), list(limit.get_ydata())) == ([NFE, 2 * NFE, 8 * NFE], [2, 1, 1])


def test_an_interval_that_reaches_beyond_the_pool_has_an_arrow_and_one_within_has_none():
    found = comparison(own=0.4, noise=0.6, prompts=8)
    reaching = [one for one in times(found) if "high" in one.at_least]
    assert [one for one in reaching if "value" not in one.at_least]
    drawn = [one.xy[1] for one in arrows(draw(found, "multiplier").axes[0])]
    assert drawn == pytest.approx([one.high for one in reaching])
    assert not arrows(draw(comparison(own=0.2, prompts=60), "multiplier").axes[0])


points = st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(points)
def test_the_front_is_what_nothing_beats(points):
    found = front(points)

    def beaten(one):
        return any(o[0] <= one[0] and o[1] >= one[1] and o != one for o in points)

    assert set(found) == {one for one in points if not beaten(one)}
    assert found == sorted(found)


def test_the_front_leaves_out_what_has_no_value():
    assert front([(1.0, float("nan")), (2.0, 1.0)]) == [(2.0, 1.0)]


def test_the_paper_is_drawn_over_gains_in_plain_samples():
    # Own scores far above 0, so that their gains in % are of the paper's size.
    found = lifted(comparison(correlation=0.5), own=5.0)
    figure = draw(found, "score", paper="flux-drawbench-clip")
    panel = figure.axes[0]
    published = paper.gain(paper.curve("flux-drawbench-clip"))
    drawn = line(panel, "paper Fig1: flux-drawbench-clip")
    np.testing.assert_allclose(drawn.get_xdata(), np.array(published.xs) / 30)
    np.testing.assert_allclose(drawn.get_ydata(), published.ys)
    plain = np.mean([np.mean(one.scores["clip"]) for one in found.pools])
    ours = line(panel, "better")
    np.testing.assert_allclose(ours.get_xdata(), [1, *COUNTS])
    np.testing.assert_allclose(ours.get_ydata(), [0, *(100 * (one.value - plain) / plain for one in scores(found))])
    assert paper.CITATION in figure.alt


def test_a_panel_has_the_papers_curves_of_its_own_measure():
    figure = draw(lifted(comparison(own=2000), own=3, judge=9), "score", paper="flux-drawbench")
    shown = {
        panel.get_title(loc="left"): {one.get_label().split(",")[0] for one in [*panel.lines, *twins(figure, panel)]}
        for panel in figure.axes
        if panel.get_title(loc="left")
    }
    theirs = {where: {one for one in labels if one.startswith("paper")} for where, labels in shown.items()}
    assert theirs == {
        "clip (searched by)": {"paper Fig1: flux-drawbench-clip", "paper Fig9: flux-drawbench-ensemble-clip"},
        "oracle (held-out judge)": {"paper Fig9: flux-drawbench-ensemble-llm"},
    }


def twins(figure, panel):
    """Lines of the axes that lie over the panel."""
    same = [one for one in figure.axes if one is not panel and one.get_position().bounds == panel.get_position().bounds]
    return [line for one in same for line in one.lines]


def test_the_papers_own_axis_shares_the_zero():
    figure = draw(lifted(comparison(own=30), own=3, judge=9), "score", paper="flux-drawbench-clip")
    panel, twin = figure.axes[0], figure.axes[2]
    heights = [(0 - low) / (high - low) for low, high in (panel.get_ylim(), twin.get_ylim())]
    assert heights[0] == pytest.approx(heights[1])
    assert "paper Fig1: flux-drawbench-clip, right axis" in [one.get_label() for one in twin.lines]
    for axes in (panel, twin):
        low, high = axes.get_ylim()
        values = np.concatenate([np.asarray(one.get_ydata(), dtype=float) for one in axes.lines])
        assert low <= np.nanmin(values) and high >= np.nanmax(values)


def test_a_measure_without_a_zero_has_no_gain_in_percent():
    found = lifted(comparison(), own=5, judge=-9)
    figure = draw(found, "score", paper="flux-drawbench-clip")
    assert [panel.get_title(loc="left") for panel in figure.axes if panel.get_title(loc="left")] == [
        "clip (searched by)"
    ]
    assert figure.alt.endswith("scores 0 or less, over which no gain in % counts: oracle.")
    assert "Left out" not in draw(lifted(found, judge=99), "score", paper="flux-drawbench-clip").alt


def test_the_grid_shows_each_winner_with_its_scores(pictured):
    figure = draw(pictured, "grid")
    shown = [panel for panel in figure.axes if panel.images]
    wanted = [one for one in pictured.records if one.budget == BUDGETS[-1] and one.seed == 0]
    assert len(shown) == len(wanted) == 6
    captions = {panel.get_xlabel(): panel.images[0].get_array()[0, 0] for panel in shown}
    for one in wanted:
        with Image.open(pictured.directory / one.image) as image:
            assert tuple(captions[f"clip {one.scores['clip']:.3g}\noracle {one.judges['oracle']:.3g}"]) == (
                image.getpixel((0, 0))
            )
    by_budget = draw(pictured, "grid", algorithm="better")
    assert [panel.get_title() for panel in by_budget.axes[1:4]] == [f"{budget} NFE" for budget in BUDGETS]


def test_large_images_are_reduced(pictured, tmp_path):
    Image.new("RGB", (1024, 512)).save(tmp_path / "large.png")
    found = replace(pictured, records=tuple(replace(one, image="large.png") for one in pictured.records))
    (largest, *_) = sorted(panel.images[0].get_array().shape for panel in draw(found, "grid").axes if panel.images)
    assert largest == (128, 256, 3)


def test_images_that_are_gone_or_broken(pictured, tmp_path):
    one = next(one for one in pictured.records if one.budget == BUDGETS[-1] and one.seed == 0)
    (tmp_path / one.image).unlink()
    notes = [text.get_text() for panel in draw(pictured, "grid").axes for text in panel.texts]
    assert notes.count("not kept") == 1
    failed = replace(one, scores={"clip": float("nan")}, judges={}, image="")
    others = [other for other in pictured.records if other.cell != one.cell]
    for records, note in ((others, "not searched"), ([*others, failed], "no winner")):
        figure = draw(replace(pictured, records=tuple(records)), "grid")
        assert [text.get_text() for panel in figure.axes for text in panel.texts].count(note) == 1
    (tmp_path / one.image).write_bytes(b"no image")
    with pytest.raises(ValueError, match="can't be read as an image"):
        draw(pictured, "grid")


def test_what_a_comparison_lacks_is_said():
    alone = Comparison((record(score=1.0),), (pool([1.0]),), {})
    drawn, reasons = figures(alone)
    assert set(drawn) == {"score", "multiplier", "pareto"}
    assert "give compare() judges=" in reasons["judge"]
    assert "random search is the only algorithm" in reasons["difference"]
    assert "no images" in reasons["grid"]


CLIP = {"kind": "score", "paper": "flux-drawbench-clip"}


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        (lambda: Comparison((), (), {}), {}, "no records yet"),
        (comparison, {"kind": "scores"}, "unknown kind 'scores'; did you mean 'score'"),
        (comparison, {"algorithm": "random"}, "algorithm='random' goes with kind='grid' alone"),
        (comparison, {"kind": "grid", "algorithm": "beam"}, "unknown algorithm 'beam'"),
        (comparison, {"kind": "grid"}, r"no images of winners were kept; give compare\(\) a directory"),
        (comparison, {"paper": "flux-drawbench-clap"}, "the paper has no curve 'flux-drawbench-clap'; did you mean"),
        (comparison, {**CLIP, "kind": "judge"}, "goes with kind='score' alone, not with 'judge'"),
        (lambda: replace(comparison(), pools=()), CLIP, "no random candidates were kept"),
        (lambda: lifted(comparison(), own=-9, judge=-9), CLIP, "0 or less by clip, oracle, over which"),
        (
            lambda: Comparison((record(score=1.0), record("p", "b", score=2.0)), (pool([0.0, 0.0]),), {}),
            CLIP,
            r"a mean score of 0 or less by clip, .*: draw plot\('difference'\)",
        ),
    ],
)
def test_what_can_not_be_drawn(made, asked, message):
    with pytest.raises(ValueError, match=message):
        draw(made(), **asked)


def test_several_verifiers_are_one_own_score(better):
    records = [replace(one, scores={**one.scores, "aesthetic": 2 * one.scores["clip"]}) for one in better.records]
    pools = [
        replace(one, scores={**one.scores, "aesthetic": tuple(2 * np.array(one.scores["clip"]))})
        for one in better.pools
    ]
    found = replace(better, records=tuple(records), pools=tuple(pools))
    panel = draw(found, "score").axes[0]
    assert panel.get_ylabel() == "mean score: mean z-score of clip, aesthetic"
    np.testing.assert_allclose(line(panel, "better").get_ydata(), [one.value for one in scores(found)])


def test_names_that_matplotlib_would_read_otherwise(tmp_path):
    found = comparison(name="_$bro{ken$ 🦊", directory=tmp_path, prompts=2)
    found = replace(
        found, records=tuple(replace(one, prompt=f"a $\\frac{{$ 🦊 {one.prompt}") for one in found.records),
        pools=tuple(replace(one, prompt=f"a $\\frac{{$ 🦊 {one.prompt}") for one in found.pools),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            save_figure(draw(found, kind), tmp_path / kind)
    (legend,) = draw(found, "score").legends
    assert " _$bro{ken$ □" in [one.get_text() for one in legend.get_texts()]


def test_grey_tells_algorithms_apart():
    found = looks([str(i) for i in range(16)])
    assert len({(one.marker, one.filled) for one in found.values()}) == 16
    assert len({str(one.line) for one in list(found.values())[:8]}) == 8
    assert len({one.colour for one in list(found.values())[:8]}) == 8


def test_a_figure_of_another_kind_has_no_words():
    with pytest.raises(ValueError, match="has no text that describes it"):
        figure_alt(Figure())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=30, unique=True).map(sorted))
def test_ticks_are_the_values_or_round_numbers_that_do_not_touch(values):
    panel = Figure().subplots()
    panel.plot(values, values)
    log_axis(panel, "x", values)
    ticks = list(panel.xaxis.get_major_locator()())
    low, high = panel.get_xlim()
    inside = [tick for tick in ticks if low <= tick <= high]
    assert ticks == values or all(b / a >= (high / low) ** (1 / 14) for a, b in pairwise(inside))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-4, 1e4), st.floats(1.02, 1e4), st.sampled_from([(1, 2, 5), (1, 1.5, 2, 3, 5, 7)]))
def test_log_axes_have_ticks_at_any_range(low, ratio, digits):
    panel = Figure().subplots()
    panel.set_ylim(low, low * ratio)
    log_axis(panel, "y", digits=digits)
    assert [tick for tick in panel.yaxis.get_major_locator()() if low <= tick <= low * ratio]


def test_a_figure_is_shown_as_large_as_it_is_set():
    figure = new_plot(4, 3, "a figure")
    assert Image.open(io.BytesIO(figure._repr_png_())).size == (4 * DPI, 3 * DPI)
    figure.set_dpi(50)
    assert Image.open(io.BytesIO(figure._repr_png_())).size == (200, 150)
