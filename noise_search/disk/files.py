"""Files, written so that nobody ever reads half of one."""

import os
import tempfile
from pathlib import Path


def check_writable(directory: Path) -> None:
    """Make the directory and prove that a file can be written there.

    Raises:
        ValueError: it can't.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"directory {str(directory)!r} can't be written to: {error.strerror or error}") from error


def write_atomically(file: Path, content: bytes) -> None:
    """Write beside the file and rename, so that a reader never sees half of it."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
