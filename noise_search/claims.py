"""What is claimed of a pipeline's class without looking: the table of tested ones, and what was shown here before."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from noise_search.disk.files import write_atomically
from noise_search.version import __version__
from samplers.contents import recorded
from samplers.pipelines.claims import Claims, show
from samplers.pipelines.sampler import PipelineSampler

TABLE = Path(__file__).parent / "data" / "pipelines.json"
"""Written by `tests/benchmarks/pipelines.py`."""


@functools.cache
def tested() -> Mapping[str, Mapping[str, Any]]:
    """By class of diffusers, which claims hold in the table of tested pipelines; None for in some of its rows.

    `plain`: a run is the plain pipeline's; `rows`: a row in a batch is the row alone; `pieces`: a run may stop.
    """
    return dict(json.loads(TABLE.read_text(encoding="utf-8"))["classes"])


class Shown:
    """Asked by `sampler_for`: whether a sampler can be trusted on its pipeline.

    Classes of the table are; others are looked at once for each class, kind of options, and versions, and what was seen
    is remembered in the user's cache.

    Attributes:
        record: what it rests on, as plain JSON.
        nfe: denoiser evaluations that looking took.
    """

    def __init__(self, prompt: str | None) -> None:
        self._prompt = "a photo" if prompt is None else prompt
        self.record: dict[str, Any] = {}
        self.nfe = 0

    def __call__(self, sampler: PipelineSampler) -> Claims:
        """The claims of a sampler."""
        name = type(sampler.pipe).__name__
        entry = tested().get(name) if type(sampler.pipe).__module__.startswith("diffusers.") else None
        if entry is not None and entry["plain"] and entry["rows"] is not None:
            self.record = {"tested": name, **entry}
            return Claims(0.0, 0.0 if entry["rows"] else None, True, 1.0, pieces=entry["pieces"])
        key = _key(sampler)
        known = _read().get(key)
        if known is None:
            claims = show(sampler, self._prompt)
            self.nfe += claims.nfe
            _remember(key, claims)
        else:
            claims = Claims(**known)
        self.record = {"shown": asdict(claims), "before": known is not None}
        return claims


def cache() -> Path:
    """The user's cache: `NOISE_SEARCH_CACHE`, else noise-search in the directory that systems have for it."""
    if own := os.environ.get("NOISE_SEARCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noise-search"


def _key(sampler: PipelineSampler) -> str:
    """What a claim depends on: not the prompt, the weights, or what a picture among the options shows."""
    import diffusers

    told = sampler.kind()
    told |= {"options": _shapes(recorded(told["options"])), "diffusers": diffusers.__version__, "version": __version__}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _shapes(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _shapes(v) for k, v in value.items() if k != "sha256"}
    return [_shapes(v) for v in value] if isinstance(value, list) else value


def _file() -> Path:
    return cache() / "claims.json"


def _read() -> dict[str, dict[str, Any]]:
    """Nothing where there is no such file, or a damaged one: it can be shown again."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    named = {one.name for one in fields(Claims)}
    entries = found.items() if isinstance(found, dict) else ()
    return {key: one for key, one in entries if isinstance(one, dict) and one.keys() == named}


def _remember(key: str, claims: Claims) -> None:
    """For the next search; where nothing can be written, that one looks again."""
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps({**_read(), key: asdict(claims)}, indent=1).encode())
    except OSError:
        return
