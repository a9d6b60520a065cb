"""A result on disk: PNGs with the recipe inside, plots, and JSON. Nothing here is ever executed when read back."""

import json
from itertools import takewhile
from pathlib import Path

from noise_search.disk.files import check_writable, write_atomically
from noise_search.disk.png import gif_bytes, picture_png
from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.results.plots import contact_sheet, figure_png, score_curve


def save_result(result: ResultData, directory: Path) -> dict[str, Path]:
    """Write result.json, best.png, top.png, curve.png and the images of the top k as top/01.png, ...

    What matters most comes first. Of a clip, the PNGs are the middle frame, and best.gif ("clip" among the paths) shows
    the best moving. Images of an earlier, longer top k are removed. Without a winner there is result.json alone.
    """
    check_writable(directory)
    if result.failed:
        path = directory / "result.json"
        write_atomically(path, (json.dumps(result.to_json(), indent=2) + "\n").encode())
        return {"result": path}
    check_writable(directory / "top")
    paths = {stem: directory / f"{stem}.png" for stem in ("best", "top", "curve")}
    paths["result"] = directory / "result.json"
    ranked = list(takewhile(lambda c: c.pixels is not None, result.top(len(result.candidates))))
    pictured = {f"top/{rank:02d}": candidate for rank, candidate in enumerate(ranked, start=1)}
    content = result.to_json()
    content["best"]["image"] = paths["best"].name
    names = {candidate.id: f"{stem}.png" for stem, candidate in pictured.items()} | {result.best.id: paths["best"].name}
    for row in content["candidates"]:
        row["image"] = names.get(row["id"])
    if result.frames is not None:
        paths["clip"] = directory / "best.gif"
        content["best"]["clip"] = paths["clip"].name
    write_atomically(paths["result"], (json.dumps(content, indent=2) + "\n").encode())
    write_atomically(paths["best"], png_bytes(result, result.best))
    if result.frames is not None:
        write_atomically(paths["clip"], gif_bytes(result.frames))
    for stem, candidate in pictured.items():
        paths[stem] = directory / f"{stem}.png"
        write_atomically(paths[stem], png_bytes(result, candidate))
    for stale in (directory / "top").glob("[0-9][0-9]*.png"):
        if f"top/{stale.stem}" not in pictured:
            stale.unlink()
    write_atomically(paths["top"], figure_png(contact_sheet(result)))
    write_atomically(paths["curve"], figure_png(score_curve(result)))
    return paths


def png_bytes(result: ResultData, candidate: Candidate) -> bytes:
    """The candidate's image as PNG, with its recipe and the `parameters` text that image viewers read."""
    if candidate.pixels is None:
        raise ValueError(f"candidate {candidate.id} has no image here; raise top_k to keep more of them")
    about = {name: value for name, value in candidate.to_json().items() if name in ("id", "score", "scores", "judges")}
    about = {"candidate": about.pop("id"), **about}
    return picture_png(candidate.pixels, result.prompt, candidate.recipe, result.settings, about)
