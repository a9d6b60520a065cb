"""Imports run one way: noise_search -> samplers, verifiers; these know nothing of each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "samplers": {"noise_search", "verifiers"},
    "verifiers": {"noise_search", "samplers"},
    "noise_search": set(),
}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_do_not_import_upwards(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        roots = {name.split(".")[0] for name in imported(file)}
        assert not roots & FORBIDDEN[package], f"{file.name} imports {roots & FORBIDDEN[package]}"


def test_step_rules_and_noise_import_nothing_of_diffusers():
    for name in ("ddim", "flow_matching", "state", "space", "recipe"):
        assert not any(n.split(".")[0] == "diffusers" for n in imported(ROOT / "samplers" / f"{name}.py"))


def test_algorithms_never_touch_a_model():
    allowed = {
        "noise_search.protocol",
        "noise_search.algorithms",
        "noise_search.arguments",
        "samplers.space",
        "samplers.state",
        "numpy",
        "math",
    }
    for file in (ROOT / "noise_search" / "algorithms").glob("*.py"):
        ours = {n for n in imported(file) if n.split(".")[0] in {"noise_search", "samplers", "verifiers", "torch"}}
        assert all(any(n.startswith(a) for a in allowed) for n in ours), (file.name, ours)


def test_there_is_no_attic():
    files = [f for package in FORBIDDEN for f in (ROOT / package).rglob("*.py")]
    assert not [f for f in files if f.stem in {"utils", "common", "helpers", "misc"}]
