"""A board: the pictures of a search and of all that went on from it, and what a person said of them."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from noise_search.choosing.ranking import bradley_terry
from noise_search.disk.files import write_atomically
from noise_search.disk.run import EVALUATIONS, RunFiles
from noise_search.engine.loading import load
from noise_search.engine.run import Told
from noise_search.results.candidate import Candidate
from noise_search.results.result import SearchResult

SAID = "studio.json"
"""Beside the files of its first run: its rounds, and what a person said."""
VERSION = 1
_RUN, _PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), re.compile(r"(.+)/([0-9]{1,9})")
THUMBS = {"up": 1, "down": -1, "none": 0}


class Refused(ValueError):
    """What can't be done as asked, in one line.

    Attributes:
        field: which of what was given it is about.
    """

    def __init__(self, field: str, message: str) -> None:
        """Take the field and the line."""
        self.field = field
        super().__init__(" ".join(message.split()))


class Shelf:
    """The runs of a directory, by their names there; a name from the network reaches nothing outside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[str, tuple[tuple[int, int], SearchResult]] = {}
        self._keys: dict[str, tuple[tuple[int, int], dict[int, str]]] = {}

    def run(self, name: str) -> Path:
        """A run's directory.

        Raises:
            Refused: there is none of that name.
        """
        found = self.directory / name
        if not _RUN.fullmatch(name) or found.is_symlink() or not (found / "run.json").is_file():
            raise Refused("run", f"there is no run {name!r:.60} in {str(self.directory)!r}")
        return found

    def names(self) -> list[str]:
        """All runs, the newest first."""
        if not self.directory.is_dir():
            return []
        found = [one for one in self.directory.iterdir() if _RUN.fullmatch(one.name) and (one / "run.json").is_file()]
        return [one.name for one in sorted(found, key=lambda one: (one / "run.json").stat().st_mtime, reverse=True)]

    def result(self, name: str) -> SearchResult:
        """What a run holds by now; read again where it was written to.

        Raises:
            Refused: none of that name, one that can't be read, or a search of several prompts.
        """
        run, stamp = self.run(name), self._stamp(name)
        known = self._read.get(name)
        if known is None or known[0] != stamp:
            try:
                found = load(run)
            except ValueError as error:
                raise Refused("run", str(error)) from error
            if isinstance(found, list):
                raise Refused("run", f"run {name!r} is of {len(found)} prompts, and a board is of one")
            known = self._read[name] = (stamp, found)
        return known[1]

    def _stamp(self, name: str) -> tuple[int, int]:
        """Another one once a run was written to, which may give its ids to other rows."""
        run = self.run(name)
        journal = run / EVALUATIONS
        about = journal.stat() if journal.exists() else run.stat()
        return about.st_mtime_ns, about.st_size

    def picture(self, name: str) -> Path:
        """The PNG of a picture, which holds its recipe.

        Raises:
            Refused: no such picture, or it wasn't kept.
        """
        run, at = split(name)
        files, stamp = RunFiles(self.run(run)), self._stamp(run)
        known = self._keys.get(run)
        if known is None or known[0] != stamp:
            try:
                known = self._keys[run] = (stamp, Told.read(files.lines(), 1)[0].rows)
            except IndexError as error:
                raise Refused("run", f"run {run!r} is of several prompts, and a board is of one") from error
        file = files.picture(known[1][at]) if at in known[1] else None
        if file is None or not file.is_file():
            raise Refused("picture", f"picture {at} of run {run} wasn't kept")
        return file


def split(name: str) -> tuple[str, int]:
    """A picture's run and its id there."""
    found = _PICTURE.fullmatch(name)
    if found is None:
        raise Refused("picture", f"{name!r:.60} names no picture; expected RUN/ID")
    return found[1], int(found[2])


@dataclass
class Said:
    """What a person said of the pictures of a board.

    Attributes:
        rounds: the runs that it is made of, the first one's name being its own.
        thumbs: by picture, 1 for up and -1 for down.
        pairs: (first, second, share of the first) of each answer: 1, 0, or 1/2 for neither.
        waiting: pairs that are still to be asked about, as (left, right).
    """

    rounds: list[str]
    thumbs: dict[str, int] = field(default_factory=dict)
    pairs: list[tuple[str, str, float]] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, shelf: Shelf, name: str) -> "Said":
        """From its first run's directory; nothing but that run where nobody said anything."""
        file = shelf.run(name) / SAID
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["studio_version"] > VERSION:
                raise Refused("run", f"{str(file)!r} is of a newer version: update noise-search")
            rounds = [
                one for one in found["rounds"] if _RUN.fullmatch(one) and (shelf.directory / one / "run.json").is_file()
            ]
            thumbs = {str(one): int(way) for one, way in found["thumbs"].items() if _PICTURE.fullmatch(one)}
            pairs = [(str(a), str(b), float(share)) for a, b, share in found["pairs"]]
            waiting = [(str(a), str(b)) for a, b in found["waiting"]]
            return cls([name, *(one for one in rounds if one != name)], thumbs, pairs, waiting)
        except FileNotFoundError:
            return cls([name])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, Refused):
                raise
            return cls([name])

    def write(self, shelf: Shelf) -> None:
        """Into its first run's directory."""
        content = {"studio_version": VERSION, **vars(self)}
        write_atomically(shelf.run(self.rounds[0]) / SAID, (json.dumps(content, indent=1) + "\n").encode())

    def strengths(self) -> dict[str, float]:
        """Of each picture of which something was said: Bradley and Terry's, 1 being what nothing was said of.

        A thumb is a pair with an average picture, which is a player of its own.
        """
        names = sorted({*self.thumbs, *(one for a, b, _ in self.pairs for one in (a, b))})
        if not names:
            return {}
        at, average = {name: i for i, name in enumerate(names)}, len(names)
        wins = np.zeros((average + 1, average + 1))
        for name, way in self.thumbs.items():
            wins[(at[name], average) if way > 0 else (average, at[name])] += 1
        for a, b, share in self.pairs:
            wins[at[a], at[b]] += share
            wins[at[b], at[a]] += 1 - share
        found = bradley_terry(wins)
        return {name: float(found[i] / found[average]) for name, i in at.items()}

    @property
    def contradictions(self) -> int:
        """Pairs of which another picture was preferred in the other order."""
        told: dict[tuple[str, str], list[float]] = {}
        for a, b, share in self.pairs:
            told.setdefault(*(((a, b), []) if a < b else ((b, a), []))).append(share if a < b else 1 - share)
        return sum(min(shares) < 0.5 < max(shares) for shares in told.values())

    def ask_about(self, names: Sequence[str], random: Random) -> None:
        """Wait for answers on all pairs of these pictures, in both orders, in an order that tells nothing."""
        pairs = [(a, b) for a in names for b in names if a != b]
        random.shuffle(pairs)
        self.waiting = pairs


@dataclass(frozen=True)
class Picture:
    """A finished candidate on a board, as plain data.

    Attributes:
        name: its run and its id, "0007/12".
        score, scores, judges: of the candidate.
        seed: of its noise where that is a plain draw.
        round: which of the board's, from 1.
        thumb: 1 for up, -1 for down.
        strength: what a person's votes say, 1 where they say nothing.
    """

    name: str
    score: float
    seed: int | None
    round: int
    judges: Mapping[str, float]
    scores: Mapping[str, float]
    thumb: int = 0
    strength: float = 1.0


class Board:
    """Pictures of a search and of all rounds that went on from it.

    Args:
        shelf: where runs are.
        name: its first run's.
    """

    def __init__(self, shelf: Shelf, name: str) -> None:
        self.shelf, self.name = shelf, name
        self.said = Said.read(shelf, name)
        self._lock = threading.Lock()

    def candidates(self, running: Mapping[str, Sequence[Candidate]]) -> dict[str, Candidate]:
        """All that was scored, by name; rounds that still run are given as they came so far."""
        found: dict[str, Candidate] = {}
        for run in self.said.rounds:
            known = running[run] if run in running else self.shelf.result(run).candidates
            found |= {f"{run}/{one.id}": one for one in known}
        return found

    def pictures(self, candidates: Mapping[str, Candidate]) -> list[Picture]:
        """The finished ones, best first: by what the person said, then by score."""
        strengths = self.said.strengths()
        found = []
        for name, one in candidates.items():
            if not one.finished or one.failure is not None:
                continue
            at = self.said.rounds.index(split(name)[0]) + 1
            thumb, strength = self.said.thumbs.get(name, 0), strengths.get(name, 1.0)
            found.append(Picture(name, one.score, one.seed, at, one.judges, one.scores, thumb, strength))
        return sorted(found, key=lambda one: (-round(one.strength, 6), -one.score, one.name))

    def thumb(self, name: str, way: str) -> None:
        """Thumb up, down or none; the same again takes it back."""
        with self._lock:
            value = THUMBS[way]
            if value == 0 or self.said.thumbs.get(name) == value:
                self.said.thumbs.pop(name, None)
            else:
                self.said.thumbs[name] = value
            self.said.write(self.shelf)

    def ask_about(self, names: Sequence[str], random: Random) -> None:
        """Begin to ask which of two is better, of two to six pictures."""
        if not 2 <= len(set(names)) <= 6:
            raise Refused("picks", f"pick two to six pictures to compare; {len(set(names))} are picked")
        with self._lock:
            self.said.ask_about(sorted(set(names)), random)
            self.said.write(self.shelf)

    def answer(self, pair: tuple[str, str], share: float | None) -> None:
        """Take an answer on the pair that waits first, the share of its left picture; None ends the questions."""
        with self._lock:
            if share is None:
                self.said.waiting = []
            elif self.said.waiting and self.said.waiting[0] == pair:  # else it was answered in another tab
                self.said.pairs.append((*self.said.waiting.pop(0), share))
            self.said.write(self.shelf)

    def add(self, run: str) -> None:
        """A further round."""
        with self._lock:
            self.said.rounds.append(run)
            self.said.write(self.shelf)
