"""One writer at a time in a directory: a lock that dies with its process, and says who holds it."""

import contextlib
import errno
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The locked file; hidden, and gone with its holder, but for one that was killed."""

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def lease(directory: Path) -> Iterator[None]:
    """Hold the directory until the end of the block, or of the process, however that comes.

    Where the file system knows no locks, that is said, and nothing keeps a second process out.

    Raises:
        ValueError: another process, or another search of this one, holds it.
    """
    with _locked(directory) as file:
        with contextlib.suppress(OSError):  # who holds it is good to know, and no more
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%F %T')}".encode())
            file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (directory / LOCK).unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[BinaryIO]:
    while True:
        with (directory / LOCK).open("a+b") as file:
            try:
                _lock_soon(file)
            except OSError as error:
                if error.errno in _HELD:
                    raise ValueError(
                        f"{str(directory)!r} is being written to by {holder(directory) or 'another process'}: wait for "
                        "it, stop it, or give another directory"
                    ) from None
                log.warning("%r takes no locks (%s): let no second process write there", str(directory), error.strerror)
            if _is_there(file, directory):
                yield file
                return


def _is_there(file: BinaryIO, directory: Path) -> bool:
    """Whether a locked file is still the directory's: who held it before may have taken it away meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(directory / LOCK))
    except FileNotFoundError:
        return False


def holder(directory: Path) -> str | None:
    """Who holds a directory now, in words; None where nobody does."""
    try:
        with (directory / LOCK).open("r+b") as file:
            said = file.read(200).decode(errors="replace")
            try:
                _lock(file)
            except OSError as error:
                return (said or "another process") if error.errno in _HELD else None
    except OSError:
        return None
    return None


def _lock_soon(file: BinaryIO) -> None:
    """Lock a file, which may have to wait for those who only ask who holds it."""
    for wait in (0.01, 0.02, 0.04, 0.08):
        try:
            return _lock(file)
        except OSError as error:
            if error.errno not in _HELD:
                raise
        time.sleep(wait)
    _lock(file)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(2**30)  # behind what is read: a locked byte can't be
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
