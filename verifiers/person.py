"""A person as a verifier: asked once about each image, and never again."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier

if TYPE_CHECKING:
    from PIL import Image

Ask = Callable[["Image.Image", str], float | None]
"""Shows an image and its prompt, and returns what is said of it; None where it can't be told."""


class HumanVerifier(Verifier):
    """What a person says of an image, higher is better.

    An image that was rated for a prompt, equal in its 8-bit pixels, is never asked about again by this object; in a run
    directory (`search(run=...)`) scores are journalled, so that a run that goes on doesn't ask again either. There a
    micro-batch is journalled at a time: `batch_size=1` loses no answer. It counts as `paid`, as a person's time is
    what it costs, so that "auto" spends none of it on half-made images.

    Raises:
        TypeError: `ask` can't be called.
        ValueError: of a call, an answer that is no finite number; it costs a search that image alone.

    Example:
        >>> def ask(image, prompt):
        ...     display(image)
        ...     return float(input(f"{prompt}, 0 to 10? "))
        >>> noise_search.search("two yellow stars", verifier=HumanVerifier(ask), candidates=8, batch_size=1)
    """

    version = "1"
    family = "person"
    paid = True

    def __init__(self, ask: Callable[..., Any], *, together: bool = False, name: str = "person") -> None:
        """Take what asks.

        Args:
            ask: `ask(image, prompt)` returns a number for a PIL image, or None where the person can't tell, which
                leaves it without a score; with `together`, `ask(images, prompt)` a list of them for a list of images.
            together: whether the images of a micro-batch that are for one prompt are shown side by side.
            name: of the person, under which scores are stored: the scores of two people aren't the same.
        """
        if not callable(ask):
            raise TypeError(f"ask is {ask!r:.60}; expected a function of an image and the prompt that returns a number")
        self.ask, self.together, self.name = ask, together, name
        self._known: dict[str, float] = {}

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """One by one, or those of a prompt together; what was rated before is remembered."""
        from PIL import Image

        pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
        keys = [
            hashlib.sha256(repr((one.shape, prompt)).encode() + one.tobytes()).hexdigest()
            for one, prompt in zip(pixels, prompts, strict=True)
        ]
        for prompt in dict.fromkeys(prompts):
            new = {k: Image.fromarray(one) for k, p, one in zip(keys, prompts, pixels, strict=True) if p == prompt}
            new = {key: image for key, image in new.items() if key not in self._known}
            if self.together and new:
                self._known |= dict(zip(new, self._several(list(new.values()), prompt), strict=True))
            elif not self.together:
                for key, image in new.items():  # each is known once it is told, whatever interrupts the next
                    self._known[key] = self._number(self.ask(image, prompt))
        return torch.tensor([self._known[key] for key in keys])

    def _several(self, images: "list[Image.Image]", prompt: str) -> list[float]:
        said = self.ask(images, prompt)
        if isinstance(said, str) or not hasattr(said, "__len__") or len(said) != len(images):
            raise ValueError(f"ask returned {said!r:.60} for {len(images)} images; expected a number or None for each")
        return [self._number(one) for one in said]

    @staticmethod
    def _number(said: Any) -> float:
        if said is None:
            return math.nan
        try:
            found = float(said)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            raise ValueError(f"ask returned {said!r:.60}; expected a finite number, or None for no opinion")
        return found
