"""Prompt sets that papers evaluate on: where each is, at which commit, and how it arrives here.

Nothing of them is shipped. Each file is a few hundred kilobytes at most and is fetched once: those on the Hugging Face
hub into its cache, those on GitHub into `noise-search/prompt-sets` beside it. HF_HUB_OFFLINE holds for both.
"""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from noise_search.disk.files import write_atomically
from verifiers.loading.hub import reachable, why

GITHUB = "https://raw.githubusercontent.com"
SECONDS = 30
"""Longest wait for an answer from GitHub."""


class PromptsUnavailable(RuntimeError):
    """A published set that is neither here nor reachable; the message says what to download and how to pass it."""


@dataclass(frozen=True)
class PublishedSet:
    """Where a prompt set is.

    Attributes:
        title: as its paper writes it.
        host: "hub" for a dataset of the Hugging Face hub, "github" for a repository there.
        repository: owner and name.
        revision: commit at which its files are read.
        files: the path of each file in the repository, and the family of its prompts; "" where rows have their own.
        count: prompts that it should have.
        about: what its families are, and the paper.
    """

    title: str
    host: str
    repository: str
    revision: str
    files: Mapping[str, str]
    count: int
    about: str

    def address(self, path: str, revision: str | None = None) -> str:
        """From where a browser downloads a file, at the pinned commit unless another is given."""
        at = revision or self.revision
        if self.host == "hub":
            return f"https://huggingface.co/datasets/{self.repository}/resolve/{at}/{quote(path)}"
        return f"{GITHUB}/{self.repository}/{at}/{quote(path)}"


PUBLISHED: Mapping[str, PublishedSet] = {
    "drawbench": PublishedSet(
        title="DrawBench",
        host="hub",
        repository="sayakpaul/drawbench",
        revision="ad794cba698c253ffdb6d18eff3fc87b004c1135",
        files={"DrawBench Prompts - Sheet1.csv": ""},
        count=200,
        about="11 categories (Saharia et al. 2022, arXiv 2205.11487)",
    ),
    "partiprompts": PublishedSet(
        title="PartiPrompts",
        host="hub",
        repository="nateraw/parti-prompts",
        revision="944b156abfdad7627c3221b5ec4f6a6fb060a197",
        files={"PartiPrompts.tsv": ""},
        count=1632,
        about="12 categories; Challenge and Note are further columns (Yu et al. 2022, arXiv 2206.10789)",
    ),
    "geneval": PublishedSet(
        title="GenEval",
        host="github",
        repository="djghosh13/geneval",
        revision="af4902f24d3ca90ebbb446dd9891a59e0f82725f",
        files={"prompts/evaluation_metadata.jsonl": ""},
        count=553,
        about="6 tasks by tag; include and exclude are further columns, as JSON (Ghosh et al. 2023, arXiv 2310.11513)",
    ),
    "t2i-compbench": PublishedSet(
        title="T2I-CompBench",
        host="github",
        repository="Karine-Huang/T2I-CompBench",
        revision="4aa404212eb5d06e5adbcd9cee696c750d0d25a5",
        files={
            f"examples/dataset/{family}_val.txt": family
            for family in ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
        },
        count=2400,
        about="the validation prompts, 300 of each of 8 categories (Huang et al. 2023, arXiv 2307.06350)",
    ),
    "hpdv2": PublishedSet(
        title="HPDv2",
        host="hub",
        repository="ymhao/HPDv2",
        revision="fd163b223b6faf112eccafeabe2e31a0e950f177",
        files={f"benchmark/{style}.json": style for style in ("anime", "concept-art", "paintings", "photo")},
        count=3200,
        about="the benchmark, 800 prompts of each of 4 styles (Wu et al. 2023, arXiv 2306.09341)",
    ),
    "pick-a-pic": PublishedSet(
        title="Pick-a-Pic",
        host="hub",
        # A copy of the prompts alone: the authors' own repositories hold images beside them, as parquet.
        repository="Jialuo21/pickapic-test",
        revision="c45a875adf0fe5f2896e46bbef2124f4953dcaa6",
        files={"test.jsonl": ""},
        count=500,
        about="the test_unique prompts of version 1, without categories (Kirstain et al. 2023, arXiv 2305.01569)",
    ),
}
"""Sets by the names that `load` knows."""


def family_of(file: Path) -> str:
    """The family that all prompts of a published file with this name have; "" for other files."""
    families = {Path(path).name: family for one in PUBLISHED.values() for path, family in one.files.items()}
    return families.get(file.name, "")


def fetch(name: str, revision: str | None = None) -> dict[Path, str]:
    """The files of a published set, from their cache or downloaded, each with its family.

    Raises:
        PromptsUnavailable: one of them is neither here nor reachable.
    """
    one = PUBLISHED[name]
    at = revision or one.revision
    found = {}
    for path, family in one.files.items():
        try:
            found[_fetched(one, path, at)] = family
        except Exception as error:  # network, hub and file system errors share no base class
            where = "hub dataset" if one.host == "hub" else "GitHub repository"
            raise PromptsUnavailable(
                f"could not get {path!r} of the {where} {one.repository} at {at[:8]} for {one.title} "
                f"({why(error)}); check the network, or download {one.address(path, at)} "
                f"elsewhere and pass load({name!r}, path=...) with the file or its directory"
            ) from error
    return found


def local(name: str, path: Path) -> dict[Path, str]:
    """A user's own copy of a published set: its one file, or the directory that holds its files.

    Raises:
        FileNotFoundError: the directory lacks one of them.
    """
    one = PUBLISHED[name]
    if not path.is_dir():
        return {path: family_of(path)}
    found = {}
    for wanted, family in one.files.items():
        here = next((place for place in (path / wanted, path / Path(wanted).name) if place.is_file()), None)
        if here is None:
            raise FileNotFoundError(
                f"path={str(path)!r} has no {Path(wanted).name!r}, a file of {one.title}; "
                f"get it from {one.address(wanted)}"
            )
        found[here] = family
    return found


def _fetched(one: PublishedSet, path: str, revision: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    if one.host == "hub":
        known_only = not reachable()
        return Path(
            hf_hub_download(one.repository, path, repo_type="dataset", revision=revision, local_files_only=known_only)
        )
    target = Path(constants.HF_HOME) / "noise-search" / "prompt-sets" / one.repository / revision / path
    if target.is_file():
        return target
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    with urllib.request.urlopen(one.address(path, revision), timeout=SECONDS) as answer:
        content: bytes = answer.read()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)
    return target
