"""A comparison's records and every number that follows from them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.coverage import Coverage
from noise_search.comparison.statistics.diagnoses import Diagnosed, diagnosed
from noise_search.comparison.statistics.diversity import Diversity, distances, diversities
from noise_search.comparison.statistics.means import Difference, Mean, differences, means
from noise_search.comparison.statistics.multiplier import Multiplier, multipliers
from noise_search.comparison.statistics.transfer import Transfer, transfers
from noise_search.disk.files import plain


@dataclass(frozen=True)
class ComparisonData:
    """What a comparison found; its statistics raise a ValueError where there are no records.

    Attributes:
        records: one per prompt, algorithm, budget and seed.
        pools: random search's candidates per prompt and seed.
        settings: what it was made with, as plain JSON.
        directory: where it lives; None in memory only.
        complete: whether every cell that was asked for is there; False after Ctrl-C. Of one that was read: whether
            every prompt there is has every seed, algorithm and budget.
    """

    records: tuple[Record, ...]
    pools: tuple[Pool, ...]
    settings: Mapping[str, Any]
    directory: Path | None = None
    complete: bool = True

    @cached_property
    def algorithms(self) -> tuple[str, ...]:
        """Labels, random search first."""
        found = dict.fromkeys(one.algorithm for one in self.records)
        return tuple(sorted(found, key=lambda name: name != RANDOM))

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """NFE, ascending."""
        return tuple(sorted({one.budget for one in self.records}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """First noises, ascending."""
        return tuple(sorted({one.seed for one in self.records}))

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """In the order given."""
        return tuple(dict.fromkeys(one.prompt for one in self.records))

    @cached_property
    def verifiers(self) -> tuple[str, ...]:
        """Names of those searched by."""
        return tuple(dict.fromkeys(name for one in self.records for name in one.scores))

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """Names of those held out."""
        return tuple(dict.fromkeys(name for one in self.records for name in one.judges))

    @cached_property
    def coverage(self) -> Coverage:
        """How many searches each algorithm and budget rests on, and whether they are the same."""
        return Coverage.of(self.records)

    def rows(self) -> list[dict[str, Any]]:
        """Tidy: one flat row per record, with a column per score and judge.

        `diversity` is the mean distance between the winners of one prompt across seeds; None for a single seed.
        """
        apart = distances(self.records)
        names = ("prompt", "family", "algorithm", "budget", "seed", "nfe", "rows", "seconds", "shared")
        return [
            {
                **{name: getattr(one, name) for name in names},
                **{f"score:{name}": one.scores.get(name) for name in self.verifiers},
                **{f"judge:{name}": one.judges.get(name) for name in self.judges},
                **{f"first:{name}": one.first_scores.get(name) for name in self.verifiers},
                **{f"first_judge:{name}": one.first_judges.get(name) for name in self.judges},
                "diversity": plain(apart.get((one.algorithm, one.budget, one.prompt))),
                "verdict": one.diagnosis.get("verdict", ""),
                "image": one.image,
                "recipe": one.recipe,
            }
            for one in self.records
        ]

    def means(self, measure: str = "own") -> tuple[Mean, ...]:
        """Mean scores of the winners with intervals, by algorithm and budget.

        Args:
            measure: "own", what was searched by, or the name of a verifier or judge.

        Raises:
            ValueError: no records, or no such measure.
        """
        return means(self.records, self.pools, measure, verifiers=self.verifiers)

    def differences(self, measure: str = "own") -> tuple[Difference, ...]:
        """Paired differences to random search at equal prompt, seed and NFE; `measure` as in `means()`."""
        return differences(self.records, self.pools, measure, verifiers=self.verifiers)

    def multipliers(self) -> tuple[Multiplier, ...]:
        """How many random candidates each algorithm and budget is worth, over how many its NFE would have bought.

        Raises:
            ValueError: as there are none, or prompts shared their budgets.
        """
        if self.settings.get("share"):
            raise ValueError(
                "prompts shared their budgets: some got more candidates than others, so that none is worth so many "
                "random ones; read means() and differences()"
            )
        return multipliers(self.records, self.pools, verifiers=self.verifiers)

    def passes(self) -> dict[tuple[str, int], float]:
        """Share of searches that reached the target of a comparison that had one, by algorithm and budget; else {}."""
        target = (self.settings.get("share") or {}).get("target_score")
        if target is None or len(self.verifiers) != 1:
            return {}
        reached = defaultdict[tuple[str, int], list[bool]](list)
        for one in self.records:
            reached[one.algorithm, one.budget].append(one.scores[self.verifiers[0]] >= target)
        return {place: sum(some) / len(some) for place, some in reached.items()}

    def transfers(self) -> tuple[Transfer, ...]:
        """How much of the own gain each held-out judge sees, with alarms where it sees too little."""
        return transfers(self.records, self.pools, verifiers=self.verifiers)

    def diversities(self) -> tuple[Diversity, ...]:
        """How different the winners of one prompt are across seeds, by algorithm and budget."""
        return diversities(self.records)

    def diagnoses(self) -> tuple[Diagnosed, ...]:
        """What `diagnose()` says of the winners together, by algorithm and budget; the largest budget of each run."""
        return diagnosed(self.records)
