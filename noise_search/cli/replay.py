"""What `noise-search replay` does: a replay, written to a file, and said as JSON."""

from pathlib import Path
from typing import Any

from noise_search.disk.png import check_picture
from noise_search.replays.replay import Replay
from noise_search.replays.replaying import replay


def replay_to_file(file: Path, out: Path, **options: Any) -> tuple[Replay, list[Path]]:
    """Replay a file and write the picture, of a clip also the GIF beside it.

    Raises:
        ValueError: bad input; `out` is checked before anything is run.
    """
    check_picture(out)
    replayed = replay(file, **options)
    paths = [replayed.save(out)]
    if replayed.frames is not None:
        paths.append(replayed.save(out.with_suffix(".gif")))
    return replayed, paths


def told(replayed: Replay, paths: list[Path]) -> dict[str, Any]:
    """The replay and where it was written, as plain JSON."""
    return {**replayed.to_json(), "files": [str(path) for path in paths]}
