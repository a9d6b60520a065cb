"""How many rows go through a model at a time: measured on rows that are needed anyway, and remembered.

A device does a row of a larger micro-batch in less time until it is full. So the first micro-batches of a search with
rows enough are of different sizes, each twice the last, and what they take per row decides; nothing is run for it.
Results don't depend on it, but for rounding.

The first size is what latents of this size mostly want, which also is what a search with few rows keeps: trying 1, 2,
4 and 8 rows before 16 would take a device that waits for its launches as long as 64 rows of 16 at a time.
"""

import hashlib
import json
import logging
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from noise_search.claims import cache
from noise_search.disk.files import write_atomically
from noise_search.engine.readback import Memory

log = logging.getLogger(__name__)

GAIN = 0.05
"""Of the time per row, below which a doubling isn't worth its memory."""
LOOKS = 2
"""Micro-batches of each size that are compared, by the fastest: what is slower waited for something else."""
ROWS = 16
"""A search measures where it has so many times the rows of the first size: then it can come to an end."""
LARGEST = 256
FULL = 0.9
"""Share of the device's memory that a larger micro-batch may be expected to take."""


def usual(shape: tuple[int, ...]) -> int:
    """Large latents fill a device alone; small ones need company (1 FLUX image of 1024 px, 16 of 512 px)."""
    wanted = max(1, min(16, 2**18 // max(1, math.prod(shape))))
    return 1 << (wanted.bit_length() - 1)


@dataclass
class Batches:
    """The size of micro-batches, which may be measured.

    From the first size upwards each doubling must gain `GAIN` per row; two in a row that don't end the way up, as one
    alone may have been disturbed. Where none gains, halves are tried, and taken while they lose less than that.

    Attributes:
        size: rows of the next micro-batch.
        measuring: whether that may change with what is told.
        key: under which it is remembered once it is measured; None for nowhere.
    """

    size: int
    measuring: bool = False
    key: str | None = None
    _warm: bool = False
    _group: Hashable = None
    _seconds: dict[int, list[float]] = field(default_factory=dict)
    _most: int = LARGEST

    def took(self, rows: int, group: Hashable, seconds: float, memory: Memory | None = None) -> None:
        """Look at a micro-batch that ran to its end.

        Args:
            rows: of it; a rest that isn't of the size asked for tells nothing.
            group: what all that are compared have in common: start, stop, whether they are scored.
            seconds: it took, of all phases.
            memory: that its denoising took, where that is known.
        """
        if not self.measuring or rows != self.size:
            return
        if not self._warm:  # the first of all finds caches cold, kernels unchosen and files unread
            self._warm = True
            return
        if self._group not in (None, group):
            return
        self._group = group
        if memory is not None and memory.before + 2 * (memory.peak - memory.before) > FULL:
            self._most = min(self._most, rows)
        looks = self._seconds.setdefault(rows, [])
        looks.append(seconds / rows)
        if len(looks) >= LOOKS:
            self._decide()

    def ran_out(self, rows: int) -> bool:
        """Halve what memory has no room for; whether that changed the size, which another batch may have done before.

        While sizes are compared it ends that, with the best of those that had room.
        """
        self._most = rows // 2
        if self.size <= self._most:
            return False
        fits = {size: looks for size, looks in self._seconds.items() if size <= self._most and len(looks) >= LOOKS}
        if self.measuring and fits:
            self._seconds = fits
            self._settle(self._best())
        else:
            self.size, self.measuring = self._most, False
        return True

    def _decide(self) -> None:
        """Where to look next, or that it is enough."""
        times = {size: min(looks) for size, looks in self._seconds.items() if len(looks) >= LOOKS}
        up, down = 2 * max(times), min(times) // 2
        best = self._best()
        if up <= self._most and max(times) < 4 * best:
            self.size = up
        elif best == min(times) and down >= 1:
            self.size = down
        else:
            self._settle(best)

    def _best(self) -> int:
        """The smallest size that no larger one beats by the gain for each doubling."""
        times = {size: min(looks) for size, looks in self._seconds.items() if len(looks) >= LOOKS}
        found = min(times)
        for size in sorted(times):
            if times[size] < times[found] * (1 - GAIN) ** math.log2(size / found):
                found = size
        return found

    def _settle(self, size: int) -> None:
        self.size, self.measuring = size, False
        if self.key is not None:
            per_row = {str(one): round(min(looks), 6) for one, looks in sorted(self._seconds.items())}
            remember(self.key, {"rows": size, "seconds_per_row": per_row})
            log.debug("micro-batches of %d rows, by seconds per row: %s", size, per_row)


def chosen_batches(
    model: Mapping[str, Any], identity: str, device: str | None, shape: tuple[int, ...], rows: int
) -> Batches:
    """Those of a search that leaves them open: what is remembered of its model, else the usual, measured if it pays.

    Args:
        model: its description; one without weights, a sampler of one's own, has nothing to be remembered by.
        identity: of the model, but for dtype and device.
        device: where it computes.
        shape: of its latents.
        rows: of the search, as far as they may be measured.
    """
    first = usual(shape)
    if not model.get("weights"):
        return Batches(first)
    # What is compiled isn't measured, and takes what was measured without.
    loading = {name: value for name, value in model.get("loading", {}).items() if name != "compile"}
    key = key_of(identity, shape, str(model.get("dtype")), device, loading)
    if (known := remembered(key)) is not None:
        return Batches(known)
    return Batches(first, rows >= ROWS * first, key)


VERSION = 1
"""Of the file of what was measured; one of another version isn't read, and replaced."""


def _file() -> Path:
    return cache() / "batches.json"


def key_of(model: str, shape: tuple[int, ...], dtype: str, device: str | None, more: Mapping[str, Any]) -> str:
    """Under which a size is remembered: model, size, dtype, and device, by its kind and name, not its number."""
    kind = torch.device(device or "cpu").type
    named = torch.cuda.get_device_name(device) if kind == "cuda" else f"{torch.get_num_threads()} threads"
    told = [model, list(shape), dtype, kind, named, dict(more), str(torch.__version__)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def remembered(key: str) -> int | None:
    """What was measured under this key; None where nothing was."""
    rows = _read().get(key, {}).get("rows")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) and 1 <= rows <= LARGEST else None


def remember(key: str, measured: Mapping[str, Any]) -> None:
    """For the next search; where nothing can be written, that one measures again."""
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        content = {"version": VERSION, "measured": {**_read(), key: dict(measured)}}
        write_atomically(_file(), json.dumps(content, indent=1).encode())
    except OSError as error:
        log.debug("what was measured can't be kept: %s", error)


def _read() -> dict[str, dict[str, Any]]:
    """Everything that was measured; nothing where the file is missing, of another version or, said, damaged."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s can't be read (%s): micro-batches are measured again", _file(), error)
        return {}
    if not isinstance(found, dict) or not isinstance(entries := found.get("measured"), dict):
        log.warning("%s holds no measured micro-batches: they are measured again", _file())
        return {}
    if found.get("version") != VERSION:
        return {}
    return {key: one for key, one in entries.items() if isinstance(one, dict)}
