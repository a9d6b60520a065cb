"""Workers as actors of a Ray cluster: the same station, with the same messages, on any number of machines."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from noise_search.engine.crew import WorkerDied, WorkersFailed
from noise_search.engine.workers.asked import RayWorkers, Told
from noise_search.engine.workers.fed import STARTS, FedCrew
from noise_search.engine.workers.station import Station

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks at what is called: a call to an actor that is gone may never return by itself."""
_FETCH = 60.0
"""Seconds for an answer that is there already."""
_LONG = 60.0
"""Seconds of waiting for actors after which that is said."""


class RayCrew(FedCrew):
    """Actors that are there while the crew is open, and are started again when they die, where there is room.

    Args:
        asked: where, and how many.
        told: what they load.
    """

    def __init__(self, asked: RayWorkers, told: Told) -> None:
        super().__init__(told, asked.timeout, asked.speculate)
        self._ray, self._asked, self._began = _ray(), asked, False
        self._actors: list[_Actor] = []
        self._heard_at = 0.0

    def __enter__(self) -> "RayCrew":
        ray = self._ray
        try:
            if not ray.is_initialized():
                ray.init(address=self._asked.address, log_to_driver=False, configure_logging=False)
                self._began = True
            there = ray.cluster_resources().get("GPU", 0)
            self.size = self._asked.count or int(there / self._asked.num_gpus if self._asked.num_gpus else 1)
            if self.size < 1 or self.size * self._asked.num_gpus > there:
                wanted = f"{self._asked.count or 'at least one'} x num_gpus={self._asked.num_gpus:g}"
                raise WorkersFailed(f"the Ray cluster has {there:g} GPUs, and {wanted} are asked for: ask for fewer")
            self._actors = [self._started() for _ in range(self.size)]
            self._await_all()
        except ray.exceptions.RayError as error:
            self.close()
            raise WorkersFailed(f"Ray's workers can't be started: {_in_words(error)}") from error
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill the actors, and leave a cluster that was reached for them."""
        for actor in self._actors:
            self._ray.kill(actor.handle, no_restart=True)
        self._actors = []
        if self._began:
            self._ray.shutdown()

    def _await_all(self) -> None:
        began, said = time.monotonic(), False
        self._heard_at = began
        while not all(actor.ready for actor in self._actors):
            if (heard := self._heard(_LOOK)) is not None:
                raise WorkersFailed(f"Ray's workers can't be started: {heard[1]!s}")
            if not said and time.monotonic() - began > _LONG:
                ready, said = sum(actor.ready for actor in self._actors), True
                log.warning("%d of %d actors of Ray are ready; others load, or wait for resources", ready, self.size)

    def _free(self) -> "Sequence[_Actor]":
        return [actor for actor in self._actors if actor.ready]

    def _send(self, worker: "_Actor", message: bytes) -> None:
        worker.call = worker.handle.answer.remote(message)

    def _heard(self, seconds: float | None) -> "tuple[_Actor, bytes | WorkerDied] | None":
        ray, called = self._ray, {actor.call: actor for actor in self._actors if actor.call is not None}
        ended, _ = ray.wait([*called], num_returns=1, timeout=_LOOK if seconds is None else seconds)
        if not ended:
            silence = time.monotonic() - self._heard_at
            if silence > self._asked.timeout and not self._free():
                raise WorkersFailed(f"no actor of Ray was ready for {silence:.0f} seconds: none is left, or has room")
            return None
        self._heard_at = time.monotonic()
        actor = called[ended[0]]
        actor.call = None
        try:
            message = ray.get(ended[0], timeout=_FETCH)
        except (ray.exceptions.RayError, TimeoutError) as error:
            said = f"a worker of Ray ended ({type(error).__name__}: {_in_words(error)})"
            self._replace(actor, said)
            return actor, WorkerDied(said)
        if actor.ready:
            return actor, message
        self._look_at(message, "Ray")
        actor.ready, actor.starts = True, 1
        return None

    def _end(self, worker: "_Actor", why: str) -> str:
        said = f"a worker of Ray was ended ({why})"
        self._replace(worker, said)
        return said

    def _started(self, starts: int = 1) -> "_Actor":
        gpus = self._asked.num_gpus
        # One call at a time: several leak CUDA memory. Restarts are off in Ray unless asked for. Apart from each other,
        # so that those without a GPU of their own don't share one machine while others have nothing to do.
        options = {"num_gpus": gpus, "max_restarts": STARTS, "max_task_retries": 0, "max_concurrency": 1}
        made = self._ray.remote(**options, scheduling_strategy="SPREAD")(Station)
        return _Actor(made.remote(self._told.message, "cuda" if gpus else "cpu"), starts)

    def _replace(self, actor: "_Actor", said: str) -> None:
        self._ray.kill(actor.handle, no_restart=True)  # one that Ray still starts again refuses calls meanwhile
        self._actors.remove(actor)
        if actor.ready or actor.starts < STARTS:
            self._actors.append(self._started(1 if actor.ready else actor.starts + 1))
        else:
            self.size = len(self._actors)
            log.warning("%s, for the %dth time before it was ready: going on with %d workers", said, STARTS, self.size)
            if not self._actors:
                raise WorkersFailed(f"no worker is left: {said}")
        # A machine may have gone with all its actors: those that have nothing to do say first that they are there, so
        # that no batch meets one dead actor after the other.
        for other in self._actors:
            if other.call is None:
                other.ask()


class _Actor:
    """An actor, and what is known of it.

    Attributes:
        handle: Ray's.
        starts: how often it was tried to start it.
        call: what it was called for and hasn't answered; at first who it is.
        ready: whether it has said that.
    """

    def __init__(self, handle: Any, starts: int) -> None:
        self.handle, self.starts = handle, starts
        self.ask()

    def ask(self) -> None:
        """Who it is, which it can't say before it has loaded what it was told."""
        self.ready, self.call = False, self.handle.about.remote()


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ImportError(
            "workers='ray' needs Ray, which isn't installed: pip install 'noise-search[ray]', here and on all nodes"
        ) from error
    return ray


def _in_words(error: BaseException) -> str:
    """The first line, and the last, which is the cause where Ray tells a worker's own error."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return ": ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))
