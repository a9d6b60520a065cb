"""`noise-search runs`: what run directories hold; going on with one, and giving one away."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noise_search.cli import options
from noise_search.cli.batches import runs_in
from noise_search.cli.options import FAILED, INTERRUPTED, Format, Said
from noise_search.cli.telling import COLUMNS, save, summary
from noise_search.disk.files import RUNS

if TYPE_CHECKING:
    from noise_search.results.result import SearchResult

Run = Annotated[Path, typer.Argument(help="Directory of a run; a number is one of runs/, latest the highest there.")]

_LEAST = 16
"""Characters of a prompt that a list shows at least."""


def list_runs(
    directory: Annotated[Path, typer.Argument(help="Where the runs are.")] = RUNS,
    format: options.Printed = Format.human,
) -> Said:
    """List runs: state, what was spent, the best score, age, prompt."""
    if not directory.is_dir():
        raise ValueError(f"{str(directory)!r} isn't there; expected a directory of runs")
    places = [one for entry in sorted(directory.iterdir()) for one in (entry, *runs_in(entry))]
    found = [_row(one, directory) for one in places if (one / "run.json").is_file()]
    if format is Format.json:
        return Said({"runs": found})
    if not found:
        return Said(f"no runs in {str(directory)!r}")
    table = [("run", "state", "algorithm", "NFE", "best", "age", "prompt")]
    for one in found:
        best = "-" if one["best"] is None else f"{one['best']:.4f}"
        spent = f"{one['spent']} of {one['budget']}" if one["budget"] is not None else "-"
        table.append((one["run"], one["state"], one["algorithm"], spent, best, _age(one["age"]), one["prompt"]))
    widths = [max(len(row[at]) for row in table) for at in range(6)]
    room = max(COLUMNS - sum(widths) - 2 * len(widths), _LEAST)
    lines = []
    for row in table:
        *told, prompt = row
        shown = prompt if row[1] == "damaged" else _cut(prompt, room)  # what is damaged is read to its end
        lines.append("  ".join([*(f"{one:<{width}}" for one, width in zip(told, widths, strict=True)), shown]))
    return Said("\n".join(lines))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


def show(run: Run, format: options.Printed = Format.human) -> Said:
    """Say what a run found so far, without its model."""
    from noise_search.disk.run import Sizes
    from noise_search.engine.loading import state_of
    from noise_search.words import size_in_words

    run = _found(run)
    results, state, sizes = _loaded(run), state_of(run), Sizes.of(run)
    if format is Format.json:
        told = [one.to_json() for one in results]
        return Said({"run": str(run), "state": state, "bytes": vars(sizes), "results": told})
    parts = ((sizes.lines, "lines"), (sizes.images, "images"), (sizes.states, "latents"))
    disk = f"disk     {', '.join(f'{size_in_words(size)} of {what}' for size, what in parts)}"
    said = [
        summary(one, {}) if not one.failed else f"prompt   {one.prompt}\nended    {one.failure()}" for one in results
    ]
    return Said("\n\n".join([f"run      {run}, {state}\n{disk}", *said]))


def resume(
    run: Run,
    nfe: Annotated[int | None, typer.Option(help="Budget of the whole, what is spent included.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run candidates again that failed.")] = False,
    device: options.Device = None,
    batch_size: options.BatchSize = None,
    format: options.Printed = Format.human,
) -> Said:
    """Go on with a run: what it has evaluated isn't computed again."""
    run = _found(run)
    more = {name: value for name, value in (("device", device), ("batch_size", batch_size)) if value is not None}
    made = _loaded(run)[0].resume(nfe, retry_failed=retry_failed, on_interrupt="return", **more)
    if not isinstance(made, list):
        return save(made, run, format)
    errors = [one.error for one in made if one.error is not None]
    code = INTERRUPTED if any(isinstance(one, KeyboardInterrupt) for one in errors) else FAILED if errors else 0
    if format is Format.json:
        return Said({"results": [one.to_json() for one in made]}, code=code)
    return Said("\n\n".join(summary(one, {}) for one in made if not one.failed), code=code)


def export(
    run: Run,
    to: Annotated[Path | None, typer.Option(help="The archive.", show_default="the run's name.zip")] = None,
    states: Annotated[bool, typer.Option("--states", help="With latents, to go on elsewhere at no cost.")] = False,
) -> Said:
    """Pack a run into one archive that says nothing of this machine's paths."""
    from noise_search.disk.export import export as pack
    from noise_search.disk.run import RunFiles
    from noise_search.results.saving import files_of
    from noise_search.words import size_in_words

    run = _found(run)
    if not RunFiles(run).manifest():
        raise ValueError(f"{str(run)!r} is no run directory (it has no run.json); expected one that --out named")
    file = Path(f"{run.resolve().name}.zip") if to is None else to
    names = {name for name in files_of(run) if states or not name.startswith("states")}
    pack(run, names, file)
    return Said(f"archive  {file} ({size_in_words(file.stat().st_size)}, {len(names)} files)")


def sheet(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or batches of them, as directories or numbers.")],
    rows: Annotated[
        str, typer.Option(help="What a row has in common: prompt, algorithm, verifier, model, nfe or seed.")
    ] = "prompt",
    width: Annotated[
        int, typer.Option(min=16, help="Pixels of a picture; small ones are enlarged without blur.")
    ] = 256,
    out: Annotated[Path, typer.Option(help="PNG to write; further pages are NAME-2.png, ...")] = Path("sheet.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> Said:
    """Lay out the winners of runs in a grid, columns by all else in which they differ; of one run what it kept."""
    from noise_search.disk.png import check_picture
    from noise_search.results.sheet import save_sheets
    from noise_search.words import counted

    check_picture(out, overwrite=overwrite)
    places = [one for given in map(_found, runs) for one in (runs_in(given) or [given])]
    results = [one for place in places for one in _loaded(place)]
    pages = save_sheets(results, out, rows=rows, width=width)
    return Said("\n".join(f"sheet    {page}" for page in pages) + f" ({counted(len(results), 'search')})")


def _found(run: Path) -> Path:
    """A run by its directory, its number, or as the latest; one of a batch as 5/2, or 0005/0002."""
    if str(run) == "latest":
        numbers = sorted((one for one in RUNS.glob("[0-9]*") if one.name.isdecimal()), key=lambda one: int(one.name))
        if not numbers:
            raise ValueError(f"there are no runs in {str(RUNS)!r}")
        return numbers[-1]
    if not run.exists() and all(part.isdecimal() for part in run.parts):
        numbered = RUNS.joinpath(*(f"{int(part):04d}" for part in run.parts))
        return numbered if numbered.is_dir() else run
    return run


def _loaded(run: Path) -> "list[SearchResult]":
    from noise_search.engine.loading import load

    found = load(run)
    return found if isinstance(found, list) else [found]


def _row(run: Path, directory: Path) -> dict[str, Any]:
    from noise_search.engine.loading import state_of
    from noise_search.words import one_line

    row: dict[str, Any] = dict.fromkeys(("budget", "spent", "best"))
    row |= {
        "run": run.relative_to(directory).as_posix(),
        "algorithm": "-",
        "prompt": "",
        "age": time.time() - _touched(run),
    }
    try:
        results = _loaded(run)
        row["state"] = state_of(run)
    except ValueError as error:
        return {**row, "state": "damaged", "prompt": one_line(str(error), 60)}
    first, more = results[0], len(results) - 1
    row["budget"] = sum(one.ledger.nfe_budget for one in results)
    row["spent"] = sum(one.ledger.nfe for one in results)
    row["best"] = None if first.failed or more else first.score
    row["algorithm"] = first.settings["algorithm"]["name"]
    row["prompt"] = one_line(first.prompt, 60) + f" and {more} more" * bool(more)
    return row


def _touched(run: Path) -> float:
    """When it was last written to."""
    files = [one for one in (run / "evaluations.jsonl", run / "run.json") if one.exists()]
    return max(one.stat().st_mtime for one in files)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
