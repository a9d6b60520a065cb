"""x0 predictions at a noise level, for verifiers that compare them with the finished image of the same trajectory.

One rule: a verifier whose `needs` contain "x0" has a `noise_level`, and gets the prediction made at the point of the
row's own grid that is nearest to it. That costs a decode, and no NFE.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from noise_search.algorithms.base import Job, SearchAlgorithm
from samplers.base import Sampler
from samplers.recipe import Recipe
from samplers.space import NoiseSpace
from samplers.transition import legs
from verifiers.base import Verifier


def level_of(verifier: Verifier) -> float | None:
    """The noise level sigma / (alpha + sigma) of the x0 prediction that a verifier needs; None where it needs none.

    Raises:
        ValueError: it needs one and has no usable `noise_level`.
    """
    if "x0" not in verifier.needs:
        return None
    level = getattr(verifier, "noise_level", None)
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(
            f"verifier {verifier.name!r} needs an x0 prediction and has noise_level {level!r}; set it to a number "
            "between 0 (clean) and 1 (pure noise), such as 0.4"
        )
    return float(level)


def levels_of(verifiers: Sequence[Verifier]) -> frozenset[float]:
    """The distinct noise levels that verifiers need."""
    return frozenset(level for verifier in verifiers if (level := level_of(verifier)) is not None)


def nearest_point(space: NoiseSpace, level: float) -> int:
    """The grid point, before the clean end, whose noise level is nearest; the noisier of two.

    Raises:
        ValueError: it is the last one, whose x0 prediction is the finished image itself.
    """
    point = min(range(space.end), key=lambda step: abs(space.noise_level(step) - level))
    if point == space.end - 1:
        known = ", ".join(f"{space.noise_level(step):.2g}" for step in range(space.end - 1))
        fix = f"take noise_level nearest to one of {known}, or more steps" if known else "take more steps"
        raise ValueError(
            f"noise_level={level:g} falls on the last of {space.end} steps, whose x0 prediction is the finished image "
            f"itself: {fix}"
        )
    return point


def points_on_way(
    recipe: Recipe, spaces: Sequence[NoiseSpace], sampler: Sampler, verifiers: Sequence[Verifier]
) -> dict[float, int]:
    """The grid point on a recipe's last run of each noise level that verifiers need.

    Raises:
        ValueError: the recipe makes no such prediction, or ends before its image is finished.
    """
    levels = levels_of(verifiers)
    if not levels:
        return {}
    _check_stops(sampler, verifiers)
    names = ", ".join(v.name for v in verifiers if level_of(v) is not None)
    last = recipe.operations[-1]
    space = next((space for space in spaces if space.id == last.get("grid")), spaces[0])
    if last["op"] != "run" or last["to"] != space.end:
        raise ValueError(
            f"verifier {names} compares an x0 prediction with the finished image, and this candidate ends before the "
            f"last of {space.end} steps; replay one that is finished"
        )
    points = {level: nearest_point(space, level) for level in sorted(levels)}
    runs = recipe.operations[len(recipe.before_runs) :]  # its last walk, of one run or of several transitions
    begun = max((op["to"] for op in runs if "inner" in op), default=runs[0]["from"])  # those predict off the grid
    missed = [level for level, at in points.items() if at < begun]
    if missed:
        within = " (what led there predicts between points)" if begun > runs[0]["from"] else ""
        raise ValueError(
            f"verifier {names} needs an x0 prediction at noise level {missed[0]:g}, and this candidate's last run "
            f"starts after it, at {space.noise_level(begun):.2g}{within}; replay one that runs through it"
        )
    return points


def check_x0(
    algorithm: SearchAlgorithm, sampler: Sampler, verifiers: Sequence[Verifier], judges: Sequence[Verifier]
) -> None:
    """Refuse verifiers and judges whose x0 predictions can't be seen, before anything is spent.

    Raises:
        ValueError: a model that can't be stopped on the way, or a verifier under an algorithm that ranks unfinished
            rows, which have no finished image to compare with.
    """
    _check_stops(sampler, (*verifiers, *judges))
    for one in verifiers:
        if level_of(one) is not None and not algorithm.whole_calls:
            raise ValueError(
                f"verifier {one.name!r} compares x0 predictions with finished images, and algorithm {algorithm.name!r} "
                f"ranks unfinished ones; use algorithm='random' or 'zero-order', or judges=[{one.name!r}]"
            )


def needs_x0(verifiers: Sequence[Verifier]) -> bool:
    """Whether any of them looks at x0 predictions."""
    return any(level_of(one) is not None for one in verifiers)


def _check_stops(sampler: Sampler, verifiers: Sequence[Verifier]) -> None:
    for one in verifiers:
        if level_of(one) is not None and not sampler.can_stop:
            raise ValueError(
                f"verifier {one.name!r} needs an x0 prediction on the way, and this model only runs whole "
                f"({sampler.limitation}); use another verifier"
                + (", or scheduler='first-order'" if sampler.limitation.startswith("scheduler=") else "")
            )


@dataclass(frozen=True)
class Predictions:
    """Which x0 predictions are looked at, and where they are made.

    Attributes:
        points: by grid id, the grid point of each noise level.
        ends: by grid id, the clean end.
        judged: the levels that judges need; their pictures are kept with those of finished candidates.
    """

    points: Mapping[str, Mapping[float, int]]
    ends: Mapping[str, int]
    judged: frozenset[float] = frozenset()

    @classmethod
    def of(
        cls,
        verifiers: Sequence[Verifier],
        judges: Sequence[Verifier],
        full: NoiseSpace,
        drafts: Collection[NoiseSpace] = (),
    ) -> "Predictions":
        """For the grid of finished images, and those of drafts, which no judge sees; ValueError as `nearest_point`."""
        scored, judged = levels_of(verifiers), levels_of(judges)
        points = {full.id: {level: nearest_point(full, level) for level in sorted(scored | judged)}}
        points |= {one.id: {level: nearest_point(one, level) for level in sorted(scored)} for one in drafts}
        return cls(points, {space.id: space.end for space in (full, *drafts)}, judged)

    def of_job(self, job: Job) -> dict[float, int]:
        """The grid point of each level whose prediction the rows of a job make on their way to finished images.

        A run that starts at a point makes its prediction; one that starts after it doesn't, whatever came before.
        """
        grid = job.states.grid
        if not job.score or job.stop != self.ends.get(grid):
            return {}
        made = {level: at for level, at in self.points[grid].items() if job.states.step <= at}
        if job.transition is None:
            return made
        taken = legs(job.transition, job.states.step, job.stop)
        seen = {leg.start for leg in taken if leg.stop == leg.start + 1}  # longer ones predict from within
        return {level: at for level, at in made.items() if at in seen}

    def unfinished(self, job: Job) -> bool:
        """Whether the rows of a job stop before the end of their grid."""
        return job.stop < self.ends.get(job.states.grid, job.stop)

    def record(self, spaces: Iterable[NoiseSpace]) -> dict[str, dict[str, dict[str, float]]]:
        """For a result's settings: by grid id, at which noise level each one asked for is predicted; {} for none."""
        found = {
            space.id: {f"{level:g}": round(space.noise_level(at), 6) for level, at in self.points[space.id].items()}
            for space in spaces
            if self.points[space.id]
        }
        return {"x0_predictions": found} if found else {}


NONE = Predictions({}, {})
"""Nobody looks at any."""
