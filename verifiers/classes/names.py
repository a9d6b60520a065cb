"""What the classes of a classifier are called, and which of them a label means."""

import difflib
import hashlib
import importlib
from collections.abc import Iterable, Sequence
from functools import cached_property

NEAREST = 3


class ClassNames:
    """The names of classes; several of one class are synonyms, the first is the one shown.

    Labels are compared without regard to case and spacing.
    """

    def __init__(self, names: Iterable[Sequence[str]]) -> None:
        """Take the synonyms of each class, in the order of the classifier's outputs."""
        self.names = [tuple(name.strip() for name in synonyms) for synonyms in names]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, label: str | int) -> int:
        """The class of a number, of a name, or of a number as text where it is no name.

        Raises:
            ValueError: a number beyond the classes, an unknown name, or one that several classes have.
        """
        if isinstance(label, int):
            return self._checked(label)
        found = self._by_name.get(folded(label), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"label {label!r} names {len(found)} classes: {self._told(found)}; give the number instead"
            )
        if label.strip().isdecimal():
            return self._checked(int(label))
        raise ValueError(
            f"label {label!r:.80} is none of the {len(self)} classes; the nearest are "
            f"{self._told(self._nearest(label))}: give one of their names or numbers, as the prompt or as label="
        )

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        known: dict[str, list[int]] = {}
        for number, synonyms in enumerate(self.names):
            for name in {folded(name) for name in synonyms}:
                known.setdefault(name, []).append(number)
        return known

    def _checked(self, number: int) -> int:
        if not 0 <= number < len(self):
            raise ValueError(f"label is {number}; expected a class number from 0 to {len(self) - 1}")
        return number

    def _nearest(self, label: str) -> list[int]:
        near = difflib.get_close_matches(folded(label)[:80], self._by_name, n=NEAREST, cutoff=0)
        return list(dict.fromkeys(self._by_name[name][0] for name in near))

    def _told(self, numbers: Sequence[int]) -> str:
        return ", ".join(f"{number} ({self.names[number][0]!r})" for number in numbers)


def split(name: str) -> tuple[str, ...]:
    """The synonyms in a name such as "tench, Tinca tinca", and that name itself."""
    parts = tuple(part.strip() for part in name.split(",") if part.strip())
    return parts if len(parts) == 1 else (*parts, name)


def with_wordnet(names: Sequence[str]) -> ClassNames:
    """The 1000 classes of ImageNet by the names given, and by those that WordNet has for each.

    The shorter names in use, such as open_clip's, say "great white shark" where WordNet, and with it the label of a
    class-conditional model, may say "white shark".
    """
    wordnet = importlib.import_module("timm.data").ImageNetInfo()  # open_clip brings timm with it
    return ClassNames((name, *split(wordnet.index_to_description(number))) for number, name in enumerate(names))


def folded(name: str) -> str:
    """A name without regard to case and spacing."""
    return " ".join(name.casefold().split())


def digest(texts: Iterable[str]) -> str:
    """What identifies texts in a version, eight hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
