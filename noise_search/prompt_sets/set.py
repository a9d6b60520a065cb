"""Prompts with their categories, as a comparison takes them: a sequence that can be sampled, and written as JSONL."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from noise_search.arguments import check_counts
from noise_search.disk.files import write_atomically
from noise_search.words import counted

RESERVED = ("prompt", "family")
"""Names of the two fields that every prompt has in a file, and so no further column."""


@dataclass(frozen=True)
class SetPrompt:
    """A prompt of a set.

    Attributes:
        text: what is asked for.
        family: its category; "" where none is known.
        extra: the other columns of its row, by name.

    Raises:
        ValueError: an empty text; a further column named "prompt" or "family".
    """

    text: str
    family: str = ""
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"text={self.text!r} is empty; expected a prompt")
        if taken := [name for name in RESERVED if name in self.extra]:
            raise ValueError(f"extra has {taken[0]!r}, which is the name of a field; give the column another name")
        object.__setattr__(self, "extra", dict(self.extra))

    def to_json(self) -> dict[str, str]:
        """As one row: the text as "prompt", the family, and every further column."""
        return {"prompt": self.text, "family": self.family, **self.extra}


@dataclass(frozen=True, repr=False)
class PromptSet(Sequence[SetPrompt]):
    """A named sequence of prompts; slicing, sampling and dropping give another.

        prompts = noise_search.prompt_sets.load("partiprompts").sample(100, seed=0)
        prompts.texts, prompts.families, prompts[0].extra["Challenge"]

    Attributes:
        name: of the set, or of its file without ending.
        prompts: in the order of their source.
        notes: what was noticed on reading, in sentences: rows left out, prompts that occur twice, an unexpected number.
    """

    name: str
    prompts: tuple[SetPrompt, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.prompts)

    @overload
    def __getitem__(self, index: int) -> SetPrompt: ...

    @overload
    def __getitem__(self, index: slice) -> "PromptSet": ...

    def __getitem__(self, index: int | slice) -> "SetPrompt | PromptSet":
        if isinstance(index, slice):
            return replace(self, prompts=self.prompts[index])
        return self.prompts[index]

    def __repr__(self) -> str:
        return f"PromptSet({self.name!r}, {counted(len(self), 'prompt')} in {counted(len(self.counts), 'family')})"

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts as text."""
        return tuple(prompt.text for prompt in self.prompts)

    @property
    def families(self) -> tuple[str, ...]:
        """The family of each prompt, in the order of `texts`."""
        return tuple(prompt.family for prompt in self.prompts)

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts each family has, in the order in which families occur."""
        return dict(Counter(self.families))

    def sample(self, n: int, seed: int) -> "PromptSet":
        """`n` prompts drawn without replacement, as equally many of each family as there are; in the set's order.

        With one seed a larger sample holds every smaller one, so a comparison can be extended.

        Raises:
            TypeError: `n` is no whole number.
            ValueError: `n` is below 1 or above the number of prompts.
        """
        check_counts(n=n)
        if n > len(self):
            raise ValueError(f"n={n} is out of reach; expected 1 to {len(self)}, the prompts of {self.name!r}")
        shuffled = self._shuffled(seed)
        turns = sorted((turn, at) for at, rows in enumerate(shuffled) for turn in range(len(rows)))
        return self._rows([shuffled[at][turn] for turn, at in turns[:n]])

    def per_family(self, k: int, seed: int | None = None) -> "PromptSet":
        """The first `k` prompts of each family, or `k` drawn ones with a seed; all of a family that has fewer.

        Raises:
            ValueError: `k` is below 1.
        """
        check_counts(per_family=k)
        groups = self._groups() if seed is None else self._shuffled(seed)
        return self._rows([row for rows in groups for row in rows[:k]])

    def distinct(self) -> "PromptSet":
        """Each text once, where it occurs first."""
        first = {text: row for row, text in reversed(list(enumerate(self.texts)))}
        return self._rows(list(first.values()))

    def to_jsonl(self, path: str | Path) -> Path:
        """Write one JSON object per line: prompt, family, and every further column; `load` reads it back equal."""
        file = Path(path)
        lines = [json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in self.prompts]
        write_atomically(file, "".join(lines).encode())
        return file

    def to_json(self) -> dict[str, Any]:
        """Name, number of prompts and families, for a report's settings."""
        return {"name": self.name, "prompts": len(self), "families": self.counts, "notes": list(self.notes)}

    def _groups(self) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for row, family in enumerate(self.families):
            groups.setdefault(family, []).append(row)
        return list(groups.values())

    def _shuffled(self, seed: int) -> list[list[int]]:
        """Rows of each family in random order, the families too. Only random() is promised to stay as it is."""
        rng = random.Random(seed)
        groups = [sorted(rows, key=lambda _: rng.random()) for rows in self._groups()]
        return sorted(groups, key=lambda _: rng.random())

    def _rows(self, rows: list[int]) -> "PromptSet":
        return replace(self, prompts=tuple(self.prompts[row] for row in sorted(rows)))
