"""How long to wait before the same request is made again."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from verifiers.arguments import as_number

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
