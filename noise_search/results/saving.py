"""A result on disk: PNGs with the recipe inside, plots, and JSON. Nothing here is ever executed when read back."""

import json
import logging
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from noise_search.disk.files import check_free, check_writable, present, write_together
from noise_search.disk.png import gif_bytes, picture_png
from noise_search.disk.run import RunFiles
from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.results.plots import contact_sheet, figure_png, score_curve

log = logging.getLogger(__name__)

RESULT = "result.json"


def save_result(result: ResultData, directory: Path, overwrite: bool = False) -> dict[str, Path]:
    """Write result.json, best.png, top.png, curve.png and the images of the top k as top/01.png, ...

    All of them or none. Of a clip, the PNGs are the middle frame, and best.gif ("clip" among the paths) shows
    the best moving. Without a winner there is result.json alone. It lists the files that were written, which are all
    that a later `overwrite` removes.
    """
    ranked = list(takewhile(lambda c: c.pixels is not None, result.top(len(result.candidates))))
    pictured = {} if result.failed else {f"top/{rank:02d}": one for rank, one in enumerate(ranked, start=1)}
    files = {"result": RESULT}
    if not result.failed:
        files |= {"best": "best.png", **({} if result.frames is None else {"clip": "best.gif"})}
        files |= {stem: f"{stem}.png" for stem in (*pictured, "top", "curve")}
    before, run = files_of(directory), RunFiles(directory).names()
    own = result.run is not None and directory.resolve() == result.run.resolve()
    check_free(directory, files.values(), before, overwrite or own)
    check_writable(directory)
    drawn = {} if result.failed else {"top": _drawn(result, contact_sheet), "curve": _drawn(result, score_curve)}
    files = {stem: name for stem, name in files.items() if drawn.get(stem) != b""}
    paths = {stem: directory / name for stem, name in files.items()}
    if pictured:
        check_writable(directory / "top")
    content = {**result.to_json(), "files": list(files.values())}
    if not result.failed:
        content["best"] |= {"image": files["best"]} | ({"clip": files["clip"]} if "clip" in files else {})
        names = {one.id: files[stem] for stem, one in pictured.items()} | {result.best.id: files["best"]}
        for row in content["candidates"]:
            row["image"] = names.get(row["id"])
    written = {paths["result"]: (json.dumps(content, indent=2) + "\n").encode()}
    if not result.failed:
        written |= {paths[stem]: png_bytes(result, one) for stem, one in {"best": result.best, **pictured}.items()}
        written |= {} if result.frames is None else {paths["clip"]: gif_bytes(result.frames)}
        written |= {paths[stem]: content for stem, content in drawn.items() if content}
    write_together(written)
    for stale in before - set(files.values()) - (run if own else set()):
        (directory / stale).unlink(missing_ok=True)
    return paths


def _drawn(result: ResultData, draw: Callable[[ResultData], Any]) -> bytes:
    """A drawing as PNG; nothing, with a warning, where it can't be drawn: it isn't what was searched for."""
    try:
        return figure_png(draw(result))
    except Exception as error:
        log.warning("a drawing is left out (%s: %s)", type(error).__name__, error)
        return b""


def files_of(directory: Path) -> set[str]:
    """What a search wrote into a directory, by its own lists; nothing where none did, or they can't be read."""
    try:
        content = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        listed = content["files"] if "files" in content else _files_before(content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        listed = ()
    return present(directory, listed) | RunFiles(directory).names()


def _files_before(content: Mapping[str, Any]) -> list[str]:
    """The files of a result.json of version 0.1.0's beginnings, which doesn't list them."""
    count, best = sum(bool(row.get("image")) for row in content["candidates"]), content["best"] or {}
    top = [f"top/{rank:02d}.png" for rank in range(1, count + 1)]
    return [RESULT, "top.png", "curve.png", *filter(None, [best.get("image"), best.get("clip")]), *top]


def png_bytes(result: ResultData, candidate: Candidate) -> bytes:
    """The candidate's image as PNG, with its recipe and the `parameters` text that image viewers read."""
    if candidate.pixels is None:
        raise ValueError(f"candidate {candidate.id} has no image here; raise top_k to keep more of them")
    about = {name: value for name, value in candidate.to_json().items() if name in ("id", "score", "scores", "judges")}
    about = {"candidate": about.pop("id"), **about}
    return picture_png(candidate.pixels, result.prompt, candidate.recipe, result.settings, about)
