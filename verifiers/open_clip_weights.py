"""Weights of open_clip's published models: fetched at a commit, safetensors first, and said before the download."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import hub, notices, pins
from .hub import WeightsError, first_line

CONFIG = "open_clip_config.json"
TEXT_SUFFIXES = (".json", ".txt", ".model", ".gz")


def published(
    tag: Mapping[str, Any] | None, told: str, pretrained: str | None, revision: str | None
) -> tuple[str | None, dict[str, Any] | None]:
    """Weights and preprocessing of a tag whose file is on the hub, fetched at a commit, safetensors first.

    open_clip would take whatever the branch holds, and says nothing while it downloads.
    """
    if not tag or not tag.get("hf_hub"):
        return pretrained, None
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    commit = pins.commit(repository, revision)
    stem = Path(name).stem if name else ""
    candidates = (
        [f"{stem}.safetensors", name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    )
    if not any(hub.is_cached(repository, file, commit) for file in candidates):
        notices.loading(f"{told} of {repository}", hub.size_of(repository, commit, candidates[:1]), download=True)
    failure: WeightsError | None = None
    for file in dict.fromkeys(candidates):
        try:
            path = hub.fetch(repository, file, commit)
        except WeightsError as error:
            failure = failure or error
            continue
        preprocess = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}
        return str(path), preprocess
    assert failure is not None
    raise failure


def snapshot(repository: str, revision: str | None) -> Path:
    """A hub repository of open_clip's form at a commit, as a local directory."""
    from huggingface_hub import snapshot_download

    commit = pins.commit(repository, revision)
    if not hub.is_cached(repository, CONFIG, commit):
        notices.loading(f"{repository}@{commit[:8]}", hub.size_of(repository, commit), download=True)
    kinds = [f"*{suffix}" for suffix in (*TEXT_SUFFIXES, ".safetensors")]
    try:
        directory = Path(snapshot_download(repository, revision=commit, allow_patterns=kinds))
        if not list(directory.glob("*.safetensors")):
            directory = Path(snapshot_download(repository, revision=commit, allow_patterns=[*kinds, "*.bin"]))
    except Exception as error:  # network, hub and file system errors share no base class
        raise WeightsError(
            f"could not get {repository} at revision {commit!r} from the Hugging Face hub ({first_line(error)}); "
            f"{hub.advice(error, repository)}"
        ) from error
    return directory
