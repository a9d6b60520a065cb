"""What a replay hands back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from noise_search.disk.files import write_atomically
from noise_search.disk.png import check_picture, gif_bytes, picture_png
from noise_search.results.candidate import number
from noise_search.results.html import LARGE, escaped, image, page
from noise_search.words import in_words, one_line
from samplers.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Replay:
    """A candidate made again.

    Attributes:
        prompt: its prompt.
        recipe: how it is made.
        image: it; the middle frame of a clip.
        pixels: the same, uint8 `[height, width, 3]`.
        clip: uint8 `[frames, height, width, 3]`; None for images.
        tensor: the same as computed: float32 `[3, height, width]` or `[frames, 3, height, width]` in [0, 1].
        nfe: what it cost.
        noise: how the noise drawn here equals the noise drawn then: "bit for bit", or "within 1e-5" in another
            environment.
        noise_sha256: of the pure noise before the first step, float32, to compare between machines.
        environment: what differs from the environment recorded, in words.
        notes: other reasons for which the image may differ from the stored one by more than 1e-4.
        difference: the largest absolute difference to the stored picture, in [0, 1], both in 8 bits; None where there
            is no such picture.
        promised: how large the difference may be, in [0, 1]: one of 255 levels, to which 1e-4 may round. None where
            nothing is promised: on another kind of device, or in another dtype than float32.
        stored: where that picture is.
        copies: which copy of the record counts, where others that were found say something else, in words.
        candidate: its id in the search, if known.
        scores: raw score by verifier key, where a verifier was given.
        recorded: the same of the record, where it has scores of this prompt.
        settings: everything that it depends on, as plain JSON.
    """

    prompt: str
    recipe: Recipe
    pixels: np.ndarray = field(repr=False)
    clip: np.ndarray | None = field(repr=False)
    tensor: Tensor = field(repr=False)
    nfe: int
    noise: str
    noise_sha256: str
    environment: tuple[str, ...]
    notes: tuple[str, ...]
    difference: float | None
    promised: float | None
    stored: str
    copies: tuple[str, ...]
    candidate: int | None
    scores: Mapping[str, float]
    recorded: Mapping[str, float]
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The image; the middle frame of a clip."""
        return Image.fromarray(self.pixels)

    @property
    def frames(self) -> list[Image.Image] | None:
        """The frames of a clip; None for images."""
        return None if self.clip is None else [Image.fromarray(frame) for frame in self.clip]

    @property
    def broken(self) -> str:
        """By how much the picture differs from the stored one, where that is more than promised; else ""."""
        if self.difference is None or self.promised is None or self.difference <= self.promised + 1e-6:
            return ""
        apart, most = (round(255 * one) for one in (self.difference, self.promised))
        return (
            f"the picture differs from {self.stored} by {apart} of 255 levels, and at most {most} was promised: the "
            "record or the picture was changed since"
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a PNG that can be replayed in turn, or a clip as GIF; returns the path.

        Args:
            path: a new file.
            overwrite: replace the file that is there.

        Raises:
            ValueError: another kind of file, one that is there already, or it can't be written.
        """
        file = Path(path)
        check_picture(file, clip=self.clip is not None, overwrite=overwrite)
        if file.suffix.lower() == ".gif":
            assert self.frames is not None
            write_atomically(file, gif_bytes(self.frames))
        else:
            about = {"candidate": self.candidate, "scores": {k: number(v) for k, v in self.scores.items()}}
            write_atomically(file, picture_png(self.pixels, self.prompt, self.recipe, self.settings, about))
        return file

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels and the settings, as plain JSON."""
        return {
            "prompt": self.prompt,
            "candidate": self.candidate,
            "recipe": [dict(op) for op in self.recipe.operations],
            "words": in_words(self.recipe),
            "nfe": self.nfe,
            "noise": self.noise,
            "noise_sha256": self.noise_sha256,
            "environment": list(self.environment),
            "notes": list(self.notes),
            "difference": self.difference,
            "promised": self.promised,
            "stored": self.stored or None,
            "copies": list(self.copies),
            "scores": {key: number(value) for key, value in self.scores.items()},
        }

    def rows(self) -> list[tuple[str, str]]:
        """What there is to say, as (name, words)."""
        told = [
            ("prompt", one_line(self.prompt)),
            ("recipe", in_words(self.recipe)),
            ("model", self.settings["model"]["name"]),
        ]
        told += [("cost", f"{self.nfe} NFE")]
        if self.candidate is not None:
            told.insert(1, ("candidate", str(self.candidate)))
        why = "; ".join(self.environment)
        told.append(("noise", f"{self.noise} ({why or 'the environment is the one recorded'})"))
        told += [("note", note) for note in (*self.notes, *self.copies)]
        if self.difference is not None:
            levels = round(self.difference * 255)
            apart = f"differs by up to {self.difference:.4f} ({levels} of 255 levels)" if levels else "differs nowhere"
            more = ", which is more than was promised" if self.broken else ""
            told.append(("picture", f"{apart} from {self.stored}{more}"))
        told += [("score", f"{key}: {value:.4f}{self._before(key, value)}") for key, value in self.scores.items()]
        return told

    def _before(self, key: str, value: float) -> str:
        """What the record says where it says something else: another score, or one of another version."""
        name = key.partition("@")[0]
        known = {k: v for k, v in self.recorded.items() if k == key} or {
            k: v for k, v in self.recorded.items() if k.partition("@")[0] == name
        }
        said = (f"{v:.4f} recorded" + f" by {k}" * (k != key) for k, v in known.items() if k != key or _far(v, value))
        return "".join(f", {one}" for one in said)

    def __str__(self) -> str:
        return "\n".join(f"{name:<10}{words}" for name, words in self.rows())

    def __repr__(self) -> str:
        which = "" if self.candidate is None else f"candidate {self.candidate}, "
        apart = "" if self.difference is None else f", picture within {self.difference:.4f}"
        return f"Replay({self.prompt!r:.80}: {which}{self.nfe} NFE, noise {self.noise}{apart})"

    def _repr_html_(self) -> str:
        told = "<br>".join(f"<b>{escaped(name)}</b> {escaped(words)}" for name, words in self.rows())
        picture = image(self.pixels, LARGE, f"replay: {self.prompt}")
        return page(
            [f'<div style="display:flex;gap:12px;flex-wrap:wrap">{picture}<div style="flex:1">{told}</div></div>']
        )


def _far(before: float, here: float) -> bool:
    """Whether scores differ by more than images that agree within 1e-4 explain."""
    return not math.isclose(before, here, rel_tol=1e-3, abs_tol=1e-3)
