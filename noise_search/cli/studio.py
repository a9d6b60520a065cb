"""`noise-search studio`: a page to search on."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from noise_search.cli import options
from noise_search.cli.options import Said
from noise_search.disk.files import RUNS


def studio(
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 7860,
    host: Annotated[
        str,
        typer.Option(help="Whom it is served to; beyond this machine NOISE_SEARCH_PASSWORD and --models are needed."),
    ] = "127.0.0.1",
    models: Annotated[str | None, typer.Option(help="The only models that may be used, with commas.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the runs are.")] = RUNS,
    password: Annotated[
        str | None, typer.Option(envvar="NOISE_SEARCH_PASSWORD", hidden=True, help="Set it in the environment.")
    ] = None,
) -> Said:
    """Open a page to search on: watch candidates come, pick by eye, go on from what you like."""
    from noise_search.studio.serve import serve

    named = None if models is None else options.names(models)
    print(f"noise-search studio at http://{host}:{port} (Ctrl-C ends it)", file=sys.stderr)
    serve(runs, host=host, port=port, password=password, models=named)
    return Said("")
