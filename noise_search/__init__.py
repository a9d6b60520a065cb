"""Better images from a diffusion or flow-matching model by searching for better noise."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noise_search import collisions as _collisions
from noise_search.version import __version__  # noqa: F401

_collisions.check()

if TYPE_CHECKING:
    from noise_search import prompt_sets
    from noise_search.algorithms import (
        ALGORITHMS,
        Auto,
        Climb,
        Halving,
        RandomSearch,
        SearchOverPaths,
        ZeroOrderSearch,
    )
    from noise_search.algorithms.base import Evaluation, Job, Problem, SearchAlgorithm
    from noise_search.algorithms.knowledge import Calibration, SeedPrior
    from noise_search.calibrating.calibrate import calibrate
    from noise_search.calibrating.priors import learn_prior
    from noise_search.calibrating.result import CalibrationResult
    from noise_search.checking import PipelineCheck, check
    from noise_search.comparison.bench import bench
    from noise_search.comparison.compare import compare
    from noise_search.comparison.comparison import Comparison
    from noise_search.diagnosis import Diagnosis, diagnose
    from noise_search.engine.driver import search
    from noise_search.engine.worker import SearchOutOfMemory
    from noise_search.image_scores import ScoredImage, ScoredImages, score_images
    from noise_search.replays.replay import Replay
    from noise_search.replays.replaying import replay
    from noise_search.results.candidate import Candidate
    from noise_search.results.data import AllCandidatesFailed
    from noise_search.results.result import SearchResult

_ROOMS = {  # where each public name lives; imported at its first use, so that the command answers without torch
    "ALGORITHMS": "algorithms",
    "AllCandidatesFailed": "results.data",
    "Auto": "algorithms",
    "Calibration": "algorithms.knowledge",
    "CalibrationResult": "calibrating.result",
    "Candidate": "results.candidate",
    "Climb": "algorithms",
    "Comparison": "comparison.comparison",
    "Diagnosis": "diagnosis",
    "Evaluation": "algorithms.base",
    "Halving": "algorithms",
    "Job": "algorithms.base",
    "PipelineCheck": "checking",
    "Problem": "algorithms.base",
    "RandomSearch": "algorithms",
    "Replay": "replays.replay",
    "ScoredImage": "image_scores",
    "ScoredImages": "image_scores",
    "SearchAlgorithm": "algorithms.base",
    "SearchOutOfMemory": "engine.worker",
    "SearchOverPaths": "algorithms",
    "SearchResult": "results.result",
    "SeedPrior": "algorithms.knowledge",
    "ZeroOrderSearch": "algorithms",
    "bench": "comparison.bench",
    "calibrate": "calibrating.calibrate",
    "check": "checking",
    "compare": "comparison.compare",
    "diagnose": "diagnosis",
    "learn_prior": "calibrating.priors",
    "prompt_sets": "prompt_sets",
    "replay": "replays.replaying",
    "score_images": "image_scores",
    "search": "engine.driver",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module(f"{__name__}.{_ROOMS[name]}")
    found = room if name == _ROOMS[name] else getattr(room, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


__all__ = [
    "ALGORITHMS",
    "AllCandidatesFailed",
    "Auto",
    "Calibration",
    "CalibrationResult",
    "Candidate",
    "Climb",
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "Halving",
    "Job",
    "PipelineCheck",
    "Problem",
    "RandomSearch",
    "Replay",
    "ScoredImage",
    "ScoredImages",
    "SearchAlgorithm",
    "SearchOutOfMemory",
    "SearchOverPaths",
    "SearchResult",
    "SeedPrior",
    "ZeroOrderSearch",
    "bench",
    "calibrate",
    "check",
    "compare",
    "diagnose",
    "learn_prior",
    "prompt_sets",
    "replay",
    "score_images",
    "search",
]
