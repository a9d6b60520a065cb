"""What is said of a search, and the files that its result is saved in."""

import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.cli.options import FAILED, INTERRUPTED, Format, Said

if TYPE_CHECKING:
    from noise_search.results.result import SearchResult

COLUMNS = 80
_MARGIN, _LONGEST = 9, 400


def save(result: "SearchResult", where: Path, format: Format, quiet: bool = False) -> Said:
    """Write the files of a result into its run, and say what was found."""
    from noise_search.engine.interrupts import Interrupts

    with Interrupts() as interrupts:  # what took hours isn't lost in its last second
        paths, elsewhere = saved(result, where)
    code = INTERRUPTED if interrupts.asked else code_of(result, elsewhere)
    notes = [elsewhere] if elsewhere else []
    if format is Format.json:
        return Said(as_json(result, paths), notes, code)
    return Said(str(paths["best"]) if quiet else summary(result, paths), notes, code)


def code_of(result: "SearchResult", elsewhere: str = "") -> int:
    """How a command ends that searched."""
    if isinstance(result.error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED if result.error is not None or elsewhere else 0


def saved(result: "SearchResult", where: Path) -> tuple[dict[str, Path], str]:
    """The files that were written, elsewhere where they can't be here; and that in words."""
    try:
        return result.save(where), ""
    except (OSError, ValueError) as error:
        refuge = Path(tempfile.mkdtemp(prefix="noise-search-"))
        said = f"{str(where)!r} can't be written ({error})"
        try:
            return result.save(refuge), f"{said}; the files are in {str(refuge)!r}"
        except OSError as again:
            seed = result.best.seed
            plain = "" if seed is None else f"; the best is what seed {seed} gives in plain diffusers"
            raise OSError(f"{said}, nor can {str(refuge)!r} ({again}): make room and search again{plain}") from again


def as_json(result: "SearchResult", paths: dict[str, Path]) -> dict[str, Any]:
    """A result as plain JSON, with its files."""
    content = result.to_json()
    content["best"]["image"] = str(paths["best"])
    content["files"] = {stem: str(path) for stem, path in paths.items()}
    return content


def summary(result: "SearchResult", paths: Mapping[str, Path]) -> str:
    """What a search found, in lines of at most 80 columns."""
    from noise_search.previews import agreement_in_words
    from noise_search.words import one_line, prediction_in_words, short_names

    best, first = result.best, result.first
    origin = f"seed {best.seed}" if best.seed is not None else f"candidate {best.id}"
    names = short_names(best.scores)
    alone = f", by {next(iter(names.values()))}" if len(names) == 1 else ""
    told = [
        ("prompt", one_line(result.prompt, _LONGEST)),
        ("score", f"{first.score:.4f} ({result.first_name}) -> {result.score:.4f} ({origin}){alone}"),
    ]
    for key, name in () if alone else names.items():
        told.append(("", f"{name}: {first.scores.get(key, nan):.4f} -> {best.scores[key]:.4f}"))
    for key, name in short_names(result.judges).items():
        scores = {which: shown(score) for which, score in result.judges[key].items()}
        judged = sum(isfinite(c.judges.get(key, nan)) for c in result.candidates)
        mean = f", mean of {judged} judged {scores['mean']}" if judged else ""
        told.append(("judge", f"{name}: {scores['first']} ({result.first_name}) -> {scores['best']}{mean}"))
    told += [("cost", cost([result])), ("plan", result.schedule)]
    if "preview" in result.settings:
        told.append(("preview", agreement_in_words(result.settings["preview"])))
    told.append(("ended", result.stop_reason))
    if result.prediction is not None:
        told.append(("target", prediction_in_words(result.prediction)))
    if files := [path.name for stem, path in paths.items() if "/" not in stem]:
        told += [("run", str(paths["result"].parent)), ("files", ", ".join(files))]
    return "\n".join(line(name, text) for name, text in told)


def line(name: str, text: str) -> str:
    """A name and what is said under it, in as many lines as that takes."""
    margin = " " * _MARGIN
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=f"{name:<{_MARGIN}}",
        subsequent_indent=margin,
        break_long_words=False,  # a path is taken whole, wherever it ends
        break_on_hyphens=False,
    )


def cost(results: "Sequence[SearchResult]") -> str:
    """What searches took, in short; their ledgers say more."""
    from noise_search.words import counted

    ledgers = [one.ledger for one in results]
    spent, budget = sum(one.nfe for one in ledgers), sum(one.nfe_budget for one in ledgers)
    waste = sum(one.nfe_waste for one in ledgers)
    beside = f" (waste {waste:g})" if waste else ""
    seconds = sum(sum(one.seconds.values()) for one in ledgers)
    tried = counted(sum(len(one.candidates) for one in results), "candidate")
    return f"{spent} of {budget} NFE{beside}, {tried}, {seconds:.1f} s"


def shown(score: float) -> str:
    """A judge's score, in short."""
    return "can't tell" if score != score else f"{score:.3g}"
