"""Files, written so that nobody ever reads half of one, and values as they are written."""

import math
import os
import secrets
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def check_writable(directory: Path) -> None:
    """Make the directory and prove that a file can be written there.

    Raises:
        ValueError: it can't.
    """
    try:
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"{str(directory)!r} is a file; expected a directory")
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"directory {str(directory)!r} can't be written to: {error.strerror or error}") from error


RUNS = Path("runs")
"""Where the command puts what isn't asked for elsewhere."""


def new_run(directory: Path = RUNS) -> Path:
    """Make the first number after those that are there: runs/0001, runs/0002, ...; of two that ask, each gets one."""
    while True:
        numbers = [int(one.name) for one in directory.glob("[0-9]*") if one.name.isdecimal()]
        made = directory / f"{max(numbers, default=0) + 1:04d}"
        try:
            made.mkdir()
        except FileExistsError:
            continue
        return made


_MARKS = {"result.json": "search", "run.json": "search", "records.jsonl": "comparison"}
"""The files by which a directory is known, and what wrote it; no directory holds those of both."""


def check_free(
    directory: Path, planned: Iterable[str], ours: Collection[str], overwrite: bool, kind: str = "search"
) -> None:
    """Make sure that writing into a directory loses nothing of anybody's.

    Args:
        directory: new, or empty but for hidden files; else `overwrite` is needed.
        planned: files that will be written, relative to it.
        ours: files there that an earlier search or comparison wrote, as its own list of them says.
        overwrite: whether these may be replaced.
        kind: "search" or "comparison", whichever writes.

    Raises:
        ValueError: something is there that may not be replaced, or the directory is of another kind.
    """
    if not directory.is_dir():
        return
    planned = set(planned)
    # A link to a directory is somebody's: what is written through it lands elsewhere.
    found = [one for one in directory.rglob("*") if one.is_symlink() or not one.is_dir()]
    there = {str(one.relative_to(directory)) for one in found if not one.name.startswith(".")}
    through = {name for name in planned if there.intersection(map(str, Path(name).parents))}
    for mark, other in _MARKS.items():
        if other != kind and mark in there:
            raise ValueError(f"directory {str(directory)!r} holds a {other} ({mark}): give a new one")
    if there and not overwrite:
        known = bool(there & set(ours))
        whose = f"a {kind}" if known else f"{min(there)!r}, which no {kind} wrote"
        more = f", or overwrite=True (--overwrite), which replaces what that {kind} wrote" if known else ""
        raise ValueError(f"directory {str(directory)!r} holds {whose}: give a new one{more}")
    if strange := sorted(through | there.intersection(planned) - set(ours)):
        raise ValueError(
            f"{', '.join(strange)} in {str(directory)!r} was written by no {kind}, and would be replaced: move it, or "
            "give another directory"
        )


def present(directory: Path, listed: Any) -> set[str]:
    """Those of the listed names that are files in the directory; a list that was edited names nothing outside it.

    Nor does a link: what a stranger's archive points elsewhere would be packed, or removed, there.
    """
    listed = listed if isinstance(listed, Iterable) else ()
    inside = [str(name) for name in listed if not Path(str(name)).is_absolute() and ".." not in Path(str(name)).parts]
    there, here = [name for name in inside if (directory / name).is_file()], directory.resolve()
    return {name for name in there if (directory / name).resolve() == here / name}


def write_atomically(file: Path, content: bytes, durable: bool = True) -> None:
    """Write beside the file and rename, so that a reader never sees half of it.

    Args:
        file: where to.
        content: all of it.
        durable: whether it is on the disk on return, so that a loss of power leaves it whole, too.

    Raises:
        OSError: it can't be written; what was there is left as it was.
    """
    write_together({file: content}, durable)


def write_together(contents: Mapping[Path, bytes], durable: bool = True) -> None:
    """Write several files beside where they belong, and rename them when all are written.

    Raises:
        OSError: one can't be written; what was there is left as it was.
    """
    written: dict[Path, Path] = {}
    try:
        for file, content in contents.items():
            name = written[file] = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
            try:
                # The user's umask decides who may read it, as of any file.
                handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                    if durable:
                        stream.flush()
                        os.fsync(stream.fileno())
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(file)) from error
        for file, name in written.items():
            os.replace(name, file)
    finally:
        for name in written.values():
            name.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """The value as plain JSON: dataclasses by their fields, numbers that aren't finite as null, paths as texts."""
    import numpy as np  # here, as the command's help, which needs files only, answers without it

    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
