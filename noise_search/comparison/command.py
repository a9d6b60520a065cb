"""What `noise-search compare` does: a comparison, kept in a directory with its table, plots and report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from noise_search.comparison.compare import compare
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.store import Store
from noise_search.prompt_sets import as_prompt_set


def compare_to_directory(
    prompts: str,
    out: Path,
    *,
    limit: int | None = None,
    per_family: int | None = None,
    command: str = "",
    **options: Any,
) -> tuple[Comparison, dict[str, Path]]:
    """Compare, and write what people look at beside the records; returns the paths.

    Args:
        prompts: a file, the name of a prompt set, or one prompt.
        out: the directory.
        limit, per_family: how many prompts, equally many of each family where the set has families.
        command: that gave this, for the report.
        options: of `compare`.
    """
    chosen = as_prompt_set(prompts)
    if limit is not None or per_family is not None:
        chosen = as_prompt_set(chosen, limit=limit, per_family=per_family, seed=0)
    found = compare(chosen, out=out, **options)
    if command:
        found = replace(found, settings={**found.settings, "command": command})
        Store(out).write_settings(found.settings)
    return found, found.save()


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
        raise ValueError(f"{name} {text!r} must be whole numbers with commas between, such as 80,320") from None
