"""What there is to choose from: models, algorithms and verifiers."""

import inspect
from dataclasses import asdict, fields
from typing import Any

import torch

import verifiers
from noise_search.algorithms import ALGORITHMS
from noise_search.models import CARD, read_card
from noise_search.shapes import EMBEDDED_MODELS, EMBEDDED_VERIFIERS
from verifiers.catalogue import verifier_class

_MODEL_SUMMARIES = {
    "shapes-ddim": "embedded StableDiffusionPipeline (DDIM, epsilon) of a world of coloured shapes, 64 x 64",
    "shapes-flow": "embedded FluxPipeline (flow matching) of the same world, 64 x 64",
}
_VERIFIER_SUMMARIES = {
    "shapes-clip": "the embedded world's CLIP; what 'clip' means for embedded models",
    "shapes-aesthetic": "the embedded world's rule of composition; what 'aesthetic' means for embedded models",
    "shapes-consistency": "likeness of x0 prediction and finished image to the embedded CLIP; 'consistency' there",
    "shapes-vlm": "a small vision-language model's yes or no; what 'vlm' means for embedded models",
    "shapes-class": "the embedded CLIP as a classifier of single objects; what 'class' means for embedded models",
    "shapes-oracle": "reads an embedded world's image by rule; what 'oracle' means for embedded models",
}


def catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """Models, algorithms and verifiers by name, each with a one-line summary, as plain JSON."""
    models = {}
    for name, directory in EMBEDDED_MODELS.items():
        card = read_card(directory)
        models[name] = {
            "summary": _MODEL_SUMMARIES[name],
            "defaults": dict(card.defaults),
            "verifiers": sorted(card.verifiers),
        }
    models["DIRECTORY or OWNER/NAME"] = {
        "summary": f"any diffusers pipeline; {CARD} beside model_index.json states its defaults"
    }
    algorithms = {
        name: {
            "summary": (inspect.getdoc(kind) or "").splitlines()[0],
            "options": {field.name: field.default for field in fields(kind)},
        }
        for name, kind in ALGORITHMS.items()
    }
    known: dict[str, dict[str, Any]] = {
        name: {
            "summary": card.measures,
            "details": card.details,
            "options": _options(verifier_class(name)),
            **asdict(card),
        }
        for name, card in verifiers.available().items()
    }
    known |= {name: {"summary": _VERIFIER_SUMMARIES[name]} for name in EMBEDDED_VERIFIERS}
    return {"models": models, "algorithms": algorithms, "verifiers": known}


def _options(kind: type) -> dict[str, Any]:
    """Arguments of a class with their defaults; of those that JSON can't hold, the name."""
    parameters = [one for one in inspect.signature(kind).parameters.values() if one.kind is not one.VAR_KEYWORD]
    return {one.name: _plain(one.default) for one in parameters}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value if isinstance(value, int | float | str | list | tuple | None) else type(value).__name__
