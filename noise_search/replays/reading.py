"""What can be replayed, read: a PNG, a result.json, a result, a recipe. PNG and JSON only; nothing read is executed."""

import json
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from noise_search.disk.png import CHUNK
from noise_search.results.record import RECORD_VERSION
from noise_search.results.result import SearchResult
from noise_search.words import counted
from samplers.recipe import Recipe
from samplers.replay import check_operations
from samplers.said import first_line

Source = str | Path | Image.Image | SearchResult | Recipe | Sequence[Mapping[str, Any]]


_WRITTEN = "PNGs that carry one are written by result.save(), in best.png and top/, and by Replay.save()"


_MOST_BYTES = 2**28
"""Of a file that is read: a result.json of 100,000 candidates has about half as many."""
_MOST_TEXT = 2**20
"""Characters of a prompt, or of another text in a model's options."""
_MOST_OPERATIONS = 10_000
"""Of a recipe; each is a noise to be drawn or a run."""
_DEEPEST = 32
"""Levels of lists and objects in settings; searches write fewer than 10."""
_MOST = {"steps": 10_000, "num_inference_steps": 10_000, "height": 2**14, "width": 2**14, "num_frames": 2**12}
_MOST_OTHERWISE = 2**24
"""What whole numbers in the settings of a model may be: pixels, steps, frames, and anything else."""


@dataclass(frozen=True, eq=False)
class Record:
    """What a source says of one candidate.

    Attributes:
        origin: the source, for messages.
        recipe: how to make it.
        prompt: its prompt; None where a bare recipe was given.
        settings: of its search; None where a bare recipe was given.
        candidate: its id in the search, if known.
        scores: raw score by verifier key, where known.
        pixels: uint8 `[height, width, 3]`, or `[frames, height, width, 3]`: its stored picture, if there is one.
        stored: where that picture is, for messages.
        copies: which copy of the record this is, where others that were found say something else, in words.
    """

    origin: str
    recipe: Recipe
    prompt: str | None = None
    settings: Mapping[str, Any] | None = None
    candidate: int | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    stored: str = ""
    copies: tuple[str, ...] = ()


def read(source: Source, candidate: int | None = None) -> Record:
    """The record of a candidate, by default of the picture itself, or of the best.

    Raises:
        ValueError: there is no such file, no recipe in it, or no such candidate; in one line.
        TypeError: something else was given.
    """
    if isinstance(source, SearchResult):
        return _of_result(source, candidate)
    if isinstance(source, Image.Image):
        return _of_picture(source, "the image", candidate)
    if isinstance(source, Recipe):
        return Record("the recipe", _alone(source, candidate))
    if isinstance(source, str) and source.lstrip().startswith("["):
        return Record("the recipe", _alone(as_recipe(parsed(source, "the recipe"), "the recipe"), candidate))
    if isinstance(source, str | Path):
        return _of_file(Path(source), candidate)
    if isinstance(source, Sequence) and all(isinstance(op, Mapping) for op in source):
        return Record("the recipe", _alone(as_recipe(source, "the recipe"), candidate))
    raise TypeError(
        f"a {type(source).__name__} can't be replayed alone; expected a PNG or result.json of a search (path or "
        "image), a SearchResult with candidate=ID, or a recipe with model= and prompt="
    )


def _of_file(file: Path, candidate: int | None) -> Record:
    if file.is_dir():
        file = file / "result.json"
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{str(file)!r} can't be read: {error.strerror or error}") from error
    if len(raw) > _MOST_BYTES:
        raise ValueError(f"{str(file)!r} has more than {_MOST_BYTES >> 20} MiB, and no search writes so much")
    if raw.startswith(b"\x89PNG"):
        found = _of_png(file, candidate)
        return replace(found, copies=tuple(_copies_of_picture(file, found)))
    name = repr(str(file))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is neither a PNG nor a result.json; {_WRITTEN}") from error
    content = parsed(text, name)
    if isinstance(content, list):
        return Record(name, _alone(as_recipe(content, name), candidate))
    return _of_json(as_object(content, name), file, candidate)


def _of_png(file: Path, candidate: int | None) -> Record:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=["PNG"])
            with image:
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{str(file)!r} is too large to be opened: {first_line(error)}") from error
    except (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise ValueError(f"{str(file)!r} is damaged: {first_line(error)}") from error
    return _of_picture(image, repr(str(file)), candidate)


def _of_picture(image: Image.Image, origin: str, candidate: int | None) -> Record:
    text = image.info.get(CHUNK)
    if not isinstance(text, str):
        found = image.info.get("parameters")
        other = " but only an AUTOMATIC1111 'parameters' text, which doesn't say how noise was moved" if found else ""
        raise ValueError(f"{origin} carries no recipe of a search{other}; {_WRITTEN}")
    record = as_object(parsed(text, f"the record in {origin}"), origin)
    if candidate is not None and candidate != record.get("candidate"):
        raise ValueError(f"{origin} holds one candidate; leave candidate={candidate} out, or give its result.json")
    return Record(
        origin=origin,
        recipe=as_recipe(record.get("recipe"), origin),
        prompt=text_of(record, "prompt", origin),
        settings=settings_of(record, origin),
        candidate=known_id(record.get("candidate")),
        scores=scores_of(record),
        pixels=np.asarray(image.convert("RGB")),
        stored="the picture given",
    )


def _of_json(content: Mapping[str, Any], file: Path, candidate: int | None) -> Record:
    origin = repr(str(file))
    settings = settings_of(content, origin)
    rows = content.get("candidates")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{origin} has no candidates; expected a result.json written by result.save()")
    best = as_object(content.get("best") or {}, origin)
    wanted = best.get("id") if candidate is None else candidate
    if wanted is None:
        raise ValueError(
            f"{origin} has no winner; choose one of its {counted(len(rows), 'candidate')} with candidate=ID"
        )
    row = next((row for row in rows if row.get("id") == wanted), None)
    if row is None:
        raise ValueError(_no_candidate(origin, wanted, [row.get("id") for row in rows]))
    picture = row.get("image") or (best.get("image") if best.get("id") == wanted else None)
    recipe = as_recipe(_operations(rows, rows.index(row), origin), origin)
    scores = scores_of(row)
    beside = _beside(file, picture)
    same = beside is not None and beside.recipe == recipe
    copies = _other_entries(content, wanted, recipe, scores)
    if beside is not None and beside.candidate != wanted:
        copies.append(f"{picture} holds candidate {beside.candidate}, and isn't compared")
    elif beside is not None and (other := _unlike(same, beside.scores == scores)):
        copies.append(f"{picture} has {other}" + ("" if same else ", and isn't compared"))
    return Record(
        origin=origin,
        recipe=recipe,
        prompt=text_of(content, "prompt", origin),
        settings=settings,
        candidate=wanted,
        scores=scores,
        pixels=beside.pixels if beside is not None and same else None,
        stored=str(picture),
        copies=tuple(f"candidate {wanted} is as the candidates of {file.name} have it: {one}" for one in copies),
    )


def _operations(rows: Sequence[Mapping[str, Any]], index: int, origin: str) -> Any:
    """The operations of a candidate; those that begin like an earlier one's are read there."""
    rest = []
    while (begins := rows[index].get("recipe_begins")) is not None:
        said = begins if isinstance(begins, Mapping) else {}
        earlier = next((i for i in range(index) if rows[i].get("id") == said.get("candidate")), None)
        own, count = rows[index].get("recipe"), said.get("operations")
        if earlier is None or not isinstance(own, list) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{origin} has a recipe that begins like {begins!r:.80}; expected an earlier candidate")
        rest.append((count, own))
        index = earlier
    operations = rows[index].get("recipe")
    for count, own in reversed(rest):
        operations = [*operations[:count], *own] if isinstance(operations, list) else None
    return operations


def _beside(file: Path, picture: Any) -> Record | None:
    """What a picture in the folder of result.json says, where there is one."""
    if not isinstance(picture, str) or Path(picture).is_absolute() or ".." in Path(picture).parts:
        return None
    try:
        return _of_png(file.parent / picture, None)
    except (ValueError, OSError):
        return None


def _copies_of_picture(file: Path, found: Record) -> Iterator[str]:
    """Where a result.json that lists the picture says something else of its candidate."""
    for folder in file.absolute().parents[:2]:
        name = str(file.absolute().relative_to(folder))
        try:
            content = as_object(json.loads((folder / "result.json").read_bytes()), "")
            listed = name in content["files"]
            rows = content["candidates"]
            at = [row["id"] for row in rows].index(found.candidate)
            same = as_recipe(_operations(rows, at, ""), "") == found.recipe, scores_of(rows[at]) == found.scores
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        if listed and (other := _unlike(*same)):
            yield f"candidate {found.candidate} is as {file.name} has it: result.json has {other}"


def _other_entries(content: Mapping[str, Any], wanted: int, recipe: Recipe, scores: Mapping[str, Any]) -> list[str]:
    """What else a result.json says of the candidate, in its entries for the best and the first."""
    found = []
    for name in ("best", "first"):
        entry = content.get(name)
        if isinstance(entry, Mapping) and entry.get("id") == wanted:
            other = _unlike(entry.get("recipe") == json.loads(recipe.to_json()), scores_of(entry) == scores)
            found += [f"{name!r} there has {other}"] if other else []
    return found


def _unlike(same_recipe: bool, same_scores: bool) -> str:
    """What differs between two copies, in words."""
    return " and ".join(["another recipe"] * (not same_recipe) + ["other scores"] * (not same_scores))


def _of_result(result: SearchResult, candidate: int | None) -> Record:
    ids = [c.id for c in result.candidates]
    if candidate is not None and candidate not in ids:
        raise ValueError(_no_candidate("the result", candidate, ids))
    if candidate is None and result.failed:
        raise ValueError(f"the result has no winner ({result.stop_reason}); choose a candidate with candidate=ID")
    chosen = result.best if candidate is None else result.candidates[ids.index(candidate)]
    settings = settings_of({"settings": result.settings}, "the result")
    return Record(
        "the result",
        chosen.recipe,
        result.prompt,
        settings,
        chosen.id,
        dict(chosen.scores),
        chosen.raw,
        "the picture kept",
    )


def _no_candidate(origin: str, wanted: Any, ids: Sequence[Any]) -> str:
    there = ", ".join(f"{i!r:.20}" for i in ids[:20]) + (f", ... {ids[-1]!r:.20}" if len(ids) > 20 else "")
    return f"{origin} has no candidate {wanted!r:.20}; it has {there or 'none'}"


def _alone(recipe: Recipe, candidate: int | None) -> Recipe:
    if candidate is not None:
        raise ValueError(f"a recipe is one candidate; leave candidate={candidate} out")
    return recipe


def as_recipe(content: Any, origin: str) -> Recipe:
    """A recipe of parsed JSON, or ValueError."""
    if isinstance(content, Sequence) and len(content) > _MOST_OPERATIONS:
        raise ValueError(f"{origin} has a recipe of {len(content)} operations; expected at most {_MOST_OPERATIONS}")
    try:
        recipe = Recipe.from_json(content)
        check_operations(recipe)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{origin}: {error}") from error
    return recipe


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
    if any(depth > _DEEPEST for *_, depth in _walk(settings)):
        raise ValueError(f"{origin} has settings of more than {_DEEPEST} levels; expected what a search writes")
    model = settings.get("model") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
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
    _check_sizes(settings, origin)
    for name, grid in grids.items():
        levels = grid.get("levels", [])
        if not isinstance(levels, list) or not all(isinstance(v, int | float) for v in levels):
            raise ValueError(f"{origin} has levels {levels!r:.40} for grid {name}; expected a list of numbers")
        points = grid.get("points", [])
        if not isinstance(points, list) or not all(isinstance(v, int) for v in points):
            raise ValueError(f"{origin} has points {points!r:.40} for grid {name}; expected a list of whole numbers")
        if not isinstance(grid.get("steps"), int | None):
            raise ValueError(f"{origin} has steps {grid['steps']!r:.40} for grid {name}; expected a whole number")


def _check_sizes(settings: Mapping[str, Any], origin: str) -> None:
    """Refuse what would take memory or time without end: numbers, texts and lists of the model."""
    of_model = [("options", settings["model"].get("options", {})), ("grids", settings.get("grids", {}))]
    for place, part in of_model:
        for name, value, _ in _walk(part, place):
            most, size, what = _MOST.get(name, _MOST_OTHERWISE), value, name
            if isinstance(value, str | list):
                most = _MOST_TEXT if isinstance(value, str) else _MOST["steps"]
                size, what = len(value), f"the length of {name}"
            if name in _MOST and isinstance(size, int | float) and size < 1:
                raise ValueError(f"{origin} has {size!r:.20} for {what:.40}; expected a whole number from 1")
            if isinstance(size, int | float) and abs(size) > most:
                raise ValueError(f"{origin} has {size!r:.20} for {what:.40}; expected at most {most}")


def _walk(node: Any, name: str = "settings") -> Iterator[tuple[str, Any, int]]:
    """Everything in parsed JSON with the key that it is under and its depth; not by recursion, which has a limit."""
    waiting = [(name, node, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        yield name, value, depth
        if isinstance(value, Mapping):
            waiting += [(str(key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner, depth + 1) for inner in value]


def text_of(content: Mapping[str, Any], name: str, origin: str) -> str:
    """A text by its name, or ValueError."""
    value = content.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{origin} has no {name}; expected what a search wrote")
    if len(value) > _MOST_TEXT:
        raise ValueError(f"{origin} has a {name} of {len(value)} characters; expected at most {_MOST_TEXT}")
    return value


def scores_of(content: Mapping[str, Any]) -> dict[str, float | None]:
    """Scores by verifier key; {} where there are none."""
    scores = content.get("scores")
    return dict(scores) if isinstance(scores, Mapping) else {}


def known_scores(record: Record) -> dict[str, float]:
    """The scores of a record that are numbers."""
    return {key: float(value) for key, value in record.scores.items() if isinstance(value, int | float)}


def known_id(value: Any) -> int | None:
    """A candidate's id, where it is one."""
    return value if isinstance(value, int) else None
