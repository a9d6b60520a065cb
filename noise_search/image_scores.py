"""`score_images()`: pictures on disk, scored and ranked by verifiers."""

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from noise_search.arguments import check_counts
from noise_search.disk.images import ImageFile, find_images, look_at, read_pixels
from noise_search.engine.scoring import Scorer, as_images
from noise_search.engine.sources import NEEDS, Source, needed_sources, sources_record
from noise_search.models import ModelCard, read_card, usable_device
from noise_search.resolve import resolve_aggregator
from noise_search.results.candidate import number
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import counted, printable, table, unknown, violations
from verifiers.aggregators.base import Aggregator
from verifiers.aggregators.ranks import ENSEMBLES
from verifiers.base import Verifier
from verifiers.catalogue import card_of

log = logging.getLogger(__name__)


_PIXELS = 2**22
"""Of one batch: four images of 1024 x 1024."""


@dataclass(frozen=True)
class ScoredImage(ImageFile):
    """A picture, what it was scored against, and what it scored.

    Attributes:
        value: what ranks it within all that were given, higher is better; NaN where it can't win.
        scores: raw score by verifier key, NaN where one failed.
        failure: why it has no value, or None.
    """

    value: float
    scores: Mapping[str, float]
    failure: str | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; a failed score is null."""
        return {
            "file": str(self.file),
            "value": number(self.value),
            "scores": {key: number(score) for key, score in self.scores.items()},
            "failure": self.failure,
            "prompt": self.prompt,
            "prompt_from": self.prompt_from,
            "width": self.width,
            "height": self.height,
        }


@dataclass(frozen=True)
class ScoredImages:
    """Pictures, best first.

    Attributes:
        images: best first, ties in the order given; those that can't win come last.
        aggregator: what ranked them, as plain JSON.
        unreadable: files that are no images that can be opened, and why.
        skipped: files in the folders that aren't named like images.
        interrupted: whether Ctrl-C ended it before all images were scored; those that were are here.
        ended: why it ended before that, such as a judge's cap on spending; None where it didn't.
        sources: shape and hash of each source image that they were scored with; () where no verifier needs one.
    """

    images: tuple[ScoredImage, ...]
    aggregator: Mapping[str, Any]
    unreadable: Mapping[Path, str]
    skipped: tuple[Path, ...]
    interrupted: bool = False
    ended: str | None = None
    sources: tuple[Mapping[str, Any], ...] = ()

    def top(self, count: int | None) -> "ScoredImages":
        """The same with the best `count` images only; None keeps all."""
        return replace(self, images=self.images[:count])

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "verifier": dict(self.aggregator),
            "images": [one.to_json() for one in self.images],
            "unreadable": {str(file): why for file, why in self.unreadable.items()},
            "skipped": [str(file) for file in self.skipped],
            "interrupted": self.interrupted,
            "ended": self.ended,
            "sources": [dict(one) for one in self.sources],
        }

    def __str__(self) -> str:
        """A table: rank, value unless it is one verifier's score, a column per verifier, file."""
        described = self.aggregator["verifiers"]
        keys = [f"{one['name']}@{one['version']}" for one in described]
        single = len(keys) == 1 or self.aggregator["name"] == described[0]["name"]
        ways = [] if single else [str(self.aggregator["name"]).split("(")[0]]
        rows = [["", *ways, *(one["name"] for one in described), "image"]]
        for rank, one in enumerate(self.images, start=1):
            values = [one.value] if ways else []
            values += [one.scores.get(key, float("nan")) for key in keys]
            note = f"  ({printable(one.failure)})" if one.failure else ""
            rows.append([f"{rank}.", *map(_shown, values), printable(str(one.file)) + note])
        return table(rows, ">" * (len(rows[0]) - 1) + "<")


def score_images(
    images: str | Path | Sequence[str | Path],
    *,
    prompt: str | None = None,
    source: Any = None,
    verifier: str | Verifier | Aggregator | Callable[..., Any] | Sequence[Any] | None = None,
    ensemble: str = "mean-z",
    model: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 16,
    recursive: bool = False,
    progress: bool = True,
) -> ScoredImages:
    """Score pictures and rank them among each other, whatever made them.

    All pictures are one pool, also where their prompts differ. They are read upright, transparency over white, 16 bits
    rounded to 8, and no more than a batch of one size at a time. Ctrl-C, and a verifier that fails for
    good, return those scored so far, if there are any.

    Args:
        images: files and folders.
        prompt: for all of them; when None, the one that a search recorded in the PNG, else the text of a `.txt` file
            beside the image (`cat.txt` for `cat.png`).
        source: what the images were made from, for verifiers that need it: a file, a picture as a pipeline's `image`,
            or a list of them.
        verifier, ensemble: as in `search()`, but z-scores are those within all pictures, 0 for a single one; by default
            what searched, where all pictures record the same by its name, and else "clip".
        model: an embedded model's name or a saved pipeline's directory, if "clip" and other names shall mean what it
            declares; it isn't loaded.
        device: where images are scored; a GPU when None and there is one.
        batch_size: images per batch, fewer of large ones.
        recursive: look into folders of folders too.
        progress: show a bar on standard error.

    Raises:
        ValueError: a missing file, a folder without images, no readable image, an unknown name, a verifier that needs
            more than images, prompts and a source, or a source that isn't there or isn't needed, an image without the
            prompt that a verifier needs, or with one that it can't score.
        TypeError: an object that can't score.
        WeightsError: a verifier's weights are missing.

    Example:
        print(noise_search.score_images("runs/stars/top", verifier=["clip", "aesthetic"], model="shapes-flow"))
    """
    check_counts(batch_size=batch_size)
    aggregator = None
    if verifier is not None:  # refused before any file is opened
        aggregator = resolve_aggregator(verifier, Declared.of(model), ensemble)
        sources = _sources(aggregator.verifiers, source)
    files, skipped = find_images([images] if isinstance(images, str | Path) else images, recursive)
    seen, unreadable = list[ImageFile](), dict[Path, str]()
    for file in files:
        try:
            seen.append(look_at(file, prompt))
        except ValueError as error:
            unreadable[file] = str(error)
    if not seen:
        raise _none_read(files, unreadable)
    if aggregator is None:
        aggregator = _recorded(seen, model, ensemble)
        if progress:
            print(f"scoring by {aggregator.name}", file=sys.stderr)
        sources = _sources(aggregator.verifiers, source)
    _check_prompts(seen, aggregator.verifiers)
    place = torch.device(usable_device(device))
    for needed in aggregator.verifiers:
        needed.load(place)
        needed.check([one.prompt or "" for one in seen])
    scorer, scored = Scorer(aggregator.verifiers, sources), dict[Path, ScoredImage]()
    ended: BaseException | None = None
    with tqdm(total=len(seen), unit="image", disable=not progress, leave=False, file=sys.stderr) as bar:
        try:
            for batch in _batches(seen, batch_size):
                scored |= _scored(batch, scorer, place, unreadable)
                bar.update(len(batch))
                if scorer.unusable is not None:
                    raise scorer.unusable
        except (KeyboardInterrupt, Exception) as error:
            if not scored:
                raise
            ended = error
    if not scored:
        raise _none_read(files, unreadable)
    ranked = _ranked([scored[one.file] for one in seen if one.file in scored], aggregator)
    interrupted = isinstance(ended, KeyboardInterrupt)
    why = None if ended is None else "interrupted" if interrupted else str(ended) or type(ended).__name__
    used = tuple(sources_record(sources).get("sources", ()))
    return ScoredImages(ranked, aggregator.describe(), unreadable, tuple(skipped), interrupted, why, used)


@dataclass(frozen=True)
class Declared:
    """What names of verifiers are resolved for: a model by its name and card, not loaded."""

    name: str
    card: ModelCard

    @classmethod
    def of(cls, model: str | Path | None) -> "Declared":
        """What a model's card declares; nothing without a model."""
        if model is None:
            return cls("images of any origin", ModelCard())
        name = str(model)
        if name in EMBEDDED_MODELS:
            return cls(name, read_card(EMBEDDED_MODELS[name]))
        if name and (Path(name) / "model_index.json").exists():
            return cls(name, read_card(Path(name)))
        raise unknown("model", name, EMBEDDED_MODELS, more=", or a saved pipeline's directory")


def _recorded(seen: Sequence[ImageFile], model: str | Path | None, ensemble: str) -> Aggregator:
    """What all pictures record as what searched, where its name gives it here too; else "clip", and why in one line."""
    found = [one.record.get("settings") for one in seen]
    told = {json.dumps([_part(one, "verifier"), _part(one, "model").get("name")]) for one in found}
    if len(told) != 1 or not all(_part(one, "verifier") for one in found):
        if len(told) > 1:
            log.warning("the pictures record no verifier, or several; scoring by clip: name one to choose")
        return resolve_aggregator("clip", Declared.of(model), ensemble)
    described, name = json.loads(told.pop())
    names = [str(one.get("name")) for one in described.get("verifiers", ()) if isinstance(one, dict)]
    way = str(described.get("name")).split("(")[0]
    declared = Declared.of(model if model is not None or name not in EMBEDDED_MODELS else name)
    asked = names[0] if len(names) == 1 else names
    found_here = resolve_aggregator(asked, declared, way if way in ENSEMBLES else ensemble)
    keys = [f"{one.get('name')}@{one.get('version')}" for one in described["verifiers"]]
    if [one.key for one in found_here.verifiers] != keys:
        raise ValueError(
            f"the pictures record verifier {', '.join(keys)}, and its name gives "
            f"{', '.join(one.key for one in found_here.verifiers)} here: name a verifier, with its options or a model"
        )
    return found_here


def _none_read(files: Sequence[Path], unreadable: Mapping[Path, str]) -> ValueError:
    return ValueError(f"none of {counted(len(files), 'file')} can be read: {next(iter(unreadable.values()))}")


def _part(record: Any, name: str) -> dict[str, Any]:
    """An object in a record that anybody may have edited."""
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def _sources(verifiers: Sequence[Verifier], source: Any) -> tuple[Source, ...]:
    """The source images that the verifiers need, files read; ValueError where one needs something else."""
    for verifier in verifiers:
        if missing := sorted(verifier.needs - NEEDS):
            why = "which image files don't tell; it scores within search()"
            raise ValueError(f"verifier {verifier.name!r} needs {', '.join(missing)}, {why}")
    if source is not None and not any(verifier.needs for verifier in verifiers):
        names = ", ".join(verifier.name for verifier in verifiers)
        raise ValueError(
            f"a source image was given, and {names} doesn't look at it: leave it out, or use a verifier of edits"
        )
    several = source if isinstance(source, list | tuple) else [source]
    read = [read_pixels(Path(one)) if isinstance(one, str | Path) else one for one in several]
    return needed_sources(verifiers, None if source is None else read, "source")


def _check_prompts(seen: Sequence[ImageFile], verifiers: Sequence[Verifier]) -> None:
    reading = [verifier.name for verifier in verifiers if reads_prompts(verifier)]
    missing = [one.file.name for one in seen if one.prompt is None]
    if reading and missing:
        shown = ", ".join([*missing[:3], *(["..."] if len(missing) > 3 else [])])
        raise ValueError(
            f"verifier {reading[0]!r} reads prompts, and {len(missing)} of {counted(len(seen), 'image')} have none "
            f"({shown}): give a prompt, or write it into a .txt file beside the image"
        )


def reads_prompts(verifier: Verifier) -> bool:
    """Unless its card says that it looks at images alone."""
    card = card_of(type(verifier))
    return "prompt" in getattr(card, "needs", "prompt")


def _batches(seen: Sequence[ImageFile], batch_size: int) -> list[list[ImageFile]]:
    """Images of one size each, in as few batches as that allows."""
    groups: dict[tuple[int, int], list[ImageFile]] = defaultdict(list)
    for one in seen:
        groups[one.width, one.height].append(one)
    batches = []
    for (width, height), group in groups.items():
        size = max(1, min(batch_size, _PIXELS // (width * height)))
        batches += [group[at : at + size] for at in range(0, len(group), size)]
    return batches


def _scored(
    batch: Sequence[ImageFile], scorer: Scorer, device: torch.device, unreadable: dict[Path, str]
) -> dict[Path, ScoredImage]:
    """Images by file, not ranked yet; files that prove unreadable only now join the `unreadable`."""
    pixels: dict[Path, np.ndarray] = {}
    for one in batch:
        try:
            pixels[one.file] = read_pixels(one.file)
        except ValueError as error:
            unreadable[one.file] = str(error)
    read = [one for one in batch if one.file in pixels]
    if not read:
        return {}
    components, failures = scorer.score(as_images(list(pixels.values()), device), [one.prompt or "" for one in read])
    by_row = [{key: float(scores[row]) for key, scores in components.items()} for row in range(len(read))]
    return {
        one.file: ScoredImage(**vars(one), value=float("nan"), scores=scores, failure=failure)
        for one, scores, failure in zip(read, by_row, failures, strict=True)
    }


def _ranked(scored: Sequence[ScoredImage], aggregator: Aggregator) -> tuple[ScoredImage, ...]:
    keys, described = [verifier.key for verifier in aggregator.verifiers], aggregator.describe()
    values = aggregator.combine({key: np.array([one.scores[key] for one in scored]) for key in keys})
    found = [
        replace(one, value=float(value), failure=one.failure or "; ".join(violations(described, one.scores)) or None)
        for one, value in zip(scored, values, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: -np.nan_to_num(one.value, nan=-np.inf)))


def _shown(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
