"""What a result says of where it was made: enough to make it again elsewhere, and to say what to expect there."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.models import ELSEWHERE, LoadedModel
from noise_search.version import __version__
from samplers.space import NoiseSpace
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier
from verifiers.code import UNTOLD, version_of, why_untold

RECORD_VERSION = 1
"""Of what PNGs and result.json hold; a newer one isn't read by this version."""


DRAWS = ("torch", "cpu_capability", "machine")
"""What torch's CPU generator depends on: equal here, and a seed draws the same bits."""


def environment() -> dict[str, str]:
    """Versions and hardware that the bits of a noise or of an image can depend on."""
    return {
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "diffusers": version("diffusers"),
        "python": platform.python_version(),
        "noise_search": __version__,
    }


def search_record(
    loaded: LoadedModel, aggregator: Aggregator, judges: Sequence[Verifier], seed: int, deterministic: bool
) -> dict[str, Any]:
    """What was searched with, as plain JSON."""
    return {
        "record_version": RECORD_VERSION,
        "environment": environment(),
        "model": model_record(loaded, loaded.described),
        "verifier": aggregator.describe(),
        "judges": [v.describe() for v in judges],
        "families": {v.key: v.family or v.key for v in (*aggregator.verifiers, *judges)},
        "seed": seed,
        "deterministic": deterministic,
    }


def sampler_record(loaded: LoadedModel) -> dict[str, Any]:
    """How the model was driven, after it was, as plain JSON: what its seeds mean, and what that rests on."""
    sampler = loaded.sampler
    return {
        "plain_seeds": sampler.plain_seeds,
        "asked_steps": sampler.asked_steps,
        "note": sampler.note,
        "check": dict(loaded.shown),
    }


def model_record(loaded: LoadedModel, described: Mapping[str, Any]) -> dict[str, Any]:
    """A model as plain JSON: its name, its sampler's description, and what it was loaded with where it was so."""
    loading = {"loading": dict(loaded.loading)} if loaded.loading else {}
    return {"name": loaded.name, "fingerprint": loaded.fingerprint, **loading, **described}


def unread_record(verifiers: Sequence[Verifier], prompts: Sequence[str]) -> dict[str, Any]:
    """What verifiers cut off the ends of prompts, by prompt and verifier; nothing where all read all."""
    unread = {
        text: found for text in prompts if (found := {v.name: rest for v in verifiers if (rest := v.unread(text))})
    }
    return {"unread_prompts": unread} if unread else {}


def algorithm_record(algorithm: SearchAlgorithm, terms: Terms) -> dict[str, Any]:
    """The algorithm, and how it will share the budget: an algorithm may say more, such as the levels it turns at."""
    describe = getattr(algorithm, "describe", None)
    told = {"candidates": terms.nfe_total // terms.space.end, "steps": terms.space.end}

    def plain(one: Any) -> Any:
        if isinstance(one, np.generic):  # an option of the algorithm may be one of numpy's numbers
            return one.item()
        raise TypeError(f"describe() of algorithm {algorithm.name!r} tells {one!r:.40}; expected plain JSON")

    return {
        "name": algorithm.name,
        "settings": settings_text(algorithm),
        "schedule": told if describe is None else json.loads(json.dumps(dict(describe(terms)), default=plain)),
    }


def knowledge_record(terms: Terms) -> dict[str, Any]:
    """What was known of model, verifier and seeds before the start, as plain JSON; nothing where nothing was."""
    calibration = {} if terms.calibration is None else {"calibration": terms.calibration.to_json(scores=False)}
    return calibration | ({} if terms.prior is None else {"prior": terms.prior.record()})


def settings_text(algorithm: SearchAlgorithm) -> str:
    """What an algorithm calls itself, without addresses, which say nothing to another process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(algorithm))


def own_versions(algorithms: Mapping[str, SearchAlgorithm], aggregator: Aggregator) -> dict[str, str]:
    """What tells the user's own algorithms, by label, and own aggregator from others: a version each, or why not."""
    named: dict[str, Any] = {f"algorithm {label!r}": one for label, one in algorithms.items()}
    named["ensemble"] = aggregator
    own = {what: one for what, one in named.items() if type(one).__module__.partition(".")[0] not in _OURS}
    return {what: f"{UNTOLD}: {why}" if (why := why_untold(one)) else version_of(one) for what, one in own.items()}


_OURS = {"noise_search", "verifiers"}


def grid_record(
    space: NoiseSpace, levels: Sequence[float] = (), steps: int | None = None, points: Sequence[int] = ()
) -> dict[str, dict[str, Any]]:
    """By its id, what to ask a sampler's `space` for to get this grid again."""
    thinned = {"points": list(points)} if points else {}
    return {space.id: {"steps": steps, "levels": list(levels), **thinned}}


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, in words: "torch 2.9.0 recorded, 2.9.1 here"."""
    if not recorded:
        return ["the environment was not recorded"]
    return [
        f"{name} {recorded.get(name, 'not')} recorded, {value} here"
        for name, value in here.items()
        if recorded.get(name) != value
    ]


def same_bits(recorded: Mapping[str, Any], here: Mapping[str, Any], keyed: bool) -> bool:
    """Whether noise is drawn to the same bits: by torch, and where moves are `keyed`, by numpy too."""
    needed = (*DRAWS, "numpy") if keyed else DRAWS
    return all(recorded.get(name) == here[name] for name in needed)


_SHOWN = 100
"""Characters of a value in a message."""


def model_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions of a model, in words; [] for the same model.

    What only one side knows, as other versions may describe more, is left to the grid, which it would change; but not
    options. Weights in another dtype can't be compared.
    """
    found = []
    other_dtype = recorded.get("dtype") != here.get("dtype")
    for name, value in here.items():
        if name in ELSEWHERE or name not in recorded or (name == "weights" and other_dtype):
            continue
        before = recorded.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += _entries(name, before, value, name == "scheduler_config")
        elif before != value:
            found.append(_differs(_shown(name), before, value))
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
    named = "" if name == "changes" else f"{_shown(name)} "
    return [_differs(f"{named}{k}", before.get(k), value.get(k)) for k in different]


def _shown(name: str) -> str:
    return {"scheduler_config": "the scheduler's", "options": "option", "pipeline": "the pipeline"}.get(name, name)


def _differs(name: str, before: Any, here: Any) -> str:
    """What a value is on both sides; of long ones the part where they differ."""
    texts = ["missing" if one is None else one if isinstance(one, str) else f"{one!r}" for one in (here, before)]
    apart = next((at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, apart - _SHOWN // 2) if max(map(len, texts)) > _SHOWN else 0
    here_said, before_said = ("..." * bool(start) + f"{one[start:]:.{_SHOWN}}" for one in texts)
    return f"{name} is {here_said} here, {before_said} recorded"
