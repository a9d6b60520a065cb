"""Better images from a diffusion or flow-matching model by searching for better noise."""

from noise_search import collisions as _collisions

_collisions.check()

from noise_search import prompt_sets  # noqa: E402
from noise_search.algorithms import ALGORITHMS, RandomSearch, SearchOverPaths, ZeroOrderSearch
from noise_search.algorithms.base import Evaluation, Job, Problem, SearchAlgorithm
from noise_search.comparison.compare import compare  # noqa: E402
from noise_search.comparison.comparison import Comparison  # noqa: E402
from noise_search.diagnosis import Diagnosis, diagnose
from noise_search.engine.driver import search  # noqa: E402
from noise_search.engine.evaluator import SearchOutOfMemory  # noqa: E402
from noise_search.image_scores import ScoredImage, ScoredImages, score_images
from noise_search.replays.replay import Replay  # noqa: E402
from noise_search.replays.replaying import replay  # noqa: E402
from noise_search.results.candidate import Candidate  # noqa: E402
from noise_search.results.data import AllCandidatesFailed  # noqa: E402
from noise_search.results.result import SearchResult  # noqa: E402
from noise_search.version import __version__  # noqa: E402

__all__ = [
    "ALGORITHMS",
    "AllCandidatesFailed",
    "Candidate",
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "Job",
    "Problem",
    "RandomSearch",
    "Replay",
    "ScoredImage",
    "ScoredImages",
    "SearchAlgorithm",
    "SearchOutOfMemory",
    "SearchOverPaths",
    "SearchResult",
    "ZeroOrderSearch",
    "compare",
    "diagnose",
    "prompt_sets",
    "replay",
    "score_images",
    "search",
]
