"""Variations: more like pictures that somebody picked."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, ClassVar, Literal, get_args

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.arguments import check_numbers
from samplers.recipe import Operation, Recipe
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Deterministic, Mix, Transition, recorded_in

Move = Literal["neighbour", "branch", "again"]
_ROUND = 64
"""Rows that wait at a time, as of random search."""


@dataclass(frozen=True)
class Variations:
    """Candidates around given ones, whose recipes are all that it needs: as many of each as the budget holds.

    It goes on from what a person, or another search, picked: of the same model, prompt and settings more of the same,
    of another prompt the same composition. It has no baseline, and doesn't run the given ones again, but with "again".

    Attributes:
        of: recipes, of candidates or as JSON: `[result.best.recipe]`. Finished or not, with noises of any making.
        move: how a variation is made. "neighbour": from a noise at a fixed cosine to the given one's, of its norm
            (as in zero-order search). "branch": the given one is run again to a grid point, from where each variation
            goes on with fresh noise in its first step; what that run takes is charged once for each given one. "again":
            the given one's noise run whole, once, as for other steps or another prompt.
        cosine: of neighbours, in [-1, 1).
        leave: where branches leave, as a share of the steps in (0, 1): the later, the more they have in common. Where
            a given one's GLASS transition passes over that point they leave before it, as it can't be cut.

    Raises:
        ValueError: no recipes, an unknown move, or a number out of range; of a search, recipes that ran on another grid
            where they are to be run again, or a model that can't make a branch.

    Example:
        more = noise_search.search(prompt, algorithm=Variations([result.best.recipe], cosine=0.95), candidates=8)
    """

    name: ClassVar[str] = "variations"
    anytime: ClassVar[bool] = True
    baseline: ClassVar[bool] = False

    of: Sequence[Recipe]
    move: Move = "neighbour"
    cosine: float = 0.9
    leave: float = 0.5

    def __post_init__(self) -> None:
        given: Any = self.of
        if isinstance(given, str | Mapping | Recipe) or not isinstance(given, Sequence) or not given:
            raise ValueError(f"of={given!r:.60} must list one recipe or more, such as [result.best.recipe]")
        recipes = [one if isinstance(one, Recipe) else Recipe.from_json(one) for one in given]
        object.__setattr__(self, "of", tuple(dict.fromkeys(recipes)))
        if self.move not in get_args(Move):
            raise ValueError(f"move={self.move!r:.40} must be one of {', '.join(get_args(Move))}")
        check_numbers(cosine=self.cosine, leave=self.leave)
        if not -1 <= self.cosine < 1:
            raise ValueError(f"cosine={self.cosine!r} must be at least -1 and below 1, where a neighbour is its pivot")
        if not 0 < self.leave < 1:
            raise ValueError(f"leave={self.leave!r} must lie between 0 and 1: a share of the steps")

    @property
    def whole_calls(self) -> bool:
        """All but branches run from noise to the end."""
        return self.move != "branch"

    @property
    def moves_noise(self) -> bool:
        """Noises that are seeds can be run again by any model."""
        return self.move != "again" or any(one.noise.seed is None for one in self.of)

    def plan(self, problem: Problem) -> Plan:
        """Yield variations of each in turn, until the budget is spent."""
        space, start = problem.space, self._start(problem.space)
        parents = []
        for recipe in self.of:
            parents.append((yield from _retraced(problem, recipe, start)))
        if self.move == "again":
            yield Job(State.cat(parents), space.end)
            return
        then: Sequence[Transition] = [Deterministic()] * (space.end - start - 1)
        steps = (Mix(0.0), *then) if start else None
        turns = cycle(parents)
        while True:
            # One more than is left: what is held back for the given ones is freed by the first that is finished.
            rows = min(problem.nfe_left // problem.cost(start, space.end) + 1, _ROUND)
            made = [self._varied(space, parent, problem.seeds(1)) for parent in islice(turns, rows)]
            yield Job(State.cat(made), space.end, transition=steps)

    def _varied(self, space: NoiseSpace, parent: State, seeds: Sequence[int]) -> State:
        return space.branch(parent, seeds) if parent.step else space.neighbour(parent, seeds, self.cosine)

    def _start(self, space: NoiseSpace) -> int:
        """The grid point at which variations begin."""
        if self.move != "branch":
            return 0
        wanted = min(max(round(self.leave * space.end), 1), space.end - 1)
        return next(at for at in range(wanted, -1, -1) if not any(_passed_over(one, at) for one in self.of))

    def describe(self, terms: Terms) -> dict[str, Any]:
        """What it makes of how many, as plain JSON; refuses what couldn't be made."""
        start, end = self._start(terms.space), terms.space.end
        grids = {op["grid"] for one in self.of for op in one.operations if "grid" in op}
        if start and not terms.model.can_mix:
            raise ValueError(
                f"move='branch' needs fresh noise on the way, and {terms.model.name} takes its own steps alone: "
                "take move='neighbour'"
            )
        if start and (strange := grids - {terms.space.id}):
            raise ValueError(
                f"move='branch' runs recipes of grid {min(strange)} again, and this search has grid {terms.space.id}: "
                "give the settings that they were made with, or take move='neighbour'"
            )
        spent = sum(sum(to - op["from"] for op, to in _way(one, start) if op["op"] == "run") for one in self.of)
        least = spent + end - start
        if terms.nfe_total < least:
            raise ValueError(f"{terms.nfe_total} NFE don't suffice for one variation: give {least} or more")
        made = (terms.nfe_total - spent) // (end - start)
        made = min(made, len(self.of)) if self.move == "again" else made
        return {"variations": made, "of": len(self.of), "move": self.move, "start": start, "steps": end}


def _way(recipe: Recipe, stop: int) -> list[tuple[Operation, int]]:
    """The operations behind its noise that bring a row to a grid point for the last time, and where each leads."""
    operations = recipe.operations[len(recipe.noise) :] if stop else ()
    runs = [at for at, op in enumerate(operations) if op["op"] == "run"]
    last = max((at for at in runs if operations[at]["from"] < stop <= operations[at]["to"]), default=len(operations))
    way = [(op, int(op.get("to", 0))) for op in operations[: last + 1]]
    if last == len(operations):  # it ended before, as what a search has pruned: it goes on as the model does
        return way
    return [*way[:-1], (way[-1][0], stop)]


def _passed_over(recipe: Recipe, point: int) -> bool:
    """Whether a grid point lies within one of a recipe's transitions."""
    way = _way(recipe, point)
    op = way[-1][0] if way else {}
    if "inner" not in op or not op["from"] < point < op["to"]:
        return False
    return bool((point - op["from"]) % (op.get("stride") or op["inner"]))


def _retraced(problem: Problem, recipe: Recipe, stop: int) -> Generator[Job, list[Evaluation], State]:
    """A recipe's row at a grid point, by the very moves and steps that made it; at 0 its noise."""
    condition = problem.fresh(seeds=[0]).conditions[0]
    state = problem.space.noise(recipe.noise, condition)
    for op, to in _way(recipe, stop):
        if op["op"] == "run":
            (found,) = yield Job(state, to, score=False, transition=recorded_in(op))
            state = found.states
        else:
            state = problem.space.move(state, op)
    if state.step < stop:
        (found,) = yield Job(state, stop, score=False)
        state = found.states
    return state
