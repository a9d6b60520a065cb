"""The report of a comparison: one HTML file with the answer, tables, figures, images and how it was made."""

import base64
import importlib.resources
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.records import Record
from noise_search.comparison.statistics.intervals import LEAST_PROMPTS, METHOD
from noise_search.comparison.statistics.means import SECONDS
from noise_search.comparison.views import tables
from noise_search.comparison.views.answer import answer, found_alarms, leader
from noise_search.comparison.views.figures import Plot, figure_svg
from noise_search.comparison.views.grid import arrange, caption, image_alt, thumbnail
from noise_search.comparison.views.made import call, settings
from noise_search.comparison.views.plots import figures
from noise_search.comparison.views.wording import listed
from noise_search.disk.files import check_writable, write_atomically
from noise_search.results.html import data_url
from noise_search.words import printable

_CAPTIONS = {
    "score": "Bands are 95 % intervals over prompts and seeds. The dotted line is the mean of random candidates.",
    "difference": "Bars are 95 % intervals of paired differences: prompts and noises are the same on both sides, so "
    "these tell more than the bands above.",
    "judge": "An algorithm that moves to the right without rising pleases the verifier and not the judge.",
    "multiplier": "Bars are 95 % intervals. Above the dashed line, scores lie beyond that of all random candidates "
    "there are; a larger pool_limit would raise it.",
    "pareto": f"Bars are 95 % intervals of the score. {SECONDS} They were measured where it ran, without judges.",
}
_TABLES = {
    "scores": tables.means_table,
    "differences": tables.differences_table,
    "multipliers": tables.multipliers_table,
    "transfer": tables.transfer_table,
    "diagnoses": tables.diagnoses_table,
    "diversity": tables.diversity_table,
}
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def write_report(comparison: ComparisonData, file: str | Path) -> Path:
    """Write the report; returns its path.

    What the comparison has no data for is said in its place.

    Raises:
        ValueError: there are no records, the file isn't .html, or its directory can't be written to.
    """
    place = Path(file)
    if place.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{str(place)!r} must end in .html, so that browsers open it")
    if place.is_dir():
        raise ValueError(f"{str(place)!r} is a directory; expected a file to write")
    check_writable(place.parent)
    write_atomically(place, report_html(comparison).encode())
    return place


def report_html(comparison: ComparisonData) -> str:
    """The report as HTML; ValueError without records."""
    if not comparison.records:
        raise ValueError("the comparison has no records yet; run compare() further")
    known = comparison.settings
    model = known.get("model", {}).get("name", "")
    title = f"{listed(comparison.algorithms)} compared at equal budgets" + (f" with {model}" if model else "")
    drawn, undrawn = figures(comparison)
    sections: dict[str, Callable[[ComparisonData], Any]] = {**_TABLES, "images": _grids}
    found, missing = {}, {}
    for name, make in sections.items():
        try:
            found[name] = make(comparison)
        except ValueError as error:
            missing[name] = error
    return _template().render(
        title=title[:1].upper() + title[1:],
        answer=answer(comparison),
        alarms=[one.sentence for one in found_alarms(comparison)],
        figures=[_figure(drawn[kind], told) for kind, told in _CAPTIONS.items() if kind in drawn],
        undrawn={kind: undrawn[kind] for kind in _CAPTIONS if kind in undrawn},
        grids=found.pop("images", []),
        tables=found,
        missing=missing,
        settings=settings(comparison),
        everything=json.dumps(known, indent=2, ensure_ascii=False, default=str),
        versions=[(name.replace("_", " "), value) for name, value in known.get("environment", {}).items()],
        command=known.get("command"),
        call=call(comparison),
        method=METHOD,
        least=LEAST_PROMPTS,
    )


def _template() -> jinja2.Template:
    """The page, in which all texts are escaped and characters that HTML forbids become U+FFFD."""
    page = importlib.resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_allowed,
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(page)


def _allowed(value: object) -> object:
    return value if isinstance(value, Markup) else _CONTROLS.sub("\ufffd", printable(str(value)))


def _figure(drawn: Plot, told: str) -> dict[str, object]:
    """A figure as SVG; as an image of its own, so that its ids meet no other figure's."""
    return {
        "source": Markup(f"data:image/svg+xml;base64,{base64.b64encode(figure_svg(drawn).encode()).decode()}"),
        "alt": drawn.alt,
        "width": round(96 * drawn.get_size_inches()[0]),
        "caption": f"{drawn.heading}. {told}",
    }


def _grids(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Winners of all algorithms, and those of the best one at every budget; errors as of `arrange` and `thumbnail`."""
    grids = [arrange(comparison)]
    if len(comparison.budgets) > 1:
        grids.append(arrange(comparison, leader(comparison)))
    return [
        {
            "what": grid.what,
            "columns": grid.columns,
            "rows": [
                (prompt, [one if isinstance(one, str) else _picture(comparison, one) for one in cells])
                for prompt, cells in grid.rows.items()
            ],
        }
        for grid in grids
    ]


def _picture(comparison: ComparisonData, record: Record) -> dict[str, object]:
    image = thumbnail(comparison, record)
    source = data_url(np.asarray(image), max(image.size))
    return {
        "source": Markup(source),
        "small": source.startswith("data:image/png"),  # pixels are shown as such
        "alt": image_alt(record),
        "width": image.width,
        "height": image.height,
        "lines": caption(record).split("\n"),
    }
