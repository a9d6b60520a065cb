"""Every notebook runs from its first cell to its last, and what is committed is what a run gives.

The outputs are refreshed by `python tests/notebooks/executed_notebooks.py`, with the notebooks to refresh if not all.
It leaves out timestamps, versions and random names; other tools write them, and the tests refuse them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from executed_notebooks import DIRECTORY, KERNELSPEC, STATE, VIEW, executed, normalised, read
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, validate
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted(DIRECTORY.glob("*.ipynb"))
LARGEST = 400_000
ABSOLUTE = re.compile(r"""(?:^|[\s"'`(=\[])(?:/[\w.~-]+/[\w.~-]|[A-Za-z]:\\\w|~/\w|file://)""")
IMAGES = ("image/png", "image/svg+xml", "image/jpeg")

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def kinds(notebook: NotebookNode) -> list[tuple[int, list[str]]]:
    """Per code cell, its number and the kinds of its outputs in order."""
    return [(number, [kind(one) for one in cell.outputs]) for number, cell in enumerate(code(notebook), start=1)]


def kind(output: NotebookNode) -> str:
    return output.name if output.output_type == "stream" else ", ".join(sorted(output.get("data", {"error": ""})))


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: NotebookNode) -> Iterator[str]:
    """What a cell's outputs say, pictures aside."""
    for one in cell.outputs:
        if one.output_type == "stream":
            yield one.text
        for kind, value in one.get("data", {}).items():
            if kind not in IMAGES:
                yield value if isinstance(value, str) else json.dumps(value)


def problems(notebook: NotebookNode) -> list[str]:
    """What is wrong with a committed notebook's outputs, in words."""
    found = []
    for number, cell in enumerate(code(notebook), start=1):
        if cell.execution_count != number:
            found.append(f"code cell {number} has execution count {cell.execution_count}: run all cells in order")
        if any(one.output_type == "error" for one in cell.outputs):
            found.append(f"code cell {number} ended in an error")
        if any(one.output_type == "stream" and one.name == "stderr" for one in cell.outputs):
            found.append(f"code cell {number} wrote to stderr")
        if paths := [match[0].strip() for text in texts(cell) if (match := ABSOLUTE.search(text))]:
            found.append(f"code cell {number} shows an absolute path, {paths[0]!r}")
        if "execution" in cell.metadata:
            found.append(f"code cell {number} has timestamps")
    if strange := sorted(notebook.metadata.keys() - {"kernelspec", "language_info", "widgets"}):
        found.append(f"metadata has {strange}")
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        found.append(f"kernelspec is not {KERNELSPEC}")
    if normalised(notebook) != notebook:
        found.append("it differs from run to run: write it by executed_notebooks.py, as said at the top of this file")
    return found


def unexplained(notebook: NotebookNode) -> list[str]:
    """Cells with a picture or widget that no text stands before or after."""
    found = []
    cells = notebook.cells
    for at, cell in enumerate(cells):
        shown = cell.cell_type == "code" and any(
            kind in (*IMAGES, VIEW) or (kind == "text/html" and "<img" in value)
            for one in cell.outputs
            for kind, value in one.get("data", {}).items()
        )
        if shown and not any(one.cell_type == "markdown" for one in cells[max(at - 1, 0) : at + 2]):
            found.append(f"cell {at + 1}: {cell.source[:60]!r}")
    return found


def headings(notebook: NotebookNode) -> list[str]:
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^#{1,6} .*", re.sub(r"(?ms)^```.*?^```$", "", text), re.M)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@each
def test_runs_and_gives_the_committed_kinds_of_output(file: Path, tmp_path: Path) -> None:
    committed = read(file)
    try:
        found = executed(committed, tmp_path)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        pytest.fail(f"{file.name}: {error}", pytrace=False)
    assert kinds(found) == kinds(committed)
    assert not problems(found)


@each
def test_committed_outputs_are_whole_and_clean(file: Path) -> None:
    notebook = read(file)
    validate(notebook)
    assert not problems(notebook)
    assert file.stat().st_size < LARGEST


@each
def test_reads_as_a_course(file: Path) -> None:
    notebook = read(file)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    found = headings(notebook)
    assert [line for line in found if line.startswith("# ")] == found[:1]
    assert [line.lstrip("# ") for line in found[-2:]] == ["Exercises", "Next"]
    assert not unexplained(notebook)


@each
def test_cell_ids_are_short_and_differ(file: Path) -> None:
    ids = [cell.id for cell in read(file).cells]
    assert len(set(ids)) == len(ids) and all(len(one) <= 24 for one in ids)


def test_the_failing_cell_is_shown(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell("fine = 1"), new_code_cell("fine / 0  # here")])
    with pytest.raises(CellExecutionError, match=r"(?s)fine / 0  # here.*ZeroDivisionError"):
        executed(notebook, tmp_path)


def test_a_run_starts_in_its_directory_on_one_thread_with_figures_inline(tmp_path: Path) -> None:
    source = (
        "import os\nprint(os.listdir(), os.environ['OMP_NUM_THREADS'])\nimport matplotlib.pyplot as plt\nplt.plot([1])"
    )
    (tmp_path / "mark").touch()
    found = executed(new_notebook(cells=[new_code_cell(source + ";\nplt.show()")]), tmp_path)
    assert "'mark'" in found.cells[0].outputs[0].text and found.cells[0].outputs[0].text.endswith(" 1\n")
    assert kinds(found) == [(1, ["stdout", "image/png, text/plain"])]


def test_a_run_has_what_the_plain_installation_has(tmp_path: Path) -> None:
    source = "import importlib.util\nprint([n for n in {names} if importlib.util.find_spec(n)])"
    names = ["noise_search", "torch", "pandas", "jinja2", "ipywidgets", "scipy", "pyarrow", "pytest", "openai"]
    found = executed(new_notebook(cells=[new_code_cell(source.format(names=names))]), tmp_path)
    assert found.cells[0].outputs[0].text == f"{names[:6]}\n"
    with pytest.raises(CellExecutionError, match="No module named 'pyarrow'"):
        executed(new_notebook(cells=[new_code_cell("import pyarrow")]), tmp_path)


def test_a_stream_written_in_pieces_is_one_output(tmp_path: Path) -> None:
    source = "import sys, time\nprint(1, flush=True)\ntime.sleep(1)\nprint(2)\nprint(3, file=sys.stderr)"
    found = executed(new_notebook(cells=[new_code_cell(source)]), tmp_path).cells[0].outputs
    assert [(one.name, one.text) for one in found] == [("stdout", "1\n2\n"), ("stderr", "3\n")]


def test_two_runs_write_the_same_widgets(tmp_path: Path) -> None:
    source = "import ipywidgets\nparts = [ipywidgets.IntText(n) for n in range(5)]\nipywidgets.IntSlider(3)"
    notebook = new_notebook(cells=[new_code_cell(source)])
    first, second = (executed(notebook, tmp_path) for _ in range(2))
    assert nbformat.writes(first) == nbformat.writes(second) and first == normalised(first)
    assert kinds(first) == [(1, [f"{VIEW}, text/plain"])]
    shown = first.cells[0].outputs[0].data[VIEW]["model_id"]
    assert first.metadata["widgets"][STATE]["state"][shown]["state"]["value"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"execution_count": 2}, "execution count 2"),
        ({"execution_count": None}, "execution count None"),
        ({"outputs": [new_output("error", ename="E", evalue="", traceback=[])]}, "ended in an error"),
        ({"outputs": [new_output("stream", name="stderr", text="warned")]}, "wrote to stderr"),
        ({"outputs": [new_output("stream", text="saved to /some/place/best.png")]}, "'/some/"),
        ({"outputs": [new_output("execute_result", {"text/plain": "Path('/some/place')"})]}, "absolute path"),
        ({"outputs": [new_output("stream", text="C:\\place")]}, "absolute path"),
        ({"metadata": {"execution": {"iopub.status.busy": "2020-01-01"}}}, "timestamps"),
    ],
)
def test_what_must_not_be_committed_is_found(change: dict, said: str) -> None:
    cell = new_code_cell("x", id="x", execution_count=1)
    clean = normalised(new_notebook(cells=[cell]))
    assert not problems(clean)
    clean.cells[0].update(change)
    assert any(said in one for one in problems(clean))


@pytest.mark.parametrize("text", ["score/NFE 3/4", "runs/first/best.png", "<b>a</b> / b", "https://example.org/a/b"])
def test_what_is_no_absolute_path(text: str) -> None:
    assert not ABSOLUTE.search(text)


def test_a_picture_without_a_word_is_found() -> None:
    picture = new_output("display_data", {"image/png": ""})
    cells = [new_code_cell("a", outputs=[picture]), new_code_cell("b"), new_markdown_cell("words")]
    assert len(unexplained(new_notebook(cells=cells))) == 1
    assert not unexplained(new_notebook(cells=cells[:1] + cells[2:]))
