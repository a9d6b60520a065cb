"""What `ClassScore` asks of a classifier, and how a classifier's last layer stays float32 where the rest is half."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from verifiers.classes.names import ClassNames

MICRO_BATCH = 32


class Classifier(ABC):
    """Images to one logit per class; loads nothing before it is asked to."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What identifies weights and classes; reads local files once to hash them, downloads nothing."""

    @cached_property
    @abstractmethod
    def names(self) -> ClassNames:
        """What the classes are called."""

    @abstractmethod
    def load(self, device: torch.device | str | None) -> None:
        """Load the weights now; WeightsError where they are missing or do not fit."""

    @abstractmethod
    def logits(
        self, images: Float[Tensor, "batch 3 height width"], among: Sequence[int] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Float32 logits of the classes `among`, in that order, or of all; differentiable in the images."""


def batched_logits(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    images: Tensor,
    among: Sequence[int] | None,
) -> Tensor:
    """Logits in fixed micro-batches, by a `forward` of the model from its input to its logits."""
    weights = next(model.parameters())  # its device and dtype
    logits = torch.cat(
        [_in_float32(model, forward, preprocess(part).to(weights)) for part in torch.split(images, MICRO_BATCH)]
    )
    return logits if among is None else logits[:, list(among)]


def _in_float32(model: nn.Module, forward: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Logits whose last product is float32: in bfloat16 a logit of 10 moves in steps of 0.06, and images tie.

    Where the model's logits are not the output of one linear layer, they are what it gives.
    """
    if inputs.dtype == torch.float32:
        return forward(inputs)
    last: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def remember(module: nn.Linear, given: Any, output: Tensor) -> None:
        last[:] = [(module, given[0], output)]

    hooks = [module.register_forward_hook(remember) for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        logits = forward(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not last or last[0][2] is not logits:
        return logits.float()
    module, features, _ = last[0]
    return F.linear(features.float(), module.weight.float(), None if module.bias is None else module.bias.float())
