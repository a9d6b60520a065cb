"""A grid of winners: prompts by algorithms at the largest budget, or by budgets for one algorithm."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.records import Record
from noise_search.comparison.views.figures import GREY, INK, TITLE, Plot, new_plot
from noise_search.results.plots import drawable
from noise_search.words import printable, unknown

MOST_PROMPTS = 8
SIDE = 256
"""Pixels of an image at most; larger ones are reduced."""


@dataclass(frozen=True)
class Grid:
    """Which winners are shown where.

    Attributes:
        what: the grid in one line.
        columns: headings.
        rows: of each prompt a record per column, or why it has no image.
    """

    what: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Record | str]]


def arrange(comparison: ComparisonData, algorithm: str | None = None) -> Grid:
    """Winners of the first seed whose images were kept.

    Args:
        comparison: in a directory.
        algorithm: whose winners to show at every budget; None shows all algorithms at the largest budget.

    Raises:
        ValueError: no such algorithm, or no images.
    """
    if algorithm is not None and algorithm not in comparison.algorithms:
        raise unknown("algorithm", algorithm, comparison.algorithms)
    kept = [one for one in comparison.records if has_image(comparison, one)]
    largest = comparison.budgets[-1] if comparison.budgets else 0
    wanted = [one for one in kept if (one.budget == largest if algorithm is None else one.algorithm == algorithm)]
    if not wanted:
        raise ValueError(
            "no images of winners were kept; give compare() a directory, out='runs/compare', and pictured= above 0"
        )
    seed = min(one.seed for one in wanted)
    found = {(one.prompt, one.algorithm, one.budget): one for one in comparison.records if one.seed == seed}
    prompts = list(dict.fromkeys(one.prompt for one in wanted if one.seed == seed))[:MOST_PROMPTS]
    if algorithm is None:
        what, columns = f"Winners at {largest} NFE", {name: (name, largest) for name in comparison.algorithms}
    else:
        what, columns = f"Winners of {algorithm}", {f"{nfe} NFE": (algorithm, nfe) for nfe in comparison.budgets}
    rows = {one: [_pictured(comparison, found.get((one, *place))) for place in columns.values()] for one in prompts}
    return Grid(f"{what}, seed {seed}", list(columns), rows)


def grid_plot(comparison: ComparisonData, algorithm: str | None = None) -> Plot:
    """Images of winners, a row per prompt, with their scores and what the judges gave; errors as of `arrange`."""
    grid = arrange(comparison, algorithm)
    rows, columns = len(grid.rows), len(grid.columns)
    lines = len(comparison.judges) + len(comparison.verifiers)
    figure = new_plot(1.5 + 1.5 * columns, 0.5 + rows * (1.4 + 0.13 * lines), grid.what)
    axes = figure.subplots(rows, columns + 1, squeeze=False)
    for (first, *others), (prompt, cells) in zip(axes, grid.rows.items(), strict=True):
        first.set_axis_off()
        wrapped = textwrap.fill(drawable(textwrap.shorten(prompt, 110)), 20)
        first.text(1.0, 0.5, wrapped, ha="right", va="center", fontsize=8, color=INK, parse_math=False)
        for panel, record in zip(others, cells, strict=True):
            _cell(comparison, panel, record)
    for panel, heading in zip(axes[0][1:], grid.columns, strict=True):
        panel.set_title(textwrap.fill(drawable(heading), 20), fontsize=TITLE, color=INK, parse_math=False)
    told = [f"{image_alt(one)}." for cells in grid.rows.values() for one in cells if isinstance(one, Record)]
    figure.alt = f"{grid.what}: a grid of images, {rows} prompts by {columns} columns. " + " ".join(told)
    return figure


def has_image(comparison: ComparisonData, record: Record) -> bool:
    """Whether the winner's image was kept and is still there."""
    return comparison.directory is not None and record.image != "" and (comparison.directory / record.image).is_file()


def thumbnail(comparison: ComparisonData, record: Record) -> Image.Image:
    """The winner's image in RGB, `SIDE` pixels at most; ValueError where it can't be read."""
    assert comparison.directory is not None
    file = comparison.directory / record.image
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise ValueError(f"{str(file)!r} can't be read as an image ({error}); remove it to leave it out") from error
    image.thumbnail((SIDE, SIDE))
    return image


def caption(record: Record) -> str:
    """Scores and judges of a winner, one a line."""
    known = (*record.scores.items(), *record.judges.items())
    return "\n".join(f"{name} {value:.3g}" if np.isfinite(value) else f"{name} can't tell" for name, value in known)


def image_alt(record: Record) -> str:
    """A winner in words."""
    scores = caption(record).replace("\n", ", ")
    return f"{record.algorithm} at {record.budget} NFE for {printable(record.prompt, 200)!r}: {scores}"


def _pictured(comparison: ComparisonData, record: Record | None) -> Record | str:
    """The record where its image can be shown, or why not."""
    if record is None:
        return "not searched"
    if not np.isfinite(list(record.scores.values())).any():
        return "no winner"
    return record if has_image(comparison, record) else "not kept"


def _cell(comparison: ComparisonData, panel: Axes, record: Record | str) -> None:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    if isinstance(record, str):
        panel.text(0.5, 0.5, record, ha="center", va="center", fontsize=7, color=GREY)
        return
    pixels = np.asarray(thumbnail(comparison, record))
    panel.imshow(pixels, interpolation="nearest" if pixels.shape[0] < 128 else "antialiased")
    panel.set_xlabel(caption(record), fontsize=7, color=INK, labelpad=2, parse_math=False)
