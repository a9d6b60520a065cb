"""Recipes, schedules and tables in words, for people."""

import difflib
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from samplers.recipe import Operation, Recipe

_SEEDS_SHOWN = 4


def in_words(recipe: Recipe) -> str:
    """How a row was made, one step after another; equal moves in a row are told together.

    Of what has several parents the last mean or crossover is told, and the seeds of all noises that came into it.
    """
    operations = recipe.operations
    start = max((index + 1 for index, op in enumerate(operations) if "parents" in op), default=0)
    combined = [_combined(operations[:start])] if start else []
    groups = [list(same) for _, same in groupby(operations[start:], key=_kind)]
    return ", then ".join([*combined, *(_told(group) for group in groups)])


def prediction_in_words(told: Mapping[str, Any]) -> str:
    """What reaches a target, as a calibration has it; and once a search is over, whether it did."""
    nfe, chance = told["nfe"], f"with a chance of {told['chance']:.0%}"
    said = f"target {told['target_score']:g} takes more NFE {chance} than the calibration can tell"
    if nfe is not None:
        whole = counted(nfe // told["steps"], "whole trajectory")
        said = f"{nfe} NFE ({whole}) should reach target {told['target_score']:g} {chance}, as the calibration says"
    if "reached" not in told:
        return said
    taken = told["taken"]
    return f"reached by {taken} NFE; {said}" if told["reached"] else f"not reached; {said}"


def schedule_in_words(schedule: Mapping[str, Any]) -> str:
    """How a budget is shared: whole candidates, drafts and renders, or the noise levels at which rounds turn."""
    if schedule.keys() == {"steps", "draft_steps", "drafts", "renders"}:
        drafts, renders = schedule["drafts"], 1 + schedule["renders"]
        told = f"up to {counted(drafts, 'draft')} of {counted(schedule['draft_steps'], 'step')}"
        return f"{told}, {counted(renders, 'render')} of {schedule['steps']}"
    if schedule.keys() == {"paths", "start", "rounds"}:
        turns = [f"up to {turn['up']:g} and down to {turn['down']:g}" for turn in schedule["rounds"]]
        return ", ".join([f"{counted(schedule['paths'], 'path')} to noise level {schedule['start']:g}", *turns])
    if schedule.keys() == {"steps", "rungs", "rows"}:
        begun, *kept = schedule["rows"]
        going = zip(schedule["rungs"], kept, strict=True)
        looks = ", ".join(f"{rows} {'goes' if rows == 1 else 'go'} on after step {at}" for at, rows in going)
        return f"{counted(begun, 'noise')} begun, {looks or 'all finished'}, of {counted(schedule['steps'], 'step')}"
    if schedule.keys() == {"steps", "rungs", "begun", "finish", "moves"}:
        looks, children = " and ".join(map(str, schedule["rungs"])), f"children by {schedule['moves']}"
        told = f"{counted(schedule['begun'], 'noise')} begun, halved by looks after steps {looks}, then {children}"
        return f"{told}, {schedule['finish']} finished, of {counted(schedule['steps'], 'step')}"
    if schedule.keys() == {"variations", "of", "move", "start", "steps"}:
        told = f"{counted(schedule['variations'], 'variation')} of {counted(schedule['of'], 'picture')}"
        told += f" by {schedule['move']}" + f" after step {schedule['start']}" * bool(schedule["start"])
        return f"{told}, of {counted(schedule['steps'], 'step')}"
    if schedule.keys() == {"steps", "particles", "points", "transition"}:
        told = f"{counted(schedule['particles'], 'particle')} of {counted(schedule['steps'], 'step')}"
        if not schedule["points"]:
            return told
        return f"{told}, weighed after steps {', '.join(map(str, schedule['points']))}, by {schedule['transition']}"
    if schedule.keys() == {"steps", "points"}:
        nodes = ", ".join(map(str, schedule["points"]))
        return f"a tree with nodes after steps {nodes}, of {counted(schedule['steps'], 'step')}"
    if schedule.keys() == {"steps", "starts", "finished", "elites"}:
        generations = list(zip(schedule["starts"], schedule["finished"], strict=True))[1:]
        later = ", ".join(f"{rows} from step {start}" for start, rows in generations)
        told = f"{counted(schedule['finished'][0], 'noise')} finished" + f", then children: {later}" * bool(later)
        return f"{told}, of {counted(schedule['steps'], 'step')}"
    if schedule.keys() == {"candidates", "steps"}:
        return f"up to {counted(schedule['candidates'], 'candidate')} of {counted(schedule['steps'], 'step')}"
    return ", ".join(f"{name} {value}" for name, value in schedule.items())  # of an algorithm from elsewhere


def _kind(op: Operation) -> tuple[object, ...]:
    """What equal moves have in common: all but their seeds and parents."""
    own = tuple(sorted((k, repr(v)) for k, v in op.items() if k not in ("seed", "parent")))
    return own if op["op"] in ("neighbour", "pcn", "branch") else (*own, op.get("parent"))


def _told(group: list[Operation]) -> str:
    op, count = group[0], len(group)
    seeds = _seeds([o["seed"] for o in group if "seed" in o])
    if op["op"] == "fresh":
        return f"noise of {seeds}"
    if op["op"] == "neighbour":
        return f"{_times(count, 'neighbour')} at cosine {op['cosine']:g} ({seeds})"
    if op["op"] == "pcn":
        return f"{_times(count, 'Crank-Nicolson move')} with beta {op['beta']:g} ({seeds})"
    if op["op"] == "repair":
        return "spectrum repaired"
    if op["op"] == "branch":
        return f"{_times(count, 'new random stream')} ({seeds})"
    if op["op"] == "renoise":
        return f"re-noised from step {op['from']} to {op['to']} ({seeds})"
    fresh = f", rho {op['rho']:g}" if op.get("rho") not in (None, 1) else f", eta {op['eta']:g}" if "eta" in op else ""
    inner = f" by {counted(op['inner'], 'evaluation')} over {op.get('stride', op['inner'])}" if "inner" in op else ""
    return f"steps {op['from']} to {op['to']}{fresh}{inner}"


def _combined(operations: Sequence[Operation]) -> str:
    """The last of these, which derives from several."""
    *before, op = operations
    drawn = [one for one in before if one["op"] == "fresh"]
    sources = _seeds([one["seed"] for one in drawn])
    if moves := len(before) - len(drawn):
        sources = f"from {sources} by {counted(moves, 'move')}"
    noises = f"{counted(len(op.parents), 'noise')} ({sources})"
    if op["op"] == "mean":
        weights = op["weights"]
        uneven = f", weights {', '.join(f'{one:g}' for one in weights)}" if len(set(weights)) > 1 else ""
        return f"the mean of {noises}{uneven}"
    return f"a crossover of {noises} by {op['by']}, share {op['share']:g} (seed {op['seed']})"


def _times(count: int, what: str) -> str:
    return f"a {what}" if count == 1 else f"{count} {what}s in turn"


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    shown = [str(s) for s in seeds[:_SEEDS_SHOWN]]
    return f"seeds {', '.join(shown)}" + (f", ... {seeds[-1]}" if len(seeds) > _SEEDS_SHOWN else "")


def counted(count: int, what: str) -> str:
    """So many of something: "1 candidate", "2 candidates", "3 searches", "4 families"."""
    if count == 1:
        return f"1 {what}"
    ending = "ies" if what.endswith("y") else "es" if what.endswith("ch") else "s"
    return f"{count} {what.removesuffix('y')}{ending}"


def size_in_words(size: int) -> str:
    """So many bytes: "12 B", "1.5 kB", "20.0 MB"."""
    for unit, many in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= many:
            return f"{size / many:.1f} {unit}"
    return f"{size} B"


def columns() -> int:
    """Characters of a line in the terminal; where none shows what is written, as many as one likes."""
    return shutil.get_terminal_size((2**16, 24)).columns


def table(rows: Sequence[Sequence[str]], sides: str, named: int = 1) -> str:
    """Rows in columns, each to the left ("<") or to the right (">") as its letter in `sides` says.

    Columns that a terminal has no room for follow below, behind the first `named` ones again.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names, blocks = list(range(named)), list[list[int]]()
    for at in range(named, len(widths)):
        if not blocks or sum(2 + widths[i] for i in (*blocks[-1], at)) - 2 > columns():
            blocks.append([*names])
        blocks[-1].append(at)
    aligned = {"<": str.ljust, ">": str.rjust}
    return "\n\n".join(
        "\n".join("  ".join(aligned[sides[at]](row[at], widths[at]) for at in block).rstrip() for row in rows)
        for block in blocks
    )


def printable(text: str, longest: int | None = None) -> str:
    """The text without NUL and lone surrogates, which neither files nor terminals take, cut to a length."""
    shown = text if longest is None or len(text) <= longest else text[:longest] + "..."
    return shown.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def one_line(text: str, longest: int | None = None) -> str:
    """The printable text without line breaks, behind which a list of fields or a table goes on."""
    return printable(" ".join(text.split()), longest)


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """What people are told of scores by key: the verifier's name without version, where no two have the same."""
    names = {key: key.partition("@")[0] for key in dict.fromkeys(keys)}
    shared = [name for name, count in Counter(names.values()).items() if count > 1]
    return {key: key if name in shared else name for key, name in names.items()}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Of the names that there are, the one that looks most like a mistyped one; None where none does."""
    return next(iter(difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)), None)


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> ValueError:
    """The error for a name that doesn't exist: what was given, what there is, and the nearest match."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"; did you mean {near!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} Expected one of: {', '.join(names)}{more}".replace("' E", "'. E"))


def constraints(described: Mapping[str, Any]) -> dict[str, str]:
    """Key and name of each constraint in the description of an aggregator."""
    members = described.get("verifiers", ())
    return {f"{one['name']}@{one['version']}": str(one["name"]) for one in members if one["kind"] == "constraint"}


def violation(name: str, value: float) -> str:
    """One violation in words."""
    return f"constraint {name!r} is violated ({value:.4g}, and 0 passes)"


def violations(described: Mapping[str, Any], scores: Mapping[str, float]) -> list[str]:
    """Those of one image, given its raw scores by key."""
    return [violation(name, scores[key]) for key, name in constraints(described).items() if scores.get(key, 0.0) < 0]
