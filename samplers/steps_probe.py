"""How many steps a pipeline takes: told by a call that ends at its first denoiser evaluation."""

from contextlib import ExitStack
from typing import Any

from samplers.calls import PipelineCalls
from samplers.prompting import any_prompt
from samplers.view import parameters


class Reached(BaseException):
    """The first denoiser evaluation; a BaseException, so that no pipeline swallows it. Never leaves this file."""


def count_steps(calls: PipelineCalls, options: dict[str, Any], prompt: str | None) -> int:
    """Evaluations of one call: what the pipeline itself counted, else the timesteps of its scheduler.

    A pipeline that has neither is believed to take `num_inference_steps`.
    """
    views: list[Any] = []
    scheduler = calls.own_scheduler()

    def stop(module: Any, args: Any, kwargs: Any) -> None:
        raise Reached

    with ExitStack() as hooks:
        for module in calls.modules:
            hooks.callback(module.register_forward_pre_hook(stop, with_kwargs=True, prepend=True).remove)
        try:
            calls.call(scheduler, [any_prompt(calls.pipe) if prompt is None else prompt], options, prepare=views.append)
        except Reached:
            pass
    counted = getattr(views[0], "_num_timesteps", None)
    if isinstance(counted, int) and counted > 0:
        return counted
    timesteps = getattr(scheduler, "timesteps", None)
    if getattr(scheduler, "num_inference_steps", None) is not None and timesteps is not None:
        return len(timesteps)
    default = parameters(calls.pipe).get("num_inference_steps")
    return int(options.get("num_inference_steps") or (default.default if default else 1))
