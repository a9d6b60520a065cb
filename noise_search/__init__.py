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
        BFS,
        DAS,
        FK,
        SVDD,
        Auto,
        Beam,
        Climb,
        EvoSearch,
        Halving,
        Lookahead,
        MonteCarloTreeSearch,
        RandomSearch,
        SearchOverPaths,
        TreeSearch,
        Variations,
        ZeroOrderSearch,
    )
    from noise_search.algorithms.base import Evaluation, Job, Problem, SearchAlgorithm
    from noise_search.algorithms.knowledge import Calibration, SeedPrior
    from noise_search.calibrating.calibrate import calibrate
    from noise_search.calibrating.priors import learn_prior
    from noise_search.calibrating.result import CalibrationResult
    from noise_search.checking import PipelineCheck, check
    from noise_search.choosing.pairs import ByPerson, ByScores
    from noise_search.comparison.bench import bench
    from noise_search.comparison.compare import compare
    from noise_search.comparison.comparison import Comparison
    from noise_search.diagnosis import Diagnosis, diagnose
    from noise_search.engine.driver import search
    from noise_search.engine.loading import load
    from noise_search.engine.worker import SearchOutOfMemory
    from noise_search.engine.workers.asked import LocalWorkers, RayWorkers
    from noise_search.image_scores import ScoredImage, ScoredImages, score_images
    from noise_search.replays.replay import Replay
    from noise_search.replays.replaying import replay
    from noise_search.results.candidate import Candidate
    from noise_search.results.choosing import Choice
    from noise_search.results.data import AllCandidatesFailed
    from noise_search.results.result import SearchResult
    from noise_search.tracking import TensorBoard, Trackio, Wandb

_ROOMS = {  # where each public name lives; imported at its first use, so that the command answers without torch
    "ALGORITHMS": "algorithms",
    "BFS": "algorithms",
    "DAS": "algorithms",
    "FK": "algorithms",
    "SVDD": "algorithms",
    "AllCandidatesFailed": "results.data",
    "Auto": "algorithms",
    "Beam": "algorithms",
    "ByPerson": "choosing.pairs",
    "ByScores": "choosing.pairs",
    "Calibration": "algorithms.knowledge",
    "CalibrationResult": "calibrating.result",
    "Candidate": "results.candidate",
    "Choice": "results.choosing",
    "Climb": "algorithms",
    "Comparison": "comparison.comparison",
    "Diagnosis": "diagnosis",
    "Evaluation": "algorithms.base",
    "EvoSearch": "algorithms",
    "Halving": "algorithms",
    "Job": "algorithms.base",
    "LocalWorkers": "engine.workers.asked",
    "Lookahead": "algorithms",
    "MonteCarloTreeSearch": "algorithms",
    "PipelineCheck": "checking",
    "Problem": "algorithms.base",
    "RandomSearch": "algorithms",
    "RayWorkers": "engine.workers.asked",
    "Replay": "replays.replay",
    "ScoredImage": "image_scores",
    "ScoredImages": "image_scores",
    "SearchAlgorithm": "algorithms.base",
    "SearchOutOfMemory": "engine.worker",
    "SearchOverPaths": "algorithms",
    "SearchResult": "results.result",
    "SeedPrior": "algorithms.knowledge",
    "TensorBoard": "tracking",
    "Trackio": "tracking",
    "TreeSearch": "algorithms",
    "Variations": "algorithms",
    "Wandb": "tracking",
    "ZeroOrderSearch": "algorithms",
    "bench": "comparison.bench",
    "calibrate": "calibrating.calibrate",
    "check": "checking",
    "compare": "comparison.compare",
    "diagnose": "diagnosis",
    "learn_prior": "calibrating.priors",
    "load": "engine.loading",
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
    "BFS",
    "DAS",
    "FK",
    "SVDD",
    "AllCandidatesFailed",
    "Auto",
    "Beam",
    "ByPerson",
    "ByScores",
    "Calibration",
    "CalibrationResult",
    "Candidate",
    "Choice",
    "Climb",
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "EvoSearch",
    "Halving",
    "Job",
    "LocalWorkers",
    "Lookahead",
    "MonteCarloTreeSearch",
    "PipelineCheck",
    "Problem",
    "RandomSearch",
    "RayWorkers",
    "Replay",
    "ScoredImage",
    "ScoredImages",
    "SearchAlgorithm",
    "SearchOutOfMemory",
    "SearchOverPaths",
    "SearchResult",
    "SeedPrior",
    "TensorBoard",
    "Trackio",
    "TreeSearch",
    "Variations",
    "Wandb",
    "ZeroOrderSearch",
    "bench",
    "calibrate",
    "check",
    "compare",
    "diagnose",
    "learn_prior",
    "load",
    "prompt_sets",
    "replay",
    "score_images",
    "search",
]
