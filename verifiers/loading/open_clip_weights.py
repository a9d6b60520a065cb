"""Weights and tokenizers of open_clip's published models: fetched at a commit, said before the download, checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verifiers.base import WeightsError
from verifiers.loading import hub, notices
from verifiers.loading.hub import MissingFileError, first_line
from verifiers.loading.weights import SUFFIXES, check_hub_file

CONFIG = "open_clip_config.json"


TEXT_SUFFIXES = (".json", ".txt", ".model", ".gz")


def published(
    tag: Mapping[str, Any] | None, told: str, pretrained: str | None, revision: str | None
) -> tuple[str | None, dict[str, Any] | None]:
    """Weights and preprocessing of a tag whose file is on the hub, fetched at a commit.

    A pickle is taken only where the repository has no safetensors, not where these can't be got. open_clip would take
    whatever the branch holds, the pickle after any error, and says nothing while it downloads.

    Raises:
        WeightsError: weights that can't be reached, or whose contents are not what the hub declares.
    """
    if not tag or not tag.get("hf_hub"):
        return pretrained, None
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    commit = hub.commit(repository, revision)
    safe = f"{Path(name).stem}.safetensors" if name else "open_clip_model.safetensors"
    pickle = name or "open_clip_pytorch_model.bin"
    if not any(hub.is_cached(repository, file, commit) for file in (safe, pickle)):
        size = hub.size_of(repository, commit, [safe]) or hub.size_of(repository, commit, [pickle])
        notices.loading(f"{told} of {repository}", size, download=True)
    try:
        path = hub.fetch(repository, safe, commit)
    except MissingFileError:
        path = hub.fetch(repository, pickle, commit)
    check_hub_file(path, f"{path.name} of {repository}@{commit[:8]}")
    return str(path), {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}


def tokenizer(repository: str | None, tag: Mapping[str, Any] | None, revision: str | None) -> Path | None:
    """The directory of a model's tokenizer on the hub, at a commit; None where open_clip has its own.

    Args:
        repository: hub id of the tokenizer; None or "" for open_clip's own. A directory is left to open_clip.
        tag: of the weights; the revision is that of their repository, and the tokenizer's if it is the same one.
        revision: commit, tag or branch; None for the commit in `hub`.

    Raises:
        WeightsError: it is neither cached nor reachable.
    """
    if not repository or Path(repository).is_dir():
        return None
    same = tag is not None and str(tag.get("hf_hub", "")).rpartition("/")[0] == repository
    commit = hub.commit(repository, revision if same else None)
    if not any(hub.is_cached(repository, file, commit) for file in ("tokenizer_config.json", "tokenizer.json")):
        size = hub.size_of(repository, commit, TEXT_SUFFIXES)
        notices.loading(f"the tokenizer of {repository}@{commit[:8]}", size, download=True)
    return _downloaded(repository, commit, TEXT_SUFFIXES)


def snapshot(repository: str, revision: str | None) -> Path:
    """A hub repository of open_clip's form at a commit, as a local directory; a pickle only where it has nothing else.

    Raises:
        WeightsError: it is neither cached nor reachable, or contents are not what the hub declares.
    """
    commit = hub.commit(repository, revision)
    if not hub.is_cached(repository, CONFIG, commit):
        notices.loading(f"{repository}@{commit[:8]}", hub.size_of(repository, commit), download=True)
    kinds = (*TEXT_SUFFIXES, ".safetensors")
    directory = _downloaded(repository, commit, kinds)
    if not list(directory.glob("*.safetensors")):
        directory = _downloaded(repository, commit, (*kinds, ".bin"))
    for path in sorted(directory.iterdir()):
        if path.suffix in SUFFIXES:
            check_hub_file(path, f"{path.name} of {repository}@{commit[:8]}")
    return directory


def _downloaded(repository: str, commit: str, suffixes: Sequence[str]) -> Path:
    """A repository's files with these endings, at a commit."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=[f"*{end}" for end in suffixes]))
    except Exception as error:  # network, hub and file system errors share no base class
        raise WeightsError(
            f"could not get {repository} at revision {commit!r} from the Hugging Face hub ({first_line(error)}); "
            f"{hub.advice(error, repository)}"
        ) from error
