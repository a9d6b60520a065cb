"""When a search ends besides its budget."""

from dataclasses import dataclass

from noise_search.arguments import check_counts, check_numbers
from noise_search.prompt_search import PromptSearch
from verifiers.ensemble import Aggregator


@dataclass(frozen=True)
class Limits:
    """Seconds, a score and a number of candidates without a new best; None for never."""

    time: float | None
    target_score: float | None
    patience: int | None

    def __post_init__(self) -> None:
        check_numbers(time_limit=self.time, target_score=self.target_score)
        check_counts(patience=self.patience)
        if self.time is not None and not self.time > 0:
            raise ValueError(f"time_limit={self.time!r} must be greater than 0")

    def check(self, aggregator: Aggregator) -> None:
        """Refuse a target score where values never do more than rank a pool."""
        if self.target_score is not None and not aggregator.absolute and aggregator.freeze_after is None:
            raise ValueError(
                f"target_score={self.target_score} needs a verifier with absolute values; {aggregator.name} only ranks "
                "a pool: give one verifier, or MeanZ with a reference or freeze_after"
            )

    def apply(self, one: PromptSearch, seconds: float) -> None:
        """End a prompt's search that has reached one of them."""
        if self.time is not None and seconds >= self.time:
            one.stop(f"time limit of {self.time:g} s")
        if one.best is None:
            return
        target = self.target_score if one.aggregator.absolute else None
        if target is not None and one.best.score >= target:
            one.stop(f"target score {target:g} reached")
        if self.patience is not None and one.since_best >= self.patience:
            one.stop(f"no better candidate among {self.patience}")
