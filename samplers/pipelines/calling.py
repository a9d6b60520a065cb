"""`CallingSampler`: what all samplers over a pipeline's calls share, most of all their book of prompts."""

from samplers.base import Sampler
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.prompts import check_prompt
from samplers.state import State


class CallingSampler(Sampler):
    """A sampler over calls of a diffusers pipeline; how rows are run is the subclass's."""

    def __init__(self, calls: PipelineCalls) -> None:
        """Sample by these calls."""
        self._calls = calls
        self._prompts: list[str] = []

    @property
    def denoiser_rows(self) -> int:  # type: ignore[override]
        """Rows that went through the denoiser modules so far, those of calls that failed included."""
        return self._calls.denoiser_rows

    @property
    def text_encodings(self) -> int:  # type: ignore[override]
        """How often a prompt given to `condition` was encoded: at most once each until `close`."""
        return sum(prompt in self._prompts for prompt in self._calls.memo.encoded)

    def condition(self, prompt: str) -> int:
        """The index of a prompt; it is encoded, once, when first run.

        A class-conditional pipeline takes the name of a label, or its number as text.
        """
        check_prompt(self._calls.pipe, prompt)
        if prompt not in self._prompts:
            self._prompts.append(prompt)
        return self._prompts.index(prompt)

    def close(self) -> None:
        """Release the denoiser, forget the encodings and, under model offload, free its hooks."""
        self._calls.close()

    def __enter__(self) -> "CallingSampler":
        """Hold the denoiser until `close`, so that no other search can start on it."""
        self._calls.hold()
        return self

    def _prompts_of(self, states: State) -> list[str]:
        """One prompt per row. Raises ValueError for conditions that `condition` didn't return."""
        known = len(self._prompts)
        unknown = sorted({c for c in states.conditions if not 0 <= c < known})
        if unknown:
            raise ValueError(f"conditions {unknown} are not indices that condition() returned ({known} so far)")
        return [self._prompts[c] for c in states.conditions]
