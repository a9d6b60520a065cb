"""What a model is asked for: one frozen object from every front door to the sampler, and its keywords with types."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args

import torch

from noise_search.arguments import check_counts, check_flags, check_numbers
from noise_search.words import nearest, unknown

Scheduler = Literal["auto", "first-order", "keep"]
Offload = Literal["model", "sequential", "group"]
Whole = Literal["whole", "regional"]
Compile = bool | Whole

LOADING = ("device", "dtype", "lora", "offload", "variant", "revision", "compile")
"""Settings of the loading of a model by its name; a pipeline object has been set up already."""

_SUCH = {"variant": "fp16", "revision": "main"}

_DIFFUSERS_WORDS = {
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "num_images": "candidates",
    "num_images_per_prompt": "candidates",
    "generator": "seed",
    "prompts": "prompt",
    "pipe": "model",
    "pipeline": "model",
}

_Function = TypeVar("_Function", bound=Callable[..., Any])


class ModelOptions(TypedDict, total=False):
    """The model's keywords of `search` and `compare`; see `search`."""

    steps: int | None
    guidance: float | None
    negative_prompt: str | None
    height: int | None
    width: int | None
    eta: float
    scheduler: Scheduler
    check: bool
    device: str | torch.device | None
    dtype: torch.dtype | None
    lora: str | Path | Sequence[str | Path] | None
    offload: Offload | None
    variant: str | None
    revision: str | None
    compile: Compile | None


@dataclass(frozen=True)
class ModelSettings:
    """How a model is run; None stands for its own default.

    Attributes:
        steps: denoising steps of a trajectory.
        guidance: the guidance scale.
        negative_prompt: one for all prompts.
        height, width: of the images, in pixels.
        eta: stochasticity of the DDIM step in [0, 1], 0 deterministic.
        scheduler: "first-order" replaces the pipeline's scheduler by a first-order rule on its grid, "keep" runs it,
            "auto" runs it where whole runs are enough.
        check: whether a pipeline of a class that wasn't tested is looked at before it is searched.
        device, dtype: of a model that is loaded by its name, as all that follow but the options.
        lora: LoRAs to put on it, each PATH_OR_HUB_ID or PATH_OR_HUB_ID:SCALE.
        offload: "model", "sequential" or "group": what lies on the CPU until its turn on the accelerator.
        variant: of the weights' files, such as "fp16".
        revision: commit, tag or branch of a model of the hub.
        compile: its denoiser by torch.compile: "whole" (or True), or "regional", its repeated blocks.
        options: further arguments of the pipeline's call.

    Raises:
        TypeError: a value of another type.
        ValueError: a value that no model can take.
    """

    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    eta: float | None = None
    scheduler: Scheduler | None = None
    check: bool = True
    device: str | torch.device | None = None
    dtype: torch.dtype | None = None
    lora: str | Path | Sequence[str | Path] | None = None
    offload: Offload | None = None
    variant: str | None = None
    revision: str | None = None
    compile: Compile | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(steps=self.steps, height=self.height, width=self.width)
        check_numbers(guidance=self.guidance, eta=self.eta)
        check_flags(check=self.check)
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta!r} must be from 0 (deterministic) to 1")
        if self.negative_prompt is not None and not isinstance(self.negative_prompt, str):
            kind = type(self.negative_prompt).__name__
            raise TypeError(f"negative_prompt={self.negative_prompt!r} is a {kind}; expected a text")
        if self.offload is not None and self.offload not in get_args(Offload):
            raise unknown("offload", str(self.offload), get_args(Offload))
        if not (self.compile is None or isinstance(self.compile, bool)) and self.compile not in ("whole", "regional"):
            raise ValueError(f"compile={self.compile!r} must be True, 'whole' or 'regional'")
        for name in ("variant", "revision"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise TypeError(f"{name}={value!r} must be a name, such as {_SUCH[name]!r}")
        if self.lora is not None and not isinstance(self.lora, str | Path | Sequence):
            raise TypeError(
                f"lora={self.lora!r} is a {type(self.lora).__name__}; expected a path or hub id, or several"
            )
        for one in self._loras:
            if not isinstance(one, str | Path) or not str(one):
                raise TypeError(
                    f"lora={one!r} is a {type(one).__name__}; expected a path or hub id, with :SCALE or not"
                )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What a sampler is told of them besides the options: all but where a model is loaded."""
        return tuple(one.name for one in fields(cls) if one.name not in (*LOADING, "options", "check"))

    @property
    def given(self) -> dict[str, Any]:
        """Of what a sampler is told, that which isn't left to the model."""
        return {name: value for name in self.names() if (value := getattr(self, name)) is not None}

    @property
    def loading(self) -> tuple[str, ...]:
        """Names of those given that only a model that is loaded by its name has."""
        return tuple(name for name in LOADING if getattr(self, name) not in (None, False))

    @property
    def compiled(self) -> Whole | None:
        """What of the denoiser is compiled."""
        return "whole" if self.compile is True else self.compile or None

    @property
    def loras(self) -> tuple[str, ...]:
        """What `lora` asks for, a text for each."""
        return tuple(map(str, self._loras))

    @property
    def _loras(self) -> Sequence[str | Path]:
        return [self.lora] if isinstance(self.lora, str | Path) else self.lora or ()


def spelt(function: _Function) -> _Function:
    """Answer a keyword that a function hasn't with the nearest that it has; diffusers' own words have theirs.

    A function of `**settings` takes those of `ModelOptions`.
    """
    parameters = inspect.signature(function).parameters
    known = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD]
    if len(known) < len(parameters):
        known += ModelOptions.__annotations__

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        for name in options:
            if name not in known:
                raise TypeError(_unknown(function.__name__, name, known))
        return function(*arguments, **options)

    return checked  # type: ignore[return-value]  # the same signature


def _unknown(function: str, name: str, known: list[str]) -> str:
    near = _DIFFUSERS_WORDS.get(name)
    near = near if near in known else nearest(name, known)
    rest = f"did you mean {near!r}?" if near else f"it takes {', '.join(known)}"
    return f"{function}() takes no {name!r}: {rest}"
