"""A comparison as a table in plain text, a line per algorithm and budget."""

from collections.abc import Sequence

import numpy as np

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.bootstrap import Interval
from noise_search.comparison.statistics.coverage import Coverage
from noise_search.comparison.statistics.means import SECONDS, differences, means, spent
from noise_search.comparison.statistics.measures import OWN, by_cell
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.statistics.transfer import alarms, transfers
from noise_search.comparison.views.numbers import mean_count


def table(found: ComparisonData) -> str:
    """One line per algorithm and budget; differences are to random search, paired; 95 % bootstrap intervals."""
    records, pools = found.records, found.pools
    own = {(one.algorithm, one.budget): one.score for one in means(records, pools)}
    apart = {(one.algorithm, one.budget): one.difference for one in differences(records, pools)}
    times = {(one.algorithm, one.budget): one.times for one in multipliers(records, pools)}
    judged = {
        judge: {(one.algorithm, one.budget): one.score for one in means(records, pools, judge)}
        for judge in found.judges
    }
    cells = by_cell(records)
    nfe = spent(records)
    counts = {} if found.coverage.is_whole else {cell: Coverage.of(rows) for cell, rows in cells.items()}
    rows = [
        [
            "algorithm",
            "NFE",
            *(["NFE spent"] if nfe else []),
            *(["prompts", "searches"] if counts else []),
            _name(found.verifiers),
            f"less {RANDOM}",
            "best-of-N worth",
            *found.judges,
            "seconds*",
        ]
    ]
    for cell in sorted(own, key=lambda one: (one[1], found.algorithms.index(one[0]))):
        algorithm, budget = cell
        rows.append(
            [
                algorithm,
                str(budget),
                *([mean_count(nfe[cell])] if nfe else []),
                *([str(counts[cell].prompts[1]), str(counts[cell].searches[1])] if counts else []),
                _wide(own[cell]),
                "" if algorithm == RANDOM else _wide(apart.get(cell)),
                _wide(times[cell], " x"),
                *(_wide(judged[judge][cell]) for judge in found.judges),
                f"{np.mean([one.seconds for one in cells[cell]]):.2f}",
            ]
        )
    warnings = [one.sentence for one in alarms(transfers(records, pools))] if found.judges else []
    notes = [f"* {SECONDS}", *filter(None, [found.coverage.warning])]
    return "\n".join([aligned(rows), *notes, *warnings])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns, the first to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if which == 0 else cell.rjust(width)
            for which, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _name(verifiers: Sequence[str]) -> str:
    return verifiers[0] if len(verifiers) == 1 else f"{OWN} (z of {', '.join(verifiers)})"


def _wide(one: Interval | None, unit: str = "") -> str:
    if one is None or np.isnan(one.value):
        return "-"
    sign = ">= " if "value" in one.at_least else "<= " if "value" in one.at_most else ""
    value = f"{sign}{one.value:.4g}"
    return (value if np.isnan(one.low) else f"{value} [{one.low:.3g}, {one.high:.3g}]") + unit
