"""The tables of a report: scores, paired differences, best-of-N equivalents, transfer to judges, diversity."""

import numpy as np

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.bootstrap import Interval
from noise_search.comparison.statistics.coverage import Coverage
from noise_search.comparison.statistics.diversity import diversities
from noise_search.comparison.statistics.means import SECONDS, differences, means, spent
from noise_search.comparison.statistics.measures import OWN, by_cell
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.statistics.transfer import LEAST_PROMPTS, transfers
from noise_search.comparison.views.numbers import bounded, cell, mean_count
from noise_search.comparison.views.page import table
from noise_search.comparison.views.scores import measure_label


def means_table(comparison: ComparisonData) -> str:
    """Mean scores of the winners, own and by each judge, NFE spent where some is left over, seconds and counts."""
    measures = (OWN, *comparison.judges)
    found = {
        measure: {
            (one.algorithm, one.budget): one.score
            for one in means(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)
        }
        for measure in measures
    }
    cells = by_cell(comparison.records)
    nfe, whole = spent(comparison.records), comparison.coverage.is_whole
    rows = [
        (
            name, budget, *([mean_count(nfe[name, budget])] if nfe else []),
            *(cell(found[measure][name, budget]) for measure in measures),
            f"{np.mean([one.seconds for one in cells[name, budget]]):.3g}",
            *([] if whole else [Coverage.of(cells[name, budget]).prompts[1]]), _count(found[OWN][name, budget]),
        )
        for name, budget in _ordered(comparison, cells)
    ]  # fmt: skip
    labels = [measure_label(comparison, measure) for measure in measures]
    return table(
        "Mean score of the winners with 95 % intervals over prompts and seeds, and mean seconds of a search. Intervals "
        "of different rows share prompts and noises: to hold algorithms against each other, use the differences below. "
        + " ".join(
            [
                *(["NFE is what was allowed; some algorithms can't spend the last of it."] if nfe else []),
                *filter(None, [SECONDS, comparison.coverage.warning]),
            ]
        ),
        [
            "algorithm",
            "NFE",
            *(["NFE spent"] if nfe else []),
            *labels,
            "seconds",
            *([] if whole else ["prompts"]),
            "searches",
        ],
        rows,
    )


def differences_table(comparison: ComparisonData) -> str:
    """Paired differences to random search, own and by each judge.

    Raises:
        ValueError: there is no other algorithm, or no random search.
    """
    if comparison.algorithms == (RANDOM,):
        raise ValueError("random search is the only algorithm")
    rows = []
    for measure in (OWN, *comparison.judges):
        found = differences(comparison.records, comparison.pools, measure, verifiers=comparison.verifiers)
        by = {(one.algorithm, one.budget): one.difference for one in found}
        rows += [
            (measure_label(comparison, measure), name, budget, cell(by[name, budget]), _verdict(by[name, budget]))
            for name, budget in _ordered(comparison, by)
        ]
    return table(
        "Score less random search's, at equal prompt, noise and budget, with 95 % intervals. An interval that holds 0 "
        "is no clear difference; scores that agree within 1e-4 count as equal.",
        ["score", "algorithm", "NFE", "difference", "which is"],
        rows,
        words=(1, 4),
    )


def multipliers_table(comparison: ComparisonData) -> str:
    """Best-of-N equivalents.

    Raises:
        ValueError: as `multipliers`.
    """
    found = {
        (one.algorithm, one.budget): one
        for one in multipliers(comparison.records, comparison.pools, verifiers=comparison.verifiers)
    }
    rows = [
        (
            name, budget, bounded(found[name, budget].candidates, found[name, budget].times),
            found[name, budget].bought, cell(found[name, budget].times), cell(found[name, budget].seconds),
        )
        for name, budget in _ordered(comparison, found)
    ]  # fmt: skip
    return table(
        "How many random candidates have the same expected best score, over how many the NFE would have bought: above "
        "1 a search beats random search. 'times as fast' compares seconds at equal score. ≥ and ≤ mark bounds, where "
        f"the score lies beyond all random candidates there are for these prompts and seeds. {SECONDS}",
        ["algorithm", "NFE", "worth candidates", "NFE buys", "times", "times as fast"],
        rows,
    )


def transfer_table(comparison: ComparisonData) -> str:
    """Transfer ratios of held-out judges.

    Raises:
        ValueError: as `transfers`, or there are no judges.
    """
    if not comparison.judges:
        raise ValueError("no judge looked at the winners; give compare() judges=")
    found = {
        (one.algorithm, one.budget, one.judge): one
        for one in transfers(comparison.records, comparison.pools, verifiers=comparison.verifiers)
    }
    held = dict.fromkeys(judge for _, _, judge in found)
    rows = []
    for judge in held:
        for name, budget in _ordered(comparison, {(a, b): None for a, b, j in found if j == judge}):
            one = found[name, budget, judge]
            alarm = ", ".join(a.kind for a in one.alarms) or "none"
            rows.append(
                (
                    judge, name, budget, cell(one.own_gain), cell(one.judge_gain), cell(one.ratio),
                    f"{one.random_ratio:.3g}" if np.isfinite(one.random_ratio) else "-", alarm,
                )
            )  # fmt: skip
    return table(
        "Gains over a mean random candidate, in standard deviations within prompts, and how much of the own gain the "
        "judge sees (ratio). The last number is random search's ratio at equal own gain, which falls short of 1 even "
        f"without any hacking. With {LEAST_PROMPTS} prompts or more, less than half of it, or a judge's gain below 0, "
        "is an alarm where it is beyond chance.",
        ["judge", "algorithm", "NFE", "own gain", "judge's gain", "ratio", "random search's", "alarm"],
        rows,
        words=(1, 7),
    )


def diversity_table(comparison: ComparisonData) -> str:
    """Diversity of winners across seeds.

    Raises:
        ValueError: as `diversities`, or one seed alone.
    """
    if len(comparison.seeds) < 2:
        raise ValueError("one seed gives one winner per prompt; give compare() seeds=2 or more")
    found = {(one.algorithm, one.budget): one for one in diversities(comparison.records)}
    rows = [
        (name, budget, found[name, budget].seeds, cell(found[name, budget].vendi), cell(found[name, budget].distance))
        for name, budget in _ordered(comparison, found)
    ]
    return table(
        "How different the winners of one prompt are across seeds, by "
        f"{comparison.settings.get('features', 'their features')}: the Vendi score is the effective number of "
        "different images, from 1 to the number of seeds; the distance is 1 - cosine, mean over pairs. Of prompts with "
        "more seeds than others only the first are taken, as the score grows with their number. Where these features "
        "are those of a verifier that was searched by, they see what it sees.",
        ["algorithm", "NFE", "seeds", "different images (Vendi)", "distance"],
        rows,
    )


def _verdict(one: Interval) -> str:
    if np.isnan(one.low):
        return "unknown"
    return "higher" if one.low > 0 else "lower" if one.high < 0 else "no clear difference"


def _count(one: Interval) -> str:
    return f"{one.searches}" + (f" ({one.missing} missing)" if one.missing else "")


def _ordered(comparison: ComparisonData, cells: object) -> list[tuple[str, int]]:
    """Cells of algorithm and budget: by algorithm in the comparison's order, then by budget."""
    assert isinstance(cells, dict)
    return sorted(cells, key=lambda place: (comparison.algorithms.index(place[0]), place[1]))


def diagnoses_table(comparison: ComparisonData) -> str:
    """Diagnoses of the winners together.

    Raises:
        ValueError: no winner was diagnosed.
    """
    found = comparison.diagnoses()
    if not found:
        raise ValueError("no winner was diagnosed; compare() does it unless diagnosed=0")
    rows = [
        (
            one.algorithm, one.budget, cell(one.kept), cell(one.wrong), cell(one.unusual),
            ", ".join(f"{count} {verdict}" for verdict, count in one.verdicts.items()),
        )
        for name in comparison.algorithms
        for one in found
        if one.algorithm == name
    ]  # fmt: skip
    return table(
        "Diagnoses of the winners of each run's largest budget, held against one plain sample. 'Kept': how much of the "
        "gain stays when the images are flipped, resized and saved as JPEG; a gain that is real keeps nearly all. "
        "'Other prompts': how much of it is there under prompts that ask for something else; near 0 is good, 1 means "
        "that the prompt is of no account. 'Unusual noise': share of winners whose first noise fails a check of norm, "
        "spectrum, correlation or means; 0.005 of white noise do. Verdicts are of one search each.",
        ["algorithm", "NFE", "kept", "other prompts", "unusual noise", "verdicts"],
        rows,
        words=(5,),
    )
