"""Ctrl-C or SIGTERM in the middle of work that is worth keeping: noted at once, heeded where nothing is lost."""

import builtins
import signal
import sys
import threading
from types import FrameType
from typing import Any, Literal

from tqdm.auto import tqdm

OnInterrupt = Literal["return", "raise"]


class Interrupts:
    """While open, a first Ctrl-C is only noted, until `heed` raises it; a second one is raised wherever it comes.

    SIGTERM, by which a node that is taken away announces it, counts as Ctrl-C. In the main thread and where they have
    Python's own handlers, which are back afterwards; elsewhere they stay what they were.

    Attributes:
        asked: how often they came.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for one, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                before = signal.getsignal(one)
                if before == usual or isinstance(getattr(before, "__self__", None), Interrupts):
                    self._before[one] = signal.signal(one, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked > 1:
            raise KeyboardInterrupt
        tqdm.write("stopping after what is running; Ctrl-C again stops at once", file=sys.stderr)

    def heed(self) -> None:
        """Raise the KeyboardInterrupt that was noted, if one was."""
        if self.asked:
            raise KeyboardInterrupt


def resolved(asked: OnInterrupt | None) -> OnInterrupt:
    """What Ctrl-C does to a call: by default it returns in a notebook or at a prompt, and raises in a script.

    Raises:
        ValueError: something else was asked for.
    """
    if asked not in (None, "return", "raise"):
        raise ValueError(f"on_interrupt={asked!r} must be 'return' (what is there so far) or 'raise' (with it)")
    by_hand = hasattr(sys, "ps1") or bool(sys.flags.interactive) or hasattr(builtins, "__IPYTHON__")
    return asked or ("return" if by_hand else "raise")
