"""`PipelineCalls`: calls of a pipeline through views, with its prompts memoised and its denoiser claimed."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samplers import denoisers
from samplers.conditioning import PromptMemo
from samplers.grids import Builder, Grid
from samplers.layout import Layout, LayoutProbe
from samplers.scheduler import SearchScheduler, Walk
from samplers.space import NoiseSpace
from samplers.view import call_view, make_view, parameters, plain


class Probed(NamedTuple):
    """What one call without steps shows of a pipeline."""

    space: NoiseSpace
    layout: Layout
    grid: Grid


class PipelineCalls:
    """Calls views of `pipe` with `options`; the pipeline itself is only read.

    Attributes:
        pipe: the user's pipeline.
        scheduler: a private copy of its scheduler.
        denoisers: its denoiser modules.
        memo: the encodings of its prompts.
    """

    def __init__(self, pipe: Any, options: dict[str, Any], builder: Builder) -> None:
        """Prepare; nothing is called yet."""
        self.pipe, self.options = pipe, options
        self.scheduler = copy.deepcopy(pipe.scheduler)
        self.denoisers = denoisers.find(pipe)
        self.memo = PromptMemo()
        self._builder = builder
        self._probed: Probed | None = None
        self._held, self._busy = ExitStack(), threading.Lock()

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The denoiser modules."""
        return list(self.denoisers.values())

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever its offloading."""
        device: torch.device = self.pipe._execution_device
        return device

    def hold(self) -> None:
        """Claim the denoiser until `close`. Raises RuntimeError where another search has it."""
        self._held.enter_context(denoisers.claimed(self.modules, self))

    def close(self) -> None:
        """Release the denoiser, forget the encodings and, under model offload, free its hooks."""
        self._held.close()
        self.memo.clear()
        if getattr(self.pipe, "_all_hooks", None):
            self.pipe.maybe_free_model_hooks()

    def standing(self) -> SearchScheduler:
        """A scheduler that takes no step: for probing and decoding."""
        return SearchScheduler(self.scheduler, Walk(0, 0), self._builder)

    def probe(self, prompt: str) -> Probed:
        """The noise space, latent layout and grid, from one call without steps; asked once."""
        if self._probed is None:
            self._probed = self._probe(prompt)
        return self._probed

    @torch.no_grad()
    def _probe(self, prompt: str) -> Probed:
        probes: list[LayoutProbe] = []

        def watch(view: Any) -> None:
            probes.append(LayoutProbe(view))
            probes[0].install()

        scheduler = self.standing()
        self.call(scheduler, [prompt], "latent", prepare=watch)
        layout, grid = probes[0].found, scheduler.walk.grid
        if layout is None or grid is None:
            raise ValueError(f"{type(self.pipe).__name__} asked for no timesteps or no latents in a call")
        return Probed(NoiseSpace(layout.shape, layout.axes, grid.alphas, grid.sigmas), layout, grid)

    def call(
        self,
        scheduler: Any,
        prompts: list[str],
        output_type: str,
        *,
        latents: Tensor | None = None,
        generators: list[torch.Generator] | None = None,
        prepare: Callable[[Any], None] = lambda view: None,
    ) -> Any:
        """One call of a fresh view; its first output. `prepare` may install more on the view.

        Raises RuntimeError where another search, or another thread, uses the denoiser.
        """
        view = make_view(self.pipe, scheduler)
        self.memo.install(view)
        prepare(view)
        options = self.options | {"prompt": prompts, "output_type": output_type}
        if isinstance(options.get("negative_prompt"), str):
            options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
        if "generator" in parameters(self.pipe):
            options["generator"] = generators or [torch.Generator().manual_seed(0) for _ in prompts]
        if latents is not None:
            options["latents"] = latents
        with denoisers.claimed(self.modules, self), self._one_at_a_time():
            with denoisers.processors_restored(self.modules):
                return call_view(view, options)

    def describe(self, probed: Probed) -> dict[str, Any]:
        """The pipeline, its settings and a sample of its weights, as plain JSON."""
        import diffusers

        modules = {k: v for k, v in self.pipe.components.items() if isinstance(v, torch.nn.Module)}
        return {
            "pipeline": type(self.pipe).__name__,
            "scheduler": type(self.scheduler).__name__,
            "scheduler_config": plain({k: v for k, v in self.scheduler.config.items() if k[0] != "_"}),
            "grid": probed.space.id,
            "steps": probed.space.end,
            "shape": list(probed.space.shape),
            "options": plain(self.options),
            "dtype": str(probed.layout.dtype).removeprefix("torch."),
            "device": str(self.device),
            "weights": {name: denoisers.fingerprint(module) for name, module in modules.items()},
            "versions": {"torch": str(torch.__version__), "diffusers": diffusers.__version__},
        }

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this sampler is running in another thread: use one pipeline per thread")
        try:
            yield
        finally:
            self._busy.release()
