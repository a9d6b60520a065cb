"""What a look costs with published architectures: `PYTHONPATH=tests python tests/benchmarks/look_prices.py`.

Networks have the published sizes and no weights. An evaluation is guided as usual: two rows, one of FLUX.
"""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from verifier_costs import denoisers, gflop

from samplers.pipelines.prices import Counted

BLOCKS = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
DECODERS = {
    "Stable Diffusion 1.5 at 512²": (2, lambda: AutoencoderKL(**BLOCKS), (4, 64, 64)),
    "Stable Diffusion 1.5 at 512², tiny decoder": (2, AutoencoderTiny, (4, 64, 64)),
    "SDXL at 1024²": (2, lambda: AutoencoderKL(**BLOCKS), (4, 128, 128)),
    "FLUX.1 at 1024²": (1, lambda: AutoencoderKL(**BLOCKS, latent_channels=16), (16, 128, 128)),
}
"""Rows of an evaluation, the decoder, and its latents."""


@torch.no_grad()
def main() -> None:
    passes = {name: gflop(forward) * 1e9 for name, forward in denoisers()}
    for name, (rows, build, latents) in DECODERS.items():
        with torch.device("meta"):
            decoder = Counted(build())
        decoder.decode(torch.empty(1, *latents, device="meta"))
        evaluation = rows * passes[name.partition(",")[0]]
        print(f"{name}: decoder {decoder.flops / 1e12:.2f}, evaluation {evaluation / 1e12:.2f} TFLOP, ", end="")
        print(f"price {decoder.flops / evaluation:.2f}", flush=True)


if __name__ == "__main__":
    main()
