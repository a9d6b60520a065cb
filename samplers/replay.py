"""Replay: make a row again from its recipe alone, by the very moves and steps that made it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from samplers.base import Run, Sampler
from samplers.recipe import Operation, Recipe
from samplers.space import NoiseSpace
from samplers.state import State

FIELDS = {
    "fresh": {"seed"},
    "neighbour": {"seed", "cosine"},
    "pcn": {"seed", "beta"},
    "branch": {"seed"},
    "renoise": {"seed", "from", "to", "grid"},
    "run": {"from", "to", "grid", "rho"},
}
"""The operations that can be replayed, and what each says besides `op`, `v` and `parent`."""


@dataclass(frozen=True)
class Replayed:
    """A row made again.

    Attributes:
        noise: its pure noise, before the first run.
        state: one row, where its recipe ends.
        nfe: denoiser evaluations that took: the lengths of its runs.
        kept: the row at the grid points of its last run that were asked for.
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
    """NFE of a recipe: the lengths of its runs."""
    return sum(op["to"] - op["from"] for op in recipe.operations if op["op"] == "run")


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
        keep: grid points on the way of the last run, which must end the recipe, whose states come back too.

    Raises:
        ValueError: the recipe is not well formed over these grids (nothing has been run then), or the sampler takes
            its steps with another eta.
    """
    check_recipe(recipe, spaces)
    _check_eta(recipe, sampler)
    by_id = {space.id: space for space in spaces}
    # Pure noise belongs to no grid, so it may be made on the one it runs on.
    space = by_id[next((op["grid"] for op in recipe.operations if "grid" in op), spaces[0].id)]
    first, *rest = recipe.operations
    state = noise = space.fresh([first["seed"]], condition)
    ran = False
    kept: Mapping[int, State] = {}
    for index, op in enumerate(rest, 1):
        ran = ran or op["op"] == "run"
        if op["op"] == "run":
            done = _run(sampler, state, op, keep if index == len(rest) else ())
            state, kept = done.final, done.kept
        else:
            state = space.move(state, op)
        noise = noise if ran else state
    return Replayed(noise, state, cost(recipe), kept)


def check_recipe(recipe: Recipe, spaces: Sequence[NoiseSpace]) -> None:
    """Raise ValueError, naming the operation, unless the recipe is a chain of known operations over these grids."""
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


def check_operations(recipe: Recipe) -> None:
    """Raise ValueError, naming the operation, unless each is known, goes on from the one before it, and is complete."""
    for index, op in enumerate(recipe.operations):
        _check_fields(f"operation {index} of the recipe ({op['op']:.40})", index, op)


def _check_eta(recipe: Recipe, sampler: Sampler) -> None:
    """Refuse a recipe whose steps had another eta than the sampler's, before anything is run."""
    own = sampler.describe().get("eta")
    other = [op for op in recipe.operations if op["op"] == "run" and op["rho"] is None and op["eta"] != own]
    if other:
        raise ValueError(
            f"the recipe ran with {_how(other[0])}, this sampler takes its steps with eta = {own}: "
            "set it up as recorded"
        )


def _check_fields(name: str, index: int, op: Operation) -> None:
    if op["op"] not in FIELDS:
        raise ValueError(f"{name} is unknown; this version replays {', '.join(FIELDS)}")
    if (op["op"] == "fresh") != (index == 0):
        raise ValueError(f"{name} is out of place: a recipe starts from one fresh noise, and nothing else does")
    if index and op.get("parent") != index - 1:
        raise ValueError(f"{name} goes on from operation {op.get('parent')}; expected the one before it, {index - 1}")
    expected = FIELDS[op["op"]] | ({"eta"} if op["op"] == "run" and op.get("rho", 1) is None else set())
    found = set(op) - {"op", "v", "parent"}
    if found != expected:
        raise ValueError(
            f"{name} has {', '.join(sorted(found))[:80] or 'nothing'}; expected {', '.join(sorted(expected))}"
        )
    for key in expected - {"grid"}:
        kinds = int if key in ("seed", "from", "to") else int | float
        value = op[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            if key == "rho" and value is None:
                continue
            raise ValueError(f"{name} has {key} = {value!r:.40}; expected a {'whole ' if kinds is int else ''}number")


def _run(sampler: Sampler, state: State, op: Operation, keep: Sequence[int]) -> Run:
    # A sampler of whole runs may refuse any rho; 1 is what it does by itself.
    whole = not sampler.can_stop and op["rho"] == 1
    rho = None if whole or op["rho"] is None else float(op["rho"])
    run = sampler.run(state, op["to"], rho=rho, keep=keep)
    done = run.final.recipes[0].operations[-1]
    if (done["rho"], done.get("eta")) != (op["rho"], op.get("eta")):
        raise ValueError(
            f"the recipe ran with {_how(op)}, this sampler takes its steps with {_how(done)}: set it up as recorded"
        )
    return run


def _how(run: Operation) -> str:
    return f"eta = {run['eta']}" if run["rho"] is None else f"rho = {run['rho']}"
