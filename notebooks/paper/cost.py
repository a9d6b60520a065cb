"""GFLOP of one NFE of each model, counted by torch: `python notebooks/paper/cost.py`."""

import torch
from diffusers import DiffusionPipeline
from torch.utils.flop_counter import FlopCounterMode

from noise_search.shapes import EMBEDDED_MODELS, SMALL, small_flow


def main() -> None:
    """Print the models with the floating point operations of one NFE, a row with the prompt and one without."""
    print("shapes-flow", _cost(DiffusionPipeline.from_pretrained(EMBEDDED_MODELS["shapes-flow"])))
    print(SMALL, _cost(small_flow("cpu")))


@torch.no_grad()
def _cost(pipe: DiffusionPipeline) -> float:
    denoiser = pipe.transformer.float()
    rows, image, text, width = 2, 64, 16, denoiser.config.joint_attention_dim
    with FlopCounterMode(display=False) as counter:
        denoiser(
            hidden_states=torch.zeros(rows, image, denoiser.config.in_channels),
            encoder_hidden_states=torch.zeros(rows, text, width),
            pooled_projections=torch.zeros(rows, denoiser.config.pooled_projection_dim),
            timestep=torch.ones(rows),
            img_ids=torch.zeros(image, 3),
            txt_ids=torch.zeros(text, 3),
        )
    return round(counter.get_total_flops() / 1e9, 4)


if __name__ == "__main__":
    main()
