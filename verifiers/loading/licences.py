"""Licences of well-known weights that forbid commercial use, set terms, or are not stated at all.

Read from the model cards and licence files of the repositories named; as they may change, the notice tells where to
look. Weights that are not listed here are MIT, Apache-2.0, or unknown to us.
"""

import re

from verifiers.loading import notices

_RESEARCH_ONLY = "licensed for research only, no commercial use"


_TERMS: tuple[tuple[str, str], ...] = (
    (r"mobileclip|dfn[25]b|apple/", f"Apple's weights are {_RESEARCH_ONLY}; see their model card"),
    (r"metaclip", f"MetaCLIP's weights are {_RESEARCH_ONLY} (CC-BY-NC-4.0)"),
    (r"nllb-clip", f"NLLB-CLIP's weights are {_RESEARCH_ONLY} (CC-BY-NC-4.0)"),
    (r"qwen2\.5-vl-3b", f"these weights are {_RESEARCH_ONLY} (Qwen research licence)"),
    (
        r"qwen2(\.5)?-vl-72b",
        "these weights are under the Qwen licence, which sets terms for commercial use; see their model card",
    ),
    (
        r"llama-3\.2-\d+b-vision",
        "gated weights under the Llama 3.2 licence; read on their model card whom its terms leave out, and accept them",
    ),
    (r"paligemma|gemma-?3", "gated weights under the Gemma terms of use; read and accept them on their model card"),
    (r"facebook/dinov3|dinov3-", "gated weights under the DINOv3 licence; accept its terms on their model card"),
    (r"stable-diffusion-safety-checker", "CreativeML OpenRAIL-M: its use restrictions apply"),
    (r"inception_v3_google", "no licence is stated for these weights; ask before commercial use"),
    (r"pickscore_v1", "no licence is stated for these weights; ask their authors before commercial use"),
    (
        r"ddpo-aesthetic-predictor|improved-aesthetic-predictor|linearmse",
        "no licence file was found for this head; ask its author before commercial use",
    ),
    (r"^re-n-y/", "no licence is stated for these weights; commercial use isn't allowed without one"),
)


def terms(weights: str) -> str | None:
    """What the licence of weights, named by hub id, tag or file name, forbids or leaves open; None where nothing is."""
    return next((said for pattern, said in _TERMS if re.search(pattern, weights.lower())), None)


def flag(weights: str) -> None:
    """Warn once about weights that a user may not use for everything."""
    if found := terms(weights):
        notices.restricted(weights, found)
