"""Stable Diffusion's safety checker, whose calibrated numbers stay float32; imported by name when it loads."""

from typing import Any, ClassVar

from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]
    """The checker of diffusers as a source of weights; its forward, which blackens images in place, is never called."""

    _keep_in_fp32_modules_strict: ClassVar[Any] = {"concept_embeds", "special_care_embeds"}  # and their thresholds
