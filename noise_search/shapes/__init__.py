"""The embedded world: a closed world of coloured shapes in which everything is real and small.

Two trained pipelines, a CLIP and an aesthetic head trained on the same world, and an oracle that reads an image by
rule, without learned weights. All of it runs on a CPU, offline.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifiers.base import Verifier

WEIGHTS = Path(__file__).parent / "weights"

EMBEDDED_MODELS = {"shapes-ddim": WEIGHTS / "shapes-ddim", "shapes-flow": WEIGHTS / "shapes-flow"}
"""Directories of the embedded pipelines; `DiffusionPipeline.from_pretrained` reads them."""

EMBEDDED_VERIFIERS: Mapping[str, Mapping[str, Any]] = {
    "shapes-clip": {"kind": "clip", "model": str(WEIGHTS / "clip")},
    "shapes-aesthetic": {
        "kind": "aesthetic",
        "model": str(WEIGHTS / "clip"),
        "weights": str(WEIGHTS / "aesthetic" / "head.safetensors"),
    },
    "shapes-consistency": {"kind": "consistency", "features": "clip", "model": str(WEIGHTS / "clip")},
    "shapes-vlm": {"kind": "vlm", "model": str(WEIGHTS / "vlm"), "batch": 64},
    "shapes-oracle": {"kind": "oracle"},
}
"""Verifiers of the embedded world by the full names under which any model may ask for them."""


def embedded_verifier(settings: Mapping[str, Any]) -> "Verifier":
    """Build an embedded verifier from its settings."""
    options = {k: v for k, v in settings.items() if k != "kind"}
    if settings["kind"] == "oracle":
        from noise_search.shapes.oracle import Oracle

        return Oracle(**options)
    import verifiers

    return verifiers.load(settings["kind"], **options)
