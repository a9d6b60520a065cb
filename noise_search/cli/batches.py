"""Several searches by one command: a run each, and one sheet and one table of all."""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise_search.cli.errors import code_of_error, in_one_line
from noise_search.cli.options import FAILED, INTERRUPTED, Format, Said
from noise_search.cli.telling import COLUMNS, as_json, code_of, cost, line, saved, shown
from noise_search.disk.files import write_atomically

if TYPE_CHECKING:
    from noise_search.results.result import SearchResult

_NAME = re.compile(r"\d{4,}(-\d+)?")
_TABLE, _SHEET = "table.csv", "sheet.png"


def runs_in(batch: Path) -> list[Path]:
    """The runs of a batch, in their order; none where it is none."""
    found = [one for one in batch.glob("*/run.json") if _NAME.fullmatch(one.parent.name)]
    return sorted((one.parent for one in found), key=lambda one: [int(part) for part in one.name.split("-")])


def check(out: Path | None, overwrite: bool) -> None:
    """Refuse a directory that is no batch's and none that could become one.

    Raises:
        ValueError: it is a run itself, or holds what nobody may replace.
    """
    if out is None or not out.is_dir():
        return
    if (out / "run.json").exists() or (out / "records.jsonl").exists():
        raise ValueError(f"directory {str(out)!r} holds a single search or a comparison: give a new one")
    there = [name for name in (_TABLE, _SHEET) if (out / name).exists()]
    if there and not runs_in(out) and not overwrite:
        raise ValueError(f"{there[0]} in {str(out)!r} was written by no search, and would be replaced: give a new one")


def run(
    ask: Callable[..., Any], prompts: Sequence[str], seeds: Sequence[int], where: Path, quiet: bool, format: Format
) -> Said:
    """Search for each prompt at each seed, the same as before where its run is there; one that fails ends no other.

    Args:
        ask: searches for a prompt, given its `seed` and `run`.
        prompts: texts.
        seeds: of each of them.
        where: the directory of the batch. The runs are called by the number of their prompt and of their seed, so that
            prompts and seeds that are added at the end leave those that are there as they are.
        quiet: whether only paths are told, and no progress.
        format: how it is told.
    """
    from noise_search.results.data import AllCandidatesFailed

    found: list[tuple[Path, SearchResult, dict[str, Path]]] = []
    notes: list[str] = []
    code = 0
    searches = [
        (prompt, at, seed, again) for at, prompt in enumerate(prompts, 1) for again, seed in enumerate(seeds, 1)
    ]
    for number, (prompt, at, seed, again) in enumerate(searches, 1):
        directory = where / (f"{at:04d}" + f"-{again}" * (again > 1))
        if not quiet:
            print(f"{number} of {len(searches)}: {prompt}", file=sys.stderr)
        try:
            result = ask(prompt, seed=seed, run=directory)
        except Exception as error:
            _remove_empty(directory)
            common = not found and not isinstance(error, AllCandidatesFailed)  # of all of them, most likely
            if common or code_of_error(error) is None:
                raise
            notes.append(f"{directory}: {in_one_line(error)}")
            code = FAILED
            continue
        except KeyboardInterrupt:
            _remove_empty(directory)
            if not found:
                raise
            notes.append(f"interrupted: {len(searches) - number + 1} of {len(searches)} searches are left")
            code = INTERRUPTED
            break
        paths, elsewhere = saved(result, directory)
        notes += [elsewhere] * bool(elsewhere)
        found.append((directory, result, paths))
        code = max(code, code_of(result, elsewhere))
        if code == INTERRUPTED:
            break
    if not found:
        return Said("", notes, code)
    files = {"table": where / _TABLE, **_sheets([one for _, one, _ in found], where / _SHEET)}
    write_atomically(files["table"], _csv(found).encode())
    if format is Format.json:
        told = {"results": [as_json(one, paths) for _, one, paths in found]}
        return Said({**told, "files": {name: str(file) for name, file in files.items()}}, notes, code)
    if quiet:
        return Said("\n".join(str(paths["best"]) for *_, paths in found), notes, code)
    total = [line("cost", cost([one for _, one, _ in found])), *(line(name, str(file)) for name, file in files.items())]
    return Said("\n".join([*_table(found), "", *total]), notes, code)


def _remove_empty(directory: Path) -> None:
    """A search that is refused leaves no directory."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def _sheets(results: "Sequence[SearchResult]", file: Path) -> dict[str, Path]:
    from noise_search.results.sheet import save_sheets

    pages = save_sheets(results, file)
    return {"sheet" if at == 0 else f"sheet {at + 1}": page for at, page in enumerate(pages)}


def _table(found: "Sequence[tuple[Path, SearchResult, Any]]") -> Iterator[str]:
    """A line for each search: its run, score and judges, and of its prompt what 80 columns have room for."""
    from noise_search.words import one_line, short_names, table

    judges = {key: name for _, one, _ in found for key, name in short_names(one.judges).items()}
    rows = [("run", "seed", "score", *judges.values(), "prompt")]
    for directory, one, _ in found:
        seed = "-" if one.best.seed is None else str(one.best.seed)
        known = [one.judges.get(key, {}) for key in judges]  # an interrupted one has none
        pairs = [[shown(judged[which]) for which in ("first", "best") if judged] for judged in known]
        told = [" -> ".join(dict.fromkeys(pair)) or "-" for pair in pairs]
        rows.append((directory.name, seed, f"{one.first.score:.3f} -> {one.score:.3f}", *told, one.prompt))
    taken = sum(max(len(row[at]) for row in rows) + 2 for at in range(len(rows[0]) - 1))
    rows = [(*row[:-1], one_line(row[-1], max(COLUMNS - taken - 3, 12))) for row in rows]
    yield from table(rows, "<" * len(rows[0])).splitlines()


def _csv(found: "Sequence[tuple[Path, SearchResult, Any]]") -> str:
    """A row for each search."""
    from noise_search.words import short_names

    rows = []
    for directory, one, paths in found:
        scores, judges = short_names(one.best.scores), short_names(one.judges)
        rows.append(
            {
                "run": directory.name,
                "prompt": one.prompt,
                "seed": one.settings["seed"],
                "best_seed": one.best.seed,
                "first_score": one.first_score,
                "score": one.score,
                **{f"score:{name}": one.best.scores[key] for key, name in scores.items()},
                **{f"first_judge:{name}": one.judges[key]["first"] for key, name in judges.items()},
                **{f"judge:{name}": one.judges[key]["best"] for key, name in judges.items()},
                "nfe": one.ledger.nfe,
                "candidates": len(one.candidates),
                "seconds": round(sum(one.ledger.seconds.values()), 3),
                "ended": one.stop_reason,
                "image": paths["best"].name,
            }
        )
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list({name: None for row in rows for name in row}), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
