"""Clips `[batch, frames, 3, height, width]`: what of them is scored, and which frame stands for one."""

import torch
from torch import Tensor

from samplers.space import NoiseSpace
from verifiers.base import Verifier

FRAMES_SCORED = 8
"""Frames of a clip that a verifier of images sees."""


def makes_clips(space: NoiseSpace) -> bool:
    """Whether rows of this noise become clips: they have a time axis that is longer than 1."""
    return any(axis == "frame" and size > 1 for axis, size in zip(space.axes, space.shape, strict=True))


def is_clip(images: Tensor) -> bool:
    """Whether a batch holds clips rather than images."""
    return images.ndim == 5


def check_frames(verifiers: tuple[Verifier, ...], space: NoiseSpace, model: str) -> None:
    """Raise ValueError for a verifier that needs frames where the model makes images."""
    wanting = [v.name for v in verifiers if "frames" in v.needs]
    if wanting and not makes_clips(space):
        raise ValueError(
            f"verifier {wanting[0]!r} needs frames, and {model} makes single images (noise axes {space.axes}); "
            "use it with a model that makes video, or score with a verifier of images"
        )


def scored(clips: Tensor) -> Tensor:
    """The frames of each clip that a verifier of images sees: at most 8, evenly spaced, both ends among them."""
    frames = clips.shape[1]
    at = torch.linspace(0, frames - 1, min(frames, FRAMES_SCORED)).round().long()
    return clips[:, at.to(clips.device)]


def pictures(images: Tensor, verifier: Verifier) -> int:
    """How many pictures a verifier looks at to score one row of the batch."""
    if not is_clip(images):
        return 1
    return images.shape[1] if "frames" in verifier.needs else min(images.shape[1], FRAMES_SCORED)
