"""`NoiseSpace`: every way to make noise for one grid. No model inside, so nothing here costs an NFE."""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from samplers.recipe import Operation, Recipe
from samplers.repair import repaired
from samplers.state import State
from samplers.transition import Transitions, evaluations

Row = Float[Tensor, " *latent"]
Mask = Bool[Tensor, "height width"]
Matrix = Float[Tensor, "size size"]


@dataclass(frozen=True)
class NoiseSpace:
    """The grid x_t = alpha_t x0 + sigma_t n and the noises over it, each from explicit seeds, each recorded.

    `fresh` is drawn in float32; moves derived from other rows are computed on the CPU in float64 and cast
    once. The noise of a move is keyed by (operation, seed): it depends on no batch, no order and no device.

    Attributes:
        shape: of one row, in the layout in which the pipeline draws noise.
        axes: the name of each axis of `shape`, e.g. ("channel", "height", "width").
        alphas: signal scale at each of the `end + 1` grid points, from noise to clean.
        sigmas: noise scale at each of them.
        before: shapes of what a pipeline draws from a seed's generator before its noise, in their order (the sample of
            an encoded image, where it starts from one).

    Example:
        >>> axes = ("channel", "height", "width")
        >>> space = NoiseSpace((4, 8, 8), axes, alphas=(0.0, 0.5, 1.0), sigmas=(1.0, 0.5, 0.0))
        >>> space.end, space.neighbour(space.fresh([0]), seeds=[1, 2, 3], cosine=0.95).x.shape
        (2, torch.Size([3, 4, 8, 8]))
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    before: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"axes {self.axes} must name each axis of shape {self.shape}")
        if len(self.alphas) != len(self.sigmas) or len(self.alphas) < 2:
            raise ValueError(f"need two or more alphas and as many sigmas, got {len(self.alphas)}, {len(self.sigmas)}")
        levels = [self.noise_level(i) for i in range(len(self.alphas))]
        if any(later > earlier for earlier, later in pairwise(levels)):
            raise ValueError(f"noise levels sigma/(alpha+sigma) must not rise along a grid, got {levels}")

    @property
    def end(self) -> int:
        """The index of the clean end: the number of denoiser evaluations of a whole run."""
        return len(self.alphas) - 1

    @cached_property
    def id(self) -> str:
        """A short hash of shape and grid; the same on every machine (six digits of each coefficient)."""
        points = [f"{v:.6g}" for v in (*self.alphas, *self.sigmas)]
        told = [self.shape, points, *([self.before] if self.before else [])]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]

    def noise_level(self, step: int) -> float:
        """sigma / (alpha + sigma) at a grid point: 1 is pure noise, 0 is clean."""
        alpha, sigma = self.alphas[step], self.sigmas[step]
        return sigma / (alpha + sigma)

    def cost(self, start: int, stop: int, transition: Transitions = None) -> int:
        """NFE of one row from one grid point to a later one."""
        return evaluations(start, stop, transition)

    def fresh(self, seeds: Sequence[int], condition: int = 0) -> State:
        """One N(0, 1) row per seed: what `pipe(generator=torch.Generator().manual_seed(seed))` draws.

        torch's CPU generator keeps the low 32 bits of a seed, so take seeds below 2**32 to be sure they
        differ.
        """
        seeds = _checked(seeds)
        drawn = [seeded_noise(s, self.shape, self.before) for s in seeds]
        x = torch.stack(drawn) if drawn else torch.empty(0, *self.shape)
        recipes = tuple(Recipe.start("fresh", seed=s) for s in seeds)
        return State(x, 0, None, recipes, (condition,) * len(seeds), self.id)

    def neighbour(self, state: State, seeds: Sequence[int], cosine: float) -> State:
        """Noises at an exact cosine to their pivots, with exactly their norms (Ma et al., 2025, 2501.09732).

        A uniformly random direction orthogonal to the pivot; `cosine` 1 returns the pivot. One row with
        several seeds gives that many neighbours of it. Raises ValueError for states past step 0 or a cosine
        outside [-1, 1].
        """
        if not -1 <= cosine <= 1:
            raise ValueError(f"cosine must be in [-1, 1], got {cosine}")

        def turn(pivot: Row, noise: Row) -> Row:
            if cosine == 1:
                return pivot
            direction: Row = noise - (noise * pivot).sum() / (pivot * pivot).sum() * pivot
            direction = direction * (torch.linalg.vector_norm(pivot) / torch.linalg.vector_norm(direction))
            return cosine * pivot + math.sqrt(1 - cosine**2) * direction

        return self._derive(state, seeds, turn, "neighbour", {"cosine": float(cosine)})

    def pcn(self, state: State, seeds: Sequence[int], beta: float) -> State:
        """Preconditioned Crank-Nicolson: y = sqrt(1 - beta^2) x + beta e, e ~ N(0, I); `beta` 1 is fresh.

        Leaves N(0, I) invariant. Raises ValueError for states past step 0 or a beta outside [0, 1].
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1], got {beta}")

        def mix(row: Row, noise: Row) -> Row:
            return math.sqrt(1 - beta**2) * row + beta * noise

        return self._derive(state, seeds, mix, "pcn", {"beta": float(beta)})

    def mean(self, parents: Sequence[State], weights: Sequence[float] | None = None) -> State:
        """The weighted mean of noises, back on the Gaussian shell: row i is made of row i of every parent.

        y = s sum_k w_k x_k, with s such that |y| is the weighted mean of the norms |x_k|; a plain mean of independent
        noises would lie far inside, where no noise does. The direction of y is uniform where those of the parents are
        and they are independent; norms vary less than a Gaussian's. A parent of one row goes with every row of the
        others; prompts are the first's. Equal weights when None.

        Raises ValueError for states past step 0 or of noises that went through a grid, other numbers of rows, weights
        that are negative, all 0 or not one for each parent, and noises that cancel each other.
        """
        if not parents:
            raise ValueError("mean needs at least one parent, got none")
        given = [1.0] * len(parents) if weights is None else [float(weight) for weight in weights]
        if len(given) != len(parents) or not all(0 <= one < math.inf for one in given) or sum(given) == 0:
            raise ValueError(f"weights must be {len(parents)} numbers from 0, one for each parent, got {given}")

        def blend(rows: list[Row]) -> Row:
            norms = [float(torch.linalg.vector_norm(row)) for row in rows]
            norm = sum(weight * one for weight, one in zip(given, norms, strict=True)) / sum(given)
            total: Row = torch.stack([weight * row for weight, row in zip(given, rows, strict=True)]).sum(0)
            length = float(torch.linalg.vector_norm(total))
            if length <= 1e-6 * norm * sum(given):
                raise ValueError("the parents of a mean cancel each other: nothing is left to bring back to their norm")
            return total * (norm / length)

        rows = max(map(len, parents))
        parents = [one[[0] * rows] if len(one) == 1 else one for one in parents]
        return self._combine("mean", parents, [({"weights": given}, blend)] * rows)

    def crossover(
        self, first: State, second: State, seeds: Sequence[int], by: str = "region", share: float = 0.5
    ) -> State:
        """The first noises with a part of the second's in its place, Gaussian where both are and are independent.

        `by` "region" takes a rectangle of the canvas, the same in all channels and frames, whose area is about `share`
        of it; its aspect and place are drawn from the seed. "band" takes about `share` of the coefficients of an
        orthonormal DCT-II over height and width, those of the lowest frequencies in cycles per latent pixel; its seed
        names the row, and nothing is drawn from it. Redrawing a region or a band of a noise is crossing it with a fresh
        one. `share` 0 returns the first and 1 the second. One row goes with several seeds; prompts are the first's.

        Raises ValueError for states past step 0 or of noises that went through a grid, other numbers of rows, another
        `by`, a share outside [0, 1], or a space without axes named height and width.
        """
        if by not in ("region", "band"):
            raise ValueError(f"by must be 'region' or 'band', got {by!r:.40}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], got {share}")
        if not {"height", "width"} <= set(self.axes):
            raise ValueError(f"crossover needs axes named height and width, this space has {', '.join(self.axes)}")
        (first, plain), (second, _) = _paired(first, seeds), _paired(second, seeds)
        axes = self.axes.index("height"), self.axes.index("width")
        height, width = (self.shape[axis] for axis in axes)

        def crossed(rows: list[Row], seed: int) -> Row:
            one, other = (row.movedim(axes, (-2, -1)) for row in rows)
            if by == "region":
                mixed = torch.where(_rectangle(f"crossover:{seed}", height, width, share), other, one)
            else:
                down, across = _cosines(height), _cosines(width)
                apart = torch.where(_low(height, width, share), down @ (other - one) @ across.T, 0.0)
                mixed = one + down.T @ apart @ across
            return mixed.movedim((-2, -1), axes)

        made = [({"seed": s, "by": by, "share": float(share)}, partial(crossed, seed=s)) for s in plain]
        return self._combine("crossover", [first, second], made)

    def repair(self, state: State) -> State:
        """The nearest noises whose spectra are as white as white noise's (WGNC, arXiv 2602.08646): `samplers.repair`.

        For noises that were averaged, crossed or moved until they look like none: they come back to the Gaussian shell
        in every block of frequencies, of which `mean` looks at their norm alone. Nothing is drawn, and what is repaired
        already stays. Raises ValueError for states past step 0, and for noises that have no nearest one, such as
        constants.
        """
        self._check(state)
        _check_noise("repair", state)
        rows = [torch.from_numpy(repaired(row.cpu().double().numpy())).float() for row in state.x]
        x = torch.stack(rows).to(state.x.device) if rows else state.x
        return replace(state, x=x, x0=None, recipes=tuple(recipe.then("repair") for recipe in state.recipes))

    def renoise(self, state: State, to: int, seeds: Sequence[int]) -> State:
        """The exact forward kernel from `state.step` back to the noisier grid point `to`.

        x_u = r x_s + sqrt(sigma_u^2 - r^2 sigma_s^2) e with r = alpha_u / alpha_s; the marginal of x_u is the
        grid's. Over no time, `to == state.step`, it adds no noise, and only the random stream is new: a `branch`.
        Raises ValueError for a cleaner `to`.
        """
        self._check(state)
        if not 0 <= to <= state.step:
            raise ValueError(f"renoise goes back to a grid point in [0, {state.step}] (the state's step), got {to}")
        if to == state.step:
            return self.branch(state, seeds)
        ratio = self.alphas[to] / self.alphas[state.step] if self.alphas[to] else 0.0
        spread = math.sqrt(max(self.sigmas[to] ** 2 - (ratio * self.sigmas[state.step]) ** 2, 0.0))

        def forward(row: Row, noise: Row) -> Row:
            return ratio * row + spread * noise

        fields: dict[str, Any] = {"from": state.step, "to": to, "grid": self.id}
        moved = self._derive(state, seeds, forward, "renoise", fields)
        return replace(moved, step=to, x0=None)

    def branch(self, state: State, seeds: Sequence[int]) -> State:
        """The same rows with new random streams: how to fork where steps are stochastic. Changes no x."""
        self._check(state)
        state, seeds = _paired(state, seeds)
        recipes = tuple(r.then("branch", seed=s) for r, s in zip(state.recipes, seeds, strict=True))
        return replace(state, recipes=recipes)

    def move(self, state: State, operation: Operation) -> State:
        """The rows moved as an operation of a recipe says. Raises ValueError for one that moves no noise."""
        name = operation["op"]
        if name == "repair":
            return self.repair(state)
        seeds = [operation["seed"]] * len(state)
        if name == "neighbour":
            return self.neighbour(state, seeds, float(operation["cosine"]))
        if name == "pcn":
            return self.pcn(state, seeds, float(operation["beta"]))
        if name == "renoise":
            return self.renoise(state, operation["to"], seeds)
        if name == "branch":
            return self.branch(state, seeds)
        raise ValueError(f"{name} moves no noise; expected neighbour, pcn, repair, renoise or branch")

    def join(self, parents: Sequence[State], operation: Operation) -> State:
        """The rows combined as an operation of a recipe says. Raises ValueError for one that combines no noises."""
        if operation["op"] == "mean":
            return self.mean(parents, operation["weights"])
        if operation["op"] == "crossover":
            first, second = parents
            seeds = [operation["seed"]] * len(first)
            return self.crossover(first, second, seeds, operation["by"], float(operation["share"]))
        raise ValueError(f"{operation['op']} combines no noises; expected mean or crossover")

    def noise(self, recipe: Recipe, condition: int = 0) -> State:
        """A step-0 noise made again from its recipe, one row. Raises ValueError for a recipe that runs a model."""
        operations = recipe.operations
        if recipe.grid_bound or any((op["op"] == "fresh") == bool(op.parents) for op in operations):
            raise ValueError(f"a noise starts from fresh ones and belongs to no grid, got {recipe!r:.200}")
        last_use = {parent: index for index, op in enumerate(operations) for parent in op.parents}
        made: dict[int, State] = {}
        for index, op in enumerate(operations):
            parents = [made[at] for at in op.parents]
            if not parents:
                made[index] = self.fresh([op["seed"]], condition)
            else:
                made[index] = self.join(parents, op) if "parents" in op else self.move(parents[0], op)
            for at in {at for at in op.parents if last_use[at] == index}:
                del made[at]
        return made[len(operations) - 1]

    def adopt(self, state: State) -> State:
        """Step-0 noises of another grid, over this one: pure noise belongs to no grid. Recipes stay the same.

        Raises ValueError for a later step, another shape, or a noise whose recipe passes through a grid.
        """
        if state.step != 0 or tuple(state.x.shape[1:]) != self.shape:
            raise ValueError(
                f"adopt takes step-0 noises of shape {self.shape}, got step {state.step}, shape "
                f"{tuple(state.x.shape[1:])}"
            )
        _check_unbound("adopt", state)
        return replace(state, x0=None, grid=self.id)

    def _derive(
        self, state: State, seeds: Sequence[int], move: Callable[[Row, Row], Row], op: str, fields: dict[str, Any]
    ) -> State:
        """Apply `move(row, its noise)` row by row in float64, and record it."""
        self._check(state)
        if op != "renoise":
            _check_noise(op, state)
        state, seeds = _paired(state, seeds)
        rows = [
            move(row, keyed_noise(f"{op}:{seed}", self.shape).double())
            for row, seed in zip(state.x.cpu().double(), seeds, strict=True)
        ]
        x = torch.stack(rows).to(torch.float32).to(state.x.device) if rows else state.x
        recipes = tuple(r.then(op, seed=s, **fields) for r, s in zip(state.recipes, seeds, strict=True))
        return replace(state, x=x, x0=None, recipes=recipes)

    def _combine(
        self, op: str, parents: Sequence[State], made: Sequence[tuple[dict[str, Any], Callable[[list[Row]], Row]]]
    ) -> State:
        """Rows of several parents, each recorded with its fields and made of the parents' rows in float64."""
        for state in parents:
            self._check(state)
            if state.step != 0:
                raise ValueError(f"{op} combines step-0 noises, got a state at step {state.step}")
            _check_unbound(op, state)
        if any(len(state) != len(made) for state in parents):
            found = ", ".join(str(len(state)) for state in parents)
            raise ValueError(f"{op} needs parents of as many rows each, or of one, got {found}")
        columns = [state.x.cpu().double() for state in parents]
        rows = [make([column[i] for column in columns]) for i, (_, make) in enumerate(made)]
        x = torch.stack(rows).to(torch.float32).to(parents[0].x.device) if rows else parents[0].x
        recipes = tuple(
            Recipe.join([state.recipes[i] for state in parents], op, **fields) for i, (fields, _) in enumerate(made)
        )
        return replace(parents[0], x=x, x0=None, recipes=recipes)

    def _check(self, state: State) -> None:
        if state.grid != self.id:
            raise ValueError(f"the state belongs to grid {state.grid}, this space is {self.id}: use the sampler's own")


def _checked(seeds: Sequence[Any]) -> list[int]:
    """Seeds as plain ints in torch's range; numpy integers are accepted, floats and bools are not."""
    plain = [operator.index(s) for s in seeds if not isinstance(s, bool)]
    if len(plain) != len(seeds) or any(not 0 <= s < 2**63 for s in plain):
        raise ValueError(f"seeds must be integers in [0, 2**63), got {list(seeds)}")
    return plain


def _check_noise(op: str, state: State) -> None:
    if state.step != 0:
        raise ValueError(f"{op} moves step-0 noises, got a state at step {state.step}: renoise it to 0 first")


def _check_unbound(op: str, state: State) -> None:
    """Raise ValueError for noises that went through a grid: they hold some of an image."""
    bound = sorted({name for recipe in state.recipes for name in recipe.grid_bound})
    if bound:
        raise ValueError(f"{op} takes noises that belong to no grid, got recipes with {', '.join(bound)}")


def _paired(state: State, seeds: Sequence[int]) -> tuple[State, list[int]]:
    """One row per seed: rows as they are, or one row repeated. ValueError for any other lengths."""
    plain = _checked(seeds)
    if len(state) == 1 and len(plain) != 1:
        state = state[[0] * len(plain)]
    if len(state) != len(plain):
        raise ValueError(f"need one seed per row (or one row for all seeds), got {len(state)} rows, {len(plain)} seeds")
    return state, plain


def seeded_noise(seed: int, shape: Sequence[int], before: Sequence[Sequence[int]] = ()) -> Float[Tensor, " *latent"]:
    """N(0, 1) noise as diffusers draws it for one image from `torch.Generator().manual_seed(seed)`.

    Draws of the shapes `before` it come first. torch's CPU generator keeps the low 32 bits of a seed: `seed` and
    `seed + 2**32` give the same noise.
    """
    generator = torch.Generator().manual_seed(seed)
    for earlier in before:
        torch.randn(tuple(earlier), generator=generator)
    return torch.randn((1, *shape), generator=generator, dtype=torch.float32)[0]


def keyed_noise(key: str, shape: Sequence[int]) -> Float[Tensor, " *latent"]:
    """N(0, 1) noise that depends on `key` alone, and never coincides with `seeded_noise`.

    Philox takes 128 bits of the key's sha256 where torch's CPU generator would keep 32, and its float32
    normals are the same on every machine.
    """
    drawn = _keyed(key).standard_normal(math.prod(shape), dtype=np.float32)
    return torch.from_numpy(drawn).reshape(tuple(shape))


def _keyed(key: str) -> np.random.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def _rectangle(key: str, height: int, width: int, share: float) -> Mask:
    """True in a rectangle of about `share` of the area: of share^u of the height, u uniform in [0, 1], at any place."""
    tall, top, left = _keyed(key).random(3)
    rows = max(round(share**tall * height), 1 if share else 0)
    columns = min(round(share * height * width / rows), width) if rows else 0
    first_row, first_column = int(top * (height - rows + 1)), int(left * (width - columns + 1))
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[first_row : first_row + rows, first_column : first_column + columns] = True
    return mask


def _low(height: int, width: int, share: float) -> Mask:
    """True at the lowest (i / height)^2 + (j / width)^2, a `share` of all and whatever equals the highest of them."""
    down, across = torch.arange(height) * width, torch.arange(width) * height
    squares = down[:, None] ** 2 + across**2
    count = round(share * height * width)
    return squares <= (squares.flatten().sort().values[count - 1] if count else -1)


def _cosines(size: int) -> Matrix:
    """The orthonormal DCT-II: coefficients of a column are this times it."""
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * frequency * (place + 0.5)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def step_noise(streams: Sequence[str], step: int, shape: Sequence[int]) -> Float[Tensor, " batch *latent"]:
    """The fresh noise of a stochastic step that starts at grid point `step`, one row per stream."""
    return torch.stack([keyed_noise(f"step:{stream}:{step}", shape) for stream in streams])


def sent(noise: Tensor, device: torch.device) -> Tensor:
    """A noise of the CPU on a device, without waiting for what that is doing."""
    return noise.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else noise.to(device)


SAME = 1e-3
"""Levels this close are one grid point."""


def check_points(points: Sequence[int], end: int) -> tuple[int, ...]:
    """Points of a grid at which a model is evaluated; ValueError unless they rise from 0 to below its end."""
    found = tuple(operator.index(point) for point in points)
    if not found or found[0] != 0 or found[-1] >= end or any(b <= a for a, b in pairwise(found)):
        raise ValueError(f"steps that are evaluated must rise from 0 to below the {end} of the grid, got {list(found)}")
    return found


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Noise levels sigma / (alpha + sigma) as floats, sorted; ValueError unless all are in (0, 1)."""
    found = tuple(sorted({float(v) for v in levels}, reverse=True))
    outside = [v for v in found if not 0 < v < 1]
    if outside:
        raise ValueError(f"levels must be noise levels sigma / (alpha + sigma) in (0, 1), got {outside}")
    return found
