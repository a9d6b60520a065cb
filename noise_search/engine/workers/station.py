"""Where a worker stands, in whatever process: with a model and verifiers of its own, that were told to it in words."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from noise_search.engine.scoring import Scorer, free_memory
from noise_search.engine.sources import edited_sources
from noise_search.engine.worker import BatchStopped, LocalWorker, Spent
from noise_search.engine.workers.wire import decode, encode
from noise_search.models import load_model
from noise_search.previews import resolve_preview
from noise_search.resolve import resolve_aggregator
from noise_search.settings import LOADING, ModelSettings
from samplers.base import is_out_of_memory


class Station:
    """Loads what it is told to, and then answers batches.

    Args:
        told: by `encode`, of `asked.description`.
        device: where the model is loaded, such as "cuda:1"; never by CUDA_VISIBLE_DEVICES, which is read but once.

    Raises:
        ValueError: as `load_model` and `resolve_aggregator`.
    """

    def __init__(self, told: bytes, device: str) -> None:
        asked = decode(told)
        sys.path += [path for path in asked["path"] if path not in sys.path]
        model, verifier, ensemble = asked["model"], asked["verifier"], asked["ensemble"]
        if asked["factory"] is not None:
            model, verifier = made_by(asked["factory"], device)
        settings = {**asked["settings"], "device": device}
        if not isinstance(model, str | Path):  # it is loaded already
            settings = {name: value for name, value in settings.items() if name not in LOADING}
        self._loaded = load_model(model, ModelSettings(**settings), asked["first_prompt"], asked["stops"])
        self._verifiers = resolve_aggregator(verifier, self._loaded, ensemble).verifiers
        self._timeout, self._verifier_device = asked["timeout"], asked["verifier_device"]
        for one in self._verifiers:
            one.load(self._verifier_device or self._loaded.device)
        self._preview = asked["preview"]
        self._search: int | None = None
        self._held = ExitStack()

    def about(self) -> dict[str, Any]:
        """What its model and verifiers are, to be compared with those of the driver."""
        return {
            "model": self._loaded.facts.identity,
            "verifiers": [one.key for one in self._verifiers],
            "rows_per_evaluation": self._loaded.sampler.rows_per_evaluation,
        }

    def answer(self, message: bytes) -> bytes:
        """Run a batch, by `encode` of {"search", "grids", "batch"}; returns `Done` or `BatchStopped` by `encode`."""
        asked = decode(message)
        batch = asked["batch"]
        try:
            self._open(asked["search"], asked["grids"], batch.prompts[0])
            return encode(self._worker.run(batch), batch.rows.recipes)
        except BatchStopped as stopped:
            short, answer = is_out_of_memory(stopped.error), encode(stopped)
        except Exception as error:
            short, answer = is_out_of_memory(error), encode(BatchStopped(error, Spent(), denoised=False))
        if short:
            free_memory()  # outside of the handlers, which hold what ran out of memory
        return answer

    def _open(self, search: int, grids: Mapping[str, Mapping[str, Any]], prompt: str) -> None:
        """A sampler that knows the grids of a search, and none of the prompts of those before it."""
        if search == self._search:
            return
        self._held.close()
        sampler = self._held.enter_context(self._loaded.sampler)
        sampler.condition(prompt)
        for grid, asked in grids.items():
            if (found := sampler.space(**asked).id) != grid:
                raise RuntimeError(f"the worker's model has grid {found} where the driver's has {grid}")
        sources = edited_sources(self._verifiers, sampler.options)
        scorer = Scorer(self._verifiers, sources, self._timeout, self._verifier_device)
        preview = resolve_preview(self._preview, self._loaded, sampler.space())
        self._worker = LocalWorker(sampler, scorer, device=self._loaded.device, preview=preview)
        self._search = search


def made_by(factory: str, device: str) -> tuple[Any, Any]:
    """Model and verifier of a factory, "module:function".

    Raises:
        ValueError: there is no such function, or it gives something else.
    """
    where, _, name = factory.partition(":")
    try:
        make = getattr(import_module(where), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"factory={factory!r} can't be imported by a worker: {error}") from error
    made = make(device)
    if not isinstance(made, tuple) or len(made) != 2:
        raise ValueError(f"factory={factory!r} gave a {type(made).__name__}; expected (model, verifier)")
    return made
