import ast
import subprocess
import sys
from pathlib import Path

import pytest

import samplers

FOLDER = Path(samplers.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of everything imported anywhere in a syntax tree."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_samplers_know_nothing_of_search_or_verifiers(file):
    found = imported(ast.parse(file.read_text()))
    assert not found & {"noise_search", "verifiers", "transformers", "open_clip"}
    if file.name not in ("options.py", "calls.py"):
        assert "diffusers" not in found


def test_importing_samplers_is_light():
    heavy = ["diffusers", "transformers", "verifiers", "noise_search"]
    code = f"import sys, samplers; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_files_stay_short(file):
    assert len(file.read_text().splitlines()) <= 250
