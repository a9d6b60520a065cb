"""A model of transformers or diffusers, named without loading it, loaded strictly, and shared between verifiers."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from verifiers.arguments import as_device, as_dtype
from verifiers.base import WeightsError
from verifiers.loading import hub, notices
from verifiers.loading.devices import Shared, indexed
from verifiers.loading.hub import first_line
from verifiers.loading.weights import SUFFIXES, WeightFile, sha256

_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_SAFETENSORS = tuple(
    f"{stem}.safetensors{end}" for stem in ("model", "diffusion_pytorch_model") for end in ("", ".index.json")
)
_PICKLE = "pytorch_model.bin"

SHARED: Shared[torch.nn.Module] = Shared(kept=2)


class Pretrained:
    """Names a pretrained model; equal sources share one loaded model per device.

    A loaded model is in eval mode, without gradients to its weights, and complete: weights that the file lacks are an
    error, where the libraries would leave them at random values with a log line.
    """

    def __init__(
        self,
        model: str | Path,
        loader: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
        size: int | None = None,
        safetensors: bool = True,
    ) -> None:
        """Name the model; nothing is loaded yet.

        Args:
            model: a hub id, or the directory of a saved model.
            loader: the class that loads it, of transformers, or "package.module.Class".
            revision: commit, tag or branch of the hub repository; None for the commit in `hub`.
            dtype: of the weights.
            device: where the model runs; default where the images are.
            size: of the download in bytes, for the notice before it.
            safetensors: require that format; False also takes a directory's pickle, and of a hub repository
                `pytorch_model.bin`, checked by the hash that the hub declares; read with weights_only=True.

        Raises:
            ValueError: an unknown dtype, or a revision of a directory.
        """
        path = Path(model).expanduser()
        local = (
            isinstance(model, Path) or path.is_dir() or str(model).count("/") > 1 or str(model).startswith((".", "~"))
        )
        self.directory = path.resolve() if local else None
        self.model_id = str(self.directory or model)
        if self.directory is not None and revision is not None:
            raise ValueError(f"revision {revision!r} is one of a hub repository, but {str(model)!r} is a directory")
        self.loader = loader
        self.revision = hub.commit(self.model_id, revision)
        self.dtype = as_dtype(dtype)
        self.device = None if device is None else as_device(device)
        self.size = size
        self.safetensors = safetensors
        self._models: dict[torch.device, torch.nn.Module] = {}

    @cached_property
    def label(self) -> str:
        """What identifies the weights: hub id and revision, or a directory's name with a short hash; then the dtype.

        Raises:
            WeightsError: a local directory that doesn't exist or holds no weights.
        """
        if self.directory is not None:
            label = f"{self.directory.name}/{sha256(self._files())[:8]}"
        else:
            label = f"{self.model_id}@{self.revision[:8]}"
        return label if self.dtype == torch.float32 else f"{label}/{str(self.dtype).removeprefix('torch.')}"

    def model(self, device: torch.device | str | None = None) -> Any:
        """The loaded model, on this source's device, else on the given one.

        Raises:
            WeightsError: weights that are missing, can't be reached, or don't fit the class.
        """
        where = indexed(self.device or device)
        if where not in self._models:
            key = (self.model_id, self.label, self.loader, where)
            self._models[where] = SHARED.get(key, lambda: self._load(where))
        return self._models[where]

    @cached_property
    def config(self) -> Any:
        """The model's configuration, read without its weights."""
        return self.part("AutoConfig")

    def part(self, loader: str, **options: Any) -> Any:
        """A processor, tokenizer or configuration from the same place, by the class that loads it."""
        with self._told_errors(f"the {loader} of"), quiet():
            return _class(loader).from_pretrained(self.model_id, **self._where, **options)

    @property
    def _where(self) -> dict[str, Any]:
        if self.directory is not None:
            return {}
        return {"revision": self.revision, "local_files_only": not hub.reachable()}

    def _load(self, device: torch.device) -> torch.nn.Module:
        notices.flag(self.model_id)
        self._announce()
        # Left open for a hub id, transformers asks a bot to open a pull request with converted weights there.
        pickle = None if self.directory is not None else False
        # Random initial values would otherwise move the caller's random stream.
        with (
            self._told_errors("the weights of"),
            quiet(),
            torch.inference_mode(False),
            torch.random.fork_rng(devices=[]),
        ):
            model, info = _class(self.loader).from_pretrained(
                self.model_id,
                dtype=self.dtype,
                output_loading_info=True,
                use_safetensors=self.safetensors or pickle,
                **self._where,
            )
        self._check(info)
        with torch.inference_mode(False):  # weights that move in inference mode could serve no gradient later
            module: torch.nn.Module = model.eval().requires_grad_(False).to(device)
        return module

    def _check(self, info: Any) -> None:
        for what in ("missing_keys", "mismatched_keys"):
            if keys := sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get(what, ())):
                raise WeightsError(
                    f"{self._told} has {len(keys)} {what.replace('_', ' ')} for {self.loader}, such as {keys[0]!r}; "
                    "expected weights of that class: nothing is ever left at random values"
                )

    def _announce(self) -> None:
        if self.directory is not None:
            here = sum(file.stat().st_size for file in self._files() if file.suffix in SUFFIXES)
            notices.loading(self._told, here)
            return
        if not self.safetensors:  # a pickle: fetched, said and checked before anything reads it
            _ = WeightFile(_PICKLE, self.model_id, self.revision, size=self.size).path
            return
        # By the weights: the configuration is small, and often read before them.
        cached = hub.are_cached(self.model_id, _SAFETENSORS, self.revision)
        size = self.size or (None if cached else hub.size_of(self.model_id, self.revision))
        if cached or hub.reachable():
            notices.loading(self._told, size, download=not cached)

    def _files(self) -> list[Path]:
        assert self.directory is not None
        if not self.directory.is_dir():
            raise WeightsError(
                f"model directory {str(self.directory)!r} does not exist; pass a saved model or a hub id"
            )
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        if not any(path.suffix in SUFFIXES for path in files):
            raise WeightsError(f"{str(self.directory)!r} has no weights; expected config.json and model.safetensors")
        return [path for path in files if path.suffix in SUFFIXES + _TEXT_SUFFIXES]

    @property
    def _told(self) -> str:
        return self.directory.name if self.directory is not None else f"{self.model_id}@{self.revision[:8]}"

    @contextmanager
    def _told_errors(self, what: str) -> Iterator[None]:
        if self.directory is not None and not self.directory.is_dir():
            self._files()
        try:
            yield
        except ImportError as error:
            error.add_note(f"{self._told} needs a package that is not installed")
            raise
        except Exception as error:  # network, hub, configuration and safetensors errors share no base class
            fix = "check the files" if self.directory is not None else hub.advice(error, self.model_id)
            raise WeightsError(f"could not load {what} {self._told}: {first_line(error)}; {fix}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' loading bars and reports: what is missing is an error here, the rest is noise."""
    from transformers.utils import logging as their

    level, shown = their.get_verbosity(), their.is_progress_bar_enabled()
    their.set_verbosity_error()
    their.disable_progress_bar()
    try:
        yield
    finally:
        their.set_verbosity(level)
        if shown:
            their.enable_progress_bar()


def _class(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module or "transformers"), attribute)


class TokenizerSource(Pretrained):
    """Names a tokenizer without loading it: a hub id, or the directory of a saved one."""

    def __init__(self, tokenizer: str | Path, revision: str | None = None) -> None:
        """Take its name, and the revision of a hub id; None for the pinned commit, else "main"."""
        super().__init__(tokenizer, "AutoTokenizer", revision=revision)

    @cached_property
    def loaded(self) -> Any:
        """The tokenizer.

        Raises:
            WeightsError: it is not there, or can't be reached.
        """
        return self.part(self.loader)

    def padded(self, texts: Sequence[str], length: int, device: torch.device) -> Any:
        """Ids and mask of texts, cut or padded to that length: no row depends on the longest of its neighbours."""
        return self.loaded(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(device)

    def check_fits(self, rows: int, model: str) -> None:
        """Raise WeightsError unless every token has a row among the embeddings of the `model`."""
        if (known := len(self.loaded)) > rows:
            raise WeightsError(
                f"tokenizer {self.label!r} knows {known} tokens, {model} {rows}; "
                "use the tokenizer that the weights were trained with"
            )

    def _files(self) -> list[Path]:
        assert self.directory is not None
        files = sorted(path for path in self.directory.glob("*") if path.suffix in (".json", ".txt", ".model"))
        if not files:
            raise WeightsError(f"no tokenizer in {str(self.directory)!r}; expected a saved one, such as tokenizer.json")
        return files
