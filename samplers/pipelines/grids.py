"""The grid a diffusers scheduler would walk, and the first-order rule for it: only tables are read."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers import ddim, flow_matching
from samplers.base import NotDrivable
from samplers.ddim import DDIM
from samplers.flow_matching import FlowMatching
from samplers.rule import Point, StepRule
from samplers.space import SAME, check_points

DDIMS = {"DDIMScheduler", "DDIMParallelScheduler"}
ALPHA_TABLE = DDIMS | {"DDPMScheduler", "DDPMParallelScheduler"}
SCALED_BY_SIGMA = {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler"}

SIGMA_TABLE = SCALED_BY_SIGMA | {
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
}

FLOW = {"FlowMatchEulerDiscreteScheduler"}

REPEATING = {  # their timesteps repeat or interleave: rebuilt from their configuration
    "PNDMScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
}

REPEATING_FLOW = {"FlowMatchHeunDiscreteScheduler"}
SUPPORTED = ALPHA_TABLE | SIGMA_TABLE | FLOW | REPEATING | REPEATING_FLOW


@dataclass(frozen=True)
class Grid:
    """A grid as a pipeline asks for it.

    Attributes:
        timesteps: what the model is told at each point but the last, on the CPU.
        alphas: signal scale at each point, from noise to clean.
        sigmas: noise scale at each point.
        rule: the step rule.
        start_scale: what the scheduler multiplies pure noise by (in variance-preserving units); 1 but for a
            sigma-scaled scheduler with `linspace` or `trailing` spacing.
        own: whether the rule is the scheduler's own: its pictures are the plain pipeline's.
    """

    timesteps: Tensor
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    rule: StepRule
    start_scale: float = 1.0
    own: bool = False


def build(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
    """The grid of `scheduler` for the `set_timesteps` arguments a pipeline passed.

    Args:
        scheduler: the user's scheduler; a deep copy of it is asked, so it is never changed.
        asked: any of num_inference_steps, timesteps, sigmas, mu.

    Raises:
        NotDrivable: a scheduler, a prediction type or a grid without a first-order rule here.
        ValueError: arguments that the scheduler cannot take.
    """
    name = type(scheduler).__name__
    if name not in SUPPORTED:
        known = ", ".join(sorted(SUPPORTED))
        remedy = f"pass scheduler='keep' for whole runs, or give the pipeline one of {known}"
        raise NotDrivable(f"{name} has no first-order rule here", remedy, keep=True)
    config = scheduler.config
    if name in ALPHA_TABLE:
        return _alpha_table(_asked(scheduler, asked), config)
    if name in REPEATING:
        return _rebuilt(scheduler, asked)
    if name in REPEATING_FLOW:
        return _rebuilt_flow(scheduler, asked)
    if name in FLOW or uses_flow(config):
        return _flow_table(_asked(scheduler, asked), config)
    return _sigma_table(_asked(scheduler, asked), config)


def uses_flow(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler that serves both worlds is configured for flow matching."""
    return bool(config.get("use_flow_sigmas")) or config.get("prediction_type") == "flow_prediction"


def _asked(scheduler: Any, asked: Mapping[str, Any]) -> Any:
    """A copy of the scheduler after `set_timesteps` with the arguments it accepts."""
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    given = {k: v for k, v in asked.items() if v is not None}
    refused = [k for k in ("timesteps", "sigmas") if k in given and k not in accepted]
    if refused:
        raise ValueError(f"{type(scheduler).__name__} takes no custom {' or '.join(refused)}: leave the argument out")
    own = copy.deepcopy(scheduler)
    own.set_timesteps(**{k: v for k, v in given.items() if k in accepted}, device="cpu")
    return own


def _alpha_table(own: Any, config: Mapping[str, Any]) -> Grid:
    timesteps = own.timesteps[own.timesteps >= 0]  # trailing spacing may end at t = -1
    final = float(getattr(own, "final_alpha_cumprod", 1.0))
    alphas, sigmas = ddim.grid(own.alphas_cumprod[timesteps].double().tolist(), final)
    return Grid(timesteps, alphas, sigmas, _vp_rule(config), own=_leads_on(own, timesteps))


def _leads_on(own: Any, timesteps: Tensor) -> bool:
    """Whether DDIM's own steps, which go to t - T // n, lead to the next point of its grid; `linspace` has others."""
    stride = int(own.config.num_train_timesteps) // int(own.num_inference_steps or len(timesteps))
    reached = timesteps - stride
    return type(own).__name__ in DDIMS and torch.equal(reached[:-1], timesteps[1:]) and int(reached[-1]) < 0


def _sigma_table(own: Any, config: Mapping[str, Any]) -> Grid:
    """VE sigmas in variance-preserving units: A = 1 / (1 + sigma^2)."""
    raw = torch.as_tensor(own.sigmas).double()
    alphas, sigmas = ddim.grid((1 / (1 + raw[:-1] ** 2)).tolist(), float(1 / (1 + raw[-1] ** 2)))
    scale = 1.0
    if type(own).__name__ in SCALED_BY_SIGMA:
        scale = float(own.init_noise_sigma) / math.sqrt(1 + float(raw[0]) ** 2)
        scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    euler = type(own).__name__ == "EulerDiscreteScheduler"
    return _matching(own.timesteps, Grid(own.timesteps, alphas, sigmas, _vp_rule(config), scale, own=euler))


def _flow_table(own: Any, config: Mapping[str, Any]) -> Grid:
    sigmas = tuple(torch.as_tensor(own.sigmas).double().tolist())
    if any(later > earlier for earlier, later in pairwise(sigmas)) or not 0 <= min(sigmas) <= max(sigmas) <= 1:
        shown = ", ".join(f"{s:.3g}" for s in sigmas[:4])
        raise NotDrivable(f"the sigmas of its {type(own).__name__} don't fall from 1 to 0 ({shown}, ...)", keep=True)
    euler = type(own).__name__ in FLOW and not config.get("stochastic_sampling")
    alphas = tuple(1 - s for s in sigmas)
    return _matching(own.timesteps, Grid(own.timesteps, alphas, sigmas, FlowMatching(), own=euler))


def _rebuilt(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
    steps, config = _plain_steps(scheduler, asked), scheduler.config
    spacing, offset = config.get("timestep_spacing", "leading"), int(config.get("steps_offset", 0))
    points = ddim.timesteps(steps, spacing, int(config["num_train_timesteps"]), offset)
    final = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    alphas, sigmas = ddim.grid(scheduler.alphas_cumprod[points].double().tolist(), final)
    return Grid(torch.tensor(points), alphas, sigmas, _vp_rule(config))


def _rebuilt_flow(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
    steps, config = _plain_steps(scheduler, asked), scheduler.config
    base = torch.linspace(float(scheduler.sigma_max), float(scheduler.sigma_min), steps, dtype=torch.float64).tolist()
    alphas, sigmas = flow_matching.grid(flow_matching.shift_sigmas(base, float(config["shift"])))
    timesteps = torch.tensor(sigmas[:-1], dtype=torch.float32) * config["num_train_timesteps"]
    return Grid(timesteps, alphas, sigmas, FlowMatching())


def _plain_steps(scheduler: Any, asked: Mapping[str, Any]) -> int:
    custom = [k for k in ("timesteps", "sigmas") if asked.get(k) is not None]
    if custom or asked.get("num_inference_steps") is None:
        raise ValueError(f"{type(scheduler).__name__} takes a number of steps only, got {', '.join(custom) or 'none'}")
    return int(asked["num_inference_steps"])


def _vp_rule(config: Mapping[str, Any]) -> DDIM:
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise NotDrivable(f"prediction_type {prediction!r} has no rule here", keep=True)
    if prediction == "epsilon" and config.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr=True with prediction_type='epsilon' divides by zero at the first step: "
            "use a v_prediction model, or a scheduler with rescale_betas_zero_snr=False"
        )
    threshold = float(config["dynamic_thresholding_ratio"]) if config.get("thresholding") else None
    clip = float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample") else None
    return DDIM(prediction, clip, threshold, float(config.get("sample_max_value", 1.0)))


def _matching(timesteps: Tensor, grid: Grid) -> Grid:
    if len(timesteps) + 1 != len(grid.sigmas):
        shown = f"{len(timesteps)} timesteps for {len(grid.sigmas)} sigmas"
        raise NotDrivable(f"the scheduler gave {shown}, where one less is expected", keep=True)
    return grid


def whole_run(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
    """A stand-in grid for a scheduler that runs whole: as many points as it evaluates, evenly spread.

    Only the two ends mean anything: points between cannot be reached.
    """
    own = _asked(scheduler, asked)
    alphas, sigmas = flow_matching.grid(flow_matching.uniform_sigmas(len(own.timesteps)))
    return Grid(own.timesteps, alphas, sigmas, FlowMatching())


Builder = Callable[[Any, Mapping[str, Any]], Grid]


def check_replaceable(scheduler: Any) -> None:
    """Raise NotDrivable for a scheduler without a first-order rule."""
    if type(scheduler).__name__ not in SUPPORTED:
        build(scheduler, {})


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


def thinned(grid: Grid, points: Sequence[int]) -> Grid:
    """The grid with these of its points alone, and its end; as it is where none are named."""
    if not points:
        return grid
    at = list(check_points(points, len(grid.timesteps)))
    alphas, sigmas = (tuple(of[i] for i in (*at, -1)) for of in (grid.alphas, grid.sigmas))
    return replace(grid, timesteps=grid.timesteps[at], alphas=alphas, sigmas=sigmas, own=False)


def told_between(grid: Grid, points: Sequence[Point], scheduler: Any) -> Tensor:
    """What the model is told at points off the grid: float timesteps, or none where there are no points.

    On flow grids they follow sigma. On others they lie between training timesteps, by log-SNR: the model's time
    embedding has to be one that takes fractions.

    Raises:
        ValueError: nobody knows what to tell the model.
    """
    if not points:
        return grid.timesteps[:0]
    if isinstance(grid.rule, FlowMatching):
        found = [_flow_point(grid, point.sigma, scheduler)[0] for point in points]
    else:
        table = _table(scheduler, "a point between those of the grid")
        log_snr = np.log(table) - np.log1p(-table)  # falls with the timestep
        asked = [2 * math.log(point.alpha / point.sigma) for point in points]
        found = np.interp(asked, log_snr[::-1], np.arange(len(table))[::-1]).tolist()
    return torch.tensor(found, dtype=torch.float64).to(torch.promote_types(grid.timesteps.dtype, torch.float32))


def _table(scheduler: Any, what: str) -> np.ndarray:
    """The squared signal scales of the training timesteps, strictly within (0, 1)."""
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(f"{type(scheduler).__name__} has no table alphas_cumprod to find {what} in")
    squared: np.ndarray = table.double().clamp(1e-12, 1 - 1e-12).cpu().numpy()
    return squared


def _flow_point(grid: Grid, level: float, scheduler: Any) -> tuple[float, float, float]:
    """(timestep, alpha, sigma) where alpha = 1 - sigma: the level is sigma, the timestep follows sigma."""
    train_steps = int(scheduler.config.num_train_timesteps)
    told = torch.tensor(grid.sigmas[:-1], dtype=torch.float64) * train_steps
    if bool(((grid.timesteps.double() - told).abs() > 1 + 1e-3).any()):  # 1: some cut their timesteps to integers
        raise ValueError(
            f"{type(scheduler).__name__} does not tell the model sigma * {train_steps}, so nothing between the points "
            "of its grid can be: leave out levels, and transitions that pass over such points (Glass)"
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
