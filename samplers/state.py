"""`State`: a batch of trajectories at one point of one grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.recipe import Recipe


@dataclass(frozen=True, eq=False)
class State:
    """A batch of trajectories at one grid point. To fork a deterministic row is to index.

    Attributes:
        x: float32, in the layout in which the pipeline draws its noise (unpacked). Never written to.
        step: the grid point, 0 (pure noise) to `space.end` (clean).
        x0: the x0 prediction of the last denoiser evaluation that led here (made at `step - 1`), float32;
            None where there was none (step 0, after `renoise`).
        recipes: one per row: how to regenerate it.
        conditions: one per row: the index that `Sampler.condition` returned for its prompt.
        grid: the id of the `NoiseSpace`; states of different grids do not mix.

    Example:
        >>> pivot = space.fresh([0])
        >>> both = State.cat([pivot, space.neighbour(pivot, [1], cosine=0.95)])
        >>> len(both), len(both[[1]])
        (2, 1)
    """

    x: Float[Tensor, " batch *latent"]
    step: int
    x0: Float[Tensor, " batch *latent"] | None
    recipes: tuple[Recipe, ...]
    conditions: tuple[int, ...]
    grid: str

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        rows = len(self.x)
        if not len(self.recipes) == len(self.conditions) == rows or (self.x0 is not None and len(self.x0) != rows):
            raise ValueError(
                f"a State needs one recipe, condition (and x0) per row of x: got {rows} rows, "
                f"{len(self.recipes)} recipes, {len(self.conditions)} conditions, "
                f"{None if self.x0 is None else len(self.x0)} x0"
            )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.recipes)

    def __getitem__(self, rows: int | slice | Sequence[int]) -> "State":
        """The rows asked for, as a State; an int gives a State of one row. Rows may repeat (a fork)."""
        if isinstance(rows, slice):
            index = list(range(len(self))[rows])
        else:
            index = [range(len(self))[i] for i in ([rows] if isinstance(rows, int) else rows)]
        at = torch.tensor(index, dtype=torch.long, device=self.x.device)
        return replace(
            self,
            x=self.x[at],
            x0=None if self.x0 is None else self.x0[at],
            recipes=tuple(self.recipes[i] for i in index),
            conditions=tuple(self.conditions[i] for i in index),
        )

    @staticmethod
    def cat(states: Sequence["State"]) -> "State":
        """Join states of one grid point into one batch, on the device of the first.

        `x0` survives only where every part has one. Raises ValueError for no states, or another step or grid.
        """
        if not states:
            raise ValueError("State.cat needs at least one state, got none")
        if len({(s.step, s.grid) for s in states}) > 1:
            found = sorted({(s.step, s.grid) for s in states})
            raise ValueError(f"State.cat joins states of one step of one grid, got (step, grid) {found}")
        first = states[0]
        x0s = [s.x0.to(first.x.device) for s in states if s.x0 is not None]
        return replace(
            first,
            x=torch.cat([s.x.to(first.x.device) for s in states]),
            x0=torch.cat(x0s) if len(x0s) == len(states) else None,
            recipes=tuple(r for s in states for r in s.recipes),
            conditions=tuple(c for s in states for c in s.conditions),
        )
