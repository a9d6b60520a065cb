"""What a search hands back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.results.candidate import Candidate
from noise_search.results.choosing import Choice, FeaturesLike, choose_by_pairs, diverse_set
from noise_search.results.data import ResultData
from noise_search.results.html import result_html
from noise_search.results.saving import save_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class SearchResult(ResultData):
    """The best image of a search, how to make it again, all that was tried, and what it cost.

    Its values are those of `ResultData`.
    """

    def plot(self) -> "Figure":
        """The first sample, the winner, and score against NFE: every finished candidate and the best so far."""
        from noise_search.results.plots import overview

        return overview(self)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write result.json, best.png, top.png, curve.png and the top k as top/01.png, ...; returns their paths.

        best.png and those in top/ hold the recipe of their candidate, for `noise_search.replay`. A clip adds best.gif.

        Args:
            directory: new, or empty.
            overwrite: replace what an earlier search wrote there; files of anybody else stay.

        Raises:
            ValueError: it holds something else, or can't be written to.
        """
        return save_result(self, Path(directory), overwrite)

    def resume(
        self, nfe: int | None = None, *, retry_failed: bool = False, **arguments: Any
    ) -> "SearchResult | list[SearchResult]":
        """Go on with the search in its run directory: one that ended early to its end, any with a larger budget.

        What was evaluated isn't computed again, nor is it charged twice. Of several prompts, all go on.

        Args:
            nfe: the budget of the whole, what is spent included; that of before when None.
            retry_failed: run candidates again that failed.
            arguments: of `search`, in place of those of before: limits, judges, `batch_size`, and after `load()`
                objects that can't be read back, such as a pipeline.

        Returns:
            What `search` returns.

        Raises:
            ValueError: it has no run directory, or as `search`.
        """
        if self.again is None:
            raise ValueError("this search has no directory to go on in; search(..., run='runs/circle') gives it one")
        changes = {} if nfe is None else {"nfe": nfe}
        found: SearchResult | list[SearchResult] = self.again(**changes, retry_failed=retry_failed, **arguments)
        return found

    def diverse(self, k: int = 4, *, diversity: float = 1.5, features: FeaturesLike = "thumbnails") -> list[Candidate]:
        """A set of kept candidates that are good and different from each other, best first; costs no NFE.

        It maximises mean quality plus `diversity` times mean pairwise difference, both standardised within the kept
        candidates, as Group Inference (arXiv 2508.15773); see `noise_search.choosing.sets.pick_set`. Difference is that
        which scores don't explain; see `unexplained` there. A search keeps the pictures of its `top_k`, its first and
        its bests: the more, the more there is to pick from.

        Args:
            k: how many.
            diversity: standard deviations of quality that one of difference is worth, 0 or more; 0 is `top(k)`.
            features: what tells images apart, by 1 - cosine: "thumbnails" of 8 x 8 pixels, a verifier with a CLIP
                tower or its name, or a function of images `[image, 3, height, width]` in [0, 1] to `[image, feature]`.

        Raises:
            ValueError: fewer pictures were kept, a diversity below 0, features that a verifier doesn't have.
            AllCandidatesFailed: there is no winner.
        """
        return diverse_set(self, k, diversity, features)

    def choose(self, judge: Any, *, k: int = 6, calls: int | None = None) -> Choice:
        """What a judge of pairs chooses among the best kept images; costs no NFE.

        Each pair is asked about in both orders, all pairs up to 6 images, by knockout beyond; strengths are those of
        Bradley and Terry. Of a pair about which the judge contradicts itself each image gets half.

        Args:
            judge: a function of two PIL images and the prompt that returns P(the first is better), such as
                `verifiers.PairJudge`, `noise_search.ByScores` or `noise_search.ByPerson`; or a verifier, or its name,
                by which the higher score wins.
            k: how many of the best are compared, or as many as were kept.
            calls: most calls of the judge; None for k (k - 1) up to 6 images, else 2 (k - 1).

        Raises:
            ValueError: k or calls below 2, or an answer outside [0, 1].
            AllCandidatesFailed: there is no winner.
        """
        return choose_by_pairs(self, judge, k, calls)

    def _repr_html_(self) -> str:
        return result_html(self)
