"""Help, version and the list of public names answer without the heavy libraries."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import noise_search

HEAVY = ("torch", "torchvision", "numpy", "diffusers", "transformers", "open_clip", "matplotlib", "pandas", "PIL")
ASK = """
import json, sys
from noise_search.cli.app import main
sys.argv = ["noise-search", *sys.argv[2:]]
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
print(json.dumps([code, [name for name in {heavy} if name in sys.modules]]))
"""
COMMANDS = ("generate", "replay", "score", "compare", "bench", "calibrate", "list")
OF_RUNS = ("list", "show", "resume", "export", "sheet")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], [f"noise-search {noise_search.__version__}"]),
        (["--help"], [*COMMANDS, "studio", "runs", "--version"]),
        *([[command, "--help"], ["--format"]] for command in COMMANDS),
        (["studio", "--help"], ["--port"]),
        (["runs", "--help"], list(OF_RUNS)),
        *([["runs", command, "--help"], ["--help"]] for command in OF_RUNS),
    ],
    ids=["version", "help", *COMMANDS, "studio", "runs", *(f"runs-{command}" for command in OF_RUNS)],
)
def test_help_and_version_import_nothing_heavy(arguments, words):
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(heavy=HEAVY), "--", *arguments], capture_output=True, text=True, check=True
    )
    *said, last = done.stdout.splitlines()
    assert json.loads(last) == [0, []] and done.stderr == ""
    assert all(any(word in line for line in said) for word in words)


def test_the_public_names_are_imported_from_where_they_are_said_to_live():
    rooms, listed = noise_search._ROOMS, noise_search.__all__
    assert list(rooms) == sorted(rooms, key=listed.index) == listed
    assert set(listed) <= set(dir(noise_search))
    tree = ast.parse(Path(noise_search.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == {name: "noise_search" if name == room else f"noise_search.{room}" for name, room in rooms.items()}
    for name in listed:
        assert getattr(noise_search, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        _ = noise_search.serach
