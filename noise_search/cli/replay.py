"""`noise-search replay`: one candidate made again and written to a file."""

from pathlib import Path
from typing import Annotated

import typer

from noise_search.cli import options
from noise_search.cli.options import FAILED, Format, Loading, Said


def replay(
    file: Annotated[Path, typer.Argument(help="best.png or top/NN.png of a search, its result.json or directory.")],
    candidate: Annotated[int | None, typer.Option(help="Candidate of a result.json; the best by default.")] = None,
    model: Annotated[str | None, typer.Option(help="In place of the recorded name: model, directory, hub id.")] = None,
    prompt: Annotated[str | None, typer.Option(help="In place of the recorded one.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Score the image with it, or several with commas.")] = None,
    verifier_option: options.VerifierOptions = None,
    loading: Loading = options.LOADING,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("replay.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
    format: options.Printed = Format.human,
) -> Said:
    """Make one candidate of a search again, alone, and say how close it came.

    Ends with 1 where the picture differs from the stored one by more than was promised.
    """
    from noise_search.disk.png import check_picture
    from noise_search.replays import replaying

    check_picture(out, overwrite=overwrite)
    [scoring] = options.configured_verifiers(verifier_option or [], options.names(verifier or ""))
    replayed = replaying.replay(
        file,
        candidate=candidate,
        model=model,
        prompt=prompt,
        verifier=scoring or None,
        **loading.given(model),
    )
    files = [out, *([] if replayed.frames is None else [out.with_suffix(".gif")])]  # of a clip the PNG is one frame
    for one in files:
        check_picture(one, clip=True, overwrite=overwrite)
    paths = [str(replayed.save(one, overwrite=overwrite)) for one in files]
    notes, code = ((replayed.broken,), FAILED) if replayed.broken else ((), 0)
    if format is Format.json:
        return Said({**replayed.to_json(), "files": paths}, notes, code)
    return Said(f"{replayed}\nwritten   {', '.join(paths)}", notes, code)
