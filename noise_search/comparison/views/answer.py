"""What a comparison found, in plain words: the answer, how sure it is, what it cost, and what judges say."""

from collections.abc import Sequence

import numpy as np

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.intervals import LEAST_PROMPTS, METHOD, Interval, mean_interval, turned
from noise_search.comparison.statistics.means import Difference
from noise_search.comparison.statistics.measures import OWN, Measures, by_cell
from noise_search.comparison.statistics.transfer import POWER, Alarm, Transfer, alarms
from noise_search.comparison.views.tables import saturated
from noise_search.comparison.views.wording import duration, listed, named, own_label, words
from noise_search.words import counted


def answer(comparison: ComparisonData) -> list[str]:
    """Three paragraphs: the answer, how sure it is and what it cost, a sentence each; details; what the judges say.

    Sentences that need pools are left out where those are missing.
    """
    first = [_best(comparison), _surety(comparison), _cost(comparison)]
    details = [_asked(comparison), *_others(comparison), *_most(comparison), *_warned(comparison)]
    return [" ".join(first), " ".join(details), " ".join(_judged(comparison))]


def found_alarms(comparison: ComparisonData) -> tuple[Alarm, ...]:
    """Alarms of all judges; none where there are no judges, or no pools to tell by."""
    try:
        return alarms(_transfers(comparison))
    except ValueError:
        return ()


def leader(comparison: ComparisonData) -> str:
    """The algorithm with the highest mean own score at the largest budget.

    Where random search has that budget, scores are held against its, as others may have been searched on fewer prompts.
    """
    budget = comparison.budgets[-1]
    values = {one.algorithm: one.score.value for one in comparison.means() if one.budget == budget}
    if RANDOM in values:
        apart = {one.algorithm: one.difference.value for one in _differences(comparison, OWN) if one.budget == budget}
        values = {RANDOM: 0.0, **apart}
    return max(values, key=lambda name: (np.nan_to_num(values[name], nan=-np.inf), name == RANDOM))


def _asked(comparison: ComparisonData) -> str:
    model = comparison.settings.get("model", {}).get("name", "one model")
    what = listed([named(one) for one in comparison.algorithms])
    prompts, seeds = counted(len(comparison.prompts), "prompt"), counted(len(comparison.seeds), "seed")
    budgets = f"{listed(comparison.budgets)} NFE"
    if comparison.coverage.is_whole:
        return f"{prompts} and {seeds} per prompt were searched with {model} by {what}, each with {budgets}."
    most = "" if len(comparison.seeds) == 1 else "up to "
    return (
        f"{prompts} with {most}{seeds} were searched with {model} by {what}, with {budgets}. "
        f"{comparison.coverage.warning}"
    )


def _largest(comparison: ComparisonData) -> list[Difference]:
    """Differences to random search by the own score at the largest budget, the highest first."""
    found = [one for one in _differences(comparison, OWN) if one.budget == comparison.budgets[-1]]
    return sorted(found, key=lambda one: -np.nan_to_num(one.difference.value, nan=-np.inf))


def _best(comparison: ComparisonData) -> str:
    budget, own = comparison.budgets[-1], own_label(comparison)
    scores = {one.algorithm: one.score for one in comparison.means() if one.budget == budget}
    found = _largest(comparison)
    if not found:
        best = leader(comparison)
        return f"At {budget} NFE, {named(best)} has the highest mean score by {own}: {words(scores[best])}."
    if undecided := _undecided(found):
        return f"No verdict: at {budget} NFE there are {undecided}."
    if better := [one for one in found if one.side > 0]:
        first = better[0]
        return (
            f"At {budget} NFE, {first.algorithm} is better than random search by {own}: its winners score "
            f"{words(scores[first.algorithm])}, which is {words(first.difference)} more than random search's on the "
            "same prompts and noises."
        )
    nearly = (
        "" if found[0].side < 0 else f"; the nearest, {found[0].algorithm}, differs by {words(found[0].difference)}"
    )
    return (
        f"At {budget} NFE, no algorithm is clearly better by {own} than random search, whose winners score "
        f"{words(scores[RANDOM])}{nearly}."
    )


def _undecided(found: Sequence[Difference]) -> str:
    """Why none of these differences can have a verdict; "" where one can."""
    reasons = [one.corrected.undecided for one in found]
    return reasons[0] if all(reasons) else ""


def _surety(comparison: ComparisonData) -> str:
    found = _largest(comparison)
    if not found:
        score = next(one.score for one in comparison.means() if one.budget == comparison.budgets[-1])
        return f"Nothing was held against random search; intervals are of {METHOD}, {counted(score.prompts, 'prompt')}."
    rests = f"{METHOD}, {counted(max(one.difference.prompts for one in found), 'prompt')}"
    if _undecided(found):
        return f"Intervals are shown ({rests}), but on so little a difference would too often be called one by chance."
    one = next((one for one in found if one.side), found[0])
    return (
        f"This rests on {rests}: corrected for all {counted(one.together, 'difference')} that are looked at, "
        f"{one.algorithm}'s is {words(one.corrected)}, and where nothing differs at most 5 % of comparisons say that "
        "something does."
    )


def _cost(comparison: ComparisonData) -> str:
    """NFE and seconds of all that was run; a record that was read off a larger run cost nothing more."""
    run = [one for one in comparison.records if not one.shared]
    nfe, seconds = sum(one.nfe for one in run), sum(one.seconds for one in run)
    drawn = {(one.prompt, one.seed): one.nfe for one in run if one.algorithm == RANDOM}
    more = {
        (one.prompt, one.seed): len(one) * one.nfe - drawn.get((one.prompt, one.seed), 0) for one in comparison.pools
    }
    pools = sum(max(0, one) for one in more.values())
    seconds += sum(one.seconds * max(0, more[one.prompt, one.seed]) / one.nfe for one in comparison.pools if one.nfe)
    told = f", {pools} of them for further random candidates" if pools else ""
    return f"It cost {nfe + pools} NFE{told}, and {duration(seconds)} of searching without judges."


def _others(comparison: ComparisonData) -> list[str]:
    found = _largest(comparison)
    told = [
        f"{one.algorithm} is better than random search too, by {words(one.difference)}."
        for one in [one for one in found if one.side > 0][1:]
    ]
    if below := [f"{one.algorithm} by {words(turned(one.difference))}" for one in found if one.side < 0]:
        told.append(f"Clearly worse: {listed(below)}.")
    return told


def _most(comparison: ComparisonData) -> list[str]:
    """The highest best-of-N equivalent of cells that are surely better than random search, and those beyond telling."""
    try:
        found = comparison.multipliers()
    except ValueError:
        return []
    clear = {(one.algorithm, one.budget) for one in _differences(comparison, OWN) if one.side > 0}
    better = [one for one in found if (one.algorithm, one.budget) in clear]
    told = []
    if sure := [one for one in better if one.times.low > 1 and "value" not in one.times.at_least]:
        most = max(sure, key=lambda one: one.times.value)
        told.append(
            f"{most.algorithm} at {most.budget} NFE is worth {words(most.times)} times the random candidates that its "
            "NFE buys, the most that could be told."
        )
    if beyond := [one for one in better if "value" in one.times.at_least]:
        cells = listed([f"{one.algorithm} at {one.budget} NFE" for one in beyond])
        known = listed(sorted({one.known for one in beyond}))
        told.append(
            f"The mean scores of {cells} lie beyond that of the best of the {known} random candidates there are: "
            "what they are worth is more than can be told here; a larger pool_limit would tell."
        )
    return [*told, *filter(None, [saturated(comparison)])]


def _judged(comparison: ComparisonData) -> list[str]:
    if not comparison.judges:
        return [
            "No held-out judge looked at the winners, so this can't tell better images from a verifier that was "
            "pleased; give compare() judges=."
        ]
    best = leader(comparison)
    told = [_opinion(comparison, judge, best) for judge in comparison.judges]
    try:
        found = _transfers(comparison)
    except ValueError as error:
        return [*told, f"Whether the verifier was hacked can't be told: {error}."]
    return told if alarms(found) else [*told, _silence(found, best, comparison.budgets[-1])]


def _silence(found: Sequence[Transfer], best: str, budget: int) -> str:
    """What it means that there is no alarm: that none could sound, that a judge is in doubt, or that all is well."""
    if not found:
        return "Every judge was searched by too, so that none can tell verifier hacking."
    prompts = max(one.judge_gain.prompts for one in found)
    if prompts < LEAST_PROMPTS:
        known = counted(prompts, "prompt")
        return f"Too few prompts to sound an alarm of verifier hacking: {known}, where {LEAST_PROMPTS} are needed."
    of_best = [one for one in found if (one.algorithm, one.budget) == (best, budget)]
    if few := [one.judge for one in of_best if one.judge_gain.prompts < LEAST_PROMPTS]:
        return (
            f"No alarm of verifier hacking was sounded, but {listed(few)} can tell of too few prompts of {named(best)}"
            f": {LEAST_PROMPTS} are needed."
        )
    if unsure := [one.judge for one in of_best if not one.judge_gain.low > 0]:
        return (
            f"No alarm of verifier hacking was sounded, but as {listed(unsure)} can't confirm a gain, it isn't ruled "
            "out: more prompts may tell."
        )
    seen = listed([f"{one.judge} gained {one.visible:.2g}" for one in of_best])
    return (
        f"No sign of verifier hacking was found, where an alarm would have sounded in {100 * POWER:.0f} % of such "
        f"comparisons had {seen} standard deviations less than with random search's winners of equal own gain."
    )


def _opinion(comparison: ComparisonData, judge: str, best: str) -> str:
    """Whether a judge rates the leader's winners above the mean random candidate, and above random search's winners."""
    budget = comparison.budgets[-1]
    gain = _gain(comparison, judge, best, budget)
    if gain is None or np.isnan(gain.value):
        return f"The held-out judge {judge} can't tell: too few winners or random candidates have its score."
    if gain.undecided:
        return f"No verdict of the held-out judge {judge}: {gain.undecided}."
    winners, plain = f"the winners of {named(best)}", "a mean random candidate"
    if gain.low > 0:
        told = f"confirms that {winners} are better than {plain}, by {words(gain)}"
    elif gain.high < 0:
        told = f"rates {winners} below {plain}, by {words(turned(gain))}"
    else:
        told = f"sees no clear difference between {winners} and {plain}: {words(gain)}"
    told = f"The held-out judge {judge} {told}."
    for one in _differences(comparison, judge):
        if (one.algorithm, one.budget) == (best, budget):
            side = {1: "better", -1: "worse", 0: "not clearly better or worse"}[one.side]
            told += f" It finds them {side} than random search's winners at an equal budget: {words(one.difference)}."
    return told


def _gain(comparison: ComparisonData, judge: str, algorithm: str, budget: int) -> Interval | None:
    measures = Measures.of(comparison.records, comparison.pools, comparison.verifiers)
    rows = by_cell(comparison.records)[algorithm, budget]
    if any((one.prompt, one.seed) not in measures.pools for one in rows):
        return None
    gains = [measures.of_record(one, judge) - measures.mean_candidate(measures.pool(one), judge) for one in rows]
    return mean_interval(np.array(gains), [one.prompt for one in rows], [one.noise for one in rows])


def _warned(comparison: ComparisonData) -> list[str]:
    told = []
    if count := len(found_alarms(comparison)):
        alarmed = "is an alarm" if count == 1 else f"are {count} alarms"
        told.append(f"But there {alarmed} of verifier hacking, below.")
    if not comparison.complete and comparison.coverage.is_whole:
        told.append("The comparison isn't complete: some searches are missing.")
    return told


def _transfers(comparison: ComparisonData) -> tuple[Transfer, ...]:
    return comparison.transfers() if comparison.judges else ()


def _differences(comparison: ComparisonData, measure: str) -> tuple[Difference, ...]:
    return comparison.differences(measure) if RANDOM in comparison.algorithms else ()
