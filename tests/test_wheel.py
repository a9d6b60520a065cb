"""The package as users install it: sdist and wheel have every file that the code reads, and the wheel searches."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("noise_search", "samplers", "verifiers")
SEARCH = """
import json, sys
import noise_search, samplers, verifiers
result = noise_search.search("two yellow stars", candidates=2, steps=2, judges=["oracle"], progress=False)
result.save("found")
places = [package.__file__ for package in (noise_search, samplers, verifiers)]
print(json.dumps({"places": places, "candidates": len(result.candidates)}))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("pip", "setuptools")),
        reason="a wheel is built by pip and setuptools without the network, and one of them isn't installed here",
    ),
]


def run(*command, cwd, **environment):
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources():
    """Every file of the packages, but pages for people and what Python caches."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    return {
        file.relative_to(ROOT).as_posix()
        for file in files
        if file.suffix != ".md" and file.name[0] != "." and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Built from a copy, as building leaves folders beside the sources."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=copy)
    [built] = (copy / "dist").glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built from the sdist, as it is where no wheel is at hand."""
    alone = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    run(sys.executable, "-m", "pip", "wheel", *alone, "-w", ".", sdist.name, cwd=sdist.parent)
    [built] = sdist.parent.glob("*.whl")
    return built


def test_the_sdist_holds_every_file_of_the_packages_and_is_small_enough_to_publish(sdist):
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert not (sources() | {"pyproject.toml", "README.md", "LICENSE"}) - names and sdist.stat().st_size < 35e6


def test_the_wheel_holds_every_file_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not sources() - names and wheel.stat().st_size < 35e6
    information = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, information}
    ends = (
        "noise_search/py.typed",
        "samplers/py.typed",
        "verifiers/py.typed",
        "LICENSE",
        "paper_curves.csv",
        "data/shapes-hard.safetensors",
    )
    assert all(any(name.endswith(end) for name in names) for end in ends)
    assert any(name.endswith(".safetensors") for name in names) and any(".LICENSE.txt" in name for name in names)


def test_the_installed_package_searches_from_another_folder(wheel, tmp_path):
    place, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    alone = ("--no-deps", "--no-index", "--disable-pip-version-check", "-q", "--no-compile", "--target", str(place))
    run(sys.executable, "-m", "pip", "install", *alone, str(wheel), cwd=elsewhere)
    said = json.loads(run(sys.executable, "-c", SEARCH, cwd=elsewhere, PYTHONPATH=str(place)))
    assert said["places"] == [str(place / package / "__init__.py") for package in PACKAGES]
    assert said["candidates"] == 2 and (elsewhere / "found" / "best.png").is_file()
    command = place / "bin" / "noise-search"
    assert run(sys.executable, str(command), "--version", cwd=elsewhere, PYTHONPATH=str(place)).startswith("noise-")
