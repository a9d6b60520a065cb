"""Models of transformers and diffusers whose calibrated numbers stay float32 when the rest is half precision.

Imported by name when they load: importing transformers is slow.
"""

from typing import Any, ClassVar

from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPModel


class ScaledCLIP(CLIPModel):  # type: ignore[misc]
    """A `CLIPModel` with a float32 logit scale: rounded to bfloat16, exp(logit_scale) is off by 1 %."""

    _keep_in_fp32_modules_strict: ClassVar[Any] = {"logit_scale"}


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]
    """The checker of diffusers as a source of weights; its forward, which blackens images in place, is never called."""

    _keep_in_fp32_modules_strict: ClassVar[Any] = {"concept_embeds", "special_care_embeds"}  # and their thresholds
