"""`noise-search bench`: where an algorithm stands against best-of-N."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from noise_search.cli import options
from noise_search.cli.compare import told
from noise_search.cli.options import Format, Said


def bench(
    algorithm: Annotated[str, typer.Argument(help="Algorithm, or several with commas.")],
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of an algorithm, such as zero-order.neighbours=8; may be repeated."),
    ] = None,
    model: Annotated[str, typer.Option(help="shapes-flow or shapes-ddim.")] = "shapes-flow",
    budgets: Annotated[str, typer.Option(help="Whole trajectories with commas, 256 at most.")] = "8,16,48",
    verifier: Annotated[str, typer.Option(help="Verifier to search by.")] = "vlm",
    split: Annotated[str, typer.Option(help="evaluation, or validation to choose settings by.")] = "evaluation",
    per_family: Annotated[int | None, typer.Option(min=1, help="Prompts of each family at most.")] = None,
    calibration: options.Calibration = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    device: options.Device = None,
    log: options.Log = None,
    out: Annotated[Path | None, typer.Option(help="Directory; what is there already isn't run again.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the comparison that is there first.")] = False,
    format: options.Printed = Format.human,
) -> Said:
    """Tell how many random candidates an algorithm is worth, on prompts that one sample rarely gets right."""
    from noise_search.comparison import bench as room
    from noise_search.comparison.store import SAVED, check_directory

    if out is not None:
        check_directory(out, overwrite, SAVED)
    found = room.bench(
        options.configured_algorithms(options.names(algorithm), option or []),
        model=model,
        budgets=options.numbers(budgets, "budgets") or [],
        verifier=verifier,
        split=split,
        per_family=per_family,
        out=out,
        overwrite=overwrite,
        batch_size=batch_size,
        workers=options.workers(workers),
        calibration=calibration,
        device=device,
        log=cast(Any, log),
        on_interrupt="return",
    )
    return told(found, format)
