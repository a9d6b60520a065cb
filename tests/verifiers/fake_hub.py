"""A cache of the Hugging Face hub as huggingface_hub lays it out, filled by a test instead of the network."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest


class FakeHub:
    """Repositories in a cache directory; the hub itself is offline."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def add(self, repository: str, files: Mapping[str, Path], commit: str = "main") -> None:
        """Put files into a repository at a commit; "main" makes it what that branch points to."""
        folder = self.cache / f"models--{repository.replace('/', '--')}"
        snapshot = commit if commit != "main" else hashlib.sha1(repository.encode()).hexdigest()
        if commit == "main":
            (folder / "refs").mkdir(parents=True, exist_ok=True)
            (folder / "refs" / "main").write_text(snapshot)
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "snapshots" / snapshot).mkdir(parents=True, exist_ok=True)
        for name, source in files.items():
            blob = folder / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
            shutil.copyfile(source, blob)
            link = folder / "snapshots" / snapshot / name
            link.unlink(missing_ok=True)
            link.symlink_to(blob)

    def blobs(self, repository: str) -> list[Path]:
        """The contents that a repository's files link to."""
        return sorted((self.cache / f"models--{repository.replace('/', '--')}" / "blobs").iterdir())
