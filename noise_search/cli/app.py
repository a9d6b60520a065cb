"""The command `noise-search`: its commands, how they end, and errors in one line.

Help and version answer without torch: what is slow to import is imported inside functions, here and in the commands.
"""

import functools
import json
import logging
import sys
from typing import Annotated, Any

import typer

from noise_search.cli.bench import bench
from noise_search.cli.calibrate import calibrate
from noise_search.cli.check import check
from noise_search.cli.compare import compare
from noise_search.cli.config import configured
from noise_search.cli.errors import code_of_error, in_one_line
from noise_search.cli.generate import generate
from noise_search.cli.list import list_
from noise_search.cli.options import INTERRUPTED, Command, spread
from noise_search.cli.replay import replay
from noise_search.cli.runs import export, list_runs, resume, sheet, show
from noise_search.cli.score import score
from noise_search.cli.studio import studio
from noise_search.version import __version__

app = typer.Typer(
    help="Better images from a diffusion or flow-matching model by searching for better noise.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    app()


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"noise-search {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None: ...


def _add(command: Command, name: str, before: str, to: typer.Typer = app) -> None:
    """A command whose words are printed and whose errors end in one line; `before` what, an interruption may come."""
    command = spread(command)
    if name in ("generate", "compare", "calibrate"):
        command = configured(command)

    @to.command(name)
    @functools.wraps(command)
    def run(**given: Any) -> None:
        try:
            said = command(**given)
        except BaseException as error:
            _end(error, before)
            raise
        if said.content:
            typer.echo(said.content if isinstance(said.content, str) else json.dumps(said.content, indent=2))
        for note in said.notes:
            print(f"noise-search: {note}", file=sys.stderr)
        if said.code:
            raise typer.Exit(said.code)


_add(generate, "generate", "a first image was done")
_add(replay, "replay", "the image was done")
_add(score, "score", "all images were scored")
_add(compare, "compare", "anything was compared")
_add(bench, "bench", "anything was compared")
_add(calibrate, "calibrate", "anything was calibrated")
_add(check, "check", "anything was checked")
_add(studio, "studio", "the page was served")
_add(list_, "list", "anything was listed")

_runs = typer.Typer(help="What run directories hold; going on with one.", no_args_is_help=True)
app.add_typer(_runs, name="runs")
_add(list_runs, "list", "anything was listed", _runs)
_add(show, "show", "anything was shown", _runs)
_add(resume, "resume", "a first image was done", _runs)
_add(export, "export", "anything was packed", _runs)
_add(sheet, "sheet", "a sheet was made", _runs)


def _end(error: BaseException, before: str) -> None:
    """Bad input ends in one line on standard error and exit code 2, a search without a winner in one and 1.

    What is left is a mistake of this package or of a user's own object, and gets its traceback.
    """
    if isinstance(error, KeyboardInterrupt):  # a command may say what else wasn't done
        print(f"noise-search: interrupted before {str(error) or before}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error
    if (code := code_of_error(error)) is None:
        return
    print(f"noise-search: {in_one_line(error)}", file=sys.stderr)
    raise typer.Exit(code) from error
