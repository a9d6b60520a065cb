"""Records of a comparison in a directory: appended line by line, so that a run that is killed loses one task."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from noise_search.comparison.records import Pool, Record, from_json, to_json
from noise_search.disk.files import check_writable, write_atomically

log = logging.getLogger(__name__)

RECORDS, SETTINGS = "records.jsonl", "settings.json"


class Store:
    """Records in memory, and in a directory where there is one."""

    def __init__(self, directory: Path | None, *, writing: bool = False) -> None:
        """Read what the directory holds; only for `writing` is it made, and half a last record dropped from its file.

        Raises:
            ValueError: it can't be written to, or holds a record that can't be read.
        """
        self.directory = directory
        self.records: dict[tuple[Any, ...], Record] = {}
        self.pools: dict[tuple[str, int], Pool] = {}
        if directory is not None:
            if writing:
                check_writable(directory)
            for one in read(directory / RECORDS):
                self._keep(one)
            if writing:
                _drop_half_a_line(directory / RECORDS)

    def add(self, found: Iterable[Record | Pool]) -> None:
        """Keep records, in one write; a later one replaces an earlier one of the same cell."""
        added = list(found)
        for one in added:
            self._keep(one)
        if self.directory is not None and added:
            lines = "".join(json.dumps(to_json(one)) + "\n" for one in added)
            with (self.directory / RECORDS).open("a", encoding="utf-8") as stream:
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())

    def settings(self) -> dict[str, Any]:
        """What the directory was made with; empty where nothing was."""
        file = None if self.directory is None else self.directory / SETTINGS
        if file is None or not file.exists():
            return {}
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{str(file)!r} is no JSON ({error}); use another directory") from error
        return content

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """State what the records were made with."""
        if self.directory is not None:
            write_atomically(self.directory / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())

    def _keep(self, one: Record | Pool) -> None:
        if isinstance(one, Record):
            self.records[one.cell] = one
            return
        known = self.pools.get((one.prompt, one.seed))
        # Of another price: once, what drafts had chosen was taken for candidates. The later pool replaces it.
        if known is None or len(one) >= len(known) or one.nfe != known.nfe:
            self.pools[one.prompt, one.seed] = one


def read(file: Path) -> list[Record | Pool]:
    """The records of a file; none where there is no file. A last line that was cut short is left out with a warning.

    Raises:
        ValueError: a line before the last can't be read.
    """
    if not file.exists():
        return []
    found: list[Record | Pool] = []
    *lines, half = file.read_text(encoding="utf-8").split("\n")  # every whole line ends in a newline
    if half:
        log.warning("%s ends in half a record, which is left out and made again", file)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(from_json(json.loads(line)))
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"line {number} of {str(file)!r} is no record ({error}); remove it or start anew"
            ) from error
    return found


def _drop_half_a_line(file: Path) -> None:
    """So that what is appended doesn't continue it."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        write_atomically(file, content[: content.rfind(b"\n") + 1])
