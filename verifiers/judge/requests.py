"""Many waiting calls at once, each result at the place of its item, stopped at once by an interrupt."""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

from verifiers.arguments import as_number

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(call: Callable[[Item, threading.Event], Result], items: Sequence[Item], concurrency: int) -> list[Result]:
    """`call(item, stop)` for every item, at most `concurrency` at a time, results in the order of items.

    The first error ends it, as does an interrupt: `stop` is set, no further call starts, and those under way are left
    to themselves (their threads don't keep the program alive), since a request can't be taken back.
    """
    stop = threading.Event()
    if concurrency == 1 or len(items) == 1:
        return [call(item, stop) for item in items]
    futures = [Future[Result]() for _ in items]
    waiting = deque(zip(items, futures, strict=True))

    def work() -> None:
        while waiting and not stop.is_set():
            try:
                item, future = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                future.set_result(call(item, stop))
            except BaseException as error:  # raised again where the results are awaited
                stop.set()  # here already, lest this thread go on before the other has heard
                future.set_exception(error)

    try:
        for _ in range(min(concurrency, len(items))):
            threading.Thread(target=work, name="judge", daemon=True).start()
        pending = set(futures)
        while pending:
            # a wait without end can't be interrupted on Windows
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
    finally:
        stop.set()
    return [future.result() for future in futures]


_jitter = random.Random()  # a stream of its own: waiting must not move the caller's


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter: first, 2 first, 4 first, ... seconds, each cut by up to half at random.

    Where the server names a time, that is waited instead.

    Attributes:
        first: seconds before the second request.
        longest: seconds that its own waits never exceed.
        patience: longest wait that a server may ask for; beyond it the request is given up.
        jitter: numbers in [0, 1).
        sleep: waits for that many seconds; None waits so that an interrupt is noticed.
    """

    first: float | int = 1.0
    longest: float | int = 60.0
    patience: float | int = 300.0
    jitter: Callable[[], float] = field(default=_jitter.random, repr=False)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse times that can't be waited."""
        for name in ("first", "longest", "patience"):
            as_number(name, getattr(self, name), infinite=name != "first")

    def wait(self, failures: int, asked: float | int | None = None) -> float | None:
        """Seconds to wait after so many failures, None to give up."""
        if asked is not None:
            return float(asked) if asked <= self.patience else None
        longest = min(self.longest, self.first * 2.0 ** min(failures - 1, 60))
        return longest * (1 - 0.5 * self.jitter())
