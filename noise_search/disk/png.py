"""A picture that says how to make it again: a record for `replay`, and a text for image viewers."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noise_search.disk.files import check_writable
from noise_search.version import __version__
from noise_search.words import one_line
from samplers.recipe import Recipe

FRAME_MS = 60
"""Milliseconds per frame of a GIF: Wan's 16 frames a second, in the hundredths of a second that GIF knows."""


def check_picture(file: Path, clip: bool = False, overwrite: bool = False) -> None:
    """Make sure that a picture can be written there.

    Raises:
        ValueError: another kind of file than PNG, or GIF for a `clip`; a file that is there already, without
            `overwrite`; or its directory can't be written to.
    """
    if file.suffix.lower() not in ((".png", ".gif") if clip else (".png",)):
        raise ValueError(f"{str(file)!r} must end in .png, which holds the recipe" + ", or in .gif" * clip)
    if file.is_dir():
        raise ValueError(f"{str(file)!r} is a directory; expected a file to write")
    if file.exists() and not overwrite:
        raise ValueError(f"{str(file)!r} is there already: give another name, or overwrite=True (--overwrite)")
    check_writable(file.parent)


def gif_bytes(frames: list[Image.Image]) -> bytes:
    """An animated GIF that repeats."""
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return stream.getvalue()


CHUNK = "noise_search"
"""The PNG text that holds the record, as JSON."""


def picture_png(
    pixels: np.ndarray, prompt: str, recipe: Recipe, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> bytes:
    """A PNG of uint8 `[height, width, 3]`.

    Args:
        pixels: the picture.
        prompt: of its search.
        recipe: makes it again.
        settings: of its search.
        about: more that is good to know of it, as plain JSON: its id and scores.
    """
    operations = [dict(op) for op in recipe.operations]
    record = {"prompt": prompt, "recipe": operations, **about, "settings": settings}
    info = PngInfo()
    # ASCII: any prompt survives, lone surrogates and NUL included.
    info.add_itxt(CHUNK, json.dumps(record))
    size = (pixels.shape[1], pixels.shape[0])
    parameters = parameters_text(prompt, recipe, settings, size, __version__)
    # Every reader of such texts knows the plain chunk, which ASCII is the same in for all; some skip the other.
    (info.add_text if parameters.isascii() else info.add_itxt)("parameters", parameters)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


_OF_ALPHAS = ("DDIM", "DDPM", "PNDM")
_KEPT = {
    "DPMSolverMultistep": "DPM++ 2M",
    "EulerAncestralDiscrete": "Euler a",
    "EulerDiscrete": "Euler",
    "FlowMatchEulerDiscrete": "Euler",
    "HeunDiscrete": "Heun",
    "KDPM2AncestralDiscrete": "DPM2 a",
    "KDPM2Discrete": "DPM2",
    "LMSDiscrete": "LMS",
    "PNDM": "PLMS",
    "UniPCMultistep": "UniPC",
}
"""What A1111 and ComfyUI call the sampler that a scheduler of diffusers is."""

_LONGEST = 2**16
"""Characters of a prompt that are shown; the whole prompt is in the record beside this text."""


def parameters_text(
    prompt: str, recipe: Recipe, settings: Mapping[str, Any], size: tuple[int, int], version: str
) -> str:
    """Prompt, negative prompt, and one line of settings for an image of `size` = (width, height).

    As A1111 writes them, and so that ComfyUI reads them too, which asks for a negative prompt even where there is none,
    and for the steps first. "RNG" says that noise is drawn on the CPU, which isn't the former's default. The seed is
    there only where a plain pipeline, given it, draws the same picture: a wrong one is worse than none.
    """
    model = settings["model"]
    options = model.get("options", {})
    shown = one_line(prompt, _LONGEST)
    # A line that begins so ends the prompt, whoever wrote it.
    shown = shown.replace("N", "n", 1) if shown.startswith("Negative prompt:") else shown
    lines = [shown, f"Negative prompt: {one_line(str(options.get('negative_prompt') or ''), _LONGEST)}"]
    entries: dict[str, Any] = {"Steps": _steps(recipe, settings), "Sampler": _sampler(model)}
    entries["CFG scale"] = _guidance(options)
    entries["Seed"] = plain_seed(recipe, settings)
    entries["Size"] = f"{size[0]}x{size[1]}"
    entries["Model hash"] = _weights_hash(model)
    entries["Model"] = _shown_name(str(model["name"]))
    entries["Denoising strength"] = options.get("strength")
    entries["Eta DDIM"] = model.get("eta") or None
    entries["RNG"] = None if entries["Seed"] is None else "CPU"
    entries["Version"] = f"noise-search {version}"
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in entries.items() if value is not None))
    return "\n".join(lines)


def plain_seed(recipe: Recipe, settings: Mapping[str, Any]) -> int | None:
    """The seed that makes the finished image in a plain pipeline of these settings, or None.

    Not where the noise was moved, the image is unfinished, steps mix in noise of ours, the grid has points that the
    pipeline's own hasn't, or the sampler draws other noise than the pipeline or steps otherwise.
    """
    runs = recipe.operations[1:]
    if not settings.get("sampler", {}).get("plain_seeds", True):
        return None
    if recipe.seed is None or len(runs) != 1 or runs[0]["rho"] != 1:
        return None
    grid = settings.get("grids", {}).get(runs[0]["grid"], {})
    whole = grid.get("steps") or settings["model"].get("steps")
    extra = bool(grid.get("levels") or grid.get("points")) and runs[0]["grid"] != settings["model"].get("grid")
    return None if extra or runs[0]["to"] != whole else recipe.seed


def _steps(recipe: Recipe, settings: Mapping[str, Any]) -> int | None:
    """What was asked for, of which a strength below 1 leaves the last; of the grid on which the recipe ends."""
    grid = next((op["grid"] for op in reversed(recipe.operations) if "grid" in op), None)
    asked = settings.get("grids", {}).get(grid, {})
    drafted = len(asked.get("points", ())) or asked.get("steps")
    steps = drafted or settings.get("sampler", {}).get("asked_steps") or settings["model"].get("steps")
    return None if steps is None else int(steps)


def _sampler(model: Mapping[str, Any]) -> str:
    rule = str(model.get("rule", ""))
    if rule == "kept":
        name = str(model.get("scheduler", "")).removesuffix("Scheduler")
        return _KEPT.get(name, name)
    # The first-order rule on a table of sigmas is Euler's step, on one of alphas it is DDIM's.
    named = str(model.get("scheduler", rule))
    return "DDIM" if named.startswith(_OF_ALPHAS) else "Euler"


def _guidance(options: Mapping[str, Any]) -> Any:
    true_cfg = options.get("true_cfg_scale")
    return options.get("guidance_scale") if true_cfg is None else true_cfg


def _weights_hash(model: Mapping[str, Any]) -> str | None:
    weights = model.get("weights")
    return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:10] if weights else None


def _shown_name(name: str) -> str:
    """A directory by its own name: where it lies is nobody's business."""
    path = PurePath(name)
    return path.name if path.is_absolute() else name


def _quoted(value: Any) -> str:
    text = one_line(f"{value:g}" if isinstance(value, float) else str(value), _LONGEST)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"') else text
