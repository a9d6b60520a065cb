"""The code in the documents runs: of README and guides in small, and docs/extending.md, whose tests are here."""

import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import yaml

import noise_search
from test_layers import ROWS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def screens() -> dict[str, tuple[str, str, str]]:
    """The three blocks of each screen of docs/extending.md: the thing itself, its use, its tests."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = {}
    for screen in text.split("\n## ")[1:]:
        definition, use, tests = BLOCK.findall(screen)
        found[screen.splitlines()[0]] = (definition, use, tests)
    return found


SCREENS = screens()
FOLDER = tempfile.TemporaryDirectory()  # of the module `mine`, which contracts import in another process too
(Path(FOLDER.name) / "mine.py").write_text("\n\n".join(one for one, *_ in SCREENS.values()), encoding="utf-8")
sys.path.insert(0, FOLDER.name)
for _, _, _tests in SCREENS.values():
    exec(compile(_tests, "docs/extending.md", "exec"), globals())


@pytest.fixture
def images() -> torch.Tensor:
    coarse = torch.rand(5, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bilinear")


@pytest.fixture
def prompts() -> list[str]:
    return ["a red circle", "a blue square", "", "the star above a circle", "a red circle"]


def run(code: str, page: str, names: dict[str, object]) -> None:
    exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("screen", SCREENS)
def test_the_examples_of_the_page_on_extending_run(screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(SCREENS[screen][1], "docs/extending.md", {"__name__": "example"})


def test_the_page_on_extending_tests_everything_it_makes():
    tests = [name for name in globals() if name.startswith(("Test", "test_"))]
    for made in ("Midway", "ScoreModel", "Symmetry", "WorstRank", "score_histogram", "best_of"):
        assert any(made in name for name in tests), made


def small(call, **fixed):
    """A search or comparison of the README with a budget of milliseconds."""

    def run(asked, **options):
        kept = {name: value for name, value in options.items() if name not in ("nfe", "candidates")}
        return call(asked, **kept | fixed, progress=False)

    return run


PAGES = {  # whose examples run in small, and a file that they leave
    "README.md": "runs/python/best.png",
    "docs/start.md": "curve.png",
    "docs/algorithms.md": None,
    "docs/your-pipeline.md": None,
    "docs/budgets.md": None,
    "docs/replay.md": "again.png",
    "docs/compare.md": "report.html",
    "docs/choosing.md": "chosen.png",
    "docs/field.md": None,
}


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise_search, "search", small(noise_search.search, candidates=8, steps=8))
    tiny = {"candidates": (2,), "seeds": 1, "steps": 3, "diagnosed": 0}
    compare = small(noise_search.compare, **tiny)
    monkeypatch.setattr(noise_search, "compare", lambda prompts, **options: compare(list(prompts)[:1], **options))
    brief = {"per_family": None, "limit": 2, "noises": 4, "moved": 1, "steps": 8, "progress": False}
    calibrate = noise_search.calibrate
    monkeypatch.setattr(noise_search, "calibrate", lambda *asked, **options: calibrate(*asked, **options | brief))
    offline = [block for block in blocks(page) if "from_pretrained" not in block]
    assert offline
    names: dict[str, object] = {"__name__": "page"}
    for block in offline:
        run(block, page, names)
    assert PAGES[page] is None or (tmp_path / PAGES[page]).is_file()


def test_the_python_of_the_page_on_runs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise_search, "search", small(noise_search.search, candidates=4, steps=4))
    names: dict[str, object] = {"__name__": "runs"}
    for block in blocks("docs/runs.md"):
        run(block, "docs/runs.md", names)
    assert "'runs/stars' holds another search: seeds[0] is 7 here, 0 recorded" in capsys.readouterr().out
    assert names["result"].ledger.nfe_budget == 48 and (tmp_path / "best.png").is_file()


WRITTEN = [
    "README.md",
    "CONTRIBUTING.md",
    "verifiers/README.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]


def test_the_python_of_the_page_on_tracking_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise_search, "search", small(noise_search.search, candidates=2, steps=2))
    names: dict[str, object] = {"__name__": "tracking"}
    for block in blocks("docs/tracking.md"):
        run(block, "docs/tracking.md", names)
    assert (tmp_path / "tensorboard" / "0001").is_dir() and (tmp_path / "boards" / "0001").is_dir()
    assert re.search(r"^2 \d\.\d+ 0$", capsys.readouterr().out, re.MULTILINE)


def test_the_python_of_the_page_on_the_studio_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise_search, "search", small(noise_search.search, candidates=4, steps=4))
    names: dict[str, object] = {"__name__": "studio"}
    for block in blocks("docs/studio.md"):
        run(block, "docs/studio.md", names)
    assert len(names["again"].candidates) == 2 and names["result"].best.scores.keys() == {"person@1"}


@pytest.mark.parametrize("page", sorted(WRITTEN))
def test_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    named = re.findall(r"`((?:noise_search|samplers|verifiers|tests|docs)/[\w./-]*)`", text)
    missing = [name for name in linked if not (ROOT / page).parent.joinpath(name).exists()]
    assert not missing + [name for name in named if not (ROOT / name).exists()]


def test_the_drawing_of_the_layers_has_every_room():
    drawn = re.search(r"^```text\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S | re.M)
    words = set(re.findall(r"[\w/]+", drawn[1]))
    assert not {room for rows in ROWS.values() for row in rows for room in row.replace(".", "/").split()} - words


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= cited.keys()
    assert cited["version"] == noise_search.__version__ and cited["license"] == "Apache-2.0"
