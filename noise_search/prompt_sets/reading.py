"""Files of prompts, read into rows that know their place and what is wrong with them.

Kinds, by the file's ending:
  .txt, .text, none  one prompt per line; blank lines and lines that start with "# " are passed over, while a prompt may
                     start with "#" ("#1 dad mug"). Blanks around a prompt are dropped.
  .csv, .tsv, .tab   a header line, then a row per prompt. A CSV may be separated by semicolons or tabs as well, and its
                     quoted cells may hold line breaks; a row of a TSV is one line. Blanks around cells are dropped.
  .json              a list of texts or of objects, or an object of such lists by family.
  .jsonl, .ndjson    one text or object per line; a .json file of this kind is understood too.
  .parquet           its columns of text and numbers (needs pyarrow).
Text is UTF-8, with or without byte order mark, or UTF-16 with one.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings that are told to users; the others are spellings of them."""


@dataclass(frozen=True)
class Row:
    """One entry of a file.

    Attributes:
        where: its place for people, such as "line 7".
        value: a text, or columns by name; None where it can't be read.
        problem: what is wrong; "" where nothing is.
        family: of the list that holds it, in JSON by family.
    """

    where: str
    value: Any
    problem: str = ""
    family: str = ""


def read(file: Path) -> list[Row]:
    """All rows of a file, unreadable ones included.

    Raises:
        ValueError: a kind of file that isn't known, or one that can't be read as a whole.
        FileNotFoundError: there is no such file.
        ImportError: a parquet file without pyarrow.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{file.name}: can't read {file.suffix} files; expected one of {', '.join(ENDINGS)}")
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "does not exist"
        error: type[Exception] = ValueError if file.is_dir() else FileNotFoundError
        raise error(f"{str(file)!r} {what}; expected a file of prompts ({', '.join(ENDINGS)})")
    return list(reader(file))


def encoding_problem(text: str) -> str:
    """What is wrong with the characters of a text; "" where nothing is."""
    for character in text:
        if "\udc80" <= character <= "\udcff":
            return f"is not UTF-8 (byte 0x{ord(character) - 0xDC00:02x}); save the file as UTF-8"
        if "\ud800" <= character <= "\udfff":
            return f"holds half a character (\\u{ord(character):04x}); write both halves, or the character itself"
    return ""


def _text(file: Path) -> str:
    """The file's text; bytes that aren't UTF-8 stay visible as lone surrogates, so that their rows can be named."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line without its end); only \\n, \\r\\n and \\r end lines, as prompts may hold what else Unicode has."""
    for number, line in enumerate(io.StringIO(_text(file), newline=None), start=1):
        yield f"line {number}", line.removesuffix("\n")


def _plain(file: Path) -> Iterator[Row]:
    for where, line in _lines(file):
        text = line.strip()
        if text and text != "#" and not text.startswith("# "):
            yield Row(where, text)


def _csv(file: Path) -> Iterator[Row]:
    text = _text(file)
    head = text.lstrip("\r\n").splitlines()[:1]
    delimiter = max(",;\t", key=head[0].count) if head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    yield from _table(file, _cells(reader))


def _cells(reader: Any) -> Iterator[tuple[str, list[str] | str]]:
    """(place, cells, or what is wrong) of every record that isn't blank."""
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "end of data" in str(error)
            yield where, "opens a quote that is never closed" if unclosed else f"has quotes out of place ({error})"
            continue
        if any(cell.strip() for cell in cells):
            yield where, cells


_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def _tsv(file: Path) -> Iterator[Row]:
    # By line: prompts with quotes inside, or with one that is never closed, are common in these files.
    def cell(text: str) -> str:
        quoted = _QUOTED.fullmatch(text.strip())
        return quoted[1].replace('""', '"') if quoted else text

    lines = ((where, [cell(part) for part in line.split("\t")]) for where, line in _lines(file) if line.strip())
    yield from _table(file, lines)


def _table(file: Path, records: Iterator[tuple[str, list[str] | str]]) -> Iterator[Row]:
    """Rows of records whose first is the header; a row may leave out its last columns, which are then empty."""
    header: list[str] | None = None
    for where, cells in records:
        if header is None:
            if isinstance(cells, str):
                raise ValueError(f"{file.name}: {where} {cells}; expected a header line with the columns' names")
            header = _header(file, cells)
        elif isinstance(cells, str):
            yield Row(where, None, cells)
        elif any(cell.strip() for cell in cells[len(header) :]):
            what = f"has {len(cells)} cells where the header has {len(header)}"
            yield Row(where, None, f"{what}; put cells that hold the separator into quotes")
        else:
            given = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            yield Row(where, dict.fromkeys(header, "") | given)


def _header(file: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() or f"column {at}" for at, cell in enumerate(cells, start=1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{file.name}: the header has {twice[0]!r} twice; expected distinct names")
    return names


def _json(file: Path) -> Iterator[Row]:
    text = _text(file)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _jsonl(file)
            return
        raise ValueError(f"{file.name}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise ValueError(f"{file.name}: nested too deeply for a file of prompts") from error
    yield from of_json(content, file.name)


def of_json(content: Any, name: str) -> Iterator[Row]:
    """Rows of a list, or of an object of lists by family.

    Raises:
        ValueError: anything else.
    """
    if isinstance(content, list):
        for at, value in enumerate(content, start=1):
            yield Row(f"item {at}", value)
    elif isinstance(content, Mapping) and content and all(isinstance(part, list) for part in content.values()):
        for family, part in content.items():
            for at, value in enumerate(part, start=1):
                yield Row(f"{family!r}, item {at}", value, family=family if len(content) > 1 else "")
    else:
        raise ValueError(f"{name}: expected a list of texts or objects, or an object of such lists by family")


def _jsonl(file: Path) -> Iterator[Row]:
    for where, line in _lines(file):
        if not line.strip():
            continue
        try:
            yield Row(where, json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            what = f"{error.msg} in column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep"
            yield Row(where, None, encoding_problem(line) or f"is not JSON ({what})")


def _parquet(file: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
        from pyarrow import types
    except ImportError as error:
        fix = "`pip install pyarrow`, or save it as CSV or JSONL"
        raise ImportError(f"{file.name}: reading parquet needs pyarrow, which isn't installed: {fix}") from error
    shown = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    try:
        opened = parquet.ParquetFile(file)
        # Images beside the prompts may be gigabytes; they are never read.
        names = [column.name for column in opened.schema_arrow if any(is_kind(column.type) for is_kind in shown)]
        table = opened.read(columns=names)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{file.name}: not a readable parquet file ({str(error).splitlines()[0]})") from error
    for at, value in enumerate(table.to_pylist(), start=1):
        yield Row(f"row {at}", value)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    **dict.fromkeys(("", ".txt", ".text"), _plain),
    ".csv": _csv,
    **dict.fromkeys((".tsv", ".tab"), _tsv),
    ".json": _json,
    **dict.fromkeys((".jsonl", ".ndjson"), _jsonl),
    ".parquet": _parquet,
}
