"""Records of a comparison in a directory: appended line by line, so that a run that is killed loses one task."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noise_search.comparison.cells import sharing
from noise_search.comparison.records import Pool, Record, from_json
from noise_search.disk.files import check_writable, plain
from noise_search.disk.journal import Journal
from noise_search.results.record import model_differences

log = logging.getLogger(__name__)


class Store:
    """Records in memory, and in a directory where there is one."""

    def __init__(self, directory: Path | None, *, writing: bool = False) -> None:
        """Read what the directory holds, which is made for `writing`.

        Raises:
            ValueError: it can't be written to, or holds a record that can't be read.
        """
        self.directory = directory
        self.records: dict[tuple[Any, ...], Record] = {}
        self.pools: dict[tuple[str, int], Pool] = {}
        self._journal = None if directory is None else Journal(directory, "records.jsonl")
        if directory is not None and writing:
            check_writable(directory)
        if self._journal is not None:
            self._keep(self._journal.lines(from_json))

    def add(self, found: Sequence[Record | Pool]) -> None:
        """Keep records, in one write; a later one replaces an earlier one of the same cell."""
        self._keep(found)
        if self._journal is not None:
            self._journal.append({"kind": type(one).__name__.lower(), **plain(one)} for one in found)

    def settings(self) -> dict[str, Any]:
        """What the directory was made with; empty where nothing was."""
        return {} if self._journal is None else self._journal.settings()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """State what the records were made with."""
        if self._journal is not None:
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


def joined(store: Store, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a directory that grows: those of now, and algorithms and command of before."""
    known = store.settings()
    algorithms = {**known.get("algorithms", {}), **made_with["algorithms"]}
    before = {"command": known["command"]} if "command" in known else {}
    return {**before, **made_with, "algorithms": algorithms}


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
    for name in ("steps", "verifier", "drafts"):
        if known.get(name) != here[name]:
            raise ValueError(
                f"{place} was made with another {name}: {_shown(known.get(name))}; here it is {_shown(here[name])}: "
                "use another directory, or the same settings"
            )
    run = {one.algorithm for one in store.records.values()}
    for name, settings in known.get("algorithms", {}).items():
        if name in run and here["algorithms"].get(name, settings) != settings:
            raise ValueError(
                f"{place} has {name!r} as {settings}; here it is {here['algorithms'][name]}: give it another label"
            )


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
    more, fewer = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    if more and not fewer and kind == "judge":
        it = "it" if len(more) == 1 else "them"
        raise ValueError(
            f"{place} was made without {_named(kind, more)}, whose scores its records lack: use another directory for "
            f"a comparison with {it}, or leave {it} out"
        )
    differences = [f"without {_named(kind, more)}"] * bool(more) + [f"with {_named(kind, fewer)}"] * bool(fewer)
    differences += [
        f"with {kind} {name!r} in version {version}, which is {new[name]} here"
        for name, version in old.items()
        if new.get(name, version) != version
    ]
    if differences:
        raise ValueError(
            f"{place} was made with another {kind}: {', '.join(differences)}: use another directory, or the same ones"
        )


def _versions(described: Any) -> dict[str, str]:
    """Versions by name, of a verifier or an ensemble, or of the judges."""
    listed = described.get("verifiers", []) if isinstance(described, Mapping) else described
    versions: dict[str, set[str]] = {}
    for one in listed:
        versions.setdefault(str(one.get("name")), set()).add(str(one.get("version")))
    return {name: ", ".join(sorted(some)) for name, some in versions.items()}


def _named(kind: str, names: Sequence[str]) -> str:
    return f"{kind}{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _shown(value: Any) -> str:
    return json.dumps(value)[:200]
