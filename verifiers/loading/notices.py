"""What is said, once each, when weights load: what they are, how large, and what their licence forbids.

Said by the logger `verifiers.loading` at level INFO. Where logging is not set up to show that level, notices go to
standard error all the same: a download of gigabytes must not look like a program that hangs.
"""

import logging
import sys
from collections.abc import Iterator

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
    elif _shown(logging.INFO):
        log.info(told)
    else:
        print(told, file=sys.stderr, flush=True)


def restricted(what: str, terms: str) -> None:
    """Warn once that the licence of weights sets terms which a user must know."""
    told = f"{what}: {terms}"
    if told not in _said:
        _said.add(told)
        log.warning(told)


def unchecked(what: str) -> None:
    """Warn once that the contents of a pickle couldn't be checked before it was read."""
    told = f"{what}: a pickle whose sha256 nobody states, so it is not checked; it is read with weights_only=True"
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


def _shown(level: int) -> bool:
    """Whether a record of this level reaches a handler that does something with it."""
    return log.isEnabledFor(level) and any(handler.level <= level for handler in _handlers())


def _handlers() -> Iterator[logging.Handler]:
    """The handlers that records of our logger reach."""
    logger: logging.Logger | None = log
    while logger is not None:
        yield from (one for one in logger.handlers if not isinstance(one, logging.NullHandler))
        logger = logger.parent if logger.propagate else None
