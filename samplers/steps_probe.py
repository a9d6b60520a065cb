"""How many steps a pipeline takes: told by a call that ends at its first denoiser evaluation."""

import threading
from contextlib import ExitStack
from typing import Any

from samplers import denoisers
from samplers.calls import PipelineCalls
from samplers.prompting import any_prompt
from samplers.view import parameters


class Reached(BaseException):
    """The first denoiser evaluation; a BaseException, so that no pipeline swallows it. Never leaves this file."""


def count_steps(calls: PipelineCalls, options: dict[str, Any], prompt: str | None) -> int:
    """Evaluations of one call: what the pipeline itself counted, else the timesteps that it set its scheduler.

    A pipeline that did neither is believed to take `num_inference_steps`: what an earlier call left on the user's
    pipeline and scheduler says nothing. Raises RuntimeError where another search uses the denoiser.
    """
    views: list[Any] = []
    scheduler = calls.own_scheduler()
    before = getattr(scheduler, "timesteps", None)

    def prepare(view: Any) -> None:
        vars(view).pop("_num_timesteps", None)
        views.append(view)

    me = threading.get_ident()

    def stop(module: Any, args: Any, kwargs: Any) -> None:
        if threading.get_ident() == me:  # a plain call in another thread claims nothing
            raise Reached

    with ExitStack() as hooks:
        hooks.enter_context(denoisers.claimed(calls.modules, calls))  # first: `stop` would end another's forwards
        for module in calls.modules:
            hooks.callback(module.register_forward_pre_hook(stop, with_kwargs=True, prepend=True).remove)
        try:
            calls.call(scheduler, [any_prompt(calls.pipe) if prompt is None else prompt], options, prepare=prepare)
        except Reached:
            pass
    counted = getattr(views[0], "_num_timesteps", None)
    if isinstance(counted, int) and counted > 0:
        return counted
    timesteps = getattr(scheduler, "timesteps", None)
    if timesteps is not None and timesteps is not before:
        return len(timesteps)
    default = parameters(calls.pipe).get("num_inference_steps")
    return int(options.get("num_inference_steps") or (default.default if default else 1))
