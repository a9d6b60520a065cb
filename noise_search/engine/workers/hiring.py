"""Workers, for as long as a search or a comparison takes."""

from collections.abc import Iterator
from contextlib import contextmanager

from noise_search.engine.crew import Crew
from noise_search.engine.workers.actors import RayCrew
from noise_search.engine.workers.asked import LocalWorkers, RayWorkers, Told
from noise_search.engine.workers.local import LocalCrew


@contextmanager
def hired(workers: LocalWorkers | RayWorkers | Crew, told: Told | None) -> Iterator[Crew]:
    """The workers, which end with the context; a crew that is there already stays.

    Raises:
        WorkersFailed: they can't be started, or have another model than the search.
        ImportError: Ray isn't installed.
    """
    if isinstance(workers, Crew):
        yield workers
        return
    assert told is not None
    with RayCrew(workers, told) if isinstance(workers, RayWorkers) else LocalCrew(workers, told) as crew:
        yield crew
