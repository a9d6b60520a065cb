"""Errors that commands tell in one line, and how they end with each; what else is raised gets its traceback."""

import re

from noise_search.cli.options import FAILED

BAD_INPUT = 2


def code_of_error(error: BaseException) -> int | None:
    """How a command ends by an error; None for a mistake of this package or of a user's own object."""
    from noise_search.engine.crew import WorkersFailed
    from noise_search.engine.worker import SearchOutOfMemory
    from noise_search.prompt_sets.published import PromptsUnavailable
    from noise_search.results.data import AllCandidatesFailed
    from verifiers import WeightsError
    from verifiers.base import VerifierUnusable

    if isinstance(error, ValueError | TypeError | ImportError | WeightsError | VerifierUnusable) or _of_device(error):
        return BAD_INPUT
    failed = isinstance(error, AllCandidatesFailed | SearchOutOfMemory | WorkersFailed | PromptsUnavailable | OSError)
    return FAILED if failed else None


def in_one_line(error: BaseException) -> str:
    """What an error says, and the notes that were added to it; libraries' messages may have several lines."""
    said = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    return "; ".join(" ".join(one.split()) for one in said)


def _of_device(error: BaseException) -> bool:
    """Whether torch says that a device doesn't exist, here or at all, which it does by errors of several classes."""
    return isinstance(error, RuntimeError | AssertionError | NotImplementedError) and bool(
        re.search(
            r"device string|device type at start|not (compiled|linked) with|NVIDIA driver|invalid device", str(error)
        )
    )
