"""What `noise-search compare` does: a comparison, kept in a directory with its table, plots and report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.cli.options import configured_algorithm
from noise_search.comparison.cells import RANDOM
from noise_search.comparison.compare import compare
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.store import Store
from noise_search.prompt_sets import PromptSet, as_prompt_set
from noise_search.words import unknown

_SUCH = {"budgets": "80,320", "candidates": "4,16", "seeds": "3, how many, or 0,1000"}


def compare_to_directory(
    prompts: str,
    out: Path,
    *,
    limit: int | None = None,
    per_family: int | None = None,
    command: str = "",
    **options: Any,
) -> tuple[Comparison, dict[str, Path]]:
    """Compare, and write what people look at beside the records; returns the paths, none where there are no records.

    Args:
        prompts: a file, the name of a prompt set, or one prompt.
        out: the directory.
        limit, per_family: how many prompts, equally many of each family where the set has families.
        command: that gave this, for the report.
        options: of `compare`.

    Raises:
        ValueError: no such file of prompts, and as `compare`.
    """
    chosen = _prompts(prompts)
    if limit is not None or per_family is not None:
        chosen = as_prompt_set(chosen, limit=limit, per_family=per_family, seed=0)
    found = compare(chosen, out=out, **options)
    if command:
        found = replace(found, settings={**found.settings, "command": command})
        Store(out, writing=True).write_settings(found.settings)
    return found, found.save() if found.records else {}


def _prompts(asked: str) -> PromptSet:
    """A prompt set; that there is no such file is bad input, as an empty one is."""
    try:
        return as_prompt_set(asked)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(str(error)) from error


def algorithms(names: Sequence[str], assignments: Sequence[str]) -> list[SearchAlgorithm]:
    """Algorithms by name, with options given as NAME.OPTION=VALUE.

    The name may be left out where one algorithm is asked for beside random search.

    Raises:
        ValueError: an unknown algorithm or option, or an option of an algorithm that isn't asked for.
    """
    given: dict[str, list[str]] = {name: [] for name in names}
    others = [name for name in names if name != RANDOM]
    for text in assignments:
        path, equals, value = text.partition("=")
        owner, dot, option = path.partition(".")
        if not dot:
            if len(others) != 1:
                raise ValueError(f"option {text!r} doesn't say of which algorithm; write it as NAME.{text}")
            owner, option = others[0], path
        if owner not in given:
            raise unknown("algorithm in option", owner, names)
        given[owner].append(f"{option}{equals}{value}")
    return [configured_algorithm(name, given[name]) for name in names]


def seeds(text: str) -> int | list[int]:
    """How many seeds, or several of them with commas between.

    Raises:
        ValueError: something else.
    """
    found = numbers(text, "seeds") or []
    return found[0] if len(found) == 1 and "," not in text else found


def numbers(text: str | None, name: str) -> list[int] | None:
    """Whole numbers with commas between, None for None.

    Raises:
        ValueError: something else.
    """
    if text is None:
        return None
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise ValueError(f"{name} {text!r} must be whole numbers with commas between, such as {_SUCH[name]}") from None
