"""Small decoders of looks: what x0 predictions on the way are shown to verifiers by, and how far that can be trusted.

Diffusers' `AutoencoderTiny` (TAESD, Bohan 2023) decodes latents as the denoiser has them, in the layout in which they
are drawn: no pipeline is needed. What is scored at the end, and what is handed back, the model's own decoder makes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from noise_search.models import CARD, LoadedModel, quiet_loading
from noise_search.words import counted
from samplers.pipelines.fingerprints import weights
from samplers.space import NoiseSpace
from verifiers.code import UNTOLD, version_of, why_untold
from verifiers.loading import hub

Decode = Callable[[Tensor], Tensor]
PreviewLike = str | Path | nn.Module | Decode | None
"""What users give: "taesd", a directory or hub id of an `AutoencoderTiny`, one, or a function; None for none."""

log = logging.getLogger(__name__)

TAESD = "taesd"
"""The small decoder of whatever model is searched."""

_KNOWN: Mapping[tuple[int, float, float], tuple[str, str]] = {
    (4, 0.18215, 0.0): ("madebyollin/taesd", "Stable Diffusion 1 and 2"),
    (4, 0.13025, 0.0): ("madebyollin/taesdxl", "SDXL"),
    (16, 1.5305, 0.0609): ("madebyollin/taesd3", "Stable Diffusion 3"),
    (16, 0.3611, 0.1159): ("madebyollin/taef1", "FLUX.1"),
}
"""By what tells a latent space: channels, scaling and shift of its `AutoencoderKL`."""

COMPARED = 8
"""x0 predictions of a search that both decoders show, so that their ranks can be compared."""
_LEAST, _LOW = 4, 0.8
"""How many tell a rank correlation, and below which one it is a warning."""


@dataclass(frozen=True, eq=False)
class Preview:
    """A small decoder.

    Attributes:
        name: to be shown.
        version: what tells it from others: a hash of its weights, or what `verifiers.code` says of a function.
        decode: from latents `[batch, *latent]` in the noise space's layout to images in [0, 1].
        pricing: what a row costs, in evaluations of it, from FLOPs; None where nobody knows.
        why_untold: why nothing tells it from others; "" where something does.
    """

    name: str
    version: str
    decode: Decode
    pricing: Callable[[], float | None] = lambda: None
    why_untold: str = ""

    def __call__(self, latents: Float[Tensor, " batch *latent"]) -> Float[Tensor, "batch *frames 3 height width"]:
        """Images of the rows.

        Raises:
            ValueError: it gave something else.
        """
        images = self.decode(latents)
        if not isinstance(images, Tensor) or images.ndim not in (4, 5) or len(images) != len(latents):
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"preview {self.name!r} gave {got} for latents {tuple(latents.shape)}; expected images "
                f"[{len(latents)}, 3, height, width] in [0, 1]"
            )
        return images.detach().float().clamp(0, 1)

    @cached_property
    def price(self) -> float | None:
        """What `Sampler.look_price` is with it; counted when it is first asked for."""
        return self.pricing()

    def record(self) -> dict[str, Any]:
        """What it is called, and what a search depends on, as plain JSON."""
        return {"name": self.name, "version": f"{UNTOLD}: {self.why_untold}" if self.why_untold else self.version}


def check_preview(asked: Any) -> None:
    """Refuse what can't be a preview; before a model is loaded.

    Raises:
        TypeError: something else.
    """
    if (
        isinstance(asked, type)
        or not (asked is None or isinstance(asked, str | Path) or callable(asked))
        or asked == ""
    ):
        raise TypeError(
            f"preview={asked!r:.60} can't decode; expected {TAESD!r}, a directory or hub id of an AutoencoderTiny, "
            "or a function from latents to images in [0, 1]"
        )


def resolve_preview(asked: PreviewLike, loaded: LoadedModel, space: NoiseSpace) -> Preview | None:
    """The decoder that is meant, on the model's device.

    Raises:
        ValueError: there is none by this name, none is known for the model, or it decodes other latents.
        TypeError: something else.
    """
    check_preview(asked)
    if asked is None:
        return None
    if isinstance(asked, str | Path):
        name, place = str(asked), _place(asked, loaded)
        vae = getattr(getattr(loaded.sampler, "pipe", None), "vae", None)
        module = _read(name, place, getattr(vae, "dtype", torch.float32))
    elif isinstance(asked, nn.Module) and hasattr(asked, "decode"):
        name, module = type(asked).__name__, asked
    else:
        name = getattr(asked, "__name__", type(asked).__name__)
        return Preview(name, version_of(asked), asked, why_untold=why_untold(asked))
    config: Mapping[str, Any] = getattr(module, "config", {})
    channels = config.get("latent_channels", space.shape[0])
    if space.axes != ("channel", "height", "width") or space.shape[0] != channels:
        raise ValueError(
            f"preview={name!r} decodes latents [{channels}, height, width], and those of {loaded.name} are "
            f"{list(space.shape)} ({', '.join(space.axes)}): give another, or a function"
        )
    if module is not asked:
        module = module.to(loaded.device or "cpu").eval()
    pricing = partial(loaded.sampler.look_price_by, module)
    return Preview(name, weights(module), _Decoder(module, config), pricing)


@dataclass(frozen=True)
class _Decoder:
    """An autoencoder's decoder on latents as a denoiser has them."""

    module: Any
    config: Mapping[str, Any]

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        x = latents.to(self.module.device, self.module.dtype)
        x = x / self.config.get("scaling_factor", 1.0) + (self.config.get("shift_factor") or 0.0)
        images: Tensor = self.module.decode(x, return_dict=False)[0]
        return images.float() / 2 + 0.5


def recorded_preview(told: Any, loaded: LoadedModel, space: NoiseSpace) -> tuple[Preview | None, str]:
    """The preview that a record names, and else why the model's own decoder takes its place, in words.

    No file decides what is downloaded: one that the model's card declares is read, or a directory that is here.
    """
    if not isinstance(told, Mapping):
        return None, ""
    name = str(told.get("name"))
    if (name == TAESD and loaded.card.preview is not None) or (name != TAESD and Path(name).is_dir()):
        found = resolve_preview(name, loaded, space)
        if found is not None and found.version == told.get("version"):
            return found, ""
    return None, f"it was scored as the small decoder {name!r:.60} showed it, and is shown by the model's own"


def _place(asked: str | Path, loaded: LoadedModel) -> str:
    """The directory or hub id of what is asked for; a name means what the model's card declares, else what fits."""
    if str(asked) != TAESD:
        return str(asked)
    card = loaded.card
    if card.preview is not None:
        place = Path(card.preview) if card.directory is None else (card.directory / card.preview).resolve()
        if not place.is_dir():
            raise ValueError(
                f"{card.directory}/{CARD} names {card.preview!r}, and there is no {place}; correct the card"
            )
        return str(place)
    vae = getattr(getattr(loaded.sampler, "pipe", None), "vae", None)
    config: Mapping[str, Any] = getattr(vae, "config", {})
    if config.get("_class_name", type(vae).__name__) == "AutoencoderKL":
        here = (config.get("latent_channels"), config.get("scaling_factor"), config.get("shift_factor") or 0.0)
        for known, (place_there, _) in _KNOWN.items():
            if here[0] == known[0] and np.allclose(np.array(here[1:], float), known[1:], atol=1e-4):
                return place_there
    known_ones = ", ".join(f"{model} ({place_there})" for place_there, model in _KNOWN.values())
    raise ValueError(
        f"preview={TAESD!r}: no small decoder is known for the latents of {loaded.name} ({type(vae).__name__}); known "
        f"are those of {known_ones}; give the directory or hub id of one, or a function from latents to images"
    )


def _read(name: str, place: str, dtype: torch.dtype) -> Any:
    """An `AutoencoderTiny` from its directory or the hub; never a pickle."""
    from diffusers import AutoencoderTiny

    here = Path(place).is_dir()
    if not here and (place.count("/") != 1 or place.startswith((".", "/", "~"))):
        raise ValueError(
            f"preview={name!r}: no such directory; expected {TAESD!r}, a directory or hub id (owner/name) of an "
            "AutoencoderTiny, or a function"
        )
    try:
        with quiet_loading():
            offline = not hub.reachable()
            return AutoencoderTiny.from_pretrained(
                place, use_safetensors=True, local_files_only=offline, torch_dtype=dtype
            )
    except Exception as error:  # network, hub and file system errors share no base class
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"preview={name!r}: {place} can't be loaded as an AutoencoderTiny: {why}") from error


@dataclass
class Agreement:
    """How alike a small decoder and the model's own rank x0 predictions, by those that both have shown.

    Attributes:
        pairs: by verifier key, the scores by the small decoder and by the model's own.
    """

    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, small: Mapping[str, float], full: Mapping[str, float]) -> None:
        """Take in what verifiers said of one x0 prediction; scores that failed tell nothing."""
        for key, value in full.items():
            if np.isfinite(value) and np.isfinite(small.get(key, np.nan)):
                self.pairs.setdefault(key, []).append((small[key], value))

    @property
    def correlations(self) -> dict[str, float]:
        """Spearman's, by verifier key; of those that 4 pairs or more tell."""
        several = {key: np.array(pairs).T for key, pairs in self.pairs.items() if len(pairs) >= _LEAST}
        return {key: round(float(spearmanr(small, full).statistic), 4) for key, (small, full) in several.items()}

    def record(self) -> dict[str, Any]:
        """As plain JSON; {} where nothing was compared."""
        count = max(map(len, self.pairs.values()), default=0)
        return {"compared": count, "rank_correlation": self.correlations} if count else {}

    def warn(self, name: str) -> None:
        """Say of which verifiers the small decoder, of this name, doesn't keep the ranks."""
        if low := {key: value for key, value in self.correlations.items() if not value >= _LOW}:
            told = ", ".join(f"{value:.2f} by {key}" for key, value in low.items())
            log.warning(
                "preview %s ranks x0 predictions otherwise than the full decoder (rank correlation %s): leave it out, "
                "or trust what was pruned less",
                name,
                told,
            )


def agreement_in_words(preview: Mapping[str, Any]) -> str:
    """A preview's record as a line: its name, and how its ranks agree with the full decoder's."""
    count, found = preview.get("compared", 0), preview.get("rank_correlation", {})
    if not found:
        return f"{preview['name']}: its ranks weren't compared with the full decoder's"
    told = ", ".join(f"{value:.2f} by {key}" for key, value in found.items())
    return f"{preview['name']}: rank correlation with the full decoder {told}, on {counted(count, 'x0 prediction')}"


def told_to_workers(asked: PreviewLike) -> str | None:
    """A preview in words that a worker resolves again.

    Raises:
        ValueError: it has none.
    """
    if str(asked) == TAESD:  # whatever folder there is of that name, as in `_place`
        return TAESD
    if asked is None or (isinstance(asked, str) and not Path(asked).is_dir()):
        return asked
    if isinstance(asked, Path | str):
        return str(Path(asked).resolve())
    raise ValueError(
        f"workers load what they decode with themselves, and preview={getattr(asked, '__name__', asked)!r:.60} can't "
        "be told to them: give 'taesd', or the directory or hub id of an AutoencoderTiny"
    )
