"""The embedded world: a closed world of coloured shapes in which everything is real and small.

Two trained pipelines, a CLIP and an aesthetic head trained on the same world, and an oracle that reads an image by
rule, without learned weights. All of it runs on a CPU, offline.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.shapes.scenes import SINGLE_OBJECTS

if TYPE_CHECKING:
    from diffusers import FluxPipeline

    from verifiers.base import Verifier

WEIGHTS = Path(__file__).parent / "weights"

EMBEDDED_MODELS = {"shapes-ddim": WEIGHTS / "shapes-ddim", "shapes-flow": WEIGHTS / "shapes-flow"}
"""Directories of the embedded pipelines; `DiffusionPipeline.from_pretrained` reads them."""

SMALL = "shapes-flow-small"
TINY = "tiny-vae"
"""The decoder of looks of both models."""

DECLARED_VERIFIERS: Mapping[str, Mapping[str, Any]] = {
    "clip": {"kind": "clip", "model": "../clip"},
    "aesthetic": {"kind": "aesthetic", "model": "../clip", "weights": "../aesthetic/head.safetensors"},
    "consistency": {"kind": "consistency", "features": "clip", "model": "../clip"},
    "vlm": {"kind": "vlm", "model": "../vlm", "batch": 64},
    "class": {"kind": "class", "model": "../clip", "classes": list(SINGLE_OBJECTS), "templates": ["{}"]},
    "oracle": {"kind": "oracle"},
}
"""What the embedded models mean by these names; paths are relative to a model's directory."""


def _absolute(value: Any) -> Any:
    return str(WEIGHTS / value[3:]) if isinstance(value, str) and value.startswith("../") else value


EMBEDDED_VERIFIERS: Mapping[str, Mapping[str, Any]] = {
    f"shapes-{name}": {option: _absolute(value) for option, value in settings.items()}
    for name, settings in DECLARED_VERIFIERS.items()
}
"""Verifiers of the embedded world by the full names under which any model may ask for them."""


def embedded_verifier(settings: Mapping[str, Any]) -> "Verifier":
    """Build an embedded verifier from its settings."""
    options = {k: v for k, v in settings.items() if k != "kind"}
    if settings["kind"] == "oracle":
        from noise_search.shapes.oracle import Oracle

        return Oracle(**options)
    import verifiers

    found: Verifier = verifiers.load(settings["kind"], **options)
    return found


def small_flow(device: str | None = None) -> "FluxPipeline":
    """`shapes-flow` with a transformer of half its width, trained on the same batches, in float32.

    A quarter of the arithmetic per NFE, and worse samples: what search with a small model buys is held against it
    (Ma et al. 2025, arXiv 2501.09732, section 5.5).
    """
    import torch
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel.from_pretrained(WEIGHTS / SMALL / "transformer", dtype=torch.float32)
    whole = EMBEDDED_MODELS["shapes-flow"]
    pipe = FluxPipeline.from_pretrained(whole, transformer=transformer, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
