"""Records of a comparison in a directory: appended line by line, so that a run that is killed loses one task."""

import ast
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noise_search.algorithms import ALGORITHMS
from noise_search.comparison.cells import sharing
from noise_search.comparison.records import Pool, Record, from_json
from noise_search.disk.files import check_free, check_writable, plain, present
from noise_search.disk.journal import Journal
from noise_search.disk.run import RunFiles
from noise_search.results.record import model_differences
from samplers.contents import describe, is_told
from verifiers.code import UNTOLD

log = logging.getLogger(__name__)

RECORDS, SETTINGS = "records.jsonl", "settings.json"
FIGURES = ("score", "difference", "judge", "multiplier", "pareto", "grid")
SAVED = ("records.csv", "report.html", *(f"{figure}.{suffix}" for figure in FIGURES for suffix in ("png", "svg")))
"""What `Comparison.save()` writes."""


class Store:
    """Records in memory, and in a directory where there is one."""

    def __init__(self, directory: Path | None, *, writing: bool = False, overwrite: bool = False) -> None:
        """Read what the directory holds, which is made for `writing`.

        With `overwrite` it is taken for empty, and what a comparison wrote there is removed when settings are written.

        Raises:
            ValueError: it holds something else, can't be written to, or holds a record that can't be read.
        """
        self.directory = directory
        self.records: dict[tuple[Any, ...], Record] = {}
        self.pools: dict[tuple[str, int], Pool] = {}
        self._journal = None if directory is None else Journal(directory, RECORDS)
        self._stale: set[str] = set()
        if directory is not None and writing:
            check_directory(directory, overwrite)
            check_writable(directory)
        if directory is not None and overwrite:
            self._stale = files_of(directory)
        elif self._journal is not None:
            self._keep(self._journal.lines(from_json))

    def __contains__(self, one: Record | Pool) -> bool:
        """Whether there is a record of the same cell, or a pool of the same prompt and seed that is as large."""
        if isinstance(one, Record):
            return one.cell in self.records
        known = self.pools.get((one.prompt, one.seed))
        return known is not None and len(known) >= len(one)

    def add(self, found: Sequence[Record | Pool]) -> None:
        """Keep records, in one write; a later one replaces an earlier one of the same cell."""
        self._keep(found)
        if self._journal is not None:
            self._journal.append({"kind": type(one).__name__.lower(), **plain(one)} for one in found)

    def settings(self) -> dict[str, Any]:
        """What the directory was made with; empty where nothing was."""
        return {} if self._journal is None or self._stale else self._journal.settings()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """State what the records were made with."""
        if self._journal is None:
            return
        # By the settings a directory is known: they go last, and are replaced.
        for name in sorted(self._stale - {SETTINGS}):
            (self._journal.directory / name).unlink(missing_ok=True)
        self._stale = set()
        self._journal.write_settings(settings)

    def _keep(self, found: Iterable[Record | Pool]) -> None:
        for one in found:
            if isinstance(one, Record):
                self.records[one.cell] = one
                continue
            known = self.pools.get((one.prompt, one.seed))
            # Of another price: once, what drafts had chosen was taken for candidates. The later pool replaces it.
            if known is None or len(one) >= len(known) or one.nfe != known.nfe:
                self.pools[one.prompt, one.seed] = one


def check_directory(directory: Path, overwrite: bool = False, planned: Sequence[str] = ()) -> None:
    """Make sure that a comparison may begin in a directory, or go on there, without losing anything of anybody's.

    Args:
        directory: new, empty or a comparison's.
        overwrite: whether what a comparison wrote there may be removed.
        planned: files that will be written beside settings, records and images.

    Raises:
        ValueError: it holds something else, or a file in the place of a planned one.
    """
    ours = _without_images(directory)
    check_free(directory, (SETTINGS, RECORDS, *planned), ours, overwrite or bool(ours), "comparison")


def files_of(directory: Path) -> set[str]:
    """What a comparison wrote into a directory, as its settings and records say; nothing where none did."""
    found = _without_images(directory)
    try:
        records = Journal(directory, RECORDS).lines(from_json) if found else []
    except ValueError:
        records = []
    tasks = [one.relative_to(directory) for one in (directory / "tasks").glob("*.json")] if found else []
    runs = [
        f"{task.with_suffix('')}/{name}"
        for task in tasks
        for name in RunFiles(directory / task.with_suffix("")).names()
    ]
    images = [one.image for one in records if isinstance(one, Record) and one.image]
    return found | present(directory, [*images, *runs, *map(str, tasks)])


def _without_images(directory: Path) -> set[str]:
    try:
        settings = Journal(directory, RECORDS).settings()
    except ValueError:
        return set()
    return present(directory, [SETTINGS, RECORDS, *listed(settings)]) if is_comparison(settings) else set()


def is_comparison(settings: Mapping[str, Any]) -> bool:
    """Whether settings are a comparison's, and no other program's."""
    return isinstance(settings.get("algorithms"), Mapping) and isinstance(settings.get("model"), Mapping)


def listed(settings: Mapping[str, Any]) -> list[str]:
    """What was saved beside the records; a comparison of version 0.1.0's beginnings doesn't list it."""
    return list(settings.get("files", SAVED))


def claim(directory: Path, names: Sequence[str]) -> None:
    """List files in a directory's settings as ours, before they are written there.

    Raises:
        ValueError: one of them is somebody else's.
    """
    check_free(directory, names, _without_images(directory), True, "comparison")
    journal = Journal(directory, RECORDS)
    if known := journal.settings():
        before = present(directory, listed(known))
        journal.write_settings({**known, "files": sorted({*before, *names})})


def joined(store: Store, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a directory that grows: those of now, and algorithms, command and saved files of before."""
    known = store.settings()
    both = {name: {**known.get(name, {}), **made_with[name]} for name in ("algorithms", "own")}
    before = {"command": known["command"]} if "command" in known else {}
    saved = present(store.directory, listed(known)) if known and store.directory is not None else ()
    return {**before, **made_with, **both, "files": sorted(saved)}


def check_same(store: Store, made_with: Mapping[str, Any]) -> None:
    """Refuse to mix records that can't be compared; versions of libraries and devices may differ.

    Raises:
        ValueError: the directory was made with another model, verifier, judge, number of steps or algorithm.
    """
    known, here = store.settings(), plain(made_with)
    if not known or not store.records:
        return
    place = repr(str(store.directory))
    _check_model(place, known.get("model", {}), here["model"])
    _check_members(place, "verifier", known.get("verifier", {}), here["verifier"])
    _check_members(place, "judge", known.get("judges", {}), here["judges"])
    for name in ("steps", "verifier", "drafts", "sources", "calibration", "share", "prior"):
        before, now = known.get(name), here.get(name)
        if before != now:
            raise ValueError(
                f"{place} was made with another {name}: {_shown(before)}; here it is {_shown(now)}: "
                "use another directory, or the same settings"
            )
    run = {one.algorithm for one in store.records.values()}
    for name, settings in known.get("algorithms", {}).items():
        if name in run and not _same_algorithm(settings, here["algorithms"].get(name, settings)):
            raise ValueError(
                f"{place} has {name!r} as {settings}; here it is {here['algorithms'][name]}: give it another label"
            )
    for what in ("ensemble", *(f"algorithm {name!r}" for name in run & here["algorithms"].keys())):
        versions = known.get("own", {}).get(what), here["own"].get(what)
        if versions != (None, None):
            _check_version(place, what, *versions)


def _same_algorithm(before: str, here: str) -> bool:
    """Whether two algorithms are the same; a field that isn't recorded, as it is newer, may have its default."""
    old, new = _fields(before), _fields(here)
    if before == here or old is None or new is None or old[0] != new[0]:
        return before == here
    kind = next((one for one in ALGORITHMS.values() if one.__name__ == new[0]), None)
    default = _fields(repr(kind())) if kind else None
    return default is not None and old[1].keys() <= new[1].keys() and {**default[1], **old[1]} == new[1]


def _fields(text: str) -> tuple[str, dict[str, str]] | None:
    """Name and fields of what `repr` says of a dataclass; None for anything else. Nothing is executed."""
    try:
        made = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name) or made.args:
        return None
    return made.func.id, {str(one.arg): ast.unparse(one.value) for one in made.keywords}


def _check_version(place: str, what: str, before: str | None, here: str | None) -> None:
    """Refuse an object of the user's own that isn't known to be the one that the records were made with."""
    declare = "give it an attribute `version`, and another one with every change"
    if here and here.startswith(UNTOLD):
        raise ValueError(
            f"{place} can't go on with {what}, as nothing tells whether it is the one of its records "
            f"({here.removeprefix(UNTOLD).lstrip(': ')}): {declare}, or use another directory"
        )
    if before != here:
        raise ValueError(
            f"{place} has {what} in version {before or 'unknown'}, which is {here or 'unknown'} here: give it another "
            f"label, or use another directory{_of_another_python(before, here)}"
        )


def _of_another_python(before: str | None, here: str | None) -> str:
    """That hashes of code differ between versions of Python, where they may differ for no other reason."""
    pythons = [str(one).rpartition("-py")[2] for one in (before, here) if "-py" in str(one)]
    return "; code can't be compared between versions of Python, a declared `version` can" * (len({*pythons}) > 1)


def check_noises(store: Store, seeds: Sequence[int], drawn: int, steps: int) -> None:
    """Refuse seeds whose searches share noises with searches of another seed that are there already.

    Args:
        store: what is there.
        seeds: asked for.
        drawn: noises that a search draws from each.
        steps: NFE for each noise at least, those of a draft where trajectories are drafted.

    Raises:
        ValueError: they share noises.
    """
    there = [(one.seed, one.budget // steps) for one in store.records.values()]
    counts: dict[int, int] = {}
    for seed, count in [*there, *((seed, drawn) for seed in seeds)]:
        counts[seed] = max(counts.get(seed, 0), count)
    if shared := sharing(counts):
        low, high = shared
        raise ValueError(
            f"seeds {low} and {high} share noises, as a search draws {counts[low]} from {low}; "
            f"{str(store.directory)!r} has searches of seeds {', '.join(map(str, sorted(dict(there))))}: use seeds "
            "further from them, or another directory"
        )


def _check_model(place: str, before: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differences = model_differences(before, here)
    if "changes" not in before and here.get("changes"):
        said = ", ".join(f"{what} ({how})" for what, how in here["changes"].items())
        differences.append(f"{said} here, and it wasn't recorded then whether that was so")
    for name, value in here.get("options", {}).items():
        if not is_told(value):
            differences.append(f"of option {name} nothing tells whether it is the same: it is {describe(value)}")
    if before.get("dtype") != here.get("dtype"):
        differences.append(f"dtype is {here.get('dtype')} here, {before.get('dtype')} recorded")
    if differences:
        raise ValueError(
            f"{place} was made with another model: {'; '.join(differences)}: use another directory, or the same model"
        )
    if before.get("device") != here.get("device"):
        log.warning("the comparison goes on on %s, from %s: their seconds differ", here["device"], before["device"])


def _check_members(place: str, kind: str, before: Any, here: Any) -> None:
    """Say in words which verifiers or judges are more, fewer or others than those of the records."""
    old, new = _versions(before), _versions(here)
    for name in old.keys() & new.keys():
        if UNTOLD in new[name]:
            _check_version(place, f"{kind} {name!r}", old[name], f"{UNTOLD}: {_why_untold(here, name)}")
    more, fewer = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    if more and not fewer and kind == "judge":
        it = "it" if len(more) == 1 else "them"
        raise ValueError(
            f"{place} was made without {_named(kind, more)}, whose scores its records lack: use another directory for "
            f"a comparison with {it}, or leave {it} out"
        )
    differences = [f"without {_named(kind, more)}"] * bool(more) + [f"with {_named(kind, fewer)}"] * bool(fewer)
    differences += [
        f"with {kind} {name!r} in version {version}, which is {new[name]} here{_of_another_python(version, new[name])}"
        for name, version in old.items()
        if new.get(name, version) != version
    ]
    if differences:
        raise ValueError(
            f"{place} was made with another {kind}: {', '.join(differences)}: use another directory, or the same ones"
        )


def _versions(described: Any) -> dict[str, str]:
    """Versions by name, of a verifier or an ensemble, or of the judges."""
    versions: dict[str, set[str]] = {}
    for one in _listed(described):
        versions.setdefault(str(one.get("name")), set()).add(str(one.get("version")))
    return {name: ", ".join(sorted(some)) for name, some in versions.items()}


def _why_untold(described: Any, name: str) -> str:
    return next((str(one["untold"]) for one in _listed(described) if one.get("name") == name and "untold" in one), "")


def _listed(described: Any) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = described.get("verifiers", []) if isinstance(described, Mapping) else described
    return found


def _named(kind: str, names: Sequence[str]) -> str:
    return f"{kind}{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _shown(value: Any) -> str:
    return json.dumps(value)[:200]
