"""What was read from a file, checked: nothing in it is trusted to have the shape that a search writes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from noise_search.results.record import RECORD_VERSION
from noise_search.words import first_line
from samplers.recipe import Recipe


def as_recipe(content: Any, origin: str) -> Recipe:
    """A recipe of parsed JSON, or ValueError."""
    if (
        not isinstance(content, Sequence)
        or isinstance(content, str)
        or not all(isinstance(o, Mapping) for o in content)
    ):
        raise ValueError(f"{origin} has no list of operations for a recipe: {content!r:.80}")
    try:
        return Recipe.from_json(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{origin}: {error}") from error


def parsed(text: str, origin: str) -> Any:
    """JSON of a text, or ValueError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{origin} is not valid JSON: {first_line(error)}") from error


def as_object(content: Any, origin: str) -> dict[str, Any]:
    """A JSON object, or ValueError."""
    if not isinstance(content, dict):
        raise ValueError(f"{origin} holds a {type(content).__name__}; expected what a search wrote")
    return content


def settings_of(content: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """The settings of a search, of a version that can be read, or ValueError."""
    settings = content.get("settings")
    if not isinstance(settings, Mapping) or not isinstance(settings.get("model"), Mapping):
        raise ValueError(f"{origin} has no settings of a search; expected what result.save() writes")
    version = settings.get("record_version", 0)
    if not isinstance(version, int) or version > RECORD_VERSION:
        raise ValueError(
            f"{origin} is a record of version {version!r}, and this noise-search reads up to {RECORD_VERSION}; "
            "install a newer noise-search"
        )
    _check_shapes(settings, origin)
    return settings


def _check_shapes(settings: Mapping[str, Any], origin: str) -> None:
    """Refuse what was edited into another shape than searches write."""
    grids = settings.get("grids", {})
    parts = {"environment": settings.get("environment", {}), "options": settings["model"].get("options", {})}
    parts |= {"grids": grids} | {f"grid {k}": v for k, v in (grids.items() if isinstance(grids, Mapping) else ())}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise ValueError(f"{origin} has {part!r:.40} for its {name}; expected an object, as a search writes it")
    for name, grid in grids.items():
        levels = grid.get("levels", [])
        if not isinstance(levels, list) or not all(isinstance(v, int | float) for v in levels):
            raise ValueError(f"{origin} has levels {levels!r:.40} for grid {name}; expected a list of numbers")
        if not isinstance(grid.get("steps"), int | None):
            raise ValueError(f"{origin} has steps {grid['steps']!r:.40} for grid {name}; expected a whole number")


def text_of(content: Mapping[str, Any], name: str, origin: str) -> str:
    """A text by its name, or ValueError."""
    value = content.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{origin} has no {name}; expected what a search wrote")
    return value


def scores_of(content: Mapping[str, Any]) -> dict[str, float | None]:
    """Scores by verifier key; {} where there are none."""
    scores = content.get("scores")
    return dict(scores) if isinstance(scores, Mapping) else {}


def known_id(value: Any) -> int | None:
    """A candidate's id, where it is one."""
    return value if isinstance(value, int) else None
