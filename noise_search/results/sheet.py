"""Sheets of many searches: winners in a grid over prompts, seeds, algorithms and what else tells them apart."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from noise_search.disk.files import write_atomically
from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.results.plots import drawable
from noise_search.words import unknown

AXES = ("prompt", "algorithm", "verifier", "model", "nfe", "seed")
"""What tells searches apart on a sheet."""

_GAP, _LINE = 12, 18
"""Pixels between pictures, and of a line of text."""
_LARGEST = 12_000
"""Pixels of a page's side, beyond which viewers give up: what is larger becomes several pages."""
_FLOWING = 8
"""Pictures beside each other where there is one row."""


@dataclass(frozen=True)
class _Cell:
    """A picture with what stands below it; none where a search found none."""

    pixels: np.ndarray | None
    caption: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    title: str
    cells: tuple[_Cell | None, ...]


def sheets(results: Sequence[ResultData], *, rows: str = "prompt", width: int = 256) -> list[Image.Image]:
    """Winners in a grid, or of one search its kept pictures, best first; in pages where it is large.

    Args:
        results: of searches.
        rows: one of `AXES`, by which they stand in a row each; all else in which they differ are the columns.
        width: of a picture, in pixels; smaller ones are enlarged by whole numbers, without blur.

    Raises:
        ValueError: no results, no such axis, or a width below 16.
    """
    if rows not in AXES:
        raise unknown("rows", rows, AXES)
    if not results:
        raise ValueError("there are no results to make a sheet of")
    if width < 16:
        raise ValueError(f"width={width} must be at least 16 pixels")
    header, body = _one(results[0]) if len(results) == 1 else _grid(results, rows)
    pictures = [cell.pixels for row in body for cell in row.cells if cell is not None and cell.pixels is not None]
    tall = max((round(width * one.shape[0] / one.shape[1]) for one in pictures), default=width)
    across = max(1, (_LARGEST - _GAP) // (width + _GAP))
    pages = []
    for first in range(0, max(len(row.cells) for row in body), across):
        part = slice(first, first + across)
        block: list[_Row] = []
        top = height = _top(header[part], width)
        for row in body:
            one = _Row(row.title, row.cells[part])
            needs = _height(one, width, tall)
            if block and height + needs > _LARGEST:
                pages.append(_page(header[part], block, width, tall))
                block, height = [], top
            block.append(one)
            height += needs
        pages.append(_page(header[part], block, width, tall))
    return pages


def save_sheets(results: Sequence[ResultData], file: Path, **how: Any) -> list[Path]:
    """Write a sheet as PNG, further pages beside it as NAME-2.png, ...; returns their paths."""
    pages = sheets(results, **how)
    paths = [file if at == 1 else file.with_name(f"{file.stem}-{at}{file.suffix}") for at in range(1, len(pages) + 1)]
    for path, page in zip(paths, pages, strict=True):
        stream = io.BytesIO()
        page.save(stream, "PNG")
        write_atomically(path, stream.getvalue())
    return paths


def _facts(result: ResultData) -> dict[str, str]:
    """What may tell a search from others, by axis."""
    settings = result.settings
    known = {"algorithm": settings["algorithm"]["name"], "verifier": settings["verifier"]["name"]}
    told = {"model": settings["model"]["name"], "nfe": f"{result.ledger.nfe_budget} NFE", "seed": settings["seed"]}
    return {"prompt": result.prompt} | {name: str(one) for name, one in (known | told).items()}


def _grid(results: Sequence[ResultData], by: str) -> tuple[list[str], list[_Row]]:
    facts = [_facts(one) for one in results]
    differing = [axis for axis in AXES if axis != by and len({one[axis] for one in facts}) > 1]
    places: dict[tuple[str, tuple[str, int]], ResultData] = {}
    for one, told in zip(results, facts, strict=True):
        label = ", ".join(f"seed {told[axis]}" if axis == "seed" else told[axis] for axis in differing)
        again = 0  # what differs in something else stands beside it
        while (told[by], (label, again)) in places:
            again += 1
        places[told[by], (label, again)] = one
    titles = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    if len(columns) == 1 or len(titles) == 1:  # a list: as many beside each other as are looked at with ease
        flat = [(title, *column) for title, column in places]
        listed = [_winner(places[t, (label, at)], t if len(titles) > 1 else label) for t, label, at in flat]
        head = titles[0] if len(titles) == 1 else columns[0][0]
        return [], _flowing(head, listed)
    found = [places.get((title, column)) for title in titles for column in columns]
    cells = [None if one is None else _winner(one) for one in found]
    count = len(columns)
    body = [_Row(title, tuple(cells[at * count : (at + 1) * count])) for at, title in enumerate(titles)]
    return [label for label, _ in columns], body


def _one(result: ResultData) -> tuple[list[str], list[_Row]]:
    ranked = [one for one in result.top(len(result.candidates)) if one.pixels is not None]
    told = [_Cell(one.pixels, (f"{at}. {_told(one)}",)) for at, one in enumerate(ranked, 1)]
    return [], _flowing(result.prompt, told or [_winner(result)])


def _flowing(title: str, cells: Sequence[_Cell]) -> list[_Row]:
    parts = [tuple(cells[at : at + _FLOWING]) for at in range(0, len(cells), _FLOWING)]
    return [_Row(title if at == 0 else "", part) for at, part in enumerate(parts)]


def _winner(result: ResultData, label: str = "") -> _Cell:
    above = (label,) if label else ()
    if result.failed:
        return _Cell(None, (*above, "no winner"))
    return _Cell(result.best.pixels, (*above, _told(result.best)))


def _told(candidate: Candidate) -> str:
    judged = [f"{key.partition('@')[0]} {value:.3g}" for key, value in candidate.judges.items() if value == value]
    seed = f"seed {candidate.seed}" if candidate.seed is not None else f"candidate {candidate.id}"
    return ", ".join([f"{candidate.score:.3f}", seed, *judged])


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that fit so many pixels, three at most."""
    shown = textwrap.wrap(drawable(text), max(8, width // 7))
    return shown if len(shown) <= 3 else [*shown[:2], shown[2][:-1] + "…"]


def _top(header: Sequence[str], width: int) -> int:
    """Above the rows of a page."""
    return _GAP + _LINE * max((len(_wrapped(label, width)) for label in header), default=0)


def _height(row: _Row, width: int, tall: int) -> int:
    titles = _wrapped(row.title, (width + _GAP) * len(row.cells)) if row.title else []
    captions = max((sum(len(_wrapped(one, width)) for one in c.caption) for c in row.cells if c), default=0)
    return _LINE * (len(titles) + captions) + tall + 2 * _GAP


def _page(header: Sequence[str], rows: Sequence[_Row], width: int, tall: int) -> Image.Image:
    count = max(len(row.cells) for row in rows)
    heads = [_wrapped(label, width) for label in header]
    top = _top(header, width)
    size = (_GAP + (width + _GAP) * count, top + sum(_height(row, width, tall) for row in rows))
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.truetype(findfont(FontProperties()), 12)

    def write(x: int, y: int, lines: Sequence[str]) -> int:
        for at, text in enumerate(lines):
            draw.text((x, y + at * _LINE), text, fill="#202124", font=font)
        return y + _LINE * len(lines)

    for at, lines in enumerate(heads):
        write(_GAP + at * (width + _GAP), _GAP, lines)
    y = top
    for row in rows:
        below = write(_GAP, y, _wrapped(row.title, (width + _GAP) * len(row.cells)) if row.title else [])
        for at, cell in enumerate(row.cells):
            x = _GAP + at * (width + _GAP)
            if cell is None:
                continue
            if cell.pixels is None:
                draw.rectangle((x, below, x + width - 1, below + tall - 1), fill="#e8eaed")
            else:
                picture = _fitted(cell.pixels, width, tall)
                page.paste(picture, (x + (width - picture.width) // 2, below + (tall - picture.height) // 2))
            write(x, below + tall + 4, [text for one in cell.caption for text in _wrapped(one, width)])
        y += _height(row, width, tall)
    return page


def _fitted(pixels: np.ndarray, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    times = min(width // picture.width, height // picture.height)
    if times >= 1:
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    return picture
