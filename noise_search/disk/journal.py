"""A directory with settings and a file of lines that grows: whatever is killed at whatever byte, it is gone on with."""

import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from noise_search.disk.files import plain, write_atomically

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Journal:
    """Settings, and lines of JSON that are only ever appended, in a directory that exists.

    One process writes at a time, which holds the `lease` of the directory. Any number may read meanwhile. Each line
    ends with a checksum of what is before it.

    Attributes:
        directory: where both are.
        name: of the file of lines, "records.jsonl".
        about: of the file of settings.
    """

    directory: Path
    name: str
    about: str = "settings.json"

    @property
    def file(self) -> Path:
        """That of the lines, one JSON object each."""
        return self.directory / self.name

    @property
    def settings_file(self) -> Path:
        """That of the settings."""
        return self.directory / self.about

    def lines(self, read: Callable[[dict[str, Any]], T]) -> list[T]:
        """What `read` makes of every line; none where there is no file.

        A last line that was cut short, and lines that are damaged, are left out with a warning; reading writes nothing.

        Raises:
            ValueError: `read` refuses a line that is whole with a ValueError.
        """
        if not self.file.exists():
            return []
        found = []
        *lines, half = self.file.read_bytes().split(b"\n")  # every whole line ends in a newline
        if half:
            log.warning("%s ends in half a record, which is left out and made again", self.file)
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                one = unsealed(line)
            except ValueError as error:
                log.warning("line %d of %s is damaged (%s): it is left out, and made again", number, self.file, error)
                continue
            try:
                found.append(read(one))
            except ValueError as error:
                raise ValueError(
                    f"line {number} of {str(self.file)!r} is no record ({error}); remove it or start anew"
                ) from error
        return found

    def append(self, lines: Iterable[Any], durable: bool = True) -> None:
        """Write dataclasses or mappings, a line each, and return once no kill of the process can lose them.

        With `durable` no loss of power can, either: they are on the disk. Half a last line, of what was stopped
        before, is dropped first, so that nothing continues it.
        """
        added = b"".join(seal(json.dumps(plain(one))) + b"\n" for one in lines)
        if not added:
            return
        with self.file.open("a+b") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(added)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())

    def settings(self) -> dict[str, Any]:
        """What was written last; {} where nothing was.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.settings_file.exists():
            return {}
        try:
            return _object(self.settings_file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{str(self.settings_file)!r} is no JSON ({error}); use another directory") from error

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings, all of them or none."""
        write_atomically(self.settings_file, (json.dumps(plain(settings), indent=2) + "\n").encode())


_SEAL = re.compile(rb'(?:, )?"crc": "([0-9a-f]{8})"}$')
_FORM = b'"crc": "########"}'
_TORN = 2
"""Bytes by which the end of a line may differ from a checksum's form and still be a damaged one."""


def seal(text: str) -> bytes:
    """A line of the JSON of an object, with its checksum as the last entry."""
    return f'{text[:-1]}{", " * (text != "{}")}"crc": "{zlib.crc32(text.encode()):08x}"}}'.encode()


def unsealed(line: bytes) -> dict[str, Any]:
    """What a line holds, but its checksum, which lines of earlier versions don't have.

    Raises:
        ValueError: it isn't what was written.
    """
    line = line.strip()
    if (found := _SEAL.search(line)) is None:
        if _nearly_sealed(line):
            raise ValueError("its checksum is none")
        return _object(line)
    line = line[: found.start()] + b"}"
    if int(found[1], 16) != zlib.crc32(line):
        raise ValueError("its checksum is another")
    return _object(line)


def _nearly_sealed(line: bytes) -> bool:
    """Whether a line ends in what was a checksum: without it, it would pass for one of an earlier version."""
    if len(line) < len(_FORM):
        return False
    pairs = zip(line[-len(_FORM) :], _FORM, strict=True)
    return sum(one not in b"0123456789abcdef" if form == ord("#") else one != form for one, form in pairs) <= _TORN


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode())
    if not isinstance(found, dict):
        raise ValueError(f"it holds {str(found)[:40]!r}, expected an object in braces")
    return found
