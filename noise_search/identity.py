"""Whether a model is the one that a record was made with: by what changes results, not by versions or devices."""

from collections.abc import Mapping
from typing import Any

_ELSEWHERE = {"versions", "device", "dtype", "fingerprint"}
"""Of a model's description: where and how it ran, not what it is."""


def model_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions of a model, in words; [] for the same model.

    What only one side knows, as other versions may describe more, is left to the grid, which it would change; but not
    options. Weights in another dtype can't be compared.
    """
    found = []
    other_dtype = recorded.get("dtype") != here.get("dtype")
    for name, value in here.items():
        if name in _ELSEWHERE or name not in recorded or (name == "weights" and other_dtype):
            continue
        before = recorded.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += _entries(name, before, value, name == "scheduler_config")
        elif before != value:
            found.append(f"{_shown(name)} is {_short(value)} here, {_short(before)} recorded")
    return found


def computed_otherwise(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Why the images of one model may differ by more than rounding: it computes elsewhere, or in another dtype."""
    found = []
    if recorded.get("dtype") != here.get("dtype"):
        found.append(
            f"computed in {here.get('dtype')}, recorded in {recorded.get('dtype')}: the image differs by more than 1e-4"
            ", and the weights can't be compared"
        )
    kinds = [str(side.get("device")).split(":")[0] for side in (here, recorded)]
    if kinds[0] != kinds[1]:
        found.append(f"computed on {kinds[0]}, recorded on {kinds[1]}: the image may differ by more than 1e-4")
    return found


def _entries(name: str, before: Mapping[str, Any], value: Mapping[str, Any], shared_only: bool) -> list[str]:
    keys = before.keys() & value.keys() if shared_only else before.keys() | value.keys()
    different = sorted(k for k in keys if before.get(k) != value.get(k))
    if name == "weights":
        return [f"the weights of {', '.join(different)} differ"] if different else []
    return [f"{_shown(name)} {k} is {_short(value.get(k))} here, {_short(before.get(k))} recorded" for k in different]


def _shown(name: str) -> str:
    return {"scheduler_config": "the scheduler's", "options": "option", "pipeline": "the pipeline"}.get(name, name)


def _short(value: Any) -> str:
    return "missing" if value is None else f"{value}" if isinstance(value, str | int | float) else f"{value!r:.60}"
