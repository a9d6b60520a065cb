"""A thread that writes while the next is computed: pictures are packed, and the disk is waited for, meanwhile."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Writer:
    """Does one thing after the other, each while its owner goes on; never more than one is under way.

    So what is on the disk is in the order in which it was handed over, and at most the last thing isn't there yet.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="noise-search-writer")
        self._running: Future[None] | None = None

    def put(self, work: Callable[[], None]) -> None:
        """Begin it, once what was begun before has ended; raises what that raised."""
        self.flush()
        self._running = self._thread.submit(work)

    def flush(self) -> None:
        """Return once everything is done; raises what it raised, once."""
        if self._running is not None:
            wait([self._running])  # where this is interrupted, it still is known that something runs
            running, self._running = self._running, None
            running.result()

    def close(self) -> None:
        """Let go of the thread, once everything is done."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()
