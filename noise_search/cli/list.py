"""`noise-search list`: what there is to choose from."""

import inspect
import shutil
import textwrap
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.cli.options import Format, Printed, Said

if TYPE_CHECKING:
    from verifiers.card import Card

_MODEL_SUMMARIES = {
    "shapes-ddim": "embedded StableDiffusionPipeline (DDIM, epsilon) of a world of coloured shapes, 64 x 64",
    "shapes-flow": "embedded FluxPipeline (flow matching) of the same world, 64 x 64",
}


def list_(format: Printed = Format.human) -> Said:
    """Show models, algorithms and verifiers."""
    content = catalogue()
    if format is Format.json:
        return Said(content)
    lines = []
    for section, entries in content.items():
        lines.append(section)
        width = max(map(len, entries))
        for name, entry in entries.items():
            lines.append(_indented(f"{name:<{width}}  {entry['summary']}", width, margin=2))
            if details := entry.get("details"):
                lines.append(_indented(details, width))
            if options := entry.get("options"):
                lines.append(_indented("options: " + ", ".join(f"{k}={_short(v)}" for k, v in options.items()), width))
    from verifiers.catalogue import ADVICE

    return Said("\n".join([*lines, "", _indented(ADVICE, 0, margin=0)]))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}..."


def _indented(text: str, width: int, margin: int | None = None) -> str:
    """Lines as wide as the terminal, behind the column of names; the first one's own margin may be smaller."""
    columns, rest = max(60, shutil.get_terminal_size((80, 24)).columns), " " * (width + 4)
    first = rest if margin is None else " " * margin
    told = textwrap.fill(
        text.replace("  ", "\0\0"), columns, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
    return told.replace("\0", " ")


def catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """Models, algorithms and verifiers by name, each with a one-line summary, as plain JSON."""
    import verifiers
    from noise_search.algorithms import ALGORITHMS
    from noise_search.models import CARD, read_card
    from noise_search.shapes import EMBEDDED_MODELS
    from noise_search.shapes.cards import EMBEDDED_CARDS
    from verifiers.catalogue import verifier_class

    models = {}
    for name, directory in EMBEDDED_MODELS.items():
        card = read_card(directory)
        models[name] = {
            "summary": _MODEL_SUMMARIES[name],
            "defaults": dict(sorted(card.defaults.items())),
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
    known = {name: _entry(card, _options(verifier_class(name))) for name, card in verifiers.available().items()}
    known |= {name: _entry(card, _embedded_options(name)) for name, card in EMBEDDED_CARDS.items()}
    return {"models": models, "algorithms": algorithms, "verifiers": known}


def _entry(card: "Card", options: dict[str, Any]) -> dict[str, Any]:
    return {"summary": card.measures, "details": card.details, "options": options, **asdict(card)}


def _options(kind: type) -> dict[str, Any]:
    """Arguments of a class with their defaults; of those that JSON can't hold, the name."""
    from verifiers.arguments import parameters

    return {name: _plain(one.default) for name, one in parameters(kind).items()}


def _embedded_options(name: str) -> dict[str, Any]:
    """Arguments of an embedded verifier with the values that it has; paths are relative to where it is installed."""
    from noise_search.shapes import EMBEDDED_VERIFIERS, WEIGHTS
    from noise_search.shapes.oracle import Oracle
    from verifiers.catalogue import verifier_class

    settings = dict(EMBEDDED_VERIFIERS[name])
    kind = settings.pop("kind")
    if "model" in settings:
        settings.setdefault("pretrained", None)  # the default tag belongs to the default model
    return _options(Oracle if kind == "oracle" else verifier_class(kind)) | {
        option: _plain(Path(value).relative_to(WEIGHTS.parent).as_posix() if str(WEIGHTS) in str(value) else value)
        for option, value in settings.items()
    }


def _plain(value: Any) -> Any:
    import torch

    if value is inspect.Parameter.empty:
        return None
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value if isinstance(value, int | float | str | list | tuple | None) else type(value).__name__
