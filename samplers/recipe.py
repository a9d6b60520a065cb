"""Recipes: how a row was made, as a flat list of plain JSON operations that regenerates it alone.

The last operation is the row itself, which derives from all others. An operation that derives from another names it by
index (`parent`), one that derives from several names each (`parents`). Every operation carries its version `v`, so that
a stored recipe keeps its meaning when an operation is redefined.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

VERSION = 1


@dataclass(frozen=True)
class Operation(Mapping[str, Any]):
    """One immutable, hashable operation, read like a dict: `operation["op"]`, `operation["seed"]`."""

    entries: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Operation":
        """Copy a mapping of JSON values; lists become tuples.

        Raises:
            ValueError: `op` or `v` is missing, or a value is neither a text, a finite number, nor a list of those.
        """
        if not isinstance(fields.get("op"), str) or fields.get("v") != VERSION:
            raise ValueError(
                f"operation with {', '.join(map(str, fields)):.80} needs a string 'op' and 'v' = {VERSION}"
            )
        frozen = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in fields.items()}
        for name, value in frozen.items():
            if not all(map(_plain, value if isinstance(value, tuple) else (value,))):
                kind = type(fields[name]).__name__
                raise ValueError(f"operation {fields['op']!r:.40} has a {kind} as {name!r:.40}; expected plain values")
        return cls(tuple(frozen.items()))

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """The places of the operations that it derives from; () where it begins a recipe."""
        own = dict(self.entries)
        one: int | None = own.get("parent")
        several: tuple[int, ...] = own.get("parents", () if one is None else (one,))
        return several

    def moved(self, places: Sequence[int]) -> "Operation":
        """The operation in another list, by the places there of the operations that it derives from."""
        there = tuple([places[p] for p in self.parents])
        if there == self.parents:
            return self
        own = dict(self.entries)
        own |= {"parents": there} if "parents" in own else {"parent": there[0]}
        return Operation(tuple(own.items()))

    def __getitem__(self, name: str) -> Any:
        return dict(self.entries)[name]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Recipe:
    """A flat, ordered list of operations; the last one is the row, and derives from all others. Immutable.

    Recipes that go on from the same one share it in memory, so that what each takes doesn't grow with its length.
    What several parents have in common is listed once, so that recipes of a population grow by its members and not by
    the paths between them.
    Runs are canonical: consecutive runs of one row over one grid by the same transition are merged, so that a
    finished candidate has the same recipe however often it was stopped on the way.

    Attributes:
        before: the recipe without its last operation; None where there is one operation.
        last: its last operation.

    Raises:
        ValueError: no operations, one that derives from others than earlier ones, or one that the last doesn't derive
            from.

    Example:
        >>> recipe = Recipe.start("fresh", seed=3).then("neighbour", seed=4, cosine=0.95)
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
    """

    before: "Recipe | None"
    last: Operation
    _count: int
    _kept: Any = None

    def __init__(self, operations: Sequence[Operation]) -> None:
        if not operations:
            raise ValueError("a recipe needs at least one operation, got none")
        _check_order(operations)
        before = None
        for operation in operations[:-1]:
            before = Recipe._after(before, operation)
        self._set(before, operations[-1])

    def _set(self, before: "Recipe | None", last: Operation) -> None:
        self.before, self.last, self._count = before, last, 1 if before is None else before._count + 1

    @classmethod
    def _after(cls, before: "Recipe | None", last: Operation) -> "Recipe":
        recipe = cls.__new__(cls)
        recipe._set(before, last)
        return recipe

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them, in order."""
        return tuple(reversed([recipe.last for recipe in self.beginnings()]))

    def beginnings(self) -> Iterator["Recipe"]:
        """The recipe itself, without its last operation, without its last two, ...

        After an operation of several parents that is a row's recipe again; before one it may be a mere list.
        """
        recipe: Recipe | None = self
        while recipe is not None:
            yield recipe
            recipe = recipe.before

    def __len__(self) -> int:
        """The number of operations."""
        return self._count

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Recipe({self.to_json():.200})"

    def __reduce__(self) -> tuple[type["Recipe"], tuple[tuple[Operation, ...]]]:
        return Recipe, (self.operations,)

    @classmethod
    def start(cls, op: str, **fields: Any) -> "Recipe":
        """Begin a recipe with an operation that has no parent, such as `fresh`."""
        return cls._after(None, Operation.of({"op": op, "v": VERSION, **fields}))

    def then(self, op: str, **fields: Any) -> "Recipe":
        """Append an operation whose parent is the current last one."""
        return Recipe._after(self, Operation.of({"op": op, "v": VERSION, "parent": len(self) - 1, **fields}))

    @classmethod
    def join(cls, parents: Sequence["Recipe"], op: str, **fields: Any) -> "Recipe":
        """Append an operation to several recipes, which derives from the last one of each.

        The first is listed as it is, and of each other what those before it don't have: the same operation on the same
        ancestors is the same one. ValueError for no parents.
        """
        if not parents:
            raise ValueError(f"{op} needs at least one parent, got none")
        joined, *others = parents
        known = {frozenset(operation.entries): at for at, operation in enumerate(joined.operations)}
        ends = [len(joined) - 1]
        for other in others:
            places = list[int]()
            for operation in other.operations:
                moved = operation.moved(places)
                places.append(known.setdefault(frozenset(moved.entries), len(joined)))
                if places[-1] == len(joined):
                    joined = cls._after(joined, moved)
            ends.append(places[-1])
        return cls._after(joined, Operation.of({"op": op, "v": VERSION, "parents": ends, **fields}))

    def then_run(
        self,
        start: int,
        stop: int,
        grid: str,
        rho: float | None,
        eta: float = 0.0,
        inner: int | None = None,
        stride: int | None = None,
    ) -> "Recipe":
        """Append `run(parent, from, to, grid, rho)`, merged with a run that ends where this one starts.

        `rho` is the mixing constant of the run (1 = deterministic); None with `eta` means that the noise of
        each step follows from the DDIM eta. `inner` and `stride` tell a `Glass`, whose runs merge where the first ends
        between two of its transitions.
        """
        if stop == start:
            return self
        how: dict[str, Any] = {"grid": grid, "rho": rho} | ({"eta": eta} if rho is None else {})
        how |= {name: value for name, value in (("inner", inner), ("stride", stride)) if value is not None}
        last = dict(self.last)
        told = {name: value for name, value in last.items() if name not in ("op", "v", "parent", "from", "to")}
        joins = last["op"] == "run" and last["to"] == start and told == how
        if joins and (start - last["from"]) % (stride or inner or 1) == 0 and self.before is not None:
            return self.before.then("run", **{"from": last["from"], "to": stop}, **how)
        return self.then("run", **{"from": start, "to": stop}, **how)

    @cached_property
    def key(self) -> str:
        """The sha256 of the canonical JSON, in hexadecimal."""
        digest = self._digest()
        digest.update(b"]")
        return str(digest.hexdigest())

    def _digest(self) -> Any:
        """Of the canonical JSON before its end; kept at every 16th operation, so that long recipes are hashed once."""
        done, todo = None, list[Recipe]()
        for recipe in self.beginnings():
            if (done := recipe._kept) is not None:
                break
            todo.append(recipe)
        digest = hashlib.sha256(b"[") if done is None else done.copy()
        for recipe in reversed(todo):
            one = json.dumps(dict(recipe.last), sort_keys=True, separators=(",", ":"))
            digest.update((one if recipe.before is None else f",{one}").encode())
            if len(recipe) % 16 == 0:
                recipe._kept = digest.copy()
        return digest

    @cached_property
    def stream(self) -> str:
        """The key of this row's random stream: of its recipe without the trailing runs.

        Stopping and resuming a stochastic row therefore changes nothing; only a new noise or `branch` does.
        """
        return self.before_runs.key

    @property
    def before_runs(self) -> "Recipe":
        """The recipe without the runs that end it, but for its first operation: of a row that only ran, its noise."""
        return next(recipe for recipe in self.beginnings() if recipe.last["op"] != "run" or recipe.before is None)

    @property
    def noise(self) -> "Recipe":
        """The recipe before its first run: the pure noise that the model ran from. Itself where nothing ran."""
        noise = self
        for recipe in self.beginnings():
            if "grid" in recipe.last and recipe.before is not None:
                noise = recipe.before
        return noise

    @property
    def grid_bound(self) -> tuple[str, ...]:
        """The operations that belong to a grid (`run`, `renoise`), sorted; () for pure noise."""
        return tuple(sorted({op["op"] for op in self.operations if "grid" in op}))

    @property
    def seed(self) -> int | None:
        """The seed for `torch.Generator().manual_seed(seed)`, when the noise is one plain `fresh`."""
        noise = self.before_runs
        seed = noise.last.get("seed") if noise.before is None and noise.last["op"] == "fresh" else None
        return seed if isinstance(seed, int) else None

    def to_json(self) -> str:
        """The operations as a JSON list, in order."""
        return json.dumps([dict(op) for op in self.operations], allow_nan=False)

    @classmethod
    def from_json(cls, content: Any) -> "Recipe":
        """Read what `to_json` wrote: the text, or the list already parsed. ValueError for anything else."""
        operations = content
        if isinstance(content, str):
            try:
                operations = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"a recipe is a JSON list of operations, and this is no JSON: {error}") from error
        listed = isinstance(operations, Sequence) and not isinstance(operations, str | bytes)
        if not listed or not all(isinstance(op, Mapping) for op in operations):
            kinds = {type(op).__name__ for op in operations} if listed else {type(operations).__name__}
            raise ValueError(f"a recipe is a list of operations, each an object, got {', '.join(sorted(kinds))}")
        if not operations:
            raise ValueError("a recipe needs at least one operation, got none")
        return cls(tuple(Operation.of(op) for op in operations))


def _check_order(operations: Sequence[Operation]) -> None:
    """Raise ValueError unless operations derive from earlier ones, and the last one from all others."""
    needed = {len(operations) - 1}
    for index, op in reversed(list(enumerate(operations))):
        name, parents = f"operation {index} ({op['op']:.40})", op.get("parents", ())
        if not isinstance(parents, tuple) or ("parents" in op and (not parents or "parent" in op)):
            raise ValueError(f"{name} has parents {parents!r:.40}; expected a list of earlier ones and no parent")
        for parent in op.parents:
            if type(parent) is not int or not 0 <= parent < index:
                raise ValueError(f"{name} has parent {parent!r:.40}: not an earlier one")
        if index not in needed:
            raise ValueError(f"{name} is no ancestor of the last one, {len(operations) - 1}: leave it out")
        needed.update(op.parents)


def _plain(value: Any) -> bool:
    """Whether a value is hashable and JSON has it."""
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
