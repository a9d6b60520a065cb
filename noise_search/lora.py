"""LoRAs that are put on a model when it is loaded: which file each is, how strong, and whether it fits."""

import importlib.util
import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplers.said import first_line
from verifiers.loading import hub
from verifiers.loading.weights import file_sha256

log = logging.getLogger(__name__)

_SUFFIX, _USUAL = ".safetensors", "pytorch_lora_weights.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHOWN = 100
"""Characters of a library's message."""


@dataclass(frozen=True)
class Lora:
    """One LoRA.

    Attributes:
        source: as it was asked for, without its scale.
        scale: what its change of the weights is multiplied by.
        file: where it lies here.
        sha256: of the file, hex.
    """

    source: str
    scale: float
    file: Path
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """What tells it from others, as plain JSON."""
        return {"source": self.source, "scale": self.scale, "sha256": self.sha256}


def find(asked: Iterable[str], kind: type) -> tuple[Lora, ...]:
    """The files of LoRAs for a class of pipelines, each asked for as PATH_OR_HUB_ID[:SCALE]; hub ids are fetched.

    Raises:
        ValueError: one that isn't there, isn't safetensors or has a scale that is no number; or pipelines of this class
            take none.
        ImportError: peft isn't installed.
        WeightsError: the hub can't give it.
    """
    parted = [split(one) for one in asked]
    if not parted:
        return ()
    if not hasattr(kind, "load_lora_weights"):
        raise ValueError(f"lora={parted[0][0]!r}: {kind.__name__} takes no LoRA; leave it out")
    files = [(source, scale, _file(source)) for source, scale in parted]
    if importlib.util.find_spec("peft") is None:
        raise ImportError(f"lora={parted[0][0]!r} needs peft: pip install peft")
    return tuple(Lora(source, scale, file, file_sha256(file)) for source, scale, file in files)


def split(text: str) -> tuple[str, float]:
    """Source and scale of PATH_OR_HUB_ID[:SCALE]; 1 where none is given.

    Raises:
        ValueError: what stands behind the colon is no number.
    """
    source, colon, scale = text.rpartition(":")
    if not colon or "/" in scale or "\\" in scale:  # none, or that of a drive
        return text, 1.0
    try:
        found = float(scale)
    except ValueError:
        found = math.nan
    if not source or not math.isfinite(found):
        raise ValueError(f"lora={text!r} must be PATH_OR_HUB_ID or PATH_OR_HUB_ID:SCALE, such as ink.safetensors:0.8")
    return source, found


def put_on(pipe: Any, loras: Iterable[Lora]) -> None:
    """Load LoRAs into a pipeline, each with its scale.

    Raises:
        ValueError: one that doesn't fit.
    """
    names = {}
    for at, lora in enumerate(loras):
        name = f"lora_{at}"
        names[name] = lora.scale
        with _heard() as said:
            try:
                pipe.load_lora_weights(
                    str(lora.file.parent), weight_name=lora.file.name, adapter_name=name, use_safetensors=True
                )
            except Exception as error:  # those of peft, torch and safetensors share no base class
                raise ValueError(f"{_misfit(pipe, lora)}: {first_line(error):.{_SHOWN}}") from error
        if not any(name in found for found in pipe.get_list_adapters().values()):
            raise ValueError(f"{_misfit(pipe, lora)}: none of its keys names a part of this pipeline")
        for message in said:
            if "unexpected keys" in message:
                log.warning("lora=%r: some keys fit no part and are left out (%s)", lora.source, f"{message:.{_SHOWN}}")
    if names:
        pipe.set_adapters(list(names), list(names.values()))


def _misfit(pipe: Any, lora: Lora) -> str:
    return f"lora={lora.source!r} doesn't fit {type(pipe).__name__}"


def _file(source: str) -> Path:
    """The one safetensors file that a path or hub id stands for."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path / _only(source, [file.name for file in path.iterdir()])
    if path.is_file():
        _only(source, [path.name])
        return path
    parts = source.split("/")
    if (
        len(parts) < 2
        or source.startswith((".", "/", "~"))
        or (len(parts) == 2 and path.suffix in (_SUFFIX, *_PICKLES))
    ):
        raise ValueError(
            f"lora={source!r} isn't there; expected a {_SUFFIX} file, or a hub id such as owner/name or "
            f"owner/name/file{_SUFFIX}"
        )
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    revision = hub.commit(repository)
    return hub.fetch(repository, _only(source, [file] if file else hub.files(repository, revision)), revision)


def _only(source: str, names: list[str]) -> str:
    """The file to read among names; ValueError where there is none or no telling which."""
    found = sorted(name for name in names if name.endswith(_SUFFIX))
    if _USUAL in found or len(found) == 1:
        return _USUAL if _USUAL in found else found[0]
    if found:
        raise ValueError(f"lora={source!r} holds {', '.join(found)}; say which, as {source}/{found[0]}")
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise ValueError(
            f"lora={source!r} is a pickle ({pickles[0]}), which isn't read as it can run code: convert it, "
            "by safetensors.torch.save_file(torch.load(file, weights_only=True), ...)"
        )
    raise ValueError(f"lora={source!r} holds no {_SUFFIX} file that can be had here")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What diffusers says of a LoRA, kept from standard error, as most of it tells what is harmless."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split()))

    library, listener = logging.getLogger("diffusers"), Listener()
    handlers, propagates = library.handlers, library.propagate
    library.handlers, library.propagate = [listener], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are several
            yield said
    finally:
        library.handlers, library.propagate = handlers, propagates
