"""The tables of a comparison: one in plain text that says it all, and those of a report, one per question."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.records import Record
from noise_search.comparison.statistics.coverage import Coverage
from noise_search.comparison.statistics.intervals import LEAST_PROMPTS, METHOD, Interval
from noise_search.comparison.statistics.means import SECONDS, spent
from noise_search.comparison.statistics.measures import OWN, by_cell
from noise_search.comparison.statistics.multiplier import SATURATED, saturation
from noise_search.comparison.statistics.transfer import alarms
from noise_search.comparison.views.wording import bounded, cell, mean_count, measure_label
from noise_search.words import table

Row = Mapping[str, object]
"""Cells by their headings, the same ones in all rows of a table."""


@dataclass(frozen=True)
class Table:
    """Rows whose first cell names them, and what they show."""

    caption: str
    rows: Sequence[Row]


def text_table(comparison: ComparisonData) -> str:
    """One line per algorithm and budget; differences are to random search, paired; 95 % intervals."""
    verifiers = comparison.verifiers
    own_name = verifiers[0] if len(verifiers) == 1 else f"{OWN} (z of {', '.join(verifiers)})"
    shared = bool(comparison.settings.get("share"))
    apart, times = _by_place(comparison.differences()), {} if shared else _by_place(comparison.multipliers())
    judged = {judge: _by_place(comparison.means(judge)) for judge in comparison.judges}
    searches, nfe = by_cell(comparison.records), spent(comparison.records)
    rows: list[Row] = []
    for one in sorted(_ordered(comparison, comparison.means()), key=lambda one: one.budget):
        place, found = (one.algorithm, one.budget), Coverage.of(searches[one.algorithm, one.budget])
        counts = {"prompts": found.prompts[1], "searches": found.searches[1]}
        rows.append(
            {
                "algorithm": one.algorithm,
                "NFE": one.budget,
                **({"NFE spent": mean_count(nfe[place])} if nfe else {}),
                **({} if comparison.coverage.is_whole else counts),
                own_name: _wide(one.score),
                f"less {RANDOM}": "" if one.algorithm == RANDOM else _wide(apart[place].difference),
                "which is": "" if one.algorithm == RANDOM else apart[place].verdict,
                **({"best-of-N worth": _wide(times[place].times, " x")} if times else {}),
                **_reached(comparison, place),
                **{judge: _wide(means[place].score) for judge, means in judged.items()},
                "seconds*": f"{_seconds(searches[place]):.2f}",
            }
        )
    warnings = [one.sentence for one in alarms(comparison.transfers())] if comparison.judges else []
    told = _sharing(comparison) if shared else saturated(comparison)
    notes = [f"* {SECONDS}", f"Intervals: {METHOD}.", told, comparison.coverage.warning]
    return "\n".join([_aligned(rows), *filter(None, notes), *warnings])


def means_table(comparison: ComparisonData) -> Table:
    """Mean scores of the winners, own and by each judge, NFE spent where some is left over, seconds and counts."""
    found = {measure: _by_place(comparison.means(measure)) for measure in (OWN, *comparison.judges)}
    searches, nfe = by_cell(comparison.records), spent(comparison.records)
    rows: list[Row] = []
    for one in _ordered(comparison, comparison.means()):
        place = one.algorithm, one.budget
        prompts = Coverage.of(searches[place]).prompts[1]
        rows.append(
            {
                "algorithm": one.algorithm,
                "NFE": one.budget,
                **({"NFE spent": mean_count(nfe[place])} if nfe else {}),
                **{measure_label(comparison, measure): cell(means[place].score) for measure, means in found.items()},
                "seconds": f"{_seconds(searches[place]):.3g}",
                **_reached(comparison, place),
                **({} if comparison.coverage.is_whole else {"prompts": prompts}),
                "searches": f"{one.score.searches}" + (f" ({one.score.missing} missing)" if one.score.missing else ""),
            }
        )
    spending = "NFE is what was allowed; some algorithms can't spend the last of it." if nfe else ""
    caption = (
        "Mean score of the winners with 95 % intervals over prompts and seeds, and mean seconds of a search. Intervals "
        "of different rows share prompts and noises: to hold algorithms against each other, use the differences below."
    )
    told = [caption, spending, _sharing(comparison), SECONDS, comparison.coverage.warning]
    return Table(" ".join(filter(None, told)), rows)


def differences_table(comparison: ComparisonData) -> Table:
    """Paired differences to random search, own and by each judge; ValueError without it or another algorithm."""
    if comparison.algorithms == (RANDOM,):
        raise ValueError("random search is the only algorithm")
    found = [
        (measure, one)
        for measure in (OWN, *comparison.judges)
        for one in _ordered(comparison, comparison.differences(measure))
    ]
    reasons = "; ".join(dict.fromkeys(one.corrected.undecided for _, one in found if one.corrected.undecided))
    caption = (
        f"Score less random search's, at equal prompt, noise and budget, with 95 % intervals: {METHOD}. What a "
        "difference is called rests on the corrected interval (Holm), which is as wide as "
        f"{max((one.together for _, one in found), default=1)} differences together need: one that holds 0 is no clear "
        "difference. Scores that agree within 1e-4 count as equal." + (f" No verdict: {reasons}." if reasons else "")
    )
    rows = [
        {
            "score": measure_label(comparison, measure),
            "algorithm": one.algorithm,
            "NFE": one.budget,
            "difference": cell(one.difference),
            "corrected interval": _ends(one.corrected),
            "which is": one.verdict,
        }
        for measure, one in found
    ]
    return Table(caption, rows)


def multipliers_table(comparison: ComparisonData) -> Table:
    """Best-of-N equivalents; ValueError without pools."""
    caption = (
        "How many random candidates have the same expected best score, over how many the NFE would have bought: above "
        "1 a search beats random search. 'times as fast' compares seconds at equal score. > and < mark bounds, where "
        "the score lies beyond all random candidates there are for these prompts and seeds; compare() pool_limit= "
        f"gives more of them. {SECONDS}"
    )
    found = _ordered(comparison, comparison.multipliers())
    if told := saturated(comparison):
        caption += f" {told}"
    rows = [
        {
            "algorithm": one.algorithm,
            "NFE": one.budget,
            "worth candidates": bounded(one.candidates, one.times),
            "NFE buys": one.bought,
            "times": "the score saturates" if one.saturated else cell(one.times),
            "times as fast": cell(one.seconds),
        }
        for one in found
    ]
    return Table(caption, rows)


def transfer_table(comparison: ComparisonData) -> Table:
    """Transfer ratios of held-out judges; ValueError without judges or pools."""
    if not comparison.judges:
        raise ValueError("no judge looked at the winners; give compare() judges=")
    caption = (
        "Gains over a mean random candidate, in standard deviations within prompts, and how much of the own gain the "
        "judge sees (ratio). The last number is random search's ratio at equal own gain, which falls short of 1 even "
        f"without any hacking. With {LEAST_PROMPTS} prompts or more, less than half of it, or a judge's gain below 0, "
        "is an alarm where it is beyond the chance of all these rows together."
    )
    found = _ordered(comparison, comparison.transfers())
    rows = [
        {
            "judge": one.judge,
            "algorithm": one.algorithm,
            "NFE": one.budget,
            "own gain": cell(one.own_gain),
            "judge's gain": cell(one.judge_gain),
            "ratio": cell(one.ratio),
            "random search's": f"{one.random_ratio:.3g}" if np.isfinite(one.random_ratio) else "-",
            "alarm": ", ".join(alarm.kind for alarm in one.alarms) or "none",
        }
        for judge in sorted({one.judge for one in found})
        for one in found
        if one.judge == judge
    ]
    if not rows:
        raise ValueError("every judge was searched by too")
    return Table(caption, rows)


def diagnoses_table(comparison: ComparisonData) -> Table:
    """Diagnoses of the winners together; ValueError where none was diagnosed."""
    caption = (
        "Diagnoses of the winners of each run's largest budget, held against one plain sample. 'Kept': how much of the "
        "gain stays when the images are flipped, resized and saved as JPEG; a gain that is real keeps nearly all. "
        "'Other prompts': how much of it is there under prompts that ask for something else; near 0 is good, 1 means "
        "that the prompt is of no account. 'Unusual noise': share of winners whose first noise fails a check of norm, "
        "spectrum, correlation or means; 0.005 of white noise do. Verdicts are of one search each. They need "
        "judges of 8 candidates or more: of random search all are judged, of others the first and new bests."
    )
    rows = [
        {
            "algorithm": one.algorithm,
            "NFE": one.budget,
            "kept": cell(one.kept),
            "other prompts": cell(one.wrong),
            "unusual noise": cell(one.unusual),
            "verdicts": ", ".join(f"{count} {verdict}" for verdict, count in one.verdicts.items()),
        }
        for one in _ordered(comparison, comparison.diagnoses())
    ]
    if not rows:
        raise ValueError("no winner was diagnosed; compare() does it unless diagnosed=0")
    return Table(caption, rows)


def diversity_table(comparison: ComparisonData) -> Table:
    """Diversity of winners across seeds; ValueError of one seed alone."""
    if len(comparison.seeds) < 2:
        raise ValueError("one seed gives one winner per prompt; give compare() seeds=2 or more")
    caption = (
        "How different the winners of one prompt are across seeds, by "
        f"{comparison.settings.get('features', 'their features')}: the Vendi score is the effective number of "
        "different images, from 1 to the number of seeds; the distance is 1 - cosine, mean over pairs. Of prompts with "
        "more seeds than others only the first are taken, as the score grows with their number. Where these features "
        "are those of a verifier that was searched by, they see what it sees."
    )
    rows = [
        {
            "algorithm": one.algorithm,
            "NFE": one.budget,
            "seeds": one.seeds,
            "different images (Vendi)": cell(one.vendi),
            "distance": cell(one.distance),
        }
        for one in _ordered(comparison, comparison.diversities())
    ]
    return Table(caption, rows)


def _ordered(comparison: ComparisonData, found: Iterable[Any]) -> list[Any]:
    """Statistics by algorithm in the comparison's order, then by budget."""
    return sorted(found, key=lambda one: (comparison.algorithms.index(one.algorithm), one.budget))


def _by_place(found: Iterable[Any]) -> dict[tuple[str, int], Any]:
    return {(one.algorithm, one.budget): one for one in found}


def _reached(comparison: ComparisonData, place: tuple[str, int]) -> Row:
    """How many of a cell's searches reached the target; {} where there is none."""
    passes = comparison.passes()
    return {f"reached {comparison.settings['share']['target_score']:g}": f"{passes[place]:.0%}"} if passes else {}


def _sharing(comparison: ComparisonData) -> str:
    """What shared budgets do to a table; "" where each prompt has its own."""
    shared = comparison.settings.get("share")
    if not shared:
        return ""
    until = "" if shared["target_score"] is None else f" until each reaches {shared['target_score']:g}"
    return (
        f"All but {RANDOM}: prompts share their budgets by {shared['rule']}{until}, so that no prompt is a trial of "
        "its own, and intervals are approximate."
    )


def _seconds(records: Sequence[Record]) -> float:
    return float(np.mean([one.seconds for one in records]))


def saturated(comparison: ComparisonData) -> str:
    """That no worth can be told, and from which budget on; "" where the score doesn't saturate."""
    budget = saturation(found := comparison.multipliers())
    if budget is None:
        return ""
    rise = max(one.rise for one in found if one.saturated)
    return (
        f"From {budget} NFE on the score saturates: twice as many random candidates bring at most {rise:.2g} standard "
        f"deviations within a prompt, below {SATURATED:g}, so that no worth in candidates can be told there."
    )


def _ends(one: Interval) -> str:
    """The interval alone, at its level: "[-0.12, 0.11] at 98.75 %"."""
    return "-" if np.isnan(one.low) else f"{cell(one).partition(' ')[2]} at {100 * one.level:.4g} %"


def _wide(one: Interval, unit: str = "") -> str:
    """For a table in plain text: "2.24 [2.08, 2.35]"; bounds with > or <."""
    if np.isnan(one.value):
        return "-"
    value, low, high = (
        f"{one.sign(end)}{getattr(one, end):.{n}g}" for end, n in (("value", 4), ("low", 3), ("high", 3))
    )
    return (value if np.isnan(one.low) else f"{value} [{low}, {high}]") + unit


def _aligned(rows: Sequence[Row]) -> str:
    """Rows below their headings, the first column to the left and the others to the right."""
    cells = [[str(one) for one in row] for row in (list(rows[0]), *(row.values() for row in rows))]
    return table(cells, "<" + ">" * (len(cells[0]) - 1), named=2)  # the algorithm and its budget
