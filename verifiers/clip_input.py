"""The input of OpenAI's CLIP towers, and of the many models that took it over."""

from verifiers.preprocess import Preprocess

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_input(side: int, crop: str) -> Preprocess:
    """Shortest side to `side` pixels, bicubic; centre crop, "round" as in OpenAI's code, "floor" as in transformers."""
    return Preprocess((side, side), MEAN, STD, crop=crop)
