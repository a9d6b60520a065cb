"""`get_timesteps`, by which image-to-image pipelines leave out their first steps: asked once, then told."""

import inspect
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from samplers.base import NotDrivable


class SliceProbe:
    """Watches, during one call without steps, how many of the first steps a pipeline leaves out.

    Attributes:
        skipped: the number; 0 for a pipeline that leaves out none.
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.skipped = 0

    def install(self, view: Any) -> None:
        """Shadow `get_timesteps` on the view, where the pipeline has it."""
        method = getattr(type(view), "get_timesteps", None)
        if method is not None:
            vars(view)["get_timesteps"] = partial(self._ask, view.scheduler, MethodType(method, view))

    def _ask(self, scheduler: Any, method: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, int]:
        """Its answer over the whole grid; the pipeline gets no steps, as for the rest of the call."""
        none, whole = scheduler.timesteps, scheduler.walk.grid.timesteps
        scheduler.timesteps = whole.to(none.device)
        bound = inspect.signature(method).bind(*args, **kwargs)
        if bound.arguments.get("num_inference_steps") == 0:  # where it was counted by the timesteps handed out
            bound.arguments["num_inference_steps"] = len(whole)
        left = method(*bound.args, **bound.kwargs)[0].cpu()
        scheduler.timesteps = none
        self.skipped = len(whole) - len(left)
        if not torch.equal(left, whole[self.skipped :]):
            raise NotDrivable("get_timesteps gives other timesteps than the last ones of the grid")
        if not len(left):
            raise ValueError(f"get_timesteps leaves none of {len(whole)} steps: raise strength, or the steps")
        return none, 1


def walk_as_given(view: Any) -> None:
    """Make `get_timesteps` on the view return the scheduler's slice: it starts where the walk does."""
    if hasattr(view, "get_timesteps"):
        scheduler = view.scheduler

        def given(*args: Any, **kwargs: Any) -> tuple[Tensor, int]:
            return scheduler.timesteps, max(len(scheduler.timesteps), 1)  # some refuse 0, and count with it only

        vars(view)["get_timesteps"] = given
