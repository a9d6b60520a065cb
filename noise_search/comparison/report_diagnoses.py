"""The table of a report that says whether the winners' gains hold up."""

from noise_search.comparison.data import ComparisonData
from noise_search.comparison.report_numbers import cell
from noise_search.comparison.report_page import table


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
