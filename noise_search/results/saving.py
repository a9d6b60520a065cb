"""A result on disk: PNGs with the recipe inside, plots, and JSON. Nothing here is ever executed when read back."""

import json
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from noise_search.disk.files import check_free, check_writable, present, write_atomically
from noise_search.disk.png import gif_bytes, picture_png
from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.results.plots import contact_sheet, figure_png, score_curve

RESULT = "result.json"


def save_result(result: ResultData, directory: Path, overwrite: bool = False) -> dict[str, Path]:
    """Write result.json, best.png, top.png, curve.png and the images of the top k as top/01.png, ...

    What matters most comes first. Of a clip, the PNGs are the middle frame, and best.gif ("clip" among the paths) shows
    the best moving. Without a winner there is result.json alone. It lists the files that were written, which are all
    that a later `overwrite` removes.
    """
    ranked = list(takewhile(lambda c: c.pixels is not None, result.top(len(result.candidates))))
    pictured = {} if result.failed else {f"top/{rank:02d}": one for rank, one in enumerate(ranked, start=1)}
    files = {"result": RESULT}
    if not result.failed:
        files |= {"best": "best.png", **({} if result.frames is None else {"clip": "best.gif"})}
        files |= {stem: f"{stem}.png" for stem in (*pictured, "top", "curve")}
    before = files_of(directory)
    check_free(directory, files.values(), before, overwrite)
    check_writable(directory)
    paths = {stem: directory / name for stem, name in files.items()}
    if pictured:
        check_writable(directory / "top")
    content = {**result.to_json(), "files": list(files.values())}
    if not result.failed:
        content["best"] |= {"image": files["best"]} | ({"clip": files["clip"]} if "clip" in files else {})
        names = {one.id: files[stem] for stem, one in pictured.items()} | {result.best.id: files["best"]}
        for row in content["candidates"]:
            row["image"] = names.get(row["id"])
    write_atomically(paths["result"], (json.dumps(content, indent=2) + "\n").encode())
    for stale in before - set(files.values()):
        (directory / stale).unlink(missing_ok=True)
    if result.failed:
        return paths
    write_atomically(paths["best"], png_bytes(result, result.best))
    if result.frames is not None:
        write_atomically(paths["clip"], gif_bytes(result.frames))
    for stem, candidate in pictured.items():
        write_atomically(paths[stem], png_bytes(result, candidate))
    write_atomically(paths["top"], figure_png(contact_sheet(result)))
    write_atomically(paths["curve"], figure_png(score_curve(result)))
    return paths


def files_of(directory: Path) -> set[str]:
    """What a search wrote into a directory, by its own list; nothing where none did, or the list can't be read."""
    try:
        content = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        listed = content["files"] if "files" in content else _files_before(content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()
    return present(directory, listed)


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
