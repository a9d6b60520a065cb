"""Models of CLIP's family whose calibrated numbers stay float32 when their towers are half precision.

Imported by name when they load: importing transformers is slow.
"""

from typing import Any, ClassVar

from transformers import CLIPModel


class ScaledCLIP(CLIPModel):  # type: ignore[misc]
    """A `CLIPModel` with a float32 logit scale: rounded to bfloat16, exp(logit_scale) is off by 1 %."""

    _keep_in_fp32_modules_strict: ClassVar[Any] = {"logit_scale"}
