"""A directory with settings and a file of lines that grows: whatever is killed at whatever byte, it is gone on with."""

import json
import logging
import os
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

    One process writes at a time: nothing guards against a second. Any number may read meanwhile.

    Attributes:
        directory: where both are.
        name: of the file of lines, "records.jsonl".
    """

    directory: Path
    name: str

    @property
    def file(self) -> Path:
        """That of the lines, one JSON object each."""
        return self.directory / self.name

    @property
    def settings_file(self) -> Path:
        """That of the settings."""
        return self.directory / "settings.json"

    def lines(self, read: Callable[[dict[str, Any]], T]) -> list[T]:
        """What `read` makes of every line; none where there is no file.

        A last line that was cut short is left out with a warning; reading writes nothing.

        Raises:
            ValueError: a line before the last is damaged, or `read` refuses it with a ValueError.
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
                found.append(read(_object(line)))
            except ValueError as error:
                raise ValueError(
                    f"line {number} of {str(self.file)!r} is no record ({error}); remove it or start anew"
                ) from error
        return found

    def append(self, lines: Iterable[Any]) -> None:
        """Write dataclasses or mappings, a line each, and return once they are on the disk.

        Half a last line, of what was stopped before, is dropped first, so that nothing continues it.
        """
        added = "".join(json.dumps(plain(one)) + "\n" for one in lines)
        if not added:
            return
        with self.file.open("a+b") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(added.encode())
            stream.flush()
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


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode())
    if not isinstance(found, dict):
        raise ValueError(f"it holds {str(found)[:40]!r}, expected an object in braces")
    return found
