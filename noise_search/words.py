"""A recipe in words, for people."""

from itertools import groupby

from samplers.recipe import Operation, Recipe

_SEEDS_SHOWN = 4


def in_words(recipe: Recipe) -> str:
    """How a row was made, one step after another; equal moves in a row are told together."""
    groups = [list(same) for _, same in groupby(recipe.operations, key=_kind)]
    return ", then ".join(_told(group) for group in groups)


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
    if op["op"] == "branch":
        return f"{_times(count, 'new random stream')} ({seeds})"
    if op["op"] == "renoise":
        return f"re-noised from step {op['from']} to {op['to']} ({seeds})"
    fresh = f", rho {op['rho']:g}" if op.get("rho") not in (None, 1) else f", eta {op['eta']:g}" if "eta" in op else ""
    return f"steps {op['from']} to {op['to']}{fresh}"


def _times(count: int, what: str) -> str:
    return f"a {what}" if count == 1 else f"{count} {what}s in turn"


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    shown = [str(s) for s in seeds[:_SEEDS_SHOWN]]
    return f"seeds {', '.join(shown)}" + (f", ... {seeds[-1]}" if len(seeds) > _SEEDS_SHOWN else "")
