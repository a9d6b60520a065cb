"""Tables and figures of axes that were run: `python notebooks/paper/report.py [AXIS ...] --runs runs/paper`.

Of each axis: its points with 95 % intervals over prompts and seeds as CSV, its figure, and its table as Markdown.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from axes import AXES, Axis

from noise_search import Comparison
from noise_search.comparison.records import Record
from noise_search.comparison.statistics.intervals import Interval
from noise_search.comparison.statistics.means import differences, means
from noise_search.comparison.statistics.measures import by_cell
from noise_search.comparison.views.figures import Plot, label, legend_below, log_axis, looks, new_panels, save_figure
from noise_search.comparison.views.scores import Curves, curves_told, draw_curves


@dataclass(frozen=True)
class Point:
    """Mean score of a curve's winners at one budget, and what it is less the baseline's at equal prompt and noise."""

    curve: str
    cost: float
    budget: int
    measure: str
    score: Interval
    gain: Interval | None = None


def main() -> None:
    """Parse the command line and report the axes that have been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"some of {', '.join(AXES)}; all by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    for name in asked.axes or [one for one in AXES if (asked.runs / one).exists()]:
        axis = AXES[name]()
        found = points(axis, asked.runs / name)
        write_csv(found, asked.out / f"{name}.csv")
        save_figure(figure(axis, found), asked.out / name)
        print(f"{name}\n\n{markdown(axis, found)}\n")


def points(axis: Axis, directory: Path) -> list[Point]:
    """All points of an axis, from the comparisons below the directory: means over the searches that all curves have."""
    drawn = {run: _drawn(axis, run, Comparison.read(directory / run.replace(" ", "-"))) for run in axis.runs}
    shared = set.intersection(
        *({(one.prompt, one.seed) for one in some} for records in drawn.values() for some in by_cell(records).values())
    )
    costs, merged = {}, []
    for run, records in drawn.items():
        for one in records:
            curve = str(axis.curve(run, one.algorithm))
            costs[curve, one.budget] = axis.cost(run, one.budget)
            if (one.prompt, one.seed) in shared:
                # What one run searched by is another's judge: every score counts as a judge's.
                merged.append(replace(one, algorithm=curve, judges={**one.judges, **one.scores}))
    found = []
    for measure in axis.measures:
        compared = differences(merged, (), measure, baseline=axis.baseline) if axis.baseline else ()
        gains = {(one.algorithm, one.budget): one.difference for one in compared}
        for one in means(merged, (), measure):
            cell = one.algorithm, one.budget
            found.append(Point(one.algorithm, costs[cell], one.budget, measure, one.score, gains.get(cell)))
    order = list(dict.fromkeys(curve for curve, _ in costs))
    return sorted(found, key=lambda one: (order.index(one.curve), one.budget))


def _drawn(axis: Axis, run: str, comparison: Comparison) -> list[Record]:
    """Records of the algorithms that are drawn and of the budgets that are asked for."""
    given = axis.runs[run]
    asked = given.get("budgets") or [count * int(comparison.settings["steps"]) for count in given["candidates"]]
    return [one for one in comparison.records if axis.curve(run, one.algorithm) is not None and one.budget in asked]


def write_csv(found: Sequence[Point], file: Path) -> None:
    """A row per point."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        numbers = ["mean", "low", "high", "less_baseline", "less_baseline_low", "less_baseline_high"]
        writer.writerow(["curve", "cost", "budget", "measure", *numbers, "prompts", "searches"])
        for one in found:
            told = [f"{value:.5g}" for found in (one.score, one.gain) for value in _numbers(found)]
            counts = [one.score.prompts, one.score.searches]
            writer.writerow([one.curve, f"{one.cost:g}", one.budget, one.measure, *told, *counts])


def _numbers(found: Interval | None) -> tuple[float, float, float]:
    return (found.value, found.low, found.high) if found is not None else (float("nan"),) * 3


def figure(axis: Axis, found: Sequence[Point]) -> Plot:
    """A panel per measure: mean score against cost, with 95 % bands."""
    drawn, axes = new_panels(axis.title, len(axis.measures), columns=2)
    names = list(dict.fromkeys(one.curve for one in found))
    told = []
    for panel, measure in zip(axes, axis.measures, strict=True):
        curves: Curves = {
            name: sorted(
                ((one.cost, one.score) for one in found if (one.curve, one.measure) == (name, measure)),
                key=lambda point: point[0],
            )
            for name in names
        }
        draw_curves(panel, curves, looks(names))
        log_axis(panel, "x")
        label(panel, f"{axis.title}: {measure}", f"{axis.unit} (log scale)", f"mean {measure}")
        told.append(curves_told(measure, curves, axis.unit))
    legend_below(drawn, axes)
    drawn.alt = f"{axis.title}. Mean scores of the winners against {axis.unit}, with 95 % intervals. " + " ".join(told)
    return drawn


def markdown(axis: Axis, found: Sequence[Point]) -> str:
    """A row per curve and budget, columns per measure; means with their intervals."""
    rows: dict[tuple[str, float], list[Point]] = {}
    for one in found:
        rows.setdefault((one.curve, one.cost), []).append(one)
    compared = any(one.gain is not None for one in found)
    head = ["curve", axis.unit]
    for measure in axis.measures:
        head += [measure, f"{measure} less {axis.baseline}"] if compared else [measure]
    lines = [f"| {' | '.join([*head, 'searches'])} |", "|" + "---|" * (len(head) + 1)]
    for (curve, cost), some in sorted(rows.items(), key=lambda row: (_place(found, row[0][0]), row[0][1])):
        told = [[one.score, one.gain] if compared else [one.score] for one in some]
        cells = [_told(score) for both in told for score in both]
        lines.append(f"| {curve} | {cost:g} | {' | '.join(cells)} | {some[0].score.searches} |")
    return "\n".join(lines)


def _told(found: Interval | None) -> str:
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _place(found: Sequence[Point], curve: str) -> int:
    return [one.curve for one in found].index(curve)


if __name__ == "__main__":
    main()
