"""A smaller sibling of `shapes-flow`: half as wide, and otherwise the same pipeline."""

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from noise_search.shapes import EMBEDDED_MODELS, WEIGHTS

SMALL = "shapes-flow-small"


def small_flow(device: str | None = None) -> FluxPipeline:
    """`shapes-flow` with a transformer of half its width, trained on the same batches, in float32.

    A quarter of the arithmetic per NFE, and worse samples: what search with a small model buys is held against it
    (Ma et al. 2025, arXiv 2501.09732, section 5.5).
    """
    transformer = FluxTransformer2DModel.from_pretrained(WEIGHTS / SMALL / "transformer", dtype=torch.float32)
    whole = EMBEDDED_MODELS["shapes-flow"]
    pipe = FluxPipeline.from_pretrained(whole, transformer=transformer, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
