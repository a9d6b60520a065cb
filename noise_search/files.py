"""A result on disk: PNG with the recipe inside, plots, and JSON. Nothing here is ever executed when read back."""

import base64
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noise_search.candidates import Candidate

if TYPE_CHECKING:
    from noise_search.results import SearchResult

FRAME_MS = 60
"""Milliseconds per frame of a GIF: Wan's 16 frames a second, in the hundredths of a second that GIF knows."""


def check_writable(directory: Path) -> None:
    """Make the directory and prove that a file can be written there.

    Raises:
        ValueError: it can't.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"directory {str(directory)!r} can't be written to: {error.strerror or error}") from error


def write_atomically(file: Path, content: bytes) -> None:
    """Write beside the file and rename, so that a reader never sees half of it."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save_result(result: "SearchResult", directory: Path) -> dict[str, Path]:
    """Write result.json, best.png, top.png and curve.png into the directory, what matters most first.

    Of a clip, best.png is the middle frame, and best.gif ("clip" among the paths) shows it moving.
    """
    from noise_search.plots import contact_sheet, figure_png, score_curve

    check_writable(directory)
    paths = {stem: directory / f"{stem}.png" for stem in ("best", "top", "curve")}
    paths["result"] = directory / "result.json"
    content = result.to_json()
    content["best"]["image"] = paths["best"].name
    if result.frames is not None:
        paths["clip"] = directory / "best.gif"
        content["best"]["clip"] = paths["clip"].name
    write_atomically(paths["result"], (json.dumps(content, indent=2) + "\n").encode())
    write_atomically(paths["best"], png_bytes(result, result.best))
    if result.frames is not None:
        write_atomically(paths["clip"], gif_bytes(result.frames))
    write_atomically(paths["top"], figure_png(contact_sheet(result)))
    write_atomically(paths["curve"], figure_png(score_curve(result)))
    return paths


def png_bytes(result: "SearchResult", candidate: Candidate) -> bytes:
    """The candidate's image as PNG, with its recipe and the `parameters` text that image viewers read."""
    image = candidate.image
    if image is None:
        raise ValueError(f"candidate {candidate.id} has no image here; raise top_k to keep more of them")
    info = PngInfo()
    record = {
        "prompt": result.prompt,
        "recipe": [dict(op) for op in candidate.recipe.operations],
        "settings": result.settings,
    }
    info.add_itxt("noise_search", json.dumps(record))
    info.add_itxt("parameters", _parameters(result, candidate))
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def gif_bytes(frames: list[Image.Image]) -> bytes:
    """An animated GIF that repeats."""
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return stream.getvalue()


def _parameters(result: "SearchResult", candidate: Candidate) -> str:
    model = result.settings["model"]
    parts = [f"Steps: {candidate.step}"]
    if candidate.seed is not None:
        parts.append(f"Seed: {candidate.seed}")
    parts += [f"Size: {candidate.pixels.shape[1]}x{candidate.pixels.shape[0]}"] if candidate.pixels is not None else []
    parts += [f"Model: {model['name']}", f"Algorithm: {result.settings['algorithm']['name']}"]
    return result.prompt + "\n" + ", ".join(parts)


def thumbnail(candidate: Candidate) -> str:
    """The candidate's image, at most 256 pixels wide, as a data URL."""
    image = candidate.image
    assert image is not None
    image.thumbnail((256, 256))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def to_text(content: Any) -> str:
    """JSON as the command prints it."""
    return json.dumps(content, indent=2)
