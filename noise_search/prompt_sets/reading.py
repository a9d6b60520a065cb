"""Files of prompts, read into rows that know their place, and rows into prompts or what is wrong with them.

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
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noise_search.prompt_sets.set import RESERVED, SetPrompt
from noise_search.words import counted, unknown

ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings that are told to users; the others are spellings of them."""

PROMPT_COLUMNS = ("prompt", "prompts", "caption", "text", "captions")
"""Names of the column with the prompt, in any case, the first that a file has."""

FAMILY_COLUMNS = ("family", "category", "categories", "tag", "style", "type", "challenge")
"""Names of the column with the category, in any case, the first that a file has."""


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
    expected = f"expected a file of prompts ({', '.join(ENDINGS)})"
    if file.is_dir():
        raise ValueError(f"{str(file)!r} is a directory; {expected}")
    if not file.is_file():
        raise FileNotFoundError(f"{str(file)!r} does not exist; {expected}")
    return list(reader(file))


def prompts(
    rows: Sequence[Row], name: str, *, column: str | None, family_column: str | None, family: str
) -> tuple[list[SetPrompt], list[str]]:
    """Prompts of the rows that can be used, and what is wrong with the others, each with its place.

    Raises:
        ValueError: no such column, or none that looks like prompts.
    """
    names = list(dict.fromkeys(key for row in rows if isinstance(row.value, Mapping) for key in row.value))
    text_in = _column(names, column, PROMPT_COLUMNS, "column", name)
    family_in = _column([n for n in names if n != text_in], family_column, FAMILY_COLUMNS, "family_column", name)
    if names and text_in is None:
        raise ValueError(
            f"{name}: no column of prompts among {', '.join(map(repr, names))}; expected one of "
            f"{', '.join(PROMPT_COLUMNS)} in the header or the objects, or pass column="
        )
    found: list[SetPrompt] = []
    problems: list[str] = []
    for row in rows:
        try:
            found.append(_prompt(row, text_in or "prompt", family_in, family))
        except ValueError as error:
            problems.append(f"{row.where} {error}")
    return found, problems


def _column(names: list[str], asked: str | None, usual: Iterable[str], option: str, name: str) -> str | None:
    if asked is None:
        lowered = {one.strip().lower(): one for one in reversed(names)}
        return next((one if one in names else lowered[one] for one in usual if one in lowered), None)
    if asked in names:
        return asked
    same = [one for one in names if one.lower() == asked.lower()]
    if len(same) == 1:
        return same[0]
    if not names:
        raise ValueError(f"{name}: {option}={asked!r}, but its entries are plain texts without columns")
    raise unknown(f"{option} of {name}", asked, names)


def _prompt(row: Row, text_in: str, family_in: str | None, family: str) -> SetPrompt:
    """The row's prompt, or ValueError with what is wrong."""
    if row.problem:
        raise ValueError(row.problem)
    if not isinstance(row.value, str | Mapping):
        raise ValueError(f"is {_short(row.value)}; expected a text, or an object with a prompt")
    cells = {text_in: row.value} if isinstance(row.value, str) else row.value
    if text_in not in cells:
        raise ValueError(f"has no {text_in!r}; it has {', '.join(map(repr, cells)) or 'nothing'}")
    text = "" if cells[text_in] is None else cells[text_in]
    if not isinstance(text, str):
        raise ValueError(f"has {_short(text)} as {text_in!r}; expected a text")
    if not text.strip():
        raise ValueError("has an empty prompt")
    own = _as_text(cells.get(family_in)) or row.family or family
    extra = {key: _as_text(value) for key, value in cells.items() if key not in (text_in, family_in)}
    for part in (text, own, *extra, *extra.values()):
        if problem := _encoding_problem(part):
            raise ValueError(problem)
    # A column beside the chosen one may be named like a field.
    return SetPrompt(text, own, {key + "_" * (key in RESERVED): value for key, value in extra.items()})


def _as_text(value: Any) -> str:
    if value is None or value != value:  # NaN is how tables say that nothing is there
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "..."


def _encoding_problem(text: str) -> str:
    """What is wrong with the characters of a text; "" where nothing is."""
    half = re.search("[\ud800-\udfff]", text)
    if half is None:
        return ""
    code = ord(half[0])
    if 0xDC80 <= code <= 0xDCFF:  # how `_text` keeps bytes
        return f"is not UTF-8 (byte 0x{code - 0xDC00:02x}); save the file as UTF-8"
    return f"holds half a character (\\u{code:04x}); write both halves, or the character itself"


def _text(file: Path) -> str:
    """The file's text; bytes that aren't UTF-8 stay visible as lone surrogates, so that their rows can be named."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) where it isn't blank; only \\n, \\r\\n and \\r end lines, as prompts may hold what Unicode has."""
    for number, line in enumerate(io.StringIO(_text(file), newline=None), start=1):
        if line.strip():
            yield f"line {number}", line.removesuffix("\n")


def _plain(file: Path) -> Iterator[Row]:
    for where, line in _lines(file):
        text = line.strip()
        if text != "#" and not text.startswith("# "):
            yield Row(where, text)


# pandas' readers would do for a table without faults. They keep no line numbers, and end a file at its first odd row,
# while users are told which rows can't be used, where each is and why.
def _csv(file: Path) -> Iterator[Row]:
    text = _text(file)
    head = _QUOTED.sub("", text.lstrip("\r\n")).splitlines()[:1]  # names of columns may hold any separator, in quotes
    delimiter = max(",;\t", key=head[0].count) if head else ","
    return _table(file, _records(list(io.StringIO(text, newline="")), delimiter))


def _records(lines: Sequence[str], delimiter: str) -> Iterator[tuple[str, list[str] | str]]:
    """(place, cells, or what is wrong) of every record that isn't blank.

    A quote out of place may have swallowed any number of rows: what comes after its own line is read anew.
    """
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        at = 0
        while at < len(lines):
            reader = csv.reader(
                itertools.islice(lines, at, None), delimiter=delimiter, strict=True, skipinitialspace=True
            )
            done = 0
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield f"line {at + done + 1}", cells
                    done = reader.line_num
                return
            except csv.Error as error:
                unclosed = "end of data" in str(error) or reader.line_num > done + 1
                what = "opens a quote that is never closed" if unclosed else f"has quotes out of place ({error})"
                yield f"line {at + done + 1}", what
                at += done + 1
    finally:
        csv.field_size_limit(before)


_LONGEST_CELL = 2**31 - 1
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')


def _tsv(file: Path) -> Iterator[Row]:
    # By line: prompts with quotes inside, or with one that is never closed, are common in these files.
    def cell(text: str) -> str:
        quoted = _QUOTED.fullmatch(text.strip())
        return quoted[1].replace('""', '"') if quoted else text

    return _table(file, ((where, [cell(part) for part in line.split("\t")]) for where, line in _lines(file)))


def _table(file: Path, records: Iterator[tuple[str, list[str] | str]]) -> Iterator[Row]:
    """Rows of records whose first is the header; a row may leave out its last columns, which are then empty."""
    where, cells = next(records, ("", []))
    if isinstance(cells, str):
        raise ValueError(f"{file.name}: {where} {cells}; expected a header line with the columns' names")
    header = [cell.strip() or f"column {at}" for at, cell in enumerate(cells, start=1)]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{file.name}: the header has {twice[0]!r} twice; expected distinct names")
    for where, cells in records:
        if isinstance(cells, str):
            yield Row(where, None, cells)
        elif any(cell.strip() for cell in cells[len(header) :]):
            what = f"has {counted(len(cells), 'cell')} where the header has {len(header)}"
            yield Row(where, None, f"{what}; put cells that hold the separator into quotes")
        else:
            given = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            yield Row(where, dict.fromkeys(header, "") | given)


def _json(file: Path) -> Iterator[Row]:
    try:
        content = json.loads(_text(file))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _jsonl(file)
            return
        raise ValueError(f"{file.name}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise ValueError(f"{file.name}: nested too deeply for a file of prompts") from error
    lists = {"": content} if isinstance(content, list) else content
    if not (isinstance(lists, Mapping) and lists and all(isinstance(part, list) for part in lists.values())):
        raise ValueError(f"{file.name}: expected a list of texts or objects, or an object of such lists by family")
    for family, part in lists.items():
        place = "" if lists is not content else f"{family!r}, "
        for at, value in enumerate(part, start=1):
            yield Row(f"{place}item {at}", value, family=family if len(lists) > 1 else "")


def _jsonl(file: Path) -> Iterator[Row]:
    for where, line in _lines(file):
        try:
            yield Row(where, json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            what = f"{error.msg} in column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep"
            yield Row(where, None, _encoding_problem(line) or f"is not JSON ({what})")


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
