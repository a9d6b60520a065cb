"""Workers in processes of this machine, one per device, each fed over pipes of its own."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import torch

from noise_search.engine.crew import WorkerDied, WorkersFailed
from noise_search.engine.workers.asked import LocalWorkers, Told
from noise_search.engine.workers.fed import STARTS, FedCrew
from noise_search.engine.workers.wire import decode, encode, receive, send

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


class _NotLoaded(WorkersFailed):
    """Of one worker, which ends."""


class LocalCrew(FedCrew):
    """Processes that are there while the crew is open, and are started again when they die.

    Args:
        asked: how many, and where.
        told: what they load.
    """

    def __init__(self, asked: LocalWorkers, told: Told) -> None:
        super().__init__(told, asked.timeout, asked.speculate)
        self._devices = asked.on(told.device)
        self.size, on_cpu = len(self._devices), sum(one == "cpu" for one in self._devices)
        self._threads = asked.threads or (max(1, torch.get_num_threads() // on_cpu) if on_cpu else None)
        self._inbox: _Inbox = queue.SimpleQueue()
        self._children: list[_Child] = []

    def __enter__(self) -> "LocalCrew":
        try:
            for device in self._devices:
                self._children.append(self._started(device))
            while not all(child.ready for child in self._children):
                child, message = self._inbox.get()
                if message is None:
                    raise WorkersFailed(f"{child.ended()}, before it was ready")
                self._take_in(child, message)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close their pipes, by which they end, and kill those that don't."""
        children, self._children = self._children, []
        for child in children:
            child.let_go()
        for child in children:
            child.end()

    def _free(self) -> "Sequence[_Child]":
        return [child for child in self._children if child.ready]

    def _send(self, worker: "_Child", message: bytes) -> None:
        worker.send(message)

    def _heard(self, seconds: float | None) -> "tuple[_Child, bytes | WorkerDied] | None":
        try:
            child, message = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None
        if child not in self._children:  # one that was replaced
            return None
        if message is None:
            said = child.ended()
            self._replace(child, said)
            return child, WorkerDied(said)
        if child.ready:
            return child, message
        try:
            self._take_in(child, message)
        except _NotLoaded as error:  # it ends by itself, and is started again: memory may come back
            log.warning("%s", error)
        return None

    def _end(self, worker: "_Child", why: str) -> str:
        said = worker.killed(why)
        self._replace(worker, said)
        return said

    def _started(self, device: str, starts: int = 1) -> "_Child":
        return _Child(self._told.message, device, self._threads, self._inbox, starts)

    def _take_in(self, child: "_Child", message: bytes) -> None:
        """Take in what a worker says that it is.

        Raises:
            WorkersFailed: it couldn't load (`_NotLoaded`), or is another than the search.
        """
        about = decode(message)
        if isinstance(about, Exception):
            raise _NotLoaded(f"worker on {child.device} can't load: {about}") from about
        self._look_at(about, child.device)
        child.ready, child.starts = True, 1

    def _replace(self, child: "_Child", said: str) -> None:
        at = self._children.index(child)
        if child.ready or child.starts < STARTS:
            self._children[at] = self._started(child.device, 1 if child.ready else child.starts + 1)
            return
        del self._children[at]
        self.size = len(self._children)
        log.warning("%s, for the %dth time before it was ready: going on with %d workers", said, STARTS, self.size)
        if not self._children:
            raise WorkersFailed(f"no worker is left: {said}")


class _Child:
    """A process, and what is known of it.

    Attributes:
        device: its own.
        starts: how often it was tried to start it.
        ready: whether it has loaded what it was told.
    """

    def __init__(self, told: bytes, device: str, threads: int | None, inbox: "_Inbox", starts: int) -> None:
        self.device, self.starts, self.ready = device, starts, False
        path = os.pathsep.join(one or os.getcwd() for one in sys.path)
        own = {"PYTHONPATH": path} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "noise_search.engine.workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **own},
            start_new_session=True,  # a terminal's Ctrl-C is the driver's
        )
        self._words: deque[str] = deque(maxlen=20)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()
        self.send(told)
        self.send(encode(device))

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def send(self, message: bytes) -> None:
        """Write to it; that it is gone is told by what is read of it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            send(self._process.stdin, message)

    def ended(self) -> str:
        """How it ended, in words; its last ones go to the log."""
        code = self._process.wait()
        return self._said(f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.strsignal(-code)}")

    def killed(self, why: str) -> str:
        """Kill it; returns that in words."""
        self._process.kill()
        self._process.wait()
        return self._said(why)

    def let_go(self) -> None:
        """Close its pipe."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self) -> None:
        """See to it that it has ended."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()

    def _said(self, how: str) -> str:
        self._listening.join(timeout=1)
        said = f"worker on {self.device} (process {self.pid}) ended ({how})"
        if self._words:
            log.warning("%s; it said last:\n%s", said, "".join(self._words).rstrip())
        return said

    def _read(self, inbox: "_Inbox") -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while (message := receive(stream)) is not None:
                inbox.put((self, message))
        inbox.put((self, None))

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._words.append(line.decode(errors="replace"))


_Inbox = queue.SimpleQueue[tuple[_Child, bytes | None]]
