"""The look of a comparison's figures: an algorithm has one colour, marker and line everywhere, so grey tells too."""

import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from noise_search.disk.files import check_writable, write_atomically
from noise_search.results.plots import drawable

INK, GREY, LIGHT = "#202124", "#5f6368", "#dadce0"


DPI = 150

TITLE = 10
"""Points of a panel's title: 9 and more in a notebook's column, to which figures of two panels are reduced."""


_LOOKS: tuple[tuple[str, str, Any], ...] = (
    ("#202124", "o", "-"),
    ("#c5221f", "s", (0, (5, 1.5))),
    ("#1a73e8", "^", (0, (6, 1.5, 1.5, 1.5))),
    ("#188038", "D", (0, (1.5, 1.2))),
    ("#b06000", "v", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5))),
    ("#8430ce", "P", (0, (10, 2))),
    ("#007b83", "X", (0, (3, 1.2))),
    ("#795548", "*", (0, (1.2, 2.4))),
)


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn: by colour, marker and line (a matplotlib line style), any of which tells it."""

    colour: str
    marker: str
    line: Any
    filled: bool = True

    @property
    def style(self) -> dict[str, Any]:
        """As matplotlib takes it."""
        face = self.colour if self.filled else "white"
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line, "markerfacecolor": face}


def looks(algorithms: Sequence[str]) -> dict[str, Look]:
    """A look for each algorithm, in their order; markers of the ninth and later are hollow."""
    return {name: Look(*_LOOKS[i % len(_LOOKS)], filled=i < len(_LOOKS)) for i, name in enumerate(algorithms)}


class Plot(Figure):
    """A figure that says in words what it shows, and that notebooks show without pyplot.

    Attributes:
        heading: what it is, in one line.
        alt: what it shows, for those who can't see it.
    """

    heading: str
    alt: str

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def new_plot(width: float, height: float, heading: str) -> Plot:
    """An empty figure of so many inches, without pyplot's global state."""
    figure = Plot(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.heading = figure.alt = heading
    return figure


def new_panels(
    heading: str, count: int, *, columns: int = 2, width: float = 4.2, height: float = 3.3
) -> tuple[Plot, list[Axes]]:
    """A figure with so many axes of so many inches, in rows of `columns` at most, and room for a legend below."""
    across = min(count, columns)
    down = -(-count // across)
    figure = new_plot(max(width * across, 5.2), height * down + 0.4, heading)
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for panel in axes[:count]:
        panel.grid(True, color=LIGHT, linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(GREY)
        panel.tick_params(colors=GREY, labelcolor=INK, labelsize=9)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def log_axis(
    panel: Axes, axis: str, values: Iterable[float] = (), *, base: float = 10, digits: Sequence[float] = (1, 2, 5)
) -> None:
    """A log axis of what is drawn, in plain numbers, marked at these values, or at digits times powers of a base.

    Round numbers it is where there are no values, or so close ones that their labels would touch.
    """
    (panel.set_xscale if axis == "x" else panel.set_yscale)("log")
    line = panel.xaxis if axis == "x" else panel.yaxis
    at = sorted(set(values))
    # Nine labels fit side by side.
    fit = bool(at) and all(b / a >= (at[-1] / at[0]) ** (1 / 9) * (1 - 1e-9) for a, b in pairwise(at))
    low, high = line.get_view_interval()
    line.set_major_locator(FixedLocator(at) if fit else LogLocator(base, digits if high < 1000 * low else (1,)))
    line.set_major_formatter(StrMethodFormatter("{x:g}"))
    line.set_minor_locator(NullLocator())


def legend_below(figure: Plot, axes: Sequence[Axes]) -> None:
    """One legend for all panels, below them, with every label once: in one line where it fits, else in columns."""
    known: dict[str, Artist] = {}
    for panel in axes:
        handles, labels = panel.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    width = figure.get_size_inches()[0]
    widths = [0.75 + 0.065 * len(name) for name in known]  # inches of a line, a gap and letters
    legend = figure.legend(
        list(known.values()),
        list(known),
        loc="outside lower center",
        ncols=len(known) if sum(widths) < width else max(1, int(width / max(widths))),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=3.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def shown(name: str) -> str:
    """A name for a legend, which leaves out those that begin with an underscore, in letters that the font has."""
    return f" {drawable(name)}" if name.startswith("_") else drawable(name)


def label(panel: Axes, title: str, x: str, y: str, width: int = 48) -> None:
    """A panel's title, in lines of so many letters, and what its axes are; dollar signs are no formulas."""
    for line, text in ((panel.xaxis, x), (panel.yaxis, y)):
        line.set_label_text(drawable(text), fontsize=9, color=INK, parse_math=False)
    panel.set_title(textwrap.fill(drawable(title), width), fontsize=TITLE, loc="left", color=INK, parse_math=False)


def figure_alt(figure: Figure) -> str:
    """What the figure shows, in words.

    Raises:
        ValueError: it isn't one of a comparison's.
    """
    if not isinstance(figure, Plot):
        raise ValueError(f"{figure!r} has no text that describes it; expected a figure that a comparison drew")
    return figure.alt


def figure_png(figure: Plot) -> bytes:
    """The figure as PNG, with its description among the texts."""
    stream = io.BytesIO()
    metadata = {"Title": figure.heading, "Description": figure.alt, "Software": "noise-search"}
    figure.savefig(stream, format="png", dpi=figure.dpi, metadata=metadata, facecolor=figure.get_facecolor())
    return stream.getvalue()


def figure_svg(figure: Plot) -> str:
    """The figure as SVG, whose title and desc a screen reader reads; the same bytes for the same figure."""
    stream = io.StringIO()
    # The salt makes ids the same in every run; letters as paths look the same where the font is missing.
    with matplotlib.rc_context({"svg.hashsalt": "noise-search", "svg.fonttype": "path"}):
        metadata = {"Date": None, "Creator": "noise-search"}
        figure.savefig(stream, format="svg", metadata=metadata, facecolor=figure.get_facecolor())
    before, tag, after = stream.getvalue().partition("<svg ")
    attributes, end, content = after.partition(">")
    told = f"\n <title>{escape(figure.heading)}</title>\n <desc>{escape(figure.alt)}</desc>"
    return f'{before}{tag}role="img" aria-label="{escape(figure.heading)}" {attributes}{end}{told}{content}'


def save_figure(figure: Figure, stem: str | Path) -> dict[str, Path]:
    """Write `stem`.png and `stem`.svg, both with the description in them; returns their paths by format.

    Raises:
        ValueError: the directory can't be written to, or the figure isn't one of a comparison's.
    """
    figure_alt(figure)
    assert isinstance(figure, Plot)
    place = Path(stem)
    check_writable(place.parent)
    paths = {suffix: place.with_name(f"{place.name}.{suffix}") for suffix in ("png", "svg")}
    write_atomically(paths["png"], figure_png(figure))
    write_atomically(paths["svg"], figure_svg(figure).encode())
    return paths
