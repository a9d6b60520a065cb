"""`load()`: what a run directory holds, as a result: of a search that ended, was killed, or still runs."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise_search.disk.lease import holder
from noise_search.disk.run import RunFiles
from noise_search.engine.driver import search
from noise_search.engine.manifest import call_again
from noise_search.engine.pool import Pool
from noise_search.engine.recorded import bare_space
from noise_search.engine.run import Told, book, read_picture, read_scores
from noise_search.results.candidate import Candidate
from noise_search.results.data import BEYOND
from noise_search.results.ledger import Ledger
from noise_search.results.result import SearchResult
from samplers.recipe import Recipe
from verifiers.aggregators.base import Aggregator
from verifiers.aggregators.ranks import ENSEMBLES, Single
from verifiers.base import Verifier


def load(run: str | Path, *, aggregator: Aggregator | None = None) -> SearchResult | list[SearchResult]:
    """Read a run directory back, without its model: a list of results where the search had several prompts.

    A search that was killed, or still runs, gives what it has journalled so far; one that was read back goes on by its
    `resume()`. Reading changes nothing.

    Args:
        run: the directory, as `search(run=...)` or the command's `--out` had it.
        aggregator: of searches by one of your own, which can't be read back.

    Raises:
        ValueError: no search began there, its manifest is damaged, it is of a newer version, or it was searched by an
            aggregator of your own.

    Example:
        result = noise_search.load("runs/0001")
        result = result.resume(nfe=2 * result.ledger.nfe_budget)
    """
    files = RunFiles(Path(run))
    manifest = files.manifest()
    if not manifest:
        raise ValueError(f"{str(run)!r} is no run directory (it has no run.json); expected one that search(run=) wrote")
    lines = files.lines()
    try:
        ranked = _aggregator(manifest["settings"]["verifier"]) if aggregator is None else aggregator
        told = Told.read(lines, len(manifest["prompts"]))
        found = [_result(at, manifest, lines, one, ranked, files) for at, one in enumerate(told)]
    except (
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
    ) as error:  # whoever wrote that, no search did
        raise ValueError(f"{str(run)!r} holds what no search wrote ({type(error).__name__}: {error})") from error
    return found[0] if manifest["single"] else found


def state_of(run: Path) -> str:
    """How far a run has come, in a word or two: "running", "complete", "interrupted", "failed" or "killed"."""
    if holder(run) is not None:
        return "running"
    lines = RunFiles(run).lines()
    last = lines[-1] if lines else {}
    if last.get("kind") != "end":
        return "killed"
    if last["complete"]:
        return "complete"
    return "interrupted" if "interrupted" in last["reasons"] else "failed"


class _Recorded(Verifier):
    """A verifier of which only what its scores are called by is known."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name, self.version, self.kind = described["name"], described["version"], described["kind"]
        self._described = dict(described)

    def score(self, images: Tensor, prompts: Sequence[str], **needs: Any) -> Tensor:
        return torch.full((len(images),), math.nan)

    def describe(self) -> dict[str, Any]:
        return self._described


def _aggregator(described: Mapping[str, Any]) -> Aggregator:
    members = described.get("verifiers", [described])
    verifiers = [_Recorded(one) for one in members]
    name = str(described["name"]).partition("(")[0]
    if name in ENSEMBLES:
        kind = type(ENSEMBLES[name](*verifiers))
        more = {key: described[key] for key in ("reference", "freeze_after") if described.get(key) is not None}
        return kind(*verifiers, **more)
    scores = [one for one in verifiers if one.kind == "score"]
    if len(scores) == 1:
        return Single(*scores, *(one for one in verifiers if one.kind == "constraint"))
    raise ValueError(f"the run was ranked by {described['name']!r}, which isn't one of ours: load(run, aggregator=...)")


def _result(
    at: int,
    manifest: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    told: Told,
    aggregator: Aggregator,
    files: RunFiles,
) -> SearchResult:
    rows = {str(one["key"]): one for one in lines if "key" in one and one.get("kind") != "judge"}
    judged: dict[str, dict[str, float]] = {}
    for one in lines:
        if one.get("kind") == "judge":
            judged.setdefault(str(one["key"]), {})[one["judge"]] = one["score"]
    end = lines[-1] if lines and lines[-1].get("kind") == "end" else None
    settings, seed = manifest["settings"], int(manifest["seeds"][at])
    pool = Pool(bare_space(1), aggregator, manifest["top_k"])
    spent, beyond = 0, [(first, last, f"{BEYOND} ({why})") for why, first, last in told.limits]
    refer = set(told.refer)
    for index, name in sorted(told.rows.items()):
        line = rows.get(name)
        if line is None:  # damaged: it is made again where the search goes on
            continue
        why = next((said for first, last, said in beyond if first <= index < last), None)
        spent += 0 if why else line["nfe"]
        if line["scored"]:
            candidate = _candidate(index, line, spent, why)
            candidate.judges = judged.get(name, {})
            if why:
                pool.candidates.append(candidate)
            else:
                pool.remember(candidate, candidate.finished and candidate.seed == seed % 2**32)
        refer.discard(index)
        if told.refer and not refer:
            known = [rows[told.rows[i]] for i in told.refer if told.rows.get(i) in rows]
            pool.refer(_components(known, aggregator))
            refer = {-1}
    pool.settle()
    for candidate in pool.shown:
        raw, x0 = read_picture(files, rows[told.rows[candidate.id]])
        candidate.keep(raw, x0)
    ledger = _ledger(at, manifest, lines, spent, end)
    return SearchResult(
        prompt=manifest["prompts"][at],
        candidates=tuple(pool.candidates),
        bests=tuple(pool.bests),
        bests_nfe=tuple(pool.bests_nfe),
        ledger=ledger,
        stop_reason=end["reasons"][at] if end else "it was killed, or still runs",
        settings={
            **settings,
            **(end["settings"] if end else {}),
            "seed": seed,
            "verifier": pool.aggregator.describe(),
        },
        absolute=pool.aggregator.absolute,
        run=files.directory,
        again=functools.partial(_again, files.directory, manifest),
    )


def _again(directory: Path, manifest: Mapping[str, Any], **given: Any) -> Any:
    """Go on with a run that was read back."""
    if "nfe" not in given and "candidates" not in given:
        given["nfe"] = manifest["nfe"]
    prompts = manifest["prompts"]
    asked: Any = prompts[0] if manifest["single"] else prompts
    return search(asked, **call_again(directory, manifest, given))


def _components(lines: Sequence[Mapping[str, Any]], aggregator: Aggregator) -> dict[str, Any]:
    rows = [{} if one["failure"] else read_scores(one["scores"]) for one in lines]
    return {one.key: np.array([row.get(one.key, math.nan) for row in rows]) for one in aggregator.verifiers}


def _candidate(index: int, line: Mapping[str, Any], spent: int, why: str | None) -> Candidate:
    return Candidate(
        id=index,
        recipe=Recipe.from_json(line["recipe"]),
        step=line["step"],
        finished=line["finished"],
        draft=line["draft"],
        nfe=spent,
        scores=read_scores(line["scores"]),
        looks={int(point): read_scores(scores) for point, scores in line.get("looks", {}).items()},
        failure=why or line["failure"],
    )


def _ledger(
    at: int, manifest: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], spent: int, end: Mapping[str, Any] | None
) -> Ledger:
    if end is not None:
        told = dict(end["ledgers"][at])
        seconds = told.pop("seconds")
        ledger = Ledger(**told)
        ledger.seconds.update(seconds)
        return ledger
    ledger = Ledger(nfe_budget=manifest["nfe"], nfe=spent)
    for line in lines:
        book(ledger, line.get("cost", {}).get(str(at), {}))
    return ledger
