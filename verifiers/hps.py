"""HPSv2: human preference as the angle between image and prompt in a fine-tuned CLIP ViT-H/14."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier, WeightsError
from verifiers.card import Card
from verifiers.inputs.preprocess import Images, Pixels, straight_through
from verifiers.loading import tower as towers
from verifiers.loading.hub import first_line
from verifiers.loading.open_clip import check_precision
from verifiers.loading.tower import Tower, TowerSource
from verifiers.loading.weights import WeightFile, file_sha256

CARD = Card(
    measures="human preference among images of one prompt (HPSv2.1 on open_clip's ViT-H/14)",
    range="cosine, usually 0.2 to 0.35 (published tables show 100 times that); not comparable between prompts",
    reference="Wu et al. 2023, arXiv 2306.09341",
    size="2.0 GB",
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    prompt_limit="77 tokens",
    weights="xswu/HPSv2",
    agreement=54.7,
)

ARCHITECTURE = "ViT-H-14"
HASH_DIGITS = 12
PUBLISHED = {
    "2.1": WeightFile(
        "HPS_v2.1_compressed.pt",
        "xswu/HPSv2",
        sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
        size=1_972_490_005,
    ),
    "2.0": WeightFile(
        "HPS_v2_compressed.pt",
        "xswu/HPSv2",
        sha256="07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
        size=1_972_484_501,
    ),
}


class HPS(Verifier):
    """Human Preference Score v2 of Wu et al. (2306.09341): cos(image, text) in a CLIP fine-tuned on preferences.

    Scores rank the images of one prompt; by the authors' statement those of different prompts don't compare. Prompts
    beyond 77 tokens are cut with a warning. Computed in float32, where the original ran under CUDA's autocast, which
    published values carry. Weights load at the first call, which raises WeightsError where they are missing or do not
    fit.

    Example:
        >>> HPS()(images, ["a red circle"] * len(images))
        tensor([0.2712, 0.2809])
    """

    name = "hps"
    family = "clip"

    def __init__(
        self,
        version: str | float | int = "2.1",
        weights: str | Path | None = None,
        *,
        model: str | Path = ARCHITECTURE,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        """Name the weights; nothing is loaded yet.

        Args:
            version: "2.1", or "2.0", the weights of the paper; numbers are welcome.
            weights: a local copy of them; default from `xswu/HPSv2` at a pinned revision, checked by their hash.
            model: open_clip's name of the architecture (with plain GELU), or a `.json` file of open_clip's form.
            device: where the tower runs; default where the images are.
            precision: of the tower, open_clip's name; embeddings and their product are float32 always.

        Raises:
            ValueError: an unknown version or precision, or a `.json` file that is not there.
        """
        if isinstance(version, float | int):
            version = f"{version:.1f}" if version == round(version, 1) else str(version)
        if version not in PUBLISHED:
            raise ValueError(f"version is {version!r}; expected one of {tuple(PUBLISHED)}")
        check_precision(precision)
        self._config = Path(model).expanduser() if str(model).endswith(".json") else None
        if self._config is not None and not self._config.is_file():
            raise ValueError(f"model {str(self._config)!r} is no file; expected a configuration of open_clip's form")
        self.weights = PUBLISHED[version] if weights is None else WeightFile.local(weights)
        self.hps_version = version
        self._model = str(model)
        self._device = device
        self._precision = precision

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local file must not burden construction
        """Version, weights, architecture unless it is the published one, precision; reads local files to hash them."""
        parts = [self.hps_version, self.weights.label]
        if self._config is not None:
            parts.append(f"{self._config.name}/{file_sha256(self._config)[:8]}")
        elif self._model != ARCHITECTURE:
            parts.append(self._model)
        return "/".join(parts + ([self._precision] if self._precision != "fp32" else []))

    @cached_property
    def source(self) -> TowerSource:
        """The tower, named by its weight file: fetched and checked now, loaded later."""
        model = self._model if self._config is None else _registered(self._config)
        return TowerSource(model, self.weights.path, precision=self._precision, device=self._device)

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the tower now."""
        self.source.tower(device)

    def unread(self, prompt: str) -> str:
        """The end of the prompt that is cut off."""
        return self.source.unread(prompt)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Cosine of the unit embeddings, in [-1, 1]."""
        tower = self.source.tower(images.device)
        prepare = LongestSide.of(tower)
        parts = torch.split(images, towers.MICRO_BATCH)
        embeddings = torch.cat([tower.embed(prepare(part)) for part in parts])
        return (embeddings * tower.text(prompts, self.name)).sum(-1)


@dataclass(frozen=True)
class LongestSide:
    """HPSv2's preprocessing: scale the longest side to `size` pixels, pad with black to a square, normalise.

    Images are rounded to 8 bits, so that one has the same score before and after it is saved. Then one antialiased
    bicubic pass over floats that is neither clamped nor rounded, and the padding comes before normalising, unlike
    open_clip's `resize_mode="longest"`.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, tower: Tower) -> "LongestSide":
        """For the input of a tower."""
        return cls(tower.preprocess.size[0], tower.preprocess.mean, tower.preprocess.std)

    def __call__(self, images: Images) -> Pixels:
        """The tower's input, float32."""
        x = images.float().clamp(0, 1) * 255
        x = straight_through(x, x.round()) / 255  # as diffusers makes PIL images, which the original reads
        height, width = x.shape[-2:]
        scale = self.size / max(height, width)
        if scale != 1:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
        rows, columns = self.size - x.shape[-2], self.size - x.shape[-1]
        top, left = rows // 2, columns // 2
        x = F.pad(x, (left, columns - left, top, rows - top))
        mean, std = x.new_tensor(self.mean)[:, None, None], x.new_tensor(self.std)[:, None, None]
        return (x - mean) / std


def _registered(config: Path) -> str:
    """The name under which open_clip now knows the architecture in a file: its stem and a hash of its contents.

    open_clip names an architecture by the stem alone, which would replace a published one or another file's.

    Raises:
        WeightsError: a file that is no JSON.
    """
    import open_clip

    name = f"{config.stem}-{file_sha256(config)[:HASH_DIGITS]}"
    if name not in open_clip.list_models():
        # In a directory of its own, as open_clip reads its directories again whenever one more is added.
        with TemporaryDirectory() as directory:
            copy = Path(directory) / f"{name}.json"
            copy.write_bytes(config.read_bytes())
            try:
                open_clip.add_model_config(copy)
            except ValueError as error:
                raise WeightsError(f"configuration {config.name!r} is no JSON ({first_line(error)})") from error
    return name
