"""Weight files: where they come from, what is in them, and one clear error when they are not there."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor


class WeightsError(RuntimeError):
    """Weights that cannot be found or loaded; the message says which, why, and what to do about it."""


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


def hub_file(repository: str, filename: str, revision: str) -> Path:
    """A file of a Hugging Face repository, from the local cache or downloaded.

    Raises:
        WeightsError: it is neither cached nor reachable.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, filename, revision=revision))
    except Exception as error:  # network, hub and file system errors share no base class
        raise WeightsError(
            f"could not get {filename} of {repository} at revision {revision!r} from the Hugging Face hub "
            f"({first_line(error)}); check the network, or download the file elsewhere and pass its path"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pth`, `.pt`, `.bin` file read with weights_only=True.

    Raises:
        WeightsError: no such file, another suffix, or contents that are not plain tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights {str(path)!r} is no file; expected a .safetensors or .pth file")
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
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


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read(path: Path) -> dict[str, Tensor]:
    with torch.inference_mode(False):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        contents = torch.load(path, map_location="cpu", weights_only=True)
        wrapped = contents.get("state_dict") if isinstance(contents, dict) else None
        return wrapped if isinstance(wrapped, dict) else contents
