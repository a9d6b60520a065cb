"""What `calibrate` hands back: calibrations, in a table, a plot and a file."""

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noise_search.algorithms.halving import Halving
from noise_search.algorithms.knowledge import Calibration
from noise_search.arguments import check_flags
from noise_search.disk.files import check_writable, write_atomically
from noise_search.resolve import read_calibrations
from noise_search.results.plots import blank
from noise_search.words import counted, table

_ROWS: dict[str, Callable[[Any], str]] = {
    "slopes": lambda move: f"slope of {move}",
    "rises": lambda n: f"gain from {n} to {2 * n}, in sd",
    "worth": lambda n: f"worth of halving at N = {n}",
}
"""What a table shows of a calibration's fields, by move or number."""


@dataclass(frozen=True, repr=False)
class CalibrationResult(Sequence[Calibration]):
    """A calibration of each verifier, as `search(calibration=...)` takes them.

    Attributes:
        model: its name.
        calibrations: one of each verifier.
        looks: pictures of x0 predictions that were decoded and scored, which cost no NFE.
    """

    model: str
    calibrations: tuple[Calibration, ...]
    looks: int

    def __len__(self) -> int:
        return len(self.calibrations)

    @overload
    def __getitem__(self, index: int) -> Calibration: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Calibration]: ...

    def __getitem__(self, index: int | slice) -> Calibration | Sequence[Calibration]:
        return self.calibrations[index]

    @property
    def nfe(self) -> int:
        """What it took, for all verifiers together."""
        return self.calibrations[0].nfe

    # Ink on white, whatever style the user has.
    @style.context("default")
    def plot(self) -> Figure:
        """Rank correlation with the final score by step, with two standard errors, and from where on halving trusts it.

        Raises:
            ValueError: nothing was looked at on the way.
        """
        if not any(one.correlations for one in self):
            raise ValueError("nothing was looked at on the way, so there is no correlation to plot; print the result")
        figure = blank(6.4, 4.0)
        axes = figure.subplots()
        for one in self:
            steps = sorted(one.correlations)
            mean = np.array([one.correlations[at] for at in steps])
            around = 2 * np.array([one.errors.get(at, 0.0) for at in steps])
            (line,) = axes.plot(steps, mean, marker="o", label=one.verifier)
            axes.fill_between(steps, mean - around, np.minimum(mean + around, 1), color=line.get_color(), alpha=0.15)
        for least, says in ((Halving.TRUSTED, "first rung"), (Halving.SURE, "last rung")):
            axes.axhline(least, color="#9aa0a6", linestyle="--", linewidth=1, zorder=0)
            at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "bottom"}
            axes.annotate(f"{says} of halving, {least:g}", (0.01, least), color="#5f6368", fontsize="small", **at)
        axes.set(xlabel=f"step, of {self[0].steps}", ylabel="rank correlation with the final score")
        axes.set(xlim=(0, self[0].steps), ylim=(min(0.0, axes.get_ylim()[0]), 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right", frameon=False)
        axes.set_title(
            f"{self.model}: {counted(self[0].prompts, 'prompt')} of {counted(self[0].noises, 'noise')}, "
            "bands are 2 standard errors",
            fontsize="medium",
            parse_math=False,
        )
        return figure

    def save(self, file: str | Path, overwrite: bool = False) -> Path:
        """Write the calibrations as JSON; those of other models, verifiers and steps that are in the file stay there.

        Raises:
            ValueError: something else is there, which only `overwrite` replaces; or it can't be written.
        """
        check_flags(overwrite=overwrite)
        place = Path(file)
        kept = () if overwrite else already_in(place)
        check_writable(place.parent)
        ours = {(one.model, one.verifier, one.steps) for one in self}
        others = [one for one in kept if (one.model, one.verifier, one.steps) not in ours]
        content = [one.to_json() for one in (*others, *self)]
        write_atomically(place, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return place

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        calibrations = [one.to_json() for one in self]
        return {"model": self.model, "nfe": self.nfe, "looks": self.looks, "calibrations": calibrations}

    def __str__(self) -> str:
        one = self[0]
        told = [
            f"{self.model}, {counted(one.steps, 'step')}: {counted(one.prompts, 'prompt')} of "
            f"{counted(one.noises, 'noise')}, {self.nfe} NFE, {counted(self.looks, 'look')}"
        ]
        if steps := sorted({at for each in self for at in each.correlations}):
            rows = [["rank correlation after step", *map(str, steps)]]
            rows += [[each.verifier, *(_correlation(each, at) for at in steps)] for each in self]
            told.append(table(rows, "<" + ">" * len(steps)))
        columns = {"spread within a prompt (sd)": [f"{each.spread:.3g}" for each in self]}
        for field, said in _ROWS.items():
            known = sorted({key for each in self for key in getattr(each, field)}, key=_by_number)
            columns |= {said(key): [_number(getattr(each, field).get(key)) for each in self] for key in known}
        rows = [["", *(each.verifier for each in self)], *([name, *row] for name, row in columns.items())]
        return "\n\n".join([*told, table(rows, "<" + ">" * len(self))])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def already_in(file: Path) -> tuple[Calibration, ...]:
    """The calibrations in a file that more are to be added to; none where there is no such file.

    Raises:
        ValueError: something else is there.
    """
    if not file.exists():
        return ()
    try:
        return read_calibrations(file)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{str(file)!r} holds no calibrations ({error}): give another file, or overwrite=True (--overwrite)"
        ) from error


def _correlation(one: Calibration, at: int) -> str:
    if at not in one.correlations:
        return "-"
    return f"{one.correlations[at]:.2f}" + (f" +-{2 * one.errors[at]:.2f}" if at in one.errors else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _by_number(key: int | str) -> tuple[str, float]:
    kind, _, number = str(key).rpartition(" ")
    return kind, float(number)
