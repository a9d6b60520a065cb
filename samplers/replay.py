"""Replay: make a row again from its recipe alone, by the very moves and steps that made it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from samplers.base import Sampler
from samplers.recipe import Operation, Recipe
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import evaluations, recorded_in

FIELDS: dict[str, set[str]] = {
    "fresh": {"seed"},
    "neighbour": {"seed", "cosine"},
    "pcn": {"seed", "beta"},
    "mean": {"weights"},
    "crossover": {"seed", "by", "share"},
    "repair": set(),
    "branch": {"seed"},
    "renoise": {"seed", "from", "to", "grid"},
    "run": {"from", "to", "grid", "rho"},
}
"""The operations that can be replayed, and what each says besides `op`, `v` and `parent` or `parents`."""

SEVERAL = ("mean", "crossover")
"""Those of several parents."""

KINDS = {"by": (str, "a text"), "weights": (tuple, "a list of numbers")} | dict.fromkeys(
    ("seed", "from", "to", "inner", "stride"), (int, "a whole number")
)
"""What they say it with, where that is not a number."""


@dataclass(frozen=True)
class Replayed:
    """A row made again.

    Attributes:
        noise: its pure noise, before the first run.
        state: one row, where its recipe ends.
        nfe: denoiser evaluations that its runs took.
        kept: the row at the grid points of the runs that end its recipe that were asked for.
    """

    noise: State
    state: State
    nfe: int
    kept: Mapping[int, State] = field(default_factory=dict)

    @property
    def noise_sha256(self) -> str:
        """The sha256 of the noise's float32 bytes, in hexadecimal."""
        return hashlib.sha256(self.noise.x.cpu().contiguous().numpy().tobytes()).hexdigest()


def cost(recipe: Recipe) -> int:
    """NFE of a recipe: what its runs take."""
    return sum(evaluations(op["from"], op["to"], recorded_in(op)) for op in recipe.operations if op["op"] == "run")


def keyed(recipe: Recipe) -> bool:
    """Whether noise other than the first draw enters a row: by moves, or by stochastic steps."""
    return any(op["op"] not in ("fresh", "run") or op.get("rho", 1) != 1 for op in recipe.operations)


def replay(
    sampler: Sampler, recipe: Recipe, spaces: Sequence[NoiseSpace], condition: int = 0, keep: Sequence[int] = ()
) -> Replayed:
    """Execute a recipe as a batch of one row.

    Args:
        sampler: the model that the recipe ran on.
        recipe: what to make again.
        spaces: of `sampler.space(...)`, every grid that the recipe names; a recipe of noise alone gets the first.
        condition: of `sampler.condition(prompt)`.
        keep: grid points on the way of the runs that end the recipe, whose states come back too.

    Raises:
        ValueError: the recipe is not well formed over these grids (nothing has been run then), or the sampler takes
            its steps in its own way alone, and the recipe's were others.
    """
    check_recipe(recipe, spaces)
    _check_own(recipe, sampler)
    by_id = {space.id: space for space in spaces}
    # Pure noise belongs to no grid, so it may be made on the one it runs on.
    space = by_id[next((op["grid"] for op in recipe.operations if "grid" in op), spaces[0].id)]
    drawn, ending = len(recipe.noise), len(recipe.before_runs)
    state = noise = space.noise(recipe.noise, condition)
    kept: dict[int, State] = {}
    for index, op in enumerate(recipe.operations[drawn:], drawn):
        if op["op"] == "run":
            left = [k for k in keep if k not in kept and (k <= op["to"] or index == len(recipe) - 1)]
            transition = recorded_in(op) if sampler.can_mix else None
            run = sampler.run(state, op["to"], transition=transition, keep=left if index >= ending else ())
            state = run.final
            kept.update(run.kept)
        else:
            state = space.move(state, op)
    return Replayed(noise, state, cost(recipe), kept)


def check_recipe(recipe: Recipe, spaces: Sequence[NoiseSpace]) -> None:
    """Raise ValueError, naming the operation, unless known operations make a noise, and a chain of them runs it.

    Several parents are noises that ran on no grid, so a row has one step and one grid wherever it is.
    """
    check_operations(recipe)
    by_id = {space.id: space for space in spaces}
    at, grid = 0, None
    for index, op in enumerate(recipe.operations):
        name = f"operation {index} of the recipe ({op['op']})"
        if "grid" in op:
            if op["grid"] not in by_id:
                known = ", ".join(f"{g} ({s.end} steps)" for g, s in by_id.items())
                raise ValueError(f"{name} belongs to grid {op['grid']}, and there is only {known}: use its settings")
            if grid not in (None, op["grid"]):
                raise ValueError(f"{name} goes on from grid {grid} on grid {op['grid']}: a row keeps its grid")
            grid = op["grid"]
            end = by_id[grid].end
            allowed = range(at + 1, end + 1) if op["op"] == "run" else range(at)
            if op["from"] != at or op["to"] not in allowed:
                raise ValueError(f"{name} goes from {op['from']} to {op['to']}, the row is at {at} of {end} steps")
            at = op["to"]
        elif at > 0 and op["op"] != "branch":
            raise ValueError(f"{name} makes or moves pure noise, the row is at step {at}")
        elif grid is not None and "parents" in op:
            raise ValueError(f"{name} combines noises that belong to no grid, and one of them ran on grid {grid}")


def check_operations(recipe: Recipe) -> None:
    """Raise ValueError, naming the operation, unless each is known, has the parents that it needs, and is complete."""
    for index, op in enumerate(recipe.operations):
        _check_fields(f"operation {index} of the recipe ({op['op']:.40})", op)


def _check_own(recipe: Recipe, sampler: Sampler) -> None:
    """Refuse a recipe whose steps had fresh noise where the sampler takes no transition, before anything is run."""
    other = [op for op in recipe.operations if op["op"] == "run" and op["rho"] != 1]
    if other and not sampler.can_mix:
        raise ValueError(
            f"the recipe ran with {recorded_in(other[0])}, and this sampler takes its own steps alone "
            f"({sampler.limitation}): set it up as recorded"
        )


def _check_fields(name: str, op: Operation) -> None:
    if op["op"] not in FIELDS:
        raise ValueError(f"{name} is unknown; this version replays {', '.join(FIELDS)}")
    if (op["op"] == "fresh") != (not op.parents):
        raise ValueError(f"{name} is out of place: a recipe starts from fresh noises, and nothing else does")
    if op["op"] in SEVERAL and "parents" not in op:
        raise ValueError(f"{name} has one parent; expected a list of parents")
    if op["op"] not in SEVERAL and "parents" in op:
        raise ValueError(f"{name} has a list of parents; expected one parent")
    if op["op"] == "crossover" and len(op.parents) != 2:
        raise ValueError(f"{name} has {len(op.parents)} parents; expected 2")
    expected = FIELDS[op["op"]] | (_transition_fields(op) if op["op"] == "run" else set())
    found = set(op) - {"op", "v", "parent", "parents"}
    if found != expected:
        raise ValueError(
            f"{name} has {', '.join(sorted(found))[:80] or 'nothing'}; expected {', '.join(sorted(expected))}"
        )
    for key in expected - {"grid"}:
        kind, words = KINDS.get(key, (int | float, "a number"))
        value = op[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            if key == "rho" and value is None:
                continue
            raise ValueError(f"{name} has {key} = {value!r:.40}; expected {words}")
        if key in ("rho", "eta") and not 0 <= value <= 1:
            raise ValueError(f"{name} has {key} = {value!r:.40}; expected a number in [0, 1]")
        if key in ("inner", "stride") and value < 1:
            raise ValueError(f"{name} has {key} = {value!r:.40}; expected at least 1")
        if key == "inner" and op["rho"] == 1:
            raise ValueError(f"{name} has inner = {value!r:.40} and rho = 1; expected a rho below 1")
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in op.get("weights", ())):
        raise ValueError(f"{name} has weights = {op['weights']!r:.40}; expected a list of numbers")


def _transition_fields(run: Operation) -> set[str]:
    """What a run says of its transition besides rho: eta where there is no rho, `Glass` how it is taken."""
    if run.get("rho", 1) is None:
        return {"eta"}
    return {"inner", "stride"} & {*run} if "inner" in run else set()
