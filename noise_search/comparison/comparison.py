"""A comparison: its records, as a table, as files for other tools, as plots and as a report."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.store import RECORDS, Store, claim, is_comparison
from noise_search.disk.journal import Journal
from noise_search.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Comparison(ComparisonData):
    """What a comparison found.

    Its values are those of `ComparisonData`.
    """

    @classmethod
    def read(cls, directory: str | Path) -> "Comparison":
        """The comparison in a directory, complete or not.

        Raises:
            ValueError: there is none.
        """
        place = Path(directory)
        settings = Journal(place, RECORDS).settings()
        if not is_comparison(settings):
            raise ValueError(f"{str(place)!r} holds no comparison; expected the directory given as out=")
        store = Store(place)
        records = tuple(store.records.values())
        found = cls(records, tuple(store.pools.values()), settings, place)
        begun = set(settings.get("algorithms", ())) <= set(found.algorithms)
        return replace(found, complete=begun and found.coverage.is_whole)

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
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows())

    def to_parquet(self, file: str | Path) -> Path:
        """Write the rows as Parquet.

        Raises:
            ImportError: pyarrow isn't installed.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_parquet() needs pyarrow: pip install 'noise-search[tables]', or use to_csv()"
            ) from error
        self.to_pandas().to_parquet(file)
        return Path(file)

    def plot(self, kind: str = "score", *, paper: str | None = None, algorithm: str | None = None) -> "Figure":
        """A figure, which notebooks show.

        Args:
            kind: "score" (own score and judges against NFE), "difference" (paired, to random search), "judge" (judges
                against own score), "multiplier" (best-of-N equivalent), "pareto" (score against seconds), "grid"
                (images).
            paper: with "score", a published curve to draw gains over (a name of `views.paper_curves.names()`), or
                several by the beginning of their names, such as "flux-drawbench".
            algorithm: with "grid", whose winners to show at every budget; all algorithms' at the largest if not given.

        Raises:
            ValueError: no such figure, curve or algorithm; or the comparison lacks what it shows: records, judges,
                pools or images.
        """
        from noise_search.comparison.views.plots import draw

        return draw(self, kind, paper=paper, algorithm=algorithm)

    def report(self, file: str | Path) -> Path:
        """Write everything as one HTML file that needs nothing else.

        Raises:
            ValueError: it can't be written.
        """
        from noise_search.comparison.views.report import write_report

        return write_report(self, Path(file))

    def save(self) -> dict[str, Path]:
        """Write records.csv, the figures as PNG and SVG, and report.html into the directory; returns their paths.

        The directory's settings list them, so that they are replaced, and no file of anybody else.

        Raises:
            ValueError: it has no directory, or somebody else's file is there in the place of one of them.
        """
        if self.directory is None:
            raise ValueError("this comparison has no directory; give compare() out=, or use to_csv() and report()")
        from noise_search.comparison.views.plots import figures, save_figures

        drawn, _ = figures(self)
        pictures = [f"{kind}.{suffix}" for kind in drawn for suffix in ("png", "svg")]
        claim(self.directory, ["records.csv", *pictures, "report.html"])
        paths = {"records": self.directory / RECORDS, "csv": self.directory / "records.csv"}
        self.to_csv(paths["csv"])
        paths |= save_figures(drawn, self.directory)
        paths["report"] = self.report(self.directory / "report.html")
        return paths

    def table(self) -> str:
        """Scores with intervals, differences to random search, best-of-N equivalents, judges and alarms, as text."""
        from noise_search.comparison.views.tables import text_table

        return text_table(self)

    def __str__(self) -> str:
        return f"{self!r}\n{self.table()}" if self.records else repr(self)

    def __repr__(self) -> str:
        count = counted(len(self.records), "record")
        if not self.coverage.is_whole:
            count = f"{len(self.records)} of {counted(self.coverage.wanted, 'record')}"
        return (
            f"Comparison({count}: {', '.join(self.algorithms)}; "
            f"{counted(len(self.prompts), 'prompt')}, budget{'' if len(self.budgets) == 1 else 's'} "
            f"{', '.join(map(str, self.budgets))} NFE, {counted(len(self.seeds), 'seed')})"
        )
