"""A tokenizer of transformers that is chosen apart from the model it serves."""

from functools import cached_property
from pathlib import Path
from typing import Any

from verifiers.hub import WeightsError
from verifiers.pretrained import Pretrained
from verifiers.weights import sha256

_FILES = (".json", ".txt", ".model")


class TokenizerSource:
    """Names a tokenizer without loading it: a hub id, or the directory of a saved one."""

    def __init__(self, tokenizer: str | Path, revision: str | None = None) -> None:
        """Take its name, and the revision of a hub id; None for the pinned commit, else "main"."""
        self._named = Pretrained(tokenizer, "AutoTokenizer", revision=revision)

    @cached_property
    def label(self) -> str:
        """What identifies it: hub id and revision, or a directory's name with a short hash.

        Raises:
            WeightsError: a directory that doesn't exist or holds no tokenizer.
        """
        directory = self._named.directory
        if directory is None:
            return self._named.label
        files = sorted(path for path in directory.glob("*") if path.suffix in _FILES)
        if not files:
            raise WeightsError(f"no tokenizer in {str(directory)!r}; expected a saved one, such as tokenizer.json")
        return f"{directory.name}/{sha256(files)[:8]}"

    @cached_property
    def loaded(self) -> Any:
        """The tokenizer.

        Raises:
            WeightsError: it is not there, or can't be reached.
        """
        return self._named.part("AutoTokenizer")
