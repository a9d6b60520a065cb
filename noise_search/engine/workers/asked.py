"""`workers=`: who runs the micro-batches of a search, and what workers are told so that each has its own model."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from noise_search.arguments import check_counts, check_numbers
from noise_search.engine.crew import Crew
from noise_search.engine.workers.wire import Untold, encode
from noise_search.models import LoadedModel, usable_device
from noise_search.previews import PreviewLike, told_to_workers
from noise_search.settings import LOADING, ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalWorkers:
    """One process per device of this machine.

    Attributes:
        devices: how many, on the accelerators in turn, or on the CPU where there are none; or the device of each, such
            as ("cuda:0", "cuda:1").
        factory: "module:function" that a worker imports and calls with its device, for models and verifiers that aren't
            told by their names: it returns (model, verifier), the same as those of the search.
        threads: CPU threads of each; this process's own, shared among those on the CPU, when None.
        verifier_device: where all of them score, such as "cuda:3", each with verifiers of its own; where its images
            are when None.
        timeout: seconds for one micro-batch after which a worker counts as dead; None for never. Its first one is the
            slowest, where kernels are compiled or chosen.
        speculate: run a micro-batch once more, on a worker that has nothing to do, once it takes so many times as long
            as those before it (in the median, by denoiser evaluation); what answers first counts, the other is waste.
            At least 1; None for never.
    """

    devices: int | Sequence[str]
    factory: str | None = None
    threads: int | None = None
    verifier_device: str | None = None
    timeout: float | None = None
    speculate: float | None = None

    def __post_init__(self) -> None:
        check_counts(threads=self.threads)
        _check(self)
        if isinstance(self.devices, int | float):
            check_counts(workers=self.devices)
        elif (
            not isinstance(self.devices, Sequence)
            or isinstance(self.devices, str)
            or not self.devices
            or not all(map(_is_name, self.devices))
        ):
            raise ValueError(f"workers={self.devices!r} must be a number, or a device for each, such as {_SUCH}")

    def on(self, device: str) -> tuple[str, ...]:
        """The device of each, for a model that would be on this one."""
        if not isinstance(self.devices, int):
            return tuple(self.devices)
        there = torch.cuda.device_count() if device.startswith("cuda") else 0
        return tuple(f"cuda:{at % there}" if there else device for at in range(self.devices))


@dataclass(frozen=True)
class RayWorkers:
    """Actors of a Ray cluster; needs the extra `ray`.

    Attributes:
        address: of the cluster, such as "ray://head:10001"; None for the one of this machine, or a new one here.
        count: how many; as many as the cluster has GPUs for, when None.
        num_gpus: of each; a share of one is possible, and 0 is the CPU.
        factory: as of `LocalWorkers`; its module must be importable on all nodes.
        timeout: seconds for one micro-batch after which an actor counts as dead, and for an actor to be ready.
        verifier_device: as of `LocalWorkers`, by what an actor sees: with num_gpus=2 it is "cuda:1".
        speculate: as of `LocalWorkers`.
    """

    address: str | None = None
    count: int | None = None
    num_gpus: float = 1.0
    factory: str | None = None
    timeout: float = 3600.0
    verifier_device: str | None = None
    speculate: float | None = None

    def __post_init__(self) -> None:
        check_counts(count=self.count)
        check_numbers(num_gpus=self.num_gpus)
        if not self.num_gpus >= 0:
            raise ValueError(f"num_gpus={self.num_gpus!r} must be 0 or more")
        _check(self)


WorkersLike = int | str | Sequence[str] | LocalWorkers | RayWorkers | Crew | None
"""What users give: a number of processes, a device for each, "ray" or the address of a cluster; None for none."""

_SUCH = "['cuda:0', 'cuda:1']"


def resolved(asked: WorkersLike) -> LocalWorkers | RayWorkers | Crew | None:
    """What was asked for, in its long form.

    Raises:
        TypeError, ValueError: something else.
    """
    if asked is None or isinstance(asked, LocalWorkers | RayWorkers | Crew):
        return asked
    if isinstance(asked, str):
        if asked == "ray" or re.match(r"ray://.", asked):
            return RayWorkers(None if asked == "ray" else asked)
        raise ValueError(
            f"workers={asked!r} must be a number, a list of devices such as {_SUCH}, 'ray', or 'ray://HOST:PORT'"
        )
    return LocalWorkers(asked)


@dataclass(frozen=True)
class Told:
    """What a search tells its workers, and what they must have in common with it.

    Attributes:
        message: what a `Station` is made of.
        about: what it must say it is.
        device: where the driver's model is.
    """

    message: bytes
    about: Mapping[str, Any]
    device: str


def told(
    workers: LocalWorkers | RayWorkers | Crew | None,
    loaded: LoadedModel,
    aggregator: Aggregator,
    *,
    model: Any,
    settings: ModelSettings,
    verifier: Any,
    ensemble: str,
    first_prompt: str,
    timeout: float | None,
    preview: PreviewLike = None,
) -> Told | None:
    """Model and verifiers in words; None where nobody has to be told.

    Raises:
        ValueError: one of them has none.
    """
    if workers is None or isinstance(workers, Crew):
        return None
    factory = workers.factory
    if factory is None:
        _check_named("model", model, isinstance(model, str | Path))
        members = verifier.members if isinstance(verifier, Aggregator) else verifier
        for one in members if isinstance(members, list | tuple) else [members]:
            _check_named("verifier", one, not callable(one) and not isinstance(one, Verifier))
    else:
        members = None
    names = [name for name in (*ModelSettings.names(), *LOADING, "check", "options") if name != "device"]
    content = {
        "factory": factory,
        "model": str(Path(model).resolve()) if _is_directory(model) else model if factory is None else None,
        "verifier": members,
        "ensemble": ensemble,
        "settings": {name: getattr(settings, name) for name in names},
        "first_prompt": first_prompt,
        "stops": loaded.described.get("rule") != "kept",
        "timeout": timeout,
        "verifier_device": workers.verifier_device,
        "preview": told_to_workers(preview),
        "path": [str(Path(path).resolve()) for path in sys.path],
    }
    if paid := [one.name for one in aggregator.verifiers if one.paid]:
        log.warning("%s counts what it spends in each worker by itself: a cap holds for each", " and ".join(paid))
    try:
        message = encode(content)
    except Untold as error:
        raise ValueError(_untold(f"model_options hold a {error}, which")) from None
    about = {"model": loaded.facts.identity, "verifiers": [one.key for one in aggregator.verifiers]}
    return Told(message, about, loaded.device or usable_device(None))


def _check_named(what: str, value: Any, fine: bool) -> None:
    if not fine:
        raise ValueError(_untold(f"{what} is a {getattr(value, '__name__', type(value).__name__)}, which"))


def _untold(what: str) -> str:
    return (
        f"workers load model and verifiers themselves, and {what} can't be told to them: give its name, or "
        "workers=LocalWorkers(2, factory='my_module:make') with make(device) returning (model, verifier)"
    )


def _check(workers: LocalWorkers | RayWorkers) -> None:
    factory, device = workers.factory, workers.verifier_device
    if factory is not None and (not isinstance(factory, str) or not re.fullmatch(r"[\w.]+:\w+", factory)):
        raise ValueError(f"factory={factory!r} must be 'module:function', such as 'my_models:make'")
    if device is not None and not _is_name(device):
        raise ValueError(f"verifier_device={device!r} must be a device's name, such as 'cuda:1'")
    check_numbers(timeout=workers.timeout, speculate=workers.speculate)
    if workers.timeout is not None and not workers.timeout > 0:
        raise ValueError(f"timeout={workers.timeout!r} must be more than 0 seconds")
    if workers.speculate is not None and not workers.speculate >= 1:
        raise ValueError(f"speculate={workers.speculate!r} must be at least 1, such as 3: three times as long as usual")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_directory(model: Any) -> bool:
    return isinstance(model, str | Path) and str(model) not in EMBEDDED_MODELS and Path(model).is_dir()
