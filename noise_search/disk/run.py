"""The files of a run directory: what was asked for, a journal of what came of it, pictures, and latents on their way.

`run.json` says what was asked for, `evaluations.jsonl` what came of it, a line for each row. The pictures in `images/`
and the latents in `states/` are named in it; one that is missing or damaged is made again where it is needed, so that
only the lines are waited for until they are on the disk.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from noise_search.disk.files import present, write_atomically
from noise_search.disk.images import read_pixels
from noise_search.disk.journal import Journal

MANIFEST, EVALUATIONS, IMAGES, STATES = "run.json", "evaluations.jsonl", "images", "states"
RUN_VERSION = 1
"""Of what a run directory holds; a newer one isn't read by this version."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a run in a directory, which nothing here makes."""

    directory: Path

    @property
    def journal(self) -> Journal:
        """The manifest and the lines."""
        return Journal(self.directory, EVALUATIONS, MANIFEST)

    def manifest(self) -> dict[str, Any]:
        """What was asked for; {} where no search began here.

        Raises:
            ValueError: it is damaged, no run's, or of a newer version.
        """
        found = self.journal.settings()
        if not found:
            return {}
        version = found.get("run_version")
        if isinstance(version, int) and version > RUN_VERSION:
            raise ValueError(
                f"{str(self.directory)!r} was written in version {version}, and this noise-search reads up to "
                f"{RUN_VERSION}: update it"
            )
        if not isinstance(version, int) or not all(fits(found.get(name)) for name, fits in _ASKED.items()):
            raise ValueError(f"{str(self.directory / MANIFEST)!r} is no manifest of a search; give another directory")
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Everything that was journalled and is whole.

        Raises:
            ValueError: a line is whole and isn't what a search writes.
        """
        return self.journal.lines(_checked)

    def picture(self, key: str) -> Path:
        """Of the picture of an evaluation, a PNG."""
        return self.directory / IMAGES / f"{key}.png"

    def arrays(self, key: str) -> Path:
        """Of a clip's frames and of x0 predictions on the way to a picture."""
        return self.directory / IMAGES / f"{key}.safetensors"

    def states(self, name: str) -> Path:
        """Of the latents of one micro-batch."""
        return self.directory / STATES / f"{name}.safetensors"

    def write_arrays(self, file: Path, arrays: Mapping[str, np.ndarray]) -> str:
        """Write arrays, and return the hash by which they are known to be whole."""
        file.parent.mkdir(exist_ok=True)
        content = save({name: np.ascontiguousarray(one) for name, one in arrays.items()})
        write_atomically(file, content, durable=False)
        return _hash(content)

    def write_picture(self, key: str, content: bytes) -> None:
        """Write a PNG."""
        file = self.picture(key)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, content, durable=False)

    def read_arrays(self, file: Path, known: str | None = None) -> dict[str, np.ndarray]:
        """The arrays of a file; {} where it is missing, or isn't what was written."""
        try:
            content = file.read_bytes()
            return {} if known is not None and _hash(content) != known else dict(load(content))
        except (OSError, SafetensorError, ValueError, KeyError):
            return {}

    def read_picture(self, key: str) -> np.ndarray | None:
        """uint8 `[height, width, 3]`; None where it is missing or damaged."""
        try:
            return read_pixels(self.picture(key))
        except ValueError:
            return None

    def remove_picture(self, key: str) -> None:
        """Let go of a picture and what belongs to it."""
        for file in (self.picture(key), self.arrays(key)):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    def names(self) -> set[str]:
        """The files that a run wrote here, by its manifest and journal; nothing where none did."""
        try:
            if not self.manifest():
                return set()
            lines = self.lines()
        except ValueError:
            return set()
        keys = {str(one["key"]) for one in lines if "key" in one}
        listed = [self.picture(key) for key in keys] + [self.arrays(key) for key in keys]
        listed += [self.states(str(one["states"][0])) for one in lines if "states" in one]
        there = [str(one.relative_to(self.directory)) for one in listed]
        return present(self.directory, [MANIFEST, EVALUATIONS, *there])


_KEY = re.compile(r"[0-9a-f]{20}(-[0-9]{1,9})?")
_NUMBER = re.compile(r"[0-9]{6,12}")
_HASH = re.compile(r"[0-9a-f]{16}")


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """A line, if it is of a kind that a search writes, with all that it needs: files are named by what it says."""
    kind = line.get("kind", "row")
    if not isinstance(kind, str) or kind not in _LINES:
        raise ValueError(f"it is of kind {kind!r:.40}, expected one of {', '.join(_LINES)}")
    for name, fits in _LINES[kind].items():
        if not fits(line.get(name)):
            raise ValueError(f"its {name} is {line.get(name)!r:.40}")
    return line


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _key(value: Any) -> bool:
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _score(value: Any) -> bool:
    return value in ("nan", "inf", "-inf") or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _several(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _by_name(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _in_turn(*kinds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) == len(kinds) and all(k(v) for k, v in zip(kinds, value, strict=True))
    )


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _cost(value: Any) -> bool:
    counted = isinstance(value, dict) and {name: one for name, one in value.items() if name != "seconds"}
    return counted is not False and _by_name(_score)(counted) and _by_name(_score)(value.get("seconds", {}))


_OBJECT, _COSTS = _by_name(lambda value: True), _or_none(_by_name(_cost))
_LINES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "row": {
        "key": _key,
        **dict.fromkeys(("prompt", "id", "nfe", "step"), _count),
        **dict.fromkeys(("scored", "finished", "draft"), _flag),
        "recipe": _several(_OBJECT),
        "scores": _by_name(_score),
        "failure": _or_none(_text),
        "looks": _or_none(lambda v: _by_name(_by_name(_score))(v) and all(one.isdecimal() for one in v)),
        **dict.fromkeys(("picture", "clip"), _or_none(_flag)),
        "states": _or_none(_in_turn(_matching(_NUMBER), _matching(_HASH))),
        "cost": _COSTS,
    },
    "turn": {
        "prompt": _count,
        "rows": _several(_in_turn(_count, _key)),
        "limits": _several(_in_turn(_text, _count, _count)),
        "refer": _several(_count),
    },
    "judge": {"key": _key, "judge": _text, "score": _score, "cost": _COSTS},
    "end": {
        "reasons": _several(_text),
        "complete": _flag,
        "settings": _OBJECT,
        "ledgers": _several(_by_name(lambda value: _score(value) or isinstance(value, dict))),
        "verifiers": _several(_OBJECT),
        "cost": _COSTS,
    },
}
"""What the lines of a journal hold."""

_ASKED: dict[str, Callable[[Any], bool]] = {
    "prompts": _several(_text),
    "seeds": _several(_count),
    "single": _flag,
    **dict.fromkeys(("nfe", "top_k"), _count),
    "attempts": _several(_OBJECT),
    **dict.fromkeys(("call", "identity", "settings"), _OBJECT),
}
"""What a manifest holds."""


@dataclass
class Sizes:
    """Bytes of a run on the disk."""

    lines: int = 0
    images: int = 0
    states: int = 0
    other: int = field(default=0)

    @classmethod
    def of(cls, directory: Path) -> "Sizes":
        """Those of the files that are there."""
        found = cls()
        for one in directory.rglob("*"):
            if one.is_file() and not one.is_symlink():
                where = one.relative_to(directory).parts[0]
                name = {EVALUATIONS: "lines", IMAGES: "images", STATES: "states"}.get(where, "other")
                setattr(found, name, getattr(found, name) + one.stat().st_size)
        return found


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
