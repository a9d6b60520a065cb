"""A comparison: its records, as a table, as files for other tools, as plots and as a report."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.coverage import Coverage, number
from noise_search.comparison.diversity import distances
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from noise_search.comparison.diagnoses import Diagnosed
    from noise_search.comparison.diversity import Diversity
    from noise_search.comparison.multiplier import Multiplier
    from noise_search.comparison.statistics import Difference, Mean
    from noise_search.comparison.transfer import Transfer


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

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

    @classmethod
    def read(cls, directory: str | Path) -> "Comparison":
        """The comparison in a directory, complete or not.

        Raises:
            ValueError: there is none.
        """
        place = Path(directory)
        if not (place / "settings.json").exists():
            raise ValueError(f"{str(place)!r} holds no comparison; expected the directory given as out=")
        store = Store(place)
        records, settings = tuple(store.records.values()), store.settings()
        found = cls(records, tuple(store.pools.values()), settings, place)
        begun = set(settings.get("algorithms", ())) <= set(found.algorithms)
        return replace(found, complete=begun and found.coverage.is_whole)

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
        return [
            {
                "prompt": one.prompt,
                "family": one.family,
                "algorithm": one.algorithm,
                "budget": one.budget,
                "seed": one.seed,
                "nfe": one.nfe,
                "rows": one.rows,
                "seconds": one.seconds,
                "shared": one.shared,
                **{f"score:{name}": one.scores.get(name) for name in self.verifiers},
                **{f"judge:{name}": one.judges.get(name) for name in self.judges},
                **{f"first:{name}": one.first_scores.get(name) for name in self.verifiers},
                **{f"first_judge:{name}": one.first_judges.get(name) for name in self.judges},
                "diversity": _told(apart.get((one.algorithm, one.budget, one.prompt))),
                "verdict": one.diagnosis.get("verdict", ""),
                "image": one.image,
                "recipe": one.recipe,
            }
            for one in self.records
        ]

    def to_csv(self, file: str | Path | None = None) -> str:
        """The rows as CSV; written to `file` where one is given."""
        rows = self.rows()
        stream = io.StringIO()
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["prompt"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if file is not None:
            Path(file).write_text(stream.getvalue(), encoding="utf-8")
        return stream.getvalue()

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            ImportError: pandas isn't installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_pandas() needs pandas: pip install 'noise-search[tables]', or use rows() or to_csv()"
            ) from error
        return pandas.DataFrame(self.rows())

    def to_parquet(self, file: str | Path) -> Path:
        """Write the rows as Parquet.

        Raises:
            ImportError: pandas or pyarrow isn't installed.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_parquet() needs pyarrow: pip install 'noise-search[tables]', or use to_csv()"
            ) from error
        self.to_pandas().to_parquet(file)
        return Path(file)

    def means(self, measure: str = "own") -> "tuple[Mean, ...]":
        """Mean scores of the winners with intervals, by algorithm and budget.

        Args:
            measure: "own", what was searched by, or the name of a verifier or judge.

        Raises:
            ValueError: no records, or no such measure.
        """
        from noise_search.comparison.statistics import means

        return means(self.records, self.pools, measure, verifiers=self.verifiers)

    def differences(self, measure: str = "own") -> "tuple[Difference, ...]":
        """Paired differences to random search at equal prompt, seed and NFE; `measure` as in `means()`.

        Raises:
            ValueError: no records, or no such measure.
        """
        from noise_search.comparison.statistics import differences

        return differences(self.records, self.pools, measure, verifiers=self.verifiers)

    def multipliers(self) -> "tuple[Multiplier, ...]":
        """How many random candidates each algorithm and budget is worth, over how many its NFE would have bought.

        Raises:
            ValueError: no records.
        """
        from noise_search.comparison.multiplier import multipliers

        return multipliers(self.records, self.pools, verifiers=self.verifiers)

    def transfers(self) -> "tuple[Transfer, ...]":
        """How much of the own gain each held-out judge sees, with alarms where it sees too little.

        Raises:
            ValueError: no records.
        """
        from noise_search.comparison.transfer import transfers

        return transfers(self.records, self.pools, verifiers=self.verifiers)

    def diversities(self) -> "tuple[Diversity, ...]":
        """How different the winners of one prompt are across seeds, by algorithm and budget.

        Raises:
            ValueError: no records.
        """
        from noise_search.comparison.diversity import diversities

        return diversities(self.records)

    def diagnoses(self) -> "tuple[Diagnosed, ...]":
        """What `diagnose()` says of the winners together, by algorithm and budget; the largest budget of each run.

        Raises:
            ValueError: no records.
        """
        from noise_search.comparison.diagnoses import diagnosed

        return diagnosed(self.records)

    def plot(self, kind: str = "score", *, paper: str | None = None, algorithm: str | None = None) -> "Figure":
        """A figure: "score", "difference", "judge", "multiplier", "pareto" or "grid".

        Args:
            kind: which.
            paper: with "score", a published curve to draw over it, such as "flux-drawbench".
            algorithm: with "grid", whose winners to show at every budget; all algorithms' at the largest if not given.

        Raises:
            ValueError: no such figure, curve or algorithm, or no images to show.
        """
        from noise_search.comparison.plots import draw

        return draw(self, kind, paper=paper, algorithm=algorithm)

    def report(self, file: str | Path) -> Path:
        """Write everything as one HTML file that needs nothing else.

        Raises:
            ValueError: it can't be written.
        """
        from noise_search.comparison.report import write_report

        return write_report(self, Path(file))

    def save(self) -> dict[str, Path]:
        """Write records.csv, the figures as PNG and SVG, and report.html into the directory; returns their paths.

        Raises:
            ValueError: it has no directory.
        """
        if self.directory is None:
            raise ValueError("this comparison has no directory; give compare() out=, or use to_csv() and report()")
        from noise_search.comparison.plots import save_figures

        paths = {"records": self.directory / "records.jsonl", "csv": self.directory / "records.csv"}
        self.to_csv(paths["csv"])
        paths |= save_figures(self, self.directory)
        paths["report"] = self.report(self.directory / "report.html")
        return paths

    def table(self) -> str:
        """Scores with intervals, differences to random search, best-of-N equivalents, judges and alarms, as text."""
        from noise_search.comparison.table import table

        return table(self)

    def __str__(self) -> str:
        return f"{self!r}\n{self.table()}" if self.records else repr(self)

    def __repr__(self) -> str:
        count = number(len(self.records), "record")
        if not self.coverage.is_whole:
            count = f"{len(self.records)} of {number(self.coverage.wanted, 'record')}"
        return (
            f"Comparison({count}: {', '.join(self.algorithms)}; "
            f"{number(len(self.prompts), 'prompt')}, budget{'' if len(self.budgets) == 1 else 's'} "
            f"{', '.join(map(str, self.budgets))} NFE, {number(len(self.seeds), 'seed')})"
        )


def _told(value: float | None) -> float | None:
    return None if value is None or value != value else value
