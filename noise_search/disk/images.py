"""Pictures on disk: which there are, what prompt belongs to each, and their pixels as RGB."""

import json
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from noise_search.disk.png import CHUNK
from samplers.said import first_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Of files that are pictures when found in a folder; a file that is named may have any."""


_SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats that have no more bits, and 16 of which Pillow may give as 32; others' are really 32, or signed."""

_DRAWN = ("top.png", "curve.png")

_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class ImageFile:
    """A picture that can be opened.

    Attributes:
        file: the picture.
        prompt: the one that was found for it, or None.
        prompt_from: "given", "recorded in the image", or the name of the text file beside it.
        width, height: in pixels, upright.
        record: what a search wrote into it; {} where none did.
    """

    file: Path
    prompt: str | None
    prompt_from: str | None
    width: int
    height: int
    record: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)


def find_images(given: Sequence[str | Path], recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """The pictures among files and folders, in order and once each, and the files of folders that are none.

    Texts are not mentioned: they may be prompts.

    Raises:
        ValueError: a file that isn't there, or a folder without pictures.
    """
    found: dict[Path, None] = {}
    skipped: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise ValueError(f"{str(path)!r} isn't there; expected an image or a folder of images")
        if not path.is_dir():
            found[path] = None
            continue
        files = sorted(file for file in (path.rglob("*") if recursive else path.iterdir()) if file.is_file())
        # Beside a search's result.json lie drawings of it.
        files = [one for one in files if one.name not in _DRAWN or not one.with_name("result.json").exists()]
        pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
        if not pictures:
            below = "" if recursive else " itself; recursive looks into its folders too"
            raise ValueError(f"{str(path)!r} holds no image ({', '.join(SUFFIXES)}){below}")
        found |= dict.fromkeys(pictures)
        skipped += [file for file in files if file.suffix.lower() not in (*SUFFIXES, ".txt")]
    return list(found), skipped


def look_at(file: Path, prompt: str | None = None) -> ImageFile:
    """Size and prompt of a picture, without decoding it.

    The prompt is the one given, else the one that a search recorded in the picture, else the text of a `.txt` file
    beside it.

    Raises:
        ValueError: it is no picture that can be opened.
    """
    with _opened(file) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
            width, height = height, width
        recorded = image.info.get(CHUNK)
    record = _record(recorded)
    told = _prompt_of(file, record) if prompt is None else (prompt, "given")
    return ImageFile(file, *told, width, height, record=record)


def read_pixels(file: Path) -> np.ndarray:
    """uint8 `[height, width, 3]`, upright as its EXIF orientation says; transparency lies on white, 16 bits become 8.

    Raises:
        ValueError: it can't be decoded, or holds floating-point or 32-bit pixels, whose range nothing tells.
    """
    with _opened(file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS_AS_I):
            what = "floating-point" if image.mode == "F" else "32-bit"
            raise ValueError(f"{str(file)!r} holds {what} pixels; expected 8 or 16 bits per channel")
        return np.array(_rgb(upright))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper).convert("RGB")
    return image.convert("RGB")


def _record(recorded: object) -> dict[str, Any]:
    """What a search wrote into a picture; a damaged record is none."""
    try:
        record = json.loads(recorded) if isinstance(recorded, str) else None
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else {}


def _prompt_of(file: Path, record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The prompt of a search's record, else that beside the picture, and where it stands."""
    prompt = record.get("prompt")
    if isinstance(prompt, str):
        return prompt, "recorded in the image"
    beside = file.with_suffix(".txt")
    if beside != file and beside.is_file():
        return beside.read_text(encoding="utf-8", errors="replace").strip(), beside.name
    return None, None


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """An open picture; whatever goes wrong inside becomes one line that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{str(file)!r} is too large to be opened: {first_line(error)}") from error
    except (OSError, SyntaxError, EOFError, TypeError, struct.error, zlib.error) as error:
        raise ValueError(f"{str(file)!r} is no image that can be opened: {first_line(error)}") from error
