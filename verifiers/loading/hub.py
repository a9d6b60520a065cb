"""Files of the Hugging Face hub and of plain addresses: what is here, how large the rest is, and how to get it."""

import json
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from verifiers.base import WeightsError
from verifiers.loading import notices

_COMMITS = {
    "CompVis/stable-diffusion-safety-checker": "cb41f3a270d63d454d385fc2e4f571c487c253c5",
    "Falconsai/nsfw_image_detection": "96cb0d0342c7afb80cab76ecc58b265fa44da256",
    "MizzenAI/HPSv3": "4f81e3e09edd82fe3c5f636444c721b592a735ca",
    "Qwen/Qwen2-VL-7B-Instruct": "eed13092ef92e448dd6875b2a00151bd3f7db0ac",
    "Qwen/Qwen3-VL-2B-Instruct": "89644892e4d85e24eaac8bacfd4f463576704203",
    "Qwen/Qwen3-VL-4B-Instruct": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "THUDM/ImageReward": "9fabc279a94f082f9eb130070cac021569dd16dc",
    "bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",  # the old name, which open_clip uses
    "facebook/dinov2-base": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    "timm/vit_large_patch14_clip_224.openai": "18d0535469bb561bf468d76c1d73aa35156c922b",
    "xswu/HPSv2": "697403c78157020a1ae59d23f111aa58ced35b0a",
    "yuvalkirstain/PickScore_v1": "a4e4367c6dfa7288a00c550414478f865b875800",
}
"""Pinned commits: scores of one version come from the same weights wherever and whenever they are computed."""


class MissingFileError(WeightsError):
    """A repository that is reached, or was, and certainly has no such file at that revision."""


def reachable() -> bool:
    """Whether the hub can be asked; its own client tries for a minute where there is no network.

    Where a proxy is set, only it can tell.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return not constants.HF_HUB_OFFLINE
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def commit(repository: str, revision: str | None = None) -> str:
    """The revision asked for, else the pinned commit, else "main"."""
    return revision or _COMMITS.get(repository, "main")


def is_cached(repository: str, filename: str, revision: str) -> bool:
    """Whether a file of a repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, filename, revision=revision), str)


def are_cached(repository: str, filenames: Iterable[str], revision: str) -> bool:
    """Whether one of the ways in which a repository may hold its weights is in the local cache, whole.

    A name that ends in `.index.json` stands for the files that this index names.
    """
    for filename in filenames:
        if is_cached(repository, filename, revision):
            parts = {filename}
            if filename.endswith(".index.json"):
                index = json.loads(fetch(repository, filename, revision).read_text(encoding="utf-8"))
                parts = set(index["weight_map"].values())
            if all(is_cached(repository, part, revision) for part in parts):
                return True
    return False


def size_of(repository: str, revision: str, suffixes: Iterable[str] = (".safetensors",)) -> int | None:
    """Bytes of a repository's files with these endings, asked of the hub; None where it can't be reached."""
    info, ends = _info(repository, revision), tuple(suffixes)
    return (
        None if info is None else sum(file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(ends))
    )


def files(repository: str, revision: str) -> list[str]:
    """Names of a repository's files, asked of the hub; where it can't be reached, of those in the local cache."""
    from huggingface_hub import snapshot_download

    info = _info(repository, revision)
    if info is not None:
        return [file.rfilename for file in info.siblings or []]
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except Exception:  # nothing of it is here, which its download will tell
        return []
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def licence(repository: str, revision: str) -> str | None:
    """The name of the licence that a repository's card states, asked of the hub; None where that isn't known."""
    card = getattr(_info(repository, revision), "card_data", None) or {}
    stated = card.get("license")
    stated = card.get("license_name") or stated if stated == "other" else stated
    return stated if isinstance(stated, str) else None


def _info(repository: str, revision: str) -> Any:
    """What the hub says of a repository; None where it can't be reached or says nothing."""
    from huggingface_hub import HfApi

    if not reachable():
        return None
    try:
        return HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=5)
    except Exception:  # only a notice depends on it; the download itself will tell what is wrong
        return None


def fetch(repository: str, filename: str, revision: str, size: int | None = None) -> Path:
    """A file of a repository, from the local cache or downloaded, which is said before.

    Args:
        repository: hub id.
        filename: its name there.
        revision: commit, tag or branch.
        size: in bytes, for the notice; asked of the hub where it isn't known.

    Raises:
        MissingFileError: the repository has no such file.
        WeightsError: it is neither cached nor reachable, or gated.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    online = reachable()
    remembered = try_to_load_from_cache(repository, filename, revision=revision)
    if online and remembered is None and (size := size or size_of(repository, revision, [filename])) != 0:
        notices.loading(f"{filename} of {repository}@{revision[:8]}", size, download=True)
    try:
        return Path(hf_hub_download(repository, filename, revision=revision, local_files_only=not online))
    except Exception as error:  # network, hub and file system errors share no base class
        answered = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
        # Not in the cache and not reachable says nothing of the repository, unless an earlier answer is remembered.
        kind = MissingFileError if answered or remembered is _CACHED_NO_EXIST else WeightsError
        raise kind(_unreachable(f"{filename} of {repository}", repository, revision, error)) from error


def fetch_all(repository: str, suffixes: Sequence[str], revision: str, told: str, known: Sequence[str]) -> Path:
    """The directory of a repository's files with these endings, from the local cache or downloaded.

    Args:
        repository: hub id.
        suffixes: of the files.
        revision: commit, tag or branch.
        told: what it is, for the notice.
        known: files of which one is there already where nothing needs to be downloaded.

    Raises:
        WeightsError: it is neither cached nor reachable, or gated.
    """
    from huggingface_hub import snapshot_download

    online = reachable()
    if online and not any(is_cached(repository, name, revision) for name in known):
        size = size_of(repository, revision, suffixes)
        notices.loading(f"{told}{repository}@{revision[:8]}", size, download=True)
    try:
        patterns = [f"*{end}" for end in suffixes]
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=not online)
        )
    except Exception as error:  # network, hub and file system errors share no base class
        raise WeightsError(_unreachable(repository, repository, revision, error)) from error


def fetch_address(address: str, sha256: str) -> Path:
    """A small file from an address, from torch's cache or downloaded, checked against its hash.

    Raises:
        WeightsError: it is neither cached nor reachable, or has other contents.
    """
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / f"{sha256[:12]}-{address.rsplit('/', 1)[-1]}"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(target), hash_prefix=sha256, progress=False)
        except Exception as error:  # network, file system and hash errors share no base class
            raise WeightsError(
                f"could not get {address} ({first_line(error)}); check the network, or download the file elsewhere "
                "and pass its path"
            ) from error
    return target


def advice(error: BaseException, repository: str) -> str:
    """What to do about a failed download."""
    from huggingface_hub.errors import GatedRepoError

    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return f"accept its terms on the page of {repository} and log in with `hf auth login`"
    return "check the network, or download it elsewhere and pass its path"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def why(error: BaseException) -> str:
    """Why a file couldn't be had, in one line: of one that was looked for only here, what keeps the hub from us."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not isinstance(error, LocalEntryNotFoundError):
        return first_line(error)
    kept = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub can't be reached"
    return f"it isn't in the cache here, and {kept}"


def _unreachable(what: str, repository: str, revision: str, error: BaseException) -> str:
    return (
        f"could not get {what} at revision {revision!r} from the Hugging Face hub ({why(error)}); "
        f"{advice(error, repository)}"
    )
