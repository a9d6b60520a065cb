"""An open_clip model that encodes images and texts, loaded once and shared between verifiers.

CLIPScore and an aesthetic head on the same tower cost one image encoding per batch of images.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_device
from verifiers.inputs.preprocess import Preprocess
from verifiers.inputs.tokens import TextCache, TokenLimit
from verifiers.loading import hub
from verifiers.loading import open_clip as loading
from verifiers.loading.devices import Shared, indexed
from verifiers.loading.weights import file_sha256, sha256

MICRO_BATCH = 64
MEMO_ROWS = 512


class Tower:
    """A loaded open_clip model: eval mode, no gradient to its weights, unit embeddings in float32.

    Images enter in [0, 1]; their gradient, where it is recorded, runs back through the preprocessing.
    `images_encoded` and `texts_encoded` count what went through the model.
    """

    def __init__(self, model: Any, tokenizer: Any, input_dtype: torch.dtype = torch.float32) -> None:
        """Take an open_clip model (on its device, in eval mode), its tokenizer, its image input's dtype."""
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = Preprocess.from_open_clip(model.visual.preprocess_cfg)
        self.limit = TokenLimit.of_open_clip(tokenizer)
        self.device = next(model.parameters()).device
        self.images_encoded = 0
        self.texts_encoded = 0
        self._input_dtype = input_dtype
        self._memo: tuple[Tensor, Tensor] | None = None
        self.texts = TextCache()

    def image(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Unit embeddings on the tower's device; the last batch's are kept: do not change them in place."""
        if torch.is_grad_enabled() and images.requires_grad:
            return torch.cat([self._encode(self.preprocess.pixels(part)) for part in torch.split(images, MICRO_BATCH)])
        # The 8-bit input itself is the key: exact, never stale, and small beside the images.
        pixels = torch.cat([self.preprocess.pixels(part).to(torch.uint8) for part in torch.split(images, MICRO_BATCH)])
        pixels = pixels.to(self.device)
        memo = self._memo  # read once: another thread may replace it between two reads
        if memo is not None and torch.equal(memo[0], pixels):
            return memo[1]
        embeddings = torch.cat([self._encode(part.float()) for part in torch.split(pixels, MICRO_BATCH)])
        self._memo = (pixels, embeddings) if len(pixels) <= MEMO_ROWS else None
        return embeddings

    @property
    def logit(self) -> tuple[float, float]:
        """Scale and bias that turn a cosine into the logit that the model was trained with; SigLIP has a bias."""
        bias = getattr(self.model, "logit_bias", None)
        return float(self.model.logit_scale.float().exp()), 0.0 if bias is None else float(bias.float())

    def chunked(self, prompts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Mean of the unit embeddings of each prompt's chunks: its product with an image is their mean cosine."""
        chunks = [self.limit.chunks(prompt) for prompt in prompts]
        encoded = self.text([chunk for parts in chunks for chunk in parts])
        return torch.stack([part.mean(0) for part in torch.split(encoded, [len(parts) for parts in chunks])])

    def text(self, prompts: Sequence[str], reader: str = "the verifier") -> Float[Tensor, "batch dim"]:
        """Unit embeddings on the tower's device; each distinct prompt is encoded once and kept."""
        return self.texts.get(prompts, lambda new: self._encode_texts(new, reader), MICRO_BATCH)

    @cached_property
    def image_width(self) -> int:
        """Width of the image embedding."""
        rows, columns = self.preprocess.size
        blank = torch.zeros(1, 3, rows, columns, device=self.device, dtype=self._input_dtype)
        with torch.no_grad():
            return int(self.model.encode_image(blank).shape[-1])

    def embed(self, inputs: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch dim"]:
        """Unit embeddings of a batch that was preprocessed and normalised elsewhere; nothing is kept."""
        x = inputs.to(self.device, self._input_dtype)
        self.images_encoded += len(x)
        return F.normalize(self.model.encode_image(x).float(), dim=-1)  # products in half would tie

    def _encode(self, pixels: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch dim"]:
        return self.embed(self.preprocess.normalise(pixels.to(self.device)))

    def _encode_texts(self, prompts: list[str], reader: str) -> Float[Tensor, "batch dim"]:
        for prompt in prompts:
            self.limit.check(prompt, reader)
        self.texts_encoded += len(prompts)
        with torch.no_grad():
            features = self.model.encode_text(self.tokenizer(prompts).to(self.device))
            return F.normalize(features.float(), dim=-1)


SHARED: Shared[Tower] = Shared(kept=2)


class TowerSource:
    """Names a tower without loading it; equal sources share one loaded tower per device."""

    def __init__(
        self,
        model: str | Path,
        pretrained: str | Path | None = None,
        *,
        revision: str | None = None,
        precision: str = "fp32",
        device: torch.device | str | None = None,
    ) -> None:
        """Name the tower.

        Args:
            model: open_clip's model name, `hf-hub:org/repository`, `local-dir:/path`, or such a directory.
            pretrained: open_clip's tag or a weight file; used with a model name only.
            revision: commit, tag or branch of the hub repository behind a tag or `hf-hub:` name; None for the commit
                in `hub`.
            precision: open_clip's: "fp32", "bf16", "fp16", "pure_bf16", "pure_fp16".
            device: where the tower runs; default where the images are.

        Raises:
            ValueError: unknown precision, OpenAI's weights without QuickGELU, or a revision of local weights.
        """
        self.model, self.directory = loading.resolve(model)
        self.pretrained: str | None = None
        if pretrained is not None and not self.model.startswith(loading.SCHEMES):
            self.pretrained = os.path.expanduser(pretrained)
        if revision is not None and (local := self.directory or self._file) is not None:
            raise ValueError(f"revision {revision!r} is one of a hub repository, but {str(local)!r} is local")
        self.revision = revision
        self.precision = precision
        self.device = None if device is None else as_device(device)
        self._towers: dict[torch.device, Tower] = {}
        loading.check_precision(precision)
        loading.check_quickgelu(self.model, self.pretrained)

    @cached_property
    def label(self) -> str:
        """What identifies the weights: name and tag, or a file's or directory's name with a short hash.

        A tag names no commit: which repository is behind it only open_clip knows, which takes seconds to import. Where
        `hub` lists that repository, or a revision is given, a tag's weights can't change; else they are its main
        branch's.
        """
        if self.directory is not None:
            label = f"{self.directory.name}/{sha256(loading.directory_files(self.directory))[:8]}"
        elif (path := self._file) is not None:
            label = f"{self.model}/{path.name}/{file_sha256(path)[:8]}"
        elif self.model.startswith(loading.HUB):
            label = f"{self.model}@{hub.commit(self.model.removeprefix(loading.HUB), self.revision)[:8]}"
        else:
            label = self.model if self.pretrained is None else f"{self.model}/{self.pretrained}"
            label = label if self.revision is None else f"{label}@{self.revision[:8]}"
        return label if self.precision == "fp32" else f"{label}/{self.precision}"

    def unread(self, prompt: str) -> str:
        """The end of the prompt that the loaded tower does not read; "" before it is loaded, too."""
        loaded = next(iter(self._towers.values()), None)
        return "" if loaded is None else loaded.limit.dropped(prompt)

    @property
    def _file(self) -> Path | None:
        """The weight file that was named instead of a tag, if it is there."""
        path = Path(self.pretrained or "")
        return path if self.pretrained is not None and path.is_file() else None

    def tower(self, device: torch.device | str | None = None) -> Tower:
        """The loaded tower, on this source's device, else on the given one.

        Raises:
            WeightsError: weights that are missing or do not fit; nothing is ever left at random values.
        """
        where = indexed(self.device or device)
        if where not in self._towers:
            key = (self.model if self.directory is None else "", self.label, where)
            self._towers[where] = SHARED.get(key, lambda: self._load(where))
        return self._towers[where]

    def _load(self, device: torch.device) -> Tower:
        return Tower(*loading.load(self.model, self.pretrained, self.revision, self.precision, device))
