"""How x enters a call of a pipeline: as `latents=`, or in place of what the pipeline draws."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.pipelines.layout import Layout
from samplers.pipelines.randn import first_draw
from samplers.pipelines.scheduler import StepOutput


@dataclass(frozen=True)
class Handed:
    """Rows of x for one call, in the drawn layout.

    Attributes:
        layout: of the pipeline.
        x: the rows.
    """

    layout: Layout
    x: Float[Tensor, " batch *latent"]

    def options(self, device: torch.device) -> dict[str, Tensor]:
        """The call options that hand x in; none where it takes the place of a draw."""
        given = self.layout.inlet in ("packed", "drawn")
        return {"latents": self.layout.given(self.x, device)} if given else {}

    @contextmanager
    def replacing(self, cls: type) -> Iterator[None]:
        """Around the call: x in place of the first draw of its shape, where it is not an option."""
        if self.layout.inlet in ("packed", "drawn"):
            yield
            return
        with first_draw(cls, self.x):
            yield


class Undecoded:
    """Stands in for a VAE whose images nobody will look at: decodes to what it is given."""

    def __init__(self, vae: Any) -> None:
        """Stand in for `vae`."""
        self._vae = vae

    def __getattr__(self, name: str) -> Any:
        """Everything but `decode`, from the VAE."""
        return getattr(self._vae, name)

    def decode(self, latents: Tensor, *args: Any, **kwargs: Any) -> StepOutput:
        """The latents."""
        return StepOutput(sample=latents)
