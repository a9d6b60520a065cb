"""Execute notebooks as their readers do, each in a kernel of its own, and write what is the same in every run.

As a program it refreshes the committed outputs, of all notebooks or of those named:

    python tests/notebooks/executed_notebooks.py [notebooks/01-quickstart.ipynb ...]
"""

import argparse
import asyncio
import contextlib
import copy
import functools
import os
import re
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DIRECTORY = Path(__file__).parents[2] / "notebooks"
SECONDS_PER_CELL = 300
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
JUPYTER = ("ipykernel", "ipywidgets")
"""What notebooks/README.md adds to the README's installation, as far as kernels see it."""
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Plain(PathFinder):
    @classmethod
    def find_spec(cls, name, *where):
        return None if name.partition(".")[0] in {absent} else PathFinder.find_spec(name, *where)

sys.meta_path[sys.meta_path.index(PathFinder)] = Plain
"""


def read(file: Path) -> NotebookNode:
    """The notebook in a file."""
    return nbformat.read(file, as_version=4)


def executed(notebook: NotebookNode, directory: Path) -> NotebookNode:
    """A copy of the notebook, executed in a directory: one thread, no network, nothing of the user's settings.

    What the plain installation lacks isn't there, whatever is installed here.

    Raises:
        CellExecutionError: a cell failed; the message shows it.
    """
    found = copy.deepcopy(notebook)
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    own["IPYTHONDIR"] = str(directory / ".ipython")
    startup = directory / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "plain.py").write_text(WITHOUT.format(absent=sorted(absent())), encoding="utf-8")
    # A kernel chooses the backend that shows figures itself, unless one is set.
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | own
    client = NotebookClient(
        found,
        kernel_name="python3",
        timeout=SECONDS_PER_CELL,
        record_timing=False,
        resources={"metadata": {"path": str(directory)}},
    )
    asyncio.run(client.async_execute(env=env))
    return normalised(found)


@functools.cache
def absent() -> frozenset[str]:
    """Modules that are installed here, but neither by the README's installation nor by the notebooks' Jupyter."""
    project = tomllib.loads((DIRECTORY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    present, found = set[tuple[str, str]](), [(one, "") for one in (*project["dependencies"], *JUPYTER)]
    while found:
        text, extra = found.pop()
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
            continue
        for chosen in {"", *needed.extras}:
            name = canonicalize_name(needed.name)
            if (name, chosen) not in present:
                present.add((name, chosen))
                with contextlib.suppress(metadata.PackageNotFoundError):  # of another platform
                    found += [(one, chosen) for one in metadata.requires(name) or ()]
    names = {name for name, _ in present} | {canonicalize_name(project["name"])}
    modules = metadata.packages_distributions()
    return frozenset(m for m, of in modules.items() if names.isdisjoint(map(canonicalize_name, of)))


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs between two equal executions or from machine to machine."""
    found = copy.deepcopy(notebook)
    state = found.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    names = {name: f"{number:032x}" for number, name in enumerate(state)}
    metadata: dict[str, Any] = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    if state:
        metadata["widgets"] = found.metadata["widgets"]
    found.metadata = NotebookNode(metadata)
    for cell in found.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    text = nbformat.writes(found)
    if names:
        text = re.sub("|".join(names), lambda match: names[match[0]], text)
    return nbformat.reads(nbformat.writes(nbformat.reads(text, as_version=4)), as_version=4)  # in the new names' order


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with what a stream wrote in several pieces as one, since how many depends on the clock."""
    found: list[NotebookNode] = []
    for one in outputs:
        if found and one.output_type == found[-1].output_type == "stream" and one.name == found[-1].name:
            found[-1] = NotebookNode({**found[-1], "text": found[-1].text + one.text})
        else:
            found.append(one)
    return found


def refresh(file: Path) -> float:
    """Execute a notebook, write its outputs into the file, and return how many seconds it took."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        found = executed(read(file), Path(directory))
    nbformat.write(found, file)
    return time.perf_counter() - started


def main() -> None:
    """Refresh notebooks."""
    parser = argparse.ArgumentParser(description="Execute notebooks and write their outputs into them.")
    parser.add_argument("files", nargs="*", type=Path, help="all of notebooks/ when none is named")
    for file in parser.parse_args().files or sorted(DIRECTORY.glob("*.ipynb")):
        print(f"{file.name}: {refresh(file):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
