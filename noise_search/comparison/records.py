"""What a comparison keeps of its searches: a record per cell, and random search's whole pool to hold them against."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Record:
    """What one algorithm found for one prompt with one budget and one seed.

    Attributes:
        prompt: what was asked for.
        family: the prompt's category; "" where none is known.
        algorithm: label of the algorithm.
        budget: NFE that were allowed.
        seed: as it was asked for, the same for all prompts; equal seeds mean equal noises for all algorithms.
        nfe: NFE spent when the winner's budget was used up, at most `budget`.
        rows: denoiser rows for them.
        seconds: wall-clock of the search, its share by NFE where a larger run gave this cell too.
        scores: the winner's raw score by verifier name ("clip").
        judges: the winner's raw score by judge name, NaN where one can't tell.
        first_scores, first_judges: the same of one plain sample, random search's first noise.
        embedding: unit features of the winner's image, by which diversity is measured; () where none were asked for.
        image: the winner's PNG relative to the comparison's directory; "" where it isn't kept.
        recipe: regenerates the winner, as JSON text.
        shared: whether the cell was read off a run with a larger budget.
        diagnosis: of the winner of a run's largest budget, the numbers of `diagnose()`; {} where it wasn't asked for.
        offset: added to `seed` it is the seed of the prompt's first noise, so that no two prompts share noises. 0 where
            they do, as in comparisons that were made before; None where it isn't known, and noises count as its own.
    """

    prompt: str
    family: str
    algorithm: str
    budget: int
    seed: int
    nfe: int
    rows: int
    seconds: float
    scores: Mapping[str, float]
    judges: Mapping[str, float] = field(default_factory=dict)
    first_scores: Mapping[str, float] = field(default_factory=dict)
    first_judges: Mapping[str, float] = field(default_factory=dict)
    embedding: tuple[float, ...] = ()
    image: str = ""
    recipe: str = ""
    shared: bool = False
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    offset: int | None = None

    @property
    def noise(self) -> int:
        """The seed of the first noise; -1 where it isn't known."""
        return -1 if self.offset is None else self.seed + self.offset

    @property
    def cell(self) -> tuple[str, str, int, int]:
        """What identifies it: algorithm, prompt, budget, seed."""
        return self.algorithm, self.prompt, self.budget, self.seed


@dataclass(frozen=True)
class Pool:
    """All candidates of random search for one prompt and seed, in the order of their noises.

    Attributes:
        prompt, family, seed, offset: as in `Record`.
        nfe: of one candidate.
        seconds: wall-clock of one candidate.
        scores: raw scores `[candidate]` by verifier name, NaN for candidates that can't win.
        judges: raw scores `[candidate]` by judge name.
    """

    prompt: str
    family: str
    seed: int
    nfe: int
    seconds: float
    scores: Mapping[str, tuple[float, ...]]
    judges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    offset: int | None = None

    def joined(self, more: "Pool") -> "Pool":
        """This pool with the candidates that follow."""

        def both(name: str) -> dict[str, tuple[float, ...]]:
            ours, theirs = getattr(self, name), getattr(more, name)
            return {key: (*values, *theirs[key]) for key, values in ours.items()}

        seconds = (self.seconds * len(self) + more.seconds * len(more)) / (len(self) + len(more))
        return replace(self, seconds=seconds, scores=both("scores"), judges=both("judges"))

    def __len__(self) -> int:
        """How many candidates."""
        return len(next(iter(self.scores.values()), ()))


def from_json(content: Mapping[str, Any]) -> Record | Pool:
    """What a line of the file says: the fields and their kind, null for NaN; without an offset noises are shared.

    Raises:
        ValueError: no such record; unknown or missing fields.
    """
    kinds: dict[str, type[Record] | type[Pool]] = {"record": Record, "pool": Pool}
    kind = kinds.get(str(content.get("kind")))
    if kind is None:
        raise ValueError(f"kind is {content.get('kind')!r}; expected one of {', '.join(kinds)}")
    given = {name: _with_nan(value) for name, value in content.items() if name != "kind"}
    given["offset"] = content.get("offset", 0)
    try:
        return kind(**given)
    except TypeError as error:
        expected = ", ".join(one.name for one in fields(kind))
        raise ValueError(f"a {content['kind']} has other fields than {expected}: {error}") from error


def _with_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return tuple(_with_nan(one) for one in value)
    return float("nan") if value is None else value
