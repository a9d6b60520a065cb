"""Rows become prompts: which column is the prompt, which its family, and which rows can't be used."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noise_search.prompt_sets.reading import Row, encoding_problem
from noise_search.prompt_sets.set import RESERVED, SetPrompt
from noise_search.words import unknown

PROMPT_COLUMNS = ("prompt", "prompts", "caption", "text", "captions")
"""Names of the column with the prompt, in any case, the first that a file has."""


FAMILY_COLUMNS = ("family", "category", "categories", "tag", "style", "type", "challenge")
"""Names of the column with the category, in any case, the first that a file has."""


def prompts(
    rows: Sequence[Row], name: str, *, column: str | None = None, family_column: str | None = None, family: str = ""
) -> tuple[list[SetPrompt], list[str]]:
    """Prompts of the rows that can be used, and what is wrong with the others, each with its place.

    Args:
        rows: of a file or list.
        name: of it, for errors.
        column: holds the prompts; None for the first of `PROMPT_COLUMNS`.
        family_column: holds the families; None for the first of `FAMILY_COLUMNS`, where there is one.
        family: of rows that have none of their own.

    Raises:
        ValueError: no such column, or none that looks like prompts.
    """
    names = list(dict.fromkeys(key for row in rows if isinstance(row.value, Mapping) for key in row.value))
    text_in = _column(names, column, PROMPT_COLUMNS, "column", name)
    family_in = _column([n for n in names if n != text_in], family_column, FAMILY_COLUMNS, "family_column", name)
    if names and text_in is None:
        known = f"expected one of {', '.join(PROMPT_COLUMNS)}"
        raise ValueError(
            f"{name}: no column of prompts among {', '.join(map(repr, names))}; {known} in the header or the objects, "
            "or pass column="
        )
    found: list[SetPrompt] = []
    problems: list[str] = []
    for row in rows:
        try:
            found.append(_prompt(row, text_in, family_in, family))
        except ValueError as error:
            problems.append(f"{row.where} {error}")
    return found, problems


def _column(names: list[str], asked: str | None, usual: Iterable[str], option: str, name: str) -> str | None:
    if asked is not None:
        if asked in names:
            return asked
        same = [one for one in names if one.lower() == asked.lower()]
        if len(same) == 1:
            return same[0]
        if not names:
            raise ValueError(f"{name}: {option}={asked!r}, but its entries are plain texts without columns")
        raise unknown(f"{option} of {name}", asked, names)
    lowered = {one.strip().lower(): one for one in reversed(names)}
    return next((one if one in names else lowered[one] for one in usual if one in lowered), None)


def _prompt(row: Row, text_in: str | None, family_in: str | None, family: str) -> SetPrompt:
    """The row's prompt, or ValueError with what is wrong."""
    if row.problem:
        raise ValueError(row.problem)
    family = row.family or family
    if isinstance(row.value, str):
        return _checked(row.value, family, {})
    if not isinstance(row.value, Mapping):
        raise ValueError(f"is {_short(row.value)}; expected a text, or an object with a prompt")
    if text_in not in row.value:
        raise ValueError(f"has no {text_in!r}; it has {', '.join(map(repr, row.value)) or 'nothing'}")
    text = row.value[text_in]
    if text is not None and not isinstance(text, str):
        raise ValueError(f"has {_short(text)} as {text_in!r}; expected a text")
    own = _as_text(row.value.get(family_in)) if family_in is not None else ""
    extra = {key: _as_text(value) for key, value in row.value.items() if key not in (text_in, family_in)}
    return _checked(text or "", own or family, extra)


def _checked(text: str, family: str, extra: dict[str, str]) -> SetPrompt:
    if not text.strip():
        raise ValueError("has an empty prompt")
    for part in (text, family, *extra, *extra.values()):
        if problem := encoding_problem(part):
            raise ValueError(problem)
    # A column beside the chosen one may be named like a field.
    return SetPrompt(text, family, {key + "_" * (key in RESERVED): value for key, value in extra.items()})


def _as_text(value: Any) -> str:
    if value is None or value != value:  # NaN is how tables say that nothing is there
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "..."
