"""Which candidate goes on from which, read from their recipes: what a search kept, ended and branched on the way."""

from collections.abc import Sequence
from typing import Any

from noise_search.results.candidate import Candidate
from samplers.recipe import Recipe
from samplers.transition import recorded_in


def parents(candidates: Sequence[Candidate]) -> dict[int, int | None]:
    """By id, the scored candidate of an earlier grid point that each goes on from; None where it began by itself.

    It is the latest through which its trajectory passed, and of those that were the same there the first.
    """
    known: dict[tuple[Any, ...], list[Candidate]] = {}
    for one in candidates:
        known.setdefault(walk(one.recipe), []).append(one)
    return {one.id: _parent(one, known) for one in candidates}


def _parent(candidate: Candidate, known: dict[tuple[Any, ...], list[Candidate]]) -> int | None:
    for recipe in candidate.recipe.beginnings():
        if recipe.last["op"] not in ("run", "branch"):
            return None
        earlier = [one for one in known.get(walk(recipe), ()) if _passes(recipe, one)]
        earlier = [one for one in earlier if one.step < candidate.step and not one.draft]
        if earlier:
            return min(earlier, key=lambda one: (-one.step, one.id)).id
    return None


def walk(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes have in common that end in the same walk, wherever they stop on it."""
    if recipe.last["op"] != "run" or recipe.before is None:
        return (recipe.key,)
    how = {name: value for name, value in recipe.last.items() if name not in ("parent", "to")}
    return (recipe.before.key, *sorted(how.items(), key=lambda item: item[0]))


def _passes(recipe: Recipe, other: Candidate) -> bool:
    """Whether a walk leads through where another one on it stopped: not within a transition."""
    if recipe.last["op"] != "run":
        return True
    end, stopped = int(recipe.last["to"]), int(other.recipe.last["to"])
    between = (stopped - int(recipe.last["from"])) % recorded_in(recipe.last).reach == 0
    return stopped == end or (stopped < end and between)


def lineages(candidates: Sequence[Candidate]) -> dict[int, int]:
    """By grid point, how many first noises the candidates there descend from: 1 where the search has collapsed.

    A row that was finished from further back than the others, as noise 0 is in the end, isn't counted.
    """
    above = parents(candidates)
    by_id = {one.id: one for one in candidates}
    found: dict[int, int] = {}
    for step in sorted({one.step for one in candidates if not one.draft}):
        rows = [one for one in candidates if one.step == step and not one.draft]
        came: dict[int, int] = {}
        for one in rows:
            parent = above[one.id]
            came[one.id] = -1 if parent is None else by_id[parent].step
        latest = max(came.values())
        found[step] = len({one.recipe.noise.key for one in rows if came[one.id] == latest})
    return found
