"""What the site is made of: pages from all over the repository, notebooks, and the files that they link to.

Paths stay those of the repository, so that a link that works there works here, and `mkdocs build --strict` finds those
that don't.
"""

import base64
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "docs/*.md", "docs/reference/*.md", "verifiers/README.md", "notebooks/README.md")
CARDS = ("noise_search/shapes/weights/README.md",)
NOTEBOOKS = "notebooks/*.ipynb"
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
_PICTURES = {"image/png": "png", "image/jpeg": "jpg"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and ours in place of those of one folder."""
    ours = {Path(file).relative_to(ROOT).as_posix() for page in (*PAGES, *CARDS) for file in ROOT.glob(page)}
    made = [File.generated(config, page, abs_src_path=str(ROOT / page)) for page in sorted(ours)]
    for notebook in sorted(ROOT.glob(NOTEBOOKS)):
        made += [File.generated(config, name, content=content) for name, content in _rendered(notebook).items()]
    there = {file.src_uri for file in made}
    linked = {name for file in made if file.is_documentation_page() for name in _linked(file)} - there
    made += [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in sorted(linked)]
    made.append(File.generated(config, "site/site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    return Files([*(file for file in files if not _in_docs(file)), *made])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks are links to their pages here."""
    return re.sub(r"(\]\([\w./-]+)\.ipynb([)#])", r"\1.md\2", markdown)


def _in_docs(file: File) -> bool:
    return file.src_dir is not None and Path(file.src_dir).resolve() == ROOT / "docs"


def _linked(page: File) -> Iterator[str]:
    """Files of the repository that a page links to, pictures among them."""
    for link in _LINK.findall(page.content_string):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), link))
        if not name.endswith((".md", ".ipynb")) and (ROOT / name).is_file():
            yield name


def _rendered(notebook: Path) -> dict[str, str | bytes]:
    """A notebook's page, and its pictures."""
    name = notebook.relative_to(ROOT).with_suffix("").as_posix()
    parts, pictures = [], {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            shown = next((kind for kind in _PICTURES if kind in data), None)
            if shown is not None:
                file = f"{name}-{len(pictures) + 1}.{_PICTURES[shown]}"
                pictures[file] = base64.b64decode("".join(data[shown]))
                parts.append(f"![What the cell above shows]({posixpath.basename(file)})")
            elif "text/html" in data:
                html = "".join(data["text/html"])
                parts.append(f'<div class="output">{html}</div>')
            elif text := "".join(data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return {f"{name}.md": "\n\n".join(parts) + "\n", **pictures}
