"""What is said, once each, when weights load: what they are, how large, and what their licence forbids.

Shown by the logger `verifiers.loading`. Where nobody has set up logging, notices go to standard error all the same: a
download of gigabytes must not look like a program that hangs.
"""

import logging
import sys

log = logging.getLogger("verifiers.loading")

QUIET_BELOW = 50_000_000
"""Bytes below which loading a file that is here is told at debug level only."""

_said: set[str] = set()


def loading(what: str, size: int | None = None, *, download: bool = False) -> None:
    """Say once that weights are being loaded or downloaded, and their size in bytes where it is known."""
    told = f"{'downloading' if download else 'loading'} {what}" + (f", {in_bytes(size)}" if size else "")
    if told in _said:
        return
    _said.add(told)
    if not download and size is not None and size < QUIET_BELOW:
        log.debug(told)
    elif log.hasHandlers():
        log.info(told)
    else:
        print(told, file=sys.stderr)


def restricted(what: str, terms: str) -> None:
    """Warn once that the licence of weights sets terms which a user must know."""
    told = f"{what}: {terms}"
    if told not in _said:
        _said.add(told)
        log.warning(told)


def in_bytes(size: int) -> str:
    """A size for people: 1.8 GB, 340 MB, 12 kB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"
