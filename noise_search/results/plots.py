"""Pictures of a result, drawn without touching pyplot's global state."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.words import printable

_GREY, _INK, _ACCENT = "#9aa0a6", "#202124", "#c5221f"


class Picture(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def blank(width: float, height: float) -> Figure:
    """An empty figure on white, of so many inches."""
    figure = Picture(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


# Ink on white, whatever style the user has: a dark one would write in white on it.
@style.context("default")
def score_curve(result: ResultData) -> Figure:
    """Raw score against NFE, a panel per verifier: the best so far as a line, finished candidates as dots.

    x0 predictions of those on their way are crosses.
    """
    curves = result.curves()
    figure = blank(5.5 * len(curves), 3.6)
    _draw_curves(result, figure.subplots(1, len(curves), squeeze=False)[0])
    return figure


@style.context("default")
def overview(result: ResultData) -> Figure:
    """The first sample, the winner, and raw score against NFE."""
    curves = result.curves()
    figure = blank(5.2 + 4.6 * len(curves), 3.0)
    first, best, *panels = figure.subplots(1, 2 + len(curves), width_ratios=[1, 1, *[1.8] * len(curves)])
    for panel, name, candidate in ((first, result.first_name, result.first), (best, "winner", result.best)):
        _show(panel, name, candidate)
    _draw_curves(result, panels)
    return figure


def _draw_curves(result: ResultData, panels: Sequence[Axes]) -> None:
    curves = result.curves()
    done = [c for c in result.candidates if c.finished and c.failure is None]
    begun = [c for c in result.candidates if not c.finished and not c.draft and c.failure is None]
    for panel, (key, points) in zip(panels, curves.items(), strict=True):
        if begun:
            way = [c.nfe for c in begun], [c.scores[key] for c in begun]
            panel.plot(*way, "x", color=_GREY, alpha=0.6, markersize=4, label="x0 predictions")
        panel.plot([c.nfe for c in done], [c.scores[key] for c in done], ".", color=_GREY, label="candidates")
        panel.plot(*zip(*points, strict=True), drawstyle="steps-post", color=_INK, label="best so far")
        panel.plot(result.best.nfe, result.best.scores[key], "o", color=_ACCENT, label="winner")
        panel.set(xlabel="NFE", ylabel=f"score ({key.split('@')[0]})", xlim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    # Dollar signs of a prompt are no formulas; a broken one would fail the whole picture.
    panels[0].set_title(drawable(textwrap.shorten(result.prompt, 70)), fontsize=10, loc="left", parse_math=False)


def drawable(text: str) -> str:
    """The text with a box for what the font lacks, such as emoji, which matplotlib would warn of; lines stay lines."""
    font = get_font(findfont(FontProperties()))
    return "".join(c if c == "\n" or font.get_char_index(ord(c)) else "\u25a1" for c in printable(text))


@style.context("default")
def contact_sheet(result: ResultData, count: int = 8) -> Figure:
    """The first image, then the best ones, each with its score and judges."""
    shown = [("first", result.first)]
    shown += [(f"{rank}.", c) for rank, c in enumerate(result.top(count), start=1)]
    shown = [(name, c) for name, c in shown if c.pixels is not None]
    columns = min(len(shown), 5)
    rows = -(-len(shown) // columns)
    figure = blank(1.7 * columns, 2.1 * rows)
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (name, candidate) in zip(panels, shown, strict=False):
        _show(panel, name, candidate)
    return figure


def _show(panel: Axes, name: str, candidate: Candidate) -> None:
    assert candidate.pixels is not None
    panel.set_axis_off()
    panel.imshow(candidate.pixels, interpolation="nearest" if candidate.pixels.shape[0] < 128 else "antialiased")
    panel.set_title(_caption(name, candidate), fontsize=9, parse_math=False)


def _caption(name: str, candidate: Candidate) -> str:
    origin = f"seed {candidate.seed}" if candidate.seed is not None else f"candidate {candidate.id}"
    lines = [f"{name} {candidate.score:.4f}, {origin}"]
    lines += [f"{key.split('@')[0]} {value:.3g}" for key, value in candidate.judges.items()]
    return "\n".join(lines)


def figure_png(figure: Figure) -> bytes:
    """The figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor())
    return stream.getvalue()
