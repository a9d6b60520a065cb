"""Weight files: where they come from, what is in them, and one clear error when they are not there.

Also the smallest networks that are read from them: linear heads on an embedding.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import WeightsError
from verifiers.loading import hub, notices
from verifiers.loading.hub import first_line

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class WeightFile:
    """One file of weights, on the Hugging Face hub at a pinned revision, at an address, or local.

    Nothing is read before it is used.

    Attributes:
        filename: its name in the repository, or the path of a local file.
        repository: hub id; None for others.
        revision: commit, tag or branch of the repository; None for the commit in `hub`.
        sha256: what its contents must hash to, hex; None to accept what the hub itself declares, or any local file.
        size: in bytes, as far as it is known, for the notice before the download.
        address: where it is published, for a file that is on no hub; needs `sha256`.
    """

    filename: str
    repository: str | None = None
    revision: str | None = None
    sha256: str | None = None
    size: int | None = None
    address: str | None = None

    @classmethod
    def local(cls, path: str | Path, sha256: str | None = None) -> "WeightFile":
        """A file on this machine."""
        return cls(str(Path(path).expanduser()), sha256=sha256)

    @cached_property
    def path(self) -> Path:
        """The file, fetched where needed and checked against its hash.

        Raises:
            WeightsError: no such file, neither cached nor reachable, or contents with another hash.
        """
        path = self._fetch()
        if not path.is_file():
            raise WeightsError(f"weights {str(path)!r} is no file; expected a .safetensors or .pth file")
        notices.flag(self.repository or path.name)
        notices.loading(self._told, path.stat().st_size)
        if self.repository is not None or self.sha256 is not None:
            check_file(path, self._told, self.sha256)
        return path

    @cached_property
    def hash(self) -> str:
        """Hash of the contents, hex; fetches the file if it is not here yet."""
        return self.sha256 or file_sha256(self.path)

    @property
    def label(self) -> str:
        """What identifies the contents: the file's name and hash, or repository, file and revision."""
        if self.repository is None or self.sha256 is not None:
            return f"{Path(self.filename).name}/{self.hash[:8]}"
        return f"{self.repository}/{self.filename}@{self._commit[:8]}"

    def tensors(self) -> dict[str, Tensor]:
        """What is in it; see `read_tensors`."""
        return read_tensors(self.path)

    @property
    def _commit(self) -> str:
        return hub.commit(self.repository or "", self.revision)

    @property
    def _told(self) -> str:
        return Path(self.filename).name + (f" of {self.repository}@{self._commit[:8]}" if self.repository else "")

    def _fetch(self) -> Path:
        if self.address is not None:
            assert self.sha256 is not None
            return hub.fetch_address(self.address, self.sha256)
        if self.repository is None:
            return Path(self.filename)
        return hub.fetch(self.repository, self.filename, self._commit, self.size)


def sha256(paths: Iterable[Path]) -> str:
    """Hash of the contents and names of files, hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(path.name.encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of one file's contents, hex, as hubs publish it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pth`, `.pt`, `.bin` file read with weights_only=True.

    Raises:
        WeightsError: another suffix, or contents that are not plain tensors.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"weights {path.name!r} has suffix {path.suffix!r}; expected .safetensors or .pth")
    try:
        tensors = _read(path)
    except Exception as error:  # pickle, zip and safetensors errors share no base class
        raise WeightsError(
            f"could not read {path.name!r} ({first_line(error)}); if it holds more than tensors, "
            "load it where you trust it and save its state dict as .safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path.name!r} holds a {type(tensors).__name__}; expected a state dict of tensors")
    return tensors


def check_file(path: Path, told: str, sha256: str | None = None) -> None:
    """Refuse a file whose contents aren't what is pinned, else what the hub itself declares.

    Where neither is known, a pickle is said to be unchecked; safetensors hold nothing that could run.

    Raises:
        WeightsError: contents with another hash.
    """
    blob = path.resolve().name  # in the hub's cache, large files link to blobs that are called by their sha256
    expected = sha256 or (blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None)
    if expected is None:
        if path.suffix != ".safetensors":
            notices.unchecked(told)
    elif (found := file_sha256(path)) != expected:
        raise WeightsError(
            f"{told} has sha256 {found[:12]}..., expected {expected[:12]}...: the file is damaged or another one; "
            "delete it and download it again"
        )


def _read(path: Path) -> dict[str, Tensor]:
    with torch.inference_mode(False):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        contents = torch.load(path, map_location="cpu", weights_only=True)
        wrapped = contents.get("state_dict") if isinstance(contents, dict) else None
        return wrapped if isinstance(wrapped, dict) else contents


class Head(NamedTuple):
    """score = embedding · weight + bias, with weight `[dim]`."""

    weight: Float[Tensor, " dim"]
    bias: Float[Tensor, ""]


def linear_head(tensors: Mapping[str, Tensor]) -> Head:
    """The head of one Linear layer, keys `weight` [1, width] and `bias` [1].

    Raises:
        WeightsError: other keys or shapes.
    """
    if set(tensors) != {"weight", "bias"}:
        raise WeightsError(f"a v1 head has keys ['bias', 'weight'], this one {sorted(tensors)}; is it version='v2'?")
    return _compose([(tensors["weight"], tensors["bias"])])


def collapsed_head(tensors: Mapping[str, Tensor]) -> Head:
    """The head of a chain of Linear layers without activations: W <- W_i W, b <- W_i b + b_i, in float64.

    The indices in the keys are those of an `nn.Sequential`; the published chain leaves room for one dropout
    between layers. Room for two modules means ReLU and dropout (`...reluMSE.pth`), which is no affine map.

    Raises:
        WeightsError: other keys, room for activations, or shapes that do not chain to one output.
    """
    indices = sorted({int(found[1]) for key in tensors if (found := re.search(r"(\d+)\.(weight|bias)$", key))})
    names = {re.sub(r"\d+\.(weight|bias)$", "", key) for key in tensors}
    prefix = min(names, default="")
    expected = {f"{prefix}{index}.{part}" for index in indices for part in ("weight", "bias")}
    if not indices or set(tensors) != expected:
        raise WeightsError(
            f"a v2 head has keys layers.{{0,2,4,6,7}}.{{weight,bias}}, this one {sorted(tensors)}; "
            "is it version='v1', or another model?"
        )
    if any(later - earlier > 2 for earlier, later in pairwise(indices)):
        raise WeightsError(
            f"the head has Linear layers at {indices}, which leaves room for ReLUs between them (the reluMSE "
            "variant); expected {0,2,4,6,7}: use the linearMSE weights"
        )
    return _compose([(tensors[f"{prefix}{i}.weight"], tensors[f"{prefix}{i}.bias"]) for i in indices])


def _compose(layers: Sequence[tuple[Tensor, Tensor]]) -> Head:
    shapes = [tuple(weight.shape) for weight, _ in layers]
    chained = all(len(shape) == 2 for shape in shapes) and all(
        after[1] == before[0] for before, after in pairwise(shapes)
    )
    if not chained or shapes[-1][0] != 1 or any(tuple(bias.shape) != weight.shape[:1] for weight, bias in layers):
        raise WeightsError(f"the head's layers have shapes {shapes}; expected a chain that ends in one output")
    weight, bias = layers[0][0].double(), layers[0][1].double()
    for matrix, offset in layers[1:]:
        weight, bias = matrix.double() @ weight, matrix.double() @ bias + offset.double()
    return Head(weight[0].float(), bias[0].float())
