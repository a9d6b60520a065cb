"""`PipelineCalls`: calls of a pipeline through views, with its prompts memoised and its denoiser claimed."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from samplers.contents import recorded
from samplers.pipelines import denoisers, fingerprints
from samplers.pipelines.grids import Builder, whole_run
from samplers.pipelines.layout import Handed
from samplers.pipelines.prompts import PromptMemo, asked
from samplers.pipelines.scheduler import SearchScheduler, Walk
from samplers.pipelines.view import call_view, make_view, parameters
from samplers.space import NoiseSpace


class PipelineCalls:
    """Calls views of `pipe` with `options`; the pipeline itself is only read.

    Attributes:
        pipe: the user's pipeline.
        scheduler: a private copy of its scheduler.
        denoisers: its denoiser modules.
        memo: the encodings of its prompts.
        builder: makes the default grid.
        denoiser_rows: rows that went through the denoisers so far, those of failed calls included.
        on_step: of `Sampler`.
        draws_before: whether a call without steps draws from the global generators, as some encoders do.
        draws: whether a run does, by the user's own scheduler or before; None until one was looked at.
    """

    def __init__(self, pipe: Any, options: dict[str, Any], builder: Builder) -> None:
        self.pipe, self.options = pipe, options
        self.scheduler: Any = copy.deepcopy(getattr(pipe, "scheduler", None))
        self.denoisers = denoisers.find(pipe)
        self.memo = PromptMemo()
        self.builder = builder
        self.denoiser_rows = 0
        self.on_step: Callable[[], None] | None = None
        self.draws_before = False
        self.draws: bool | None = None
        self._holds: list[AbstractContextManager[None]] = []
        self._device: torch.device | None = None
        self._busy = threading.Lock()

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The denoiser modules."""
        return list(self.denoisers.values())

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever its offloading; while held asked once, as it looks at every module."""
        if self._device is not None and self._holds:
            return self._device
        device: torch.device = self.pipe._execution_device
        self._device = device
        return device

    def hold(self) -> None:
        """Claim the denoiser until `release`, as often; waits where another thread's search has it."""
        claim = denoisers.claimed(self.modules, self)
        claim.__enter__()
        self._holds.append(claim)
        self._device = None

    def release(self) -> None:
        """Undo one `hold`; after the last, `close`."""
        if self._holds:
            self._holds.pop().__exit__(None, None, None)
        if not self._holds:
            self.close()

    def close(self) -> None:
        """Release the denoiser, forget the encodings and, under model offload, free its hooks."""
        while self._holds:
            self._holds.pop().__exit__(None, None, None)
        self.memo.clear()
        if getattr(self.pipe, "_all_hooks", None):
            self.pipe.maybe_free_model_hooks()

    def standing(self) -> SearchScheduler:
        """A scheduler that takes no step: for probing and decoding."""
        scheduler = SearchScheduler(self.scheduler, Walk(0, 0), self.builder)
        if self.builder is whole_run:
            scheduler.order = getattr(self.scheduler, "order", 1)  # pipelines count their first step in evaluations
        return scheduler

    def own_scheduler(self) -> Any:
        """The user's scheduler, as a copy for one call."""
        return copy.deepcopy(self.scheduler)

    @property
    def asked_steps(self) -> int | None:
        """The `num_inference_steps` of a call: those given, else its default; None where it takes none."""
        default = parameters(self.pipe).get("num_inference_steps")
        asked = self.options.get("num_inference_steps", default and default.default)
        return asked if isinstance(asked, int) else None

    def picture_type(self, options: Mapping[str, Any]) -> str:
        """The output type for finished pictures: tensors, but PIL images where a mask's crop is put back into them."""
        return "pil" if options.get("padding_mask_crop") is not None else "pt"

    def with_steps(self, steps: int | None) -> dict[str, Any]:
        """The call options, for another number of steps. Raises ValueError where they fix the grid."""
        if steps is None:
            return self.options
        fixed = [k for k in ("sigmas", "timesteps") if self.options.get(k) is not None]
        if fixed or "num_inference_steps" not in parameters(self.pipe):
            why = f"the option {', '.join(fixed)} fixes the grid" if fixed else "it takes no num_inference_steps"
            raise ValueError(f"{type(self.pipe).__name__} cannot run {steps} steps: {why}; leave it out")
        return self.options | {"num_inference_steps": steps}

    def call(
        self,
        scheduler: Any,
        prompts: list[str],
        options: dict[str, Any],
        *,
        handed: Handed | None = None,
        generators: torch.Generator | list[torch.Generator] | None = None,
        prepare: Callable[[Any], None] = lambda view: None,
    ) -> Any:
        """One call of a fresh view with `options`; its first output. `prepare` may install more on the view.

        Raises RuntimeError in the middle of another search's call, or of one of this sampler in another thread.
        """
        view = make_view(self.pipe, scheduler)
        self.memo.install(view)
        if isinstance(scheduler, SearchScheduler):
            walk_as_given(view)
        prepare(view)
        options = self._per_row(options, prompts)
        if "generator" in parameters(self.pipe):
            each = generators or [torch.Generator().manual_seed(0) for _ in prompts]
            options["generator"] = each[0] if isinstance(each, list) and len(each) == 1 else each
        with ExitStack() as around:
            around.enter_context(denoisers.claimed(self.modules, self, calling=True))
            around.enter_context(self._one_at_a_time())
            around.enter_context(denoisers.processors_restored(self.modules))
            around.enter_context(denoisers.counted(self.modules, self.count))
            if handed is not None:
                options |= around.enter_context(handed.entering(type(self.pipe), self.device))
            return call_view(view, options)

    def count(self, rows: int) -> None:
        """Book rows that go through the denoisers."""
        if self.on_step is not None:
            self.on_step()
        self.denoiser_rows += rows

    def _per_row(self, options: dict[str, Any], prompts: list[str]) -> dict[str, Any]:
        """The options with what pipelines want once per row."""
        options = options | asked(self.pipe, prompts, options)
        if isinstance(options.get("negative_prompt"), str) and not isinstance(options.get("prompt"), str):
            options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
        image = options.get("image")
        if isinstance(image, torch.Tensor) and image.ndim == 4 and len(image) == 1:
            options["image"] = image.expand(len(prompts), -1, -1, -1)
        return options

    def describe(self, space: NoiseSpace) -> dict[str, Any]:
        """The pipeline over its default space, its settings, a sample of its weights and what was changed since."""
        import diffusers

        config = getattr(self.scheduler, "config", {})

        modules = {k: v for k, v in self.pipe.components.items() if isinstance(v, torch.nn.Module)}
        return {
            "pipeline": type(self.pipe).__name__,
            "scheduler": type(self.scheduler).__name__,
            "scheduler_config": recorded({k: v for k, v in config.items() if k[0] != "_"}),
            "grid": space.id,
            "steps": space.end,
            "shape": list(space.shape),
            "options": recorded(self.options),
            "device": str(self.device),
            "weights": {name: fingerprints.weights(module) for name, module in modules.items()},
            "step_caches": fingerprints.step_caches(self.modules),
            "changes": fingerprints.changes(modules),
            "versions": {"torch": str(torch.__version__), "diffusers": diffusers.__version__},
        }

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise denoisers.Busy("this sampler is running in another thread: use one pipeline per thread")
        try:
            yield
        finally:
            self._busy.release()


def walk_as_given(view: Any) -> None:
    """Make `get_timesteps` on the view return the scheduler's slice: it starts where the walk does."""
    if hasattr(view, "get_timesteps"):
        scheduler = view.scheduler

        def given(*args: Any, **kwargs: Any) -> tuple[Tensor, int]:
            return scheduler.timesteps, max(len(scheduler.timesteps), 1)  # some refuse 0, and count with it only

        vars(view)["get_timesteps"] = given


def as_images(output: Any, rows: int) -> Float[Tensor, " batch *frames 3 height width"]:
    """A pipeline's images, or clips, of so many rows, as float32 in [0, 1].

    From tensors `[batch, 3, h, w]` or `[batch, frames, 3, h, w]`, numpy arrays with the channels last, or (lists of)
    PIL images. Tensors with negative values are in [-1, 1]; a fourth channel is left out; a clip of one frame is an
    image; several images for one row are a clip. Raises ValueError for other shapes.
    """
    pixels = _tensor(output)
    if pixels.ndim in (4, 5) and pixels.shape[-3] == 4:
        pixels = pixels[..., :3, :, :]  # as PIL drops transparency
    if pixels.ndim == 5 and pixels.shape[1] == 3 != pixels.shape[2]:
        pixels = pixels.movedim(1, 2)
    if pixels.ndim == 4 and rows == 1 < len(pixels):
        pixels = pixels[None]
    if pixels.ndim == 5 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    if pixels.ndim not in (4, 5) or pixels.shape[-3] != 3 or len(pixels) != rows:
        raise ValueError(
            f"expected {rows} images of shape [batch, 3, height, width] or clips of shape [batch, frames, 3, height, "
            f"width], the pipeline gave {tuple(pixels.shape)}"
        )
    pixels = pixels.detach().float()
    if isinstance(output, Tensor):  # some scale only what they give as arrays or PIL; told where it is, unwaited for
        pixels = torch.where((pixels < 0).any(), pixels / 2 + 0.5, pixels)
    return pixels.clamp(0, 1)


def _tensor(output: Any) -> Tensor:
    """Stacked pixels, channels before height and width."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, list):
        return torch.stack([_tensor(image) for image in output])
    if hasattr(output, "convert"):
        return torch.from_numpy(np.asarray(output.convert("RGB")).copy()).movedim(-1, 0) / 255
    return torch.as_tensor(output).movedim(-1, -3)
