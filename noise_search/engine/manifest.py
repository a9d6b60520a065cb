"""What a run directory says was asked for: whether a search may go on there, and how to ask for it again."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from noise_search.algorithms import RECORDED
from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.arguments import check_flags
from noise_search.disk.files import check_free, check_writable, plain
from noise_search.disk.lease import lease
from noise_search.disk.run import EVALUATIONS, MANIFEST, RUN_VERSION, RunFiles
from noise_search.engine.run import KeepImages
from noise_search.engine.setup import SearchOptions
from noise_search.models import ELSEWHERE
from noise_search.resolve import Named
from noise_search.results.record import knowledge_record, model_differences, own_versions, settings_text
from noise_search.results.saving import files_of
from noise_search.words import unknown
from samplers.contents import describe, is_told
from samplers.recipe import Recipe
from verifiers.aggregators.base import Aggregator
from verifiers.code import UNTOLD

_FREE = (
    *("nfe", "candidates", "run", "overwrite", "retry_failed", "workers"),
    *("progress", "on_candidate", "on_interrupt", "log"),
)
"""Of a call, what the next one that goes on says anew, or nothing."""


class AnotherSearch(ValueError):
    """A run directory holds another search than the one that would go on there."""


def check_run(run: Any, keep_images: Any, retry_failed: Any, overwrite: Any) -> None:
    """Refuse what no run directory can be; before a model is loaded."""
    check_flags(retry_failed=retry_failed, overwrite=overwrite)
    if keep_images not in get_args(KeepImages):
        raise unknown("keep_images", str(keep_images), get_args(KeepImages))
    if run is None:
        asked = {"keep_images": keep_images != "top", "retry_failed": retry_failed, "overwrite": overwrite}
        if meant := [name for name, given in asked.items() if given]:
            raise ValueError(f"{meant[0]} is about a run's directory; give run= with it")
    elif not isinstance(run, str | Path) or not str(run):
        raise TypeError(f"run={run!r} must be a directory, such as 'runs/circle'")


def identity(
    prompts: Sequence[str],
    seeds: Sequence[int],
    algorithm: SearchAlgorithm,
    aggregator: Aggregator,
    terms: Terms,
    settings: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that what is evaluated depends on, as plain JSON; not budget, limits, judges, batches or device."""
    described = settings["model"]
    model = {name: value for name, value in described.items() if name not in ELSEWHERE or name == "dtype"}
    if model.get("weights"):  # then a directory may have moved, and a loaded pipeline be what a name was
        del model["name"]
    asked = {
        "prompts": list(prompts),
        "seeds": list(seeds),
        "model": model,
        "verifier": aggregator.describe(),
        "algorithm": {"name": algorithm.name, "settings": settings_text(algorithm)},
        "own": own_versions({algorithm.name: algorithm}, aggregator),
        "grid": terms.space.id,
        "baseline": terms.baseline,
        **knowledge_record(terms),
        **{name: settings[name] for name in ("sources", "deterministic") if name in settings},
        **more,
    }
    found: dict[str, Any] = plain(asked)
    return found


def differences(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two searches, in words; [] where one may go on with what the other evaluated."""
    found = model_differences(before.get("model", {}), here["model"])
    if before.get("model", {}).get("dtype") != here["model"].get("dtype"):
        found.append(f"dtype is {here['model'].get('dtype')} here, {before['model'].get('dtype')} recorded")
    said = {"model", "grid"} if found else {"model"}  # a grid follows from its model, and says no more of it
    for name in sorted((before.keys() | here.keys()) - said):
        found += _apart(name, before.get(name), here.get(name))
    return found


def untold(here: Mapping[str, Any]) -> list[str]:
    """Objects of the user's own of which nothing tells whether they are those of before, and why."""
    own = [f"{what} ({why.removeprefix(UNTOLD).lstrip(': ')})" for what, why in here["own"].items() if UNTOLD in why]
    members = here["verifier"].get("verifiers", [])
    own += [f"verifier {one['name']!r} ({one['untold']})" for one in members if "untold" in one]
    if str(here.get("preview", "")).startswith(UNTOLD):
        own.append(f"preview ({here['preview'].removeprefix(UNTOLD).lstrip(': ')})")
    options = here["model"].get("options", {})
    return own + [f"option {name} ({describe(value)})" for name, value in options.items() if not is_told(value)]


@contextmanager
def held(directory: Path, here: Mapping[str, Any], overwrite: bool) -> Iterator[RunFiles]:
    """Hold a directory for a search: new, empty, or of the same search, which goes on there.

    Args:
        directory: that of the run.
        here: the search's `identity`.
        overwrite: whether what an earlier search wrote there is removed instead.

    Raises:
        ValueError: another process writes there, it is of another search or somebody else's, or can't be written to.
    """
    check_writable(directory)
    with lease(directory):
        files = RunFiles(directory)
        known = {} if overwrite else files.manifest()
        if known:
            check_same(directory, known["identity"], here)
        else:
            ours = files_of(directory)
            check_free(directory, (MANIFEST, EVALUATIONS), ours, overwrite)
            for name in sorted(ours - {MANIFEST}):  # by its manifest a directory is known: that goes last
                (directory / name).unlink(missing_ok=True)
            (directory / MANIFEST).unlink(missing_ok=True)
        yield files


def check_same(directory: Path, before: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with another search.

    Raises:
        AnotherSearch: with all that differs.
    """
    if apart := differences(before, here):
        raise AnotherSearch(
            f"{str(directory)!r} holds another search: {'; '.join(apart)}: give another directory, the same settings, "
            "or overwrite=True (--overwrite), which removes it"
        )
    if unknown := untold(here):
        raise AnotherSearch(
            f"{str(directory)!r} can't be gone on with, as nothing tells whether this is the same: "
            f"{'; '.join(unknown)}: "
            "give it an attribute `version`, and another one with every change, or use another directory"
        )


def manifest(
    known: Mapping[str, Any],
    here: Mapping[str, Any],
    settings: Mapping[str, Any],
    call: Mapping[str, Any],
    single: bool,
    terms: Terms,
    attempt: Mapping[str, Any],
) -> dict[str, Any]:
    """What `run.json` holds: of this attempt, and a line of each before."""
    return {
        "run_version": RUN_VERSION,
        "prompts": here["prompts"],
        "seeds": here["seeds"],
        "single": single,
        "nfe": terms.nfe_total,
        "top_k": call["top_k"],
        "attempts": [*known.get("attempts", []), {"began": time.strftime("%Y-%m-%dT%H:%M:%S"), **attempt}],
        "call": {name: written(value) for name, value in call.items() if name not in _FREE and value is not None},
        "identity": here,
        "settings": settings,
    }


_KIND = "noise_search"
"""Marks, among the arguments of a call, an object of ours in plain JSON."""


def written(value: Any) -> Any:
    """An argument of a call as plain JSON, from which `read` makes it again; what can't be is named.

    Algorithms, verifiers by name, dtypes and paths have a form of their own.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path | torch.device):
        return str(value)
    if isinstance(value, torch.dtype):
        return {_KIND: "dtype", "name": str(value).removeprefix("torch.")}
    if isinstance(value, Named):
        return {_KIND: "verifier", "name": value.name, "options": written(value.options)}
    kind = next((name for name, one in RECORDED.items() if type(value) is one), None)
    if kind is not None and is_dataclass(value):
        options = {one.name: written(getattr(value, one.name)) for one in fields(value) if one.init}
        return {_KIND: "algorithm", "name": kind, "options": options}
    if isinstance(value, Recipe):
        return [written(op) for op in value.operations]
    if isinstance(value, Mapping):
        return {str(name): written(one) for name, one in value.items()}
    if isinstance(value, list | tuple | range):
        return [written(one) for one in value]
    return {_KIND: "object", "name": f"{type(value).__name__}"}


def read(value: Any) -> Any:
    """An argument again.

    Raises:
        ValueError: it was an object that can't be made again; its text names it.
    """
    if isinstance(value, list):
        return [read(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    kind, name = value.get(_KIND), str(value.get("name"))
    if kind is None:
        return {key: read(one) for key, one in value.items()}
    options = {key: read(one) for key, one in value.get("options", {}).items()}
    if kind == "dtype" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if kind == "verifier":
        return Named(name, options)
    if kind == "algorithm" and name in RECORDED:
        made = {key: tuple(one) if isinstance(one, list) else one for key, one in options.items()}
        make: Any = RECORDED[name]
        return make(**made)
    raise ValueError(name)


def recorded(known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a search that a manifest gives to the next one, in plain JSON.

    A manifest may be a stranger's: where workers are, and what is written or removed, is not for it to say.
    """
    taken = SearchOptions.__annotations__.keys() - {*_FREE}
    return {name: one for name, one in known["call"].items() if name in taken}


def call_again(directory: Path, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `search` that go on with a run.

    Args:
        directory: of the run.
        known: its manifest.
        given: arguments in place of those recorded, objects that can't be made again among them.

    Raises:
        ValueError: one that can't be made again isn't given.
    """
    found: dict[str, Any] = {}
    lost = []
    for name, value in recorded(known).items():
        if name in given:
            continue
        try:
            found[name] = read(value)
        except ValueError as error:
            lost.append(f"{name} (a {error})")
    if lost:
        again = ", ".join(f"{one.split()[0]}=..." for one in lost)
        raise ValueError(
            f"{str(directory)!r} was searched with objects that can't be read back: {', '.join(lost)}; give them "
            f"again: load(run).resume({again}), or search(..., run=...) as before"
        )
    return {**found, **given, "run": directory}


_SHOWN = 60


def _apart(name: str, before: Any, here: Any) -> list[str]:
    """What differs below a name, down to single values."""
    if before == here:
        return []
    if isinstance(before, Mapping) and isinstance(here, Mapping):
        keys = sorted(before.keys() | here.keys())
        return [said for key in keys for said in _apart(f"{name}.{key}", before.get(key), here.get(key))]
    if isinstance(before, list) and isinstance(here, list) and len(before) == len(here):
        pairs = enumerate(zip(before, here, strict=True))
        return [said for at, (old, new) in pairs for said in _apart(f"{name}[{at}]", old, new)]
    return [f"{name} is {_said(here)} here, {_said(before)} recorded"]


def _said(value: Any) -> str:
    said = "nothing" if value is None else repr(value)
    return said if len(said) <= _SHOWN else f"{said[: _SHOWN - 3]}..."
