"""Where the rounds of a search over paths turn: on a grid as it is, or at the published noise levels."""

from typing import NamedTuple

from samplers.space import NoiseSpace

_START, _BACKWARD = 0.11, 0.81
_HIGHEST = 0.89
_PROGRESS = 0.005
_TOLERANCE = 0.012
"""How far a grid point may lie from a published level: training timesteps are that coarse at the clean end."""


class Round(NamedTuple):
    """One round: the grid point re-noised to, and the one denoised to."""

    up: int
    down: int


def grid_rounds(
    space: NoiseSpace, start: float | None, forward: float, backward: float | None, rounds: int | None
) -> tuple[int, tuple[Round, ...]]:
    """The grid point where rounds begin, and the rounds; see `SearchOverPaths`.

    Raises:
        ValueError: a grid of fewer than three steps, which has no point to turn at.
    """
    end = space.end
    if rounds == 0 and start is None:
        return end, ()
    if end < 3:
        raise ValueError(
            "search over paths needs a grid of at least 3 steps, to turn between pure noise and the end; got "
            f"{end}: take more, or leave it out"
        )
    if start is None:
        assert rounds is not None
        first = max(end - rounds, 2)
    else:
        first = _nearest(space, start, range(2, end + 1))
    found: list[Round] = []
    at = first
    while at < end and (rounds is None or len(found) < rounds):
        up = _up(space, at, forward)
        down = at + 1
        if backward is not None:
            down = max(down, _nearest(space, space.noise_level(up) - backward, range(up, end + 1)))
        found.append(Round(up, down))
        at = down
    return first, tuple(found)


def _up(space: NoiseSpace, at: int, forward: float) -> int:
    """The point nearest to forward above `at`, at most .89; on a grid without such a point, the least noisy one."""
    target = min(space.noise_level(at) + forward, _HIGHEST)
    noisier = range(1, at)
    allowed = [i for i in noisier if space.noise_level(i) <= _HIGHEST + 1e-9]
    return _nearest(space, target, allowed or noisier[-1:])


def published_levels(start: float | None, forward: float, backward: float | None) -> tuple[float, ...]:
    """The paper's levels from the start on: start, up, down, up, ..., and none at 0 (appendix A.3: .11, .78, .81).

    Raises:
        ValueError: levels that never reach 0, or lie above pure noise.
    """
    at, back = _START if start is None else start, _BACKWARD if backward is None else backward
    if back - forward < _PROGRESS:
        raise ValueError(
            f"backward={back:g} must exceed forward={forward:g} by at least {_PROGRESS:g}, or the rounds never end"
        )
    levels = [round(at, 6)]
    while at > 1e-9:
        up = at + forward
        if up >= 1:
            raise ValueError(f"start + forward = {up:g} must be below 1, pure noise: lower one of them")
        at = round(max(up - back, 0.0), 6)
        levels += [round(up, 6), *([at] if at else [])]
    return tuple(levels)


def published_rounds(space: NoiseSpace, levels: tuple[float, ...]) -> tuple[int, tuple[Round, ...]]:
    """The grid points of the published levels; where the grid ends before level 0, so do the rounds.

    Raises:
        ValueError: the grid lacks a level.
    """
    points = [_at(space, level) for level in levels]
    first, turns = points[0], [*points[1:], space.end]
    found: list[Round] = []
    at = first
    for up, down in zip(turns[::2], turns[1::2], strict=True):
        if at == space.end:
            break
        at = max(down, at + 1)
        found.append(Round(up, at))
    return first, tuple(found)


def _at(space: NoiseSpace, level: float) -> int:
    step = _nearest(space, level, range(1, space.end + 1))
    off = abs(space.noise_level(step) - level)
    if off > _TOLERANCE and space.noise_level(space.end) < level:
        raise ValueError(
            f"literal=True needs a grid with noise level {level:g}, the nearest point is at "
            f"{space.noise_level(step):.3f}: pass a pipeline, or a sampler whose space(levels=...) has it"
        )
    return step


def _nearest(space: NoiseSpace, level: float, steps: "range | list[int]") -> int:
    return min(steps, key=lambda step: abs(space.noise_level(step) - level))
