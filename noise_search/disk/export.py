"""A run as one archive that can be given away: no path of the machine it was made on is in it."""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noise_search.disk.files import check_writable, write_atomically
from noise_search.disk.journal import Journal, seal
from noise_search.disk.png import CHUNK


def export(directory: Path, names: Iterable[str], file: Path) -> None:
    """Write files of a directory into a new zip archive, absolute paths in their records cut to their last part.

    Raises:
        ValueError: the archive is there already, isn't called so, or can't be written to.
    """
    export_together({directory: names}, file)


def export_together(files: Mapping[Path, Iterable[str]], file: Path) -> None:
    """As `export()`, of several directories side by side, by their files' names."""
    if file.suffix.lower() != ".zip":
        raise ValueError(f"{str(file)!r} must end in .zip")
    if file.exists():
        raise ValueError(f"{str(file)!r} is there already: give another name")
    check_writable(file.parent)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for directory, names in files.items():
            for name in sorted(names):
                archive.writestr(f"{directory.resolve().name}/{name}", _portable_file(directory / name))
    write_atomically(file, stream.getvalue())


_WITHIN = re.compile(r"""(?<![\w:./\\])(?:[A-Za-z]:)?[\\/](?:[^\s'"\\/:]+[\\/])+""")
"""Where an absolute path begins within a text, such as an error's, up to its last part."""


def portable(value: Any) -> Any:
    """Plain JSON whose absolute paths are cut to their last part; prompts stay as they are."""
    if isinstance(value, dict):
        return {name: one if "prompt" in name else portable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [portable(one) for one in value]
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        if "\n" not in value and kind(value).is_absolute() and len(kind(value).parts) > 1:
            return kind(value).name
    return _WITHIN.sub("", value)


def _portable_file(file: Path) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".json":
        return (json.dumps(portable(json.loads(content)), indent=2) + "\n").encode()
    if file.suffix == ".jsonl":
        return b"".join(seal(json.dumps(portable(one))) + b"\n" for one in Journal(file.parent, file.name).lines(dict))
    return _portable_png(content) if file.suffix == ".png" else content


def _portable_png(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        record = image.info.get(CHUNK)
        if record is None or (cut := json.dumps(portable(json.loads(record)))) == record:
            return content
        info = PngInfo()
        info.add_itxt(CHUNK, cut)
        info.add_itxt("parameters", image.info.get("parameters", ""))
        stream = io.BytesIO()
        image.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()
