"""Where random numbers come from: one stream per row and purpose, float32, CPU, never the global one."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def seeded_noise(seed: int, shape: Sequence[int]) -> Float[Tensor, " *latent"]:
    """N(0, 1) noise as diffusers draws it for one image from `torch.Generator().manual_seed(seed)`.

    torch's CPU generator keeps the low 32 bits of a seed: `seed` and `seed + 2**32` give the same noise.
    """
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float32)[0]


def keyed_noise(key: str, shape: Sequence[int]) -> Float[Tensor, " *latent"]:
    """N(0, 1) noise that depends on `key` alone, and never coincides with `seeded_noise`.

    Philox takes 128 bits of the key's sha256 where torch's CPU generator would keep 32, and its float32
    normals are the same on every machine.
    """
    digest = hashlib.sha256(key.encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
    return torch.from_numpy(generator.standard_normal(math.prod(shape), dtype=np.float32)).reshape(tuple(shape))


def step_noise(streams: Sequence[str], step: int, shape: Sequence[int]) -> Float[Tensor, " batch *latent"]:
    """The fresh noise of a stochastic step that starts at grid point `step`, one row per stream."""
    return torch.stack([keyed_noise(f"step:{stream}:{step}", shape) for stream in streams])
