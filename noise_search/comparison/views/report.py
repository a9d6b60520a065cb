"""The report of a comparison: one HTML file with the answer, tables, figures, images and how it was made."""

from collections.abc import Callable
from pathlib import Path

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.means import SECONDS
from noise_search.comparison.views import tables
from noise_search.comparison.views.answer import answer, found_alarms, leader, listed
from noise_search.comparison.views.grid_page import images
from noise_search.comparison.views.made import reproduction, settings, versions
from noise_search.comparison.views.page import bullets, figure, page, paragraph, text
from noise_search.comparison.views.plots import figures
from noise_search.comparison.views.tables import diagnoses_table
from noise_search.disk.files import check_writable, write_atomically

_CAPTIONS = {
    "score": "Bands are 95 % intervals over prompts and seeds. The dotted line is the mean of random candidates.",
    "difference": "Bars are 95 % intervals of paired differences: prompts and noises are the same on both sides, so "
    "these tell more than the bands above.",
    "judge": "An algorithm that moves to the right without rising pleases the verifier and not the judge.",
    "multiplier": "Bars are 95 % intervals. Above the dashed line, scores lie beyond that of all random candidates "
    "there are; random search with a larger budget would raise it.",
    "pareto": f"Bars are 95 % intervals of the score. {SECONDS} They were measured where it ran, without judges.",
}


_HOW_TO_READ = (
    "NFE, the number of function evaluations, counts the denoiser's evaluations of one candidate at one step; guidance "
    "doesn't double it. Verifiers, decoding and text encoding aren't counted. All algorithms got at most the same "
    "NFE, and their first noises are those of random search.",
    "Random search, the best of N samples, is the baseline: a score above that of one plain sample is no merit of an "
    "algorithm, as random search has it too.",
    "The own score is what was searched by, so that it rises whether or not images get better. That is for judges to "
    "say, which no search has seen.",
    "An interval [a, b] would hold the truth in about 95 of 100 comparisons with other prompts and seeds like these; "
    "with a dozen prompts of one seed or fewer it is too narrow. Each is of one number by itself: of many rows, some "
    "miss the truth by chance, and the best of many rows looks better than it is.",
    "'Higher' and 'lower' mean that the interval of the difference lies on one side of 0. 'No clear difference' "
    "doesn't mean equal: more prompts may tell.",
    "A number behind ≥ or ≤ is a bound: the score lies beyond that of all random candidates there are. A larger budget "
    "of random search would tell more.",
    "An alarm means that the verifier was pleased more than a held-out judge can confirm, beyond chance. Look at the "
    "images then, and search by several verifiers.",
)


def write_report(comparison: ComparisonData, file: str | Path) -> Path:
    """Write the report; returns its path.

    What the comparison has no data for is said in its place.

    Raises:
        ValueError: there are no records, the file isn't .html, or its directory can't be written to.
    """
    place = Path(file)
    if place.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{str(place)!r} must end in .html, so that browsers open it")
    if place.is_dir():
        raise ValueError(f"{str(place)!r} is a directory; expected a file to write")
    check_writable(place.parent)
    write_atomically(place, report_html(comparison).encode())
    return place


def report_html(comparison: ComparisonData) -> str:
    """The report as HTML.

    Raises:
        ValueError: there are no records.
    """
    if not comparison.records:
        raise ValueError("the comparison has no records yet; run compare() further")
    model = comparison.settings.get("model", {}).get("name", "")
    title = f"{listed(comparison.algorithms)} compared at equal budgets" + (f" with {model}" if model else "")
    return page(
        title[:1].upper() + title[1:],
        [
            ("answer", "Answer", _answer(comparison)),
            ("figures", "Figures", _figures(comparison)),
            ("scores", "Scores", _or_reason(lambda: tables.means_table(comparison))),
            (
                "differences",
                "Differences to random search",
                _or_reason(lambda: tables.differences_table(comparison)),
            ),
            ("multipliers", "Worth in random candidates", _or_reason(lambda: tables.multipliers_table(comparison))),
            ("transfer", "Do held-out judges agree?", _or_reason(lambda: tables.transfer_table(comparison))),
            ("diagnoses", "Do the gains hold up?", _or_reason(lambda: diagnoses_table(comparison))),
            ("diversity", "Diversity of winners", _or_reason(lambda: tables.diversity_table(comparison))),
            ("images", "Images", _images(comparison)),
            ("reading", "How to read this", bullets(_HOW_TO_READ)),
            ("settings", "Settings", settings(comparison)),
            ("versions", "Versions", versions(comparison)),
            ("again", "How to make it again", reproduction(comparison)),
        ],
    )


def _answer(comparison: ComparisonData) -> str:
    told = f'<div class="answer">{"".join(map(paragraph, answer(comparison)))}</div>'
    warned = found_alarms(comparison)
    if not warned:
        return told
    lines = bullets(one.sentence for one in warned)
    return f'{told}\n<div class="alarm" role="note"><strong>{text("Alarms of verifier hacking")}</strong>{lines}</div>'


def _figures(comparison: ComparisonData) -> str:
    drawn, reasons = figures(comparison)
    shown = [figure(drawn[kind], caption) for kind, caption in _CAPTIONS.items() if kind in drawn]
    left = [f"No figure '{kind}': {reasons[kind]}." for kind in _CAPTIONS if kind in reasons]
    return "\n".join([*shown, *(paragraph(one, "soft") for one in left)])


def _images(comparison: ComparisonData) -> str:
    """Winners of all algorithms, and those of the best one at every budget."""
    return _or_reason(
        lambda: images(comparison) + (images(comparison, leader(comparison)) if len(comparison.budgets) > 1 else "")
    )


def _or_reason(make: Callable[[], str]) -> str:
    """HTML, or why there is none."""
    try:
        return make()
    except ValueError as error:
        return paragraph(f"Not available: {error}.", "soft")
