"""The images of a report: winners side by side, inside the page."""

import io

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.records import Record
from noise_search.comparison.views.grid import Grid, arrange, caption, image_alt, thumbnail
from noise_search.comparison.views.page import data_uri, text

_SMALL = 128
"""Sides of images up to which pixels are shown as such and kept exactly."""


def images(comparison: ComparisonData, algorithm: str | None = None) -> str:
    """A table of winners, prompts by algorithms, or by budgets of one algorithm.

    Raises:
        ValueError: no images were kept, or one can't be read.
    """
    grid = arrange(comparison, algorithm)
    head = "".join(f'<th scope="col">{text(one)}</th>' for one in grid.columns)
    body = "\n".join(_row(comparison, grid, row) for row in range(len(grid.prompts)))
    return (
        f'<div class="scroll" tabindex="0"><table class="images"><caption>{text(grid.what)}</caption>\n'
        f'<thead><tr><th scope="col">prompt</th>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _row(comparison: ComparisonData, grid: Grid, row: int) -> str:
    cells = "".join(_cell(comparison, record) for record in grid.cells[row])
    return f'<tr><th scope="row" dir="auto">{text(grid.prompts[row])}</th>{cells}</tr>'


def _cell(comparison: ComparisonData, record: Record | str) -> str:
    if isinstance(record, str):
        return f'<td class="soft">{text(record)}</td>'
    image = thumbnail(comparison, record)
    small = max(image.size) <= _SMALL
    stream = io.BytesIO()
    if small:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=88)
    source = data_uri(stream.getvalue(), "image/png" if small else "image/jpeg")
    kind = ' class="small"' if small else ""
    told = text(caption(record)).replace("\n", "<br>")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<td><img{kind} src="{source}" alt="{text(image_alt(record))}" {size}><span class="soft">{told}</span></td>'
