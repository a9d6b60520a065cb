"""Extra grid points at given noise levels, for searches that stop at a level rather than at a step."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from samplers.flow_matching import FlowMatching
from samplers.grids import Grid

SAME = 1e-3
"""Levels this close are one grid point."""


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Noise levels sigma / (alpha + sigma) as floats, sorted; ValueError unless all are in (0, 1)."""
    found = tuple(sorted({float(v) for v in levels}, reverse=True))
    outside = [v for v in found if not 0 < v < 1]
    if outside:
        raise ValueError(f"levels must be noise levels sigma / (alpha + sigma) in (0, 1), got {outside}")
    return found


def with_levels(grid: Grid, levels: Sequence[float], scheduler: Any) -> Grid:
    """The same grid with extra points at `levels`, as far as it has not got them."""
    for level in levels:
        grid = _inserted(grid, level, scheduler)
    return grid


def _inserted(grid: Grid, level: float, scheduler: Any) -> Grid:
    """The grid with one more point; as it is where it has that point already (its timestep, or 1e-3)."""
    find = _flow_point if isinstance(grid.rule, FlowMatching) else _vp_point
    timestep, alpha, sigma = find(grid, level, scheduler)
    present = [s / (a + s) for a, s in zip(grid.alphas, grid.sigmas, strict=True)]
    reached = sigma / (alpha + sigma)
    known = grid.timesteps.double()
    if any(abs(p - v) < SAME for p in present for v in (level, reached)) or bool((known == timestep).any()):
        return grid
    if reached > present[0]:
        raise ValueError(
            f"level {level} is noisier than the grid's first point ({present[0]:.4g}): ask for a lower level, or for "
            "more steps, as grids of few steps start lower"
        )
    if reached < present[-1]:
        return grid  # beyond the clean end, which is the nearest point there is
    at = sum(p > reached for p in present)
    told = torch.tensor([timestep], dtype=torch.float64).to(grid.timesteps)
    return replace(
        grid,
        timesteps=torch.cat([grid.timesteps[:at], told, grid.timesteps[at:]]),
        alphas=(*grid.alphas[:at], alpha, *grid.alphas[at:]),
        sigmas=(*grid.sigmas[:at], sigma, *grid.sigmas[at:]),
    )


def _flow_point(grid: Grid, level: float, scheduler: Any) -> tuple[float, float, float]:
    """(timestep, alpha, sigma) where alpha = 1 - sigma: the level is sigma, the timestep follows sigma."""
    train_steps = int(scheduler.config.num_train_timesteps)
    told = torch.tensor(grid.sigmas[:-1], dtype=torch.float64) * train_steps
    if bool(((grid.timesteps.double() - told).abs() > 1 + 1e-3).any()):  # 1: some cut their timesteps to integers
        raise ValueError(
            f"{type(scheduler).__name__} does not tell the model sigma * {train_steps}, so no level can be "
            "inserted: leave levels out"
        )
    return level * train_steps, 1 - level, level


def _vp_point(grid: Grid, level: float, scheduler: Any) -> tuple[float, float, float]:
    """(timestep, alpha, sigma) of the training timestep whose level is nearest."""
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no table alphas_cumprod to find level {level} in: leave levels out"
        )
    alphas, sigmas = table.double().clamp(0, 1).sqrt(), (1 - table.double().clamp(0, 1)).sqrt()
    at = int((sigmas / (alphas + sigmas) - level).abs().argmin())
    squared = float(table.double()[at].clamp(0, 1))
    return float(at), math.sqrt(squared), math.sqrt(1 - squared)
