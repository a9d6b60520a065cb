"""The test classes that notebook 06 shows pass, over the classes that it defines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from executed_notebooks import DIRECTORY, read

TESTS = Path(__file__).parents[1]
FOLDERS = ("noise_search", "samplers", "verifiers")
CLASSES = re.compile(r"^class (?:Midway|ScoreModel|Symmetry)\b", re.MULTILINE)
LINES = re.compile(r"`tests/([a-z_/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
SLOW = "not every_budget and not odd_sizes and not scores_of_any_kind"


@pytest.mark.slow
def test_the_classes_of_notebook_06_pass_the_contracts_by_the_lines_it_shows(tmp_path: Path) -> None:
    cells = read(DIRECTORY / "06-write-your-own.ipynb").cells
    imports = cells[1].source.split("\n\n\n")[0]
    found = [cell.source for cell in cells if cell.cell_type == "code" and CLASSES.search(cell.source)]
    shown = [pair for cell in cells if cell.cell_type == "markdown" for pair in LINES.findall(cell.source)]
    assert (len(found), len(shown)) == (3, 3)
    (tmp_path / "mine.py").write_text("\n\n".join([imports, *found]), encoding="utf-8")
    for folder in FOLDERS:
        tests = [one.name for one in (TESTS / folder).glob("test_*.py") if one.name != "test_denoiser.py"]
        shutil.copytree(TESTS / folder, tmp_path / "tests" / folder, ignore=shutil.ignore_patterns(*tests))
    for name, text in shown:
        (tmp_path / "tests" / name).write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), str(tmp_path)])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", SLOW]
        + ["-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path)]
        + [str(tmp_path / "tests" / name) for name, _ in shown],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) >= 50
