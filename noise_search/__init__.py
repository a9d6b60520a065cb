"""Better images from a diffusion or flow-matching model by searching for better noise."""

from noise_search import collisions as _collisions

_collisions.check()

from noise_search import prompt_sets  # noqa: E402
from noise_search.algorithms import (
    ALGORITHMS,  # noqa: E402
    RandomSearch,  # noqa: E402
    SearchOverPaths,  # noqa: E402
    ZeroOrderSearch,  # noqa: E402
)
from noise_search.candidates import Candidate  # noqa: E402
from noise_search.comparison.compare import compare  # noqa: E402
from noise_search.comparison.comparison import Comparison  # noqa: E402
from noise_search.diagnosis import (
    Diagnosis,  # noqa: E402
    diagnose,  # noqa: E402
)
from noise_search.driver import search  # noqa: E402
from noise_search.evaluator import SearchOutOfMemory  # noqa: E402
from noise_search.protocol import (
    Evaluation,  # noqa: E402
    Job,  # noqa: E402
    Problem,  # noqa: E402
    SearchAlgorithm,  # noqa: E402
)
from noise_search.replayed import Replay  # noqa: E402
from noise_search.replaying import replay  # noqa: E402
from noise_search.result_data import AllCandidatesFailed  # noqa: E402
from noise_search.results import SearchResult  # noqa: E402
from noise_search.scored import (
    ScoredImage,  # noqa: E402
    ScoredImages,  # noqa: E402
    score_images,  # noqa: E402
)
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
