"""Stable Diffusion's safety checker, whose calibrated numbers stay float32; imported by name when it loads."""

from pathlib import Path
from typing import Any, ClassVar

from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]
    """The checker of diffusers as a source of weights; its forward, which blackens images in place, is never called."""

    _keep_in_fp32_modules_strict: ClassVar[Any] = {"concept_embeds", "special_care_embeds"}  # and their thresholds

    @classmethod
    def from_pretrained(cls, model: str, **options: Any) -> Any:
        """Load it; from the hub as the pickle that is published there."""
        # Left open, transformers asks a bot to open a pull request with converted weights in the repository.
        if options.get("use_safetensors") is None and not Path(model).is_dir():
            options["use_safetensors"] = False
        return super().from_pretrained(model, **options)
