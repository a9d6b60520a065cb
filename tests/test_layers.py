"""Imports run one way: between the three packages, between their rooms, and never in a circle of files."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = {  # from the ground up: a room imports rooms of lower rows, and of its own folder
    "noise_search": [
        "version words arguments collisions order_statistics",
        "choosing",
        "settings lora algorithms disk shapes",
        "claims",
        "models",
        "previews",
        "resolve",
        "results",
        "tracking",
        "engine",
        "image_scores replays prompt_sets checking",
        "diagnosis calibrating",
        "comparison studio",
        "cli shapes.train",
        "__init__ __main__",
    ],
    "samplers": [
        "recipe rule said repair",
        "state transition",
        "space ddim flow_matching crossing",
        "base",
        "denoiser replay contents",
        "pipelines",
        "__init__",
    ],
    "verifiers": [
        "code",
        "base card arguments",
        "inputs aggregators",
        "loading",
        "clip aesthetic pickscore hps hpsv3 image_reward vlm safety consistency edits measures classes judge person",
        "catalogue",
        "__init__",
    ],
}


def files() -> dict[str, Path]:
    found = {}
    for package in ROWS:
        for file in (ROOT / package).rglob("*.py"):
            found[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    return found


FILES = files()


def imported(file: Path) -> set[str]:
    """Everything that a file imports, inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in FILES else str(node.module) for name in found}
    return names


IMPORTS = {name: imported(file) for name, file in FILES.items()}


def row(name: str) -> tuple[str, int]:
    """The room of a file, and its row; the longest name of a room that fits counts."""
    package, _, rest = name.partition(".")
    rooms = {room: level for level, rooms in enumerate(ROWS[package]) for room in rooms.split()}
    fitting = [room for room in rooms if (rest + ".").startswith(room + ".")] if rest else ["__init__"]
    assert fitting, f"{name} has no room: put it into one, or give it a row in {Path(__file__).name}"
    room = max(fitting, key=len)
    return room, rooms[room]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_room_imports_only_lower_rooms(name):
    room, level = row(name)
    for other in IMPORTS[name] & FILES.keys():
        package = name.split(".")[0]
        if other.split(".")[0] != package:
            assert package == "noise_search", f"{name} imports {other}"
            continue
        theirs, lower = row(other)
        assert theirs == room or lower < level, f"{name} (row {level}) imports {other} (row {lower})"


def test_no_circle_of_files():
    tuple(
        graphlib.TopologicalSorter(
            {name: found & FILES.keys() - {name} for name, found in IMPORTS.items()}
        ).static_order()
    )


def test_only_pipelines_name_diffusers():
    for name, found in IMPORTS.items():
        if name.startswith("samplers.") and not name.startswith("samplers.pipelines"):
            assert not any(other.split(".")[0] == "diffusers" for other in found), name


def test_algorithms_never_touch_a_model():
    allowed = (
        "noise_search.algorithms",
        "noise_search.arguments",
        "noise_search.choosing.sets",
        "noise_search.words",
        "samplers.recipe",
        "samplers.space",
        "samplers.state",
        "samplers.transition",
    )
    for name in (name for name in FILES if name.startswith("noise_search.algorithms")):
        ours = {other for other in IMPORTS[name] if other.split(".")[0] in {*ROWS, "torch"}}
        assert all(other.startswith(allowed) for other in ours), (name, ours)


def test_there_is_no_attic():
    assert not [name for name in FILES if name.split(".")[-1] in {"utils", "common", "helpers", "misc"}]


def test_no_module_shadows_a_function():
    import noise_search

    assert not [
        name for name in noise_search.__all__ if f"noise_search.{name}" in FILES.keys() - {"noise_search.prompt_sets"}
    ]


@pytest.mark.parametrize(
    ("package", "heavy"),
    [("samplers", "diffusers transformers verifiers noise_search"), ("verifiers", "diffusers samplers noise_search")],
)
def test_importing_a_package_is_light(package, heavy):
    code = f"import sys, {package}; print([m for m in {heavy.split()} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
