"""The desk: what may be asked for, the searches that run for it, and all that a page shows, as plain data.

Knows nothing of pages. Every image is made by `search()`, in a run directory of its own, within its own budget.
"""

import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np
from PIL import Image

from noise_search.algorithms import ALGORITHMS, Variations
from noise_search.choosing.features import Features
from noise_search.choosing.pairs import as_batch
from noise_search.choosing.sets import cosine_distances, pick_beside
from noise_search.disk.export import export_together
from noise_search.disk.files import RUNS, check_writable, present
from noise_search.disk.images import read_pixels
from noise_search.disk.run import RunFiles
from noise_search.engine.loading import state_of
from noise_search.replays.replaying import replay
from noise_search.resolve import resolve_algorithm
from noise_search.results.candidate import Candidate
from noise_search.results.saving import files_of
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.studio.asked import ME, MOST, Asked, about, number, told, whole
from noise_search.studio.board import SAID, Board, Picture, Refused, Shelf, split
from noise_search.studio.searches import SMALL, Round, Searches
from noise_search.words import in_words, one_line

UNFINISHED = ("stopped", "interrupted", "killed", "failed")
"""States of a round that can be gone on with."""


@dataclass(frozen=True)
class View:
    """All that a page shows of a board, as plain data.

    Attributes:
        name: of the board.
        asked: what its first search was asked for.
        state: of its last round: "waiting", "running", "ended", "stopped", "failed", "interrupted" or "killed".
        cost, message: of that round, in words.
        nfe, budget: of that round.
        points: (NFE, score, whether finished) of each candidate of that round, in their order.
        pictures: finished ones, best first.
        rounds: runs.
        pair: the two pictures that are asked about, and how many such questions are left.
        question: number of the image that is to be rated.
        small: whether pictures are so small that their pixels should be seen.
        contradictions: answers on pairs that contradict each other.
    """

    name: str
    asked: dict[str, Any]
    state: str
    cost: str
    message: str
    nfe: int
    budget: int
    points: list[tuple[int, float, bool]]
    pictures: list[Picture]
    rounds: list[str]
    pair: tuple[str, str, int] | None
    question: int | None
    small: bool
    contradictions: int


class Desk:
    """Boards and searches.

    Args:
        runs: the directory of runs.
        models: the only ones that may be asked for; None for all.
    """

    def __init__(self, runs: Path = RUNS, models: Sequence[str] | None = None) -> None:
        check_writable(runs)
        self.models = None if models is None else tuple(models)
        self.shelf = Shelf(runs)
        self._boards: dict[str, Board] = {}
        self._searches = Searches(runs, self.models)
        self._lock = threading.Lock()
        self._random = SystemRandom()

    def choices(self) -> dict[str, list[str]]:
        """Names for a page to offer."""
        verifiers = ["clip", "aesthetic", "vlm", "image-reward", "pickscore", "hps", ME]
        return {
            "model": list(self.models or sorted(EMBEDDED_MODELS, reverse=True)),
            "verifier": verifiers,
            "algorithm": list(ALGORITHMS),
        }

    # Searches

    def cost(self, asked: Asked) -> str:
        """What a search takes and how it spends that, in words, before it starts; of models that are at hand.

        Raises:
            Refused: with the field that it is about.
        """
        return self._searches.cost(asked)

    def start(self, asked: Asked) -> str:
        """Begin a search, after those that wait for the same model; returns the name of its board.

        Raises:
            Refused: with the field that it is about.
        """
        self._searches.check(asked)
        if asked.model in EMBEDDED_MODELS:  # of others that takes minutes: it is told in their turn
            self.cost(asked)
        return self._searches.begin(asked, resolve_algorithm(asked.algorithm))

    def resume(self, board: str) -> str:
        """Go on with a board's last round where it was stopped, killed or failed; returns its run.

        What it has evaluated isn't computed again, nor is a person asked again.

        Raises:
            Refused: it is done, it still runs, or its model may not be used here.
        """
        last = self._board(board).said.rounds[-1]
        if self._state(last) not in UNFINISHED:
            raise Refused("run", f"run {last} can't be gone on with: it is {self._state(last)}")
        asked = Asked.of(**told(RunFiles(self.shelf.run(last)).manifest()))
        self._searches.check(asked)
        return self._searches.go_on(last, asked, self.shelf.result(last).candidates)

    def stop(self, board: str) -> None:
        """End what runs on a board, with the best so far; what is running is finished first."""
        for run in self._runs(board):
            if run in self._searches.rounds:
                self._searches.rounds[run].stopping.set()

    def close(self) -> None:
        """End everything, and wait for it."""
        self._searches.close()

    # Boards

    def boards(self, most: int = 50) -> list[dict[str, Any]]:
        """Runs on the disk, the newest first, rounds of another's board left out; what can't be read says so."""
        rows: list[dict[str, Any]] = []
        within: set[str] = set()
        for name in self.shelf.names()[:most]:
            row: dict[str, Any] = {"name": name, "prompt": "", "state": "damaged", "best": None, "rounds": 1}
            try:
                board = self._board(name)
                within |= {*board.said.rounds[1:]}
                manifest = RunFiles(self.shelf.run(name)).manifest()
                row |= {"prompt": manifest["prompts"][0], "state": self._state(name), "rounds": len(board.said.rounds)}
                if name not in self._searches.running():
                    result = self.shelf.result(name)
                    row["best"] = None if result.failed else result.score
            except ValueError as error:
                row["prompt"] = one_line(str(error), 80)
            rows.append(row)
        return [row for row in rows if row["name"] not in within]

    def view(self, name: str) -> View:
        """What is to be shown of a board.

        Raises:
            Refused: there is none of that name.
        """
        if name in self._searches.rounds and not (self.shelf.directory / name / "run.json").is_file():
            return self._waiting(self._searches.rounds[name])
        board = self._board(name)
        candidates = self._candidates(board)
        last = board.said.rounds[-1]
        made, running = self._searches.rounds.get(last), self._searches.running()
        seen = [one for key, one in candidates.items() if split(key)[0] == last]
        manifest = RunFiles(self.shelf.run(name)).manifest()
        of_last = RunFiles(self.shelf.directory / last).manifest()  # {} where it was refused before it began
        result = None if last in running or not of_last else self.shelf.result(last)
        pictures = board.pictures(candidates)
        waits = next((one for run in reversed(board.said.rounds) if (one := running.get(run)) and one.question), None)
        return View(
            name=name,
            asked=told(manifest),
            state=self._state(last),
            cost="" if made is None else made.cost,
            message=made.message if made is not None else "" if result is None else result.stop_reason,
            nfe=result.ledger.nfe if result is not None else max((one.nfe for one in seen), default=0),
            budget=int(of_last.get("nfe", 0)),
            points=[(one.nfe, one.score, one.finished) for one in seen if one.failure is None],
            pictures=pictures,
            rounds=list(board.said.rounds),
            pair=None if not board.said.waiting else (*board.said.waiting[0], len(board.said.waiting)),
            question=None if waits is None or waits.question is None else waits.question[0],
            small=self._small(pictures) or (waits is not None and waits.small),
            contradictions=board.said.contradictions,
        )

    def _waiting(self, made: Round) -> View:
        told = made.state, made.cost, made.message
        asked = made.question
        question = None if asked is None else asked[0]
        return View(made.run, dict(vars(made.asked)), *told, 0, 0, [], [], [made.run], None, question, made.small, 0)

    def _small(self, pictures: Sequence[Picture]) -> bool:
        for one in pictures[:1]:
            try:
                with Image.open(self.shelf.picture(one.name)) as image:
                    return max(image.size) < SMALL
            except (Refused, OSError):
                continue
        return False

    def _state(self, run: str) -> str:
        made = self._searches.rounds.get(run)
        if made is not None:
            return made.state
        found = state_of(self.shelf.run(run))
        return "ended" if found == "complete" else found

    def _board(self, name: str) -> Board:
        with self._lock:
            if name not in self._boards:
                self._boards[name] = Board(self.shelf, name)
            return self._boards[name]

    def _runs(self, board: str) -> list[str]:
        if board in self._searches.rounds and not (self.shelf.directory / board / "run.json").is_file():
            return [board]
        return self._board(board).said.rounds

    def _candidates(self, board: Board) -> dict[str, Candidate]:
        live = {name: one.shown for name, one in self._searches.running().items()}
        failed = [
            n for n in board.said.rounds if n not in live and not (self.shelf.directory / n / "run.json").is_file()
        ]
        return board.candidates({**live, **{name: [] for name in failed}})

    def _picked(self, board: Board, names: Iterable[str]) -> dict[str, Candidate]:
        candidates = self._candidates(board)
        wanted = list(dict.fromkeys(names))
        if strange := [one for one in wanted if one not in candidates]:
            raise Refused("picks", f"there is no picture {strange[0]!r:.60} on board {board.name}")
        return {one: candidates[one] for one in wanted}

    # What a person says and asks for

    def thumb(self, board: str, picture: str, way: str) -> None:
        """Thumb a picture "up", "down" or "none"."""
        if way not in ("up", "down", "none"):
            raise Refused("picks", f"a thumb goes up, down or none, not {way!r:.20}")
        found = self._board(board)
        self._picked(found, [picture])
        found.thumb(picture, way)

    def compare(self, board: str, pictures: Sequence[str]) -> None:
        """Ask which of two is better, of each pair of two to six pictures, in both orders."""
        found = self._board(board)
        self._picked(found, pictures)
        found.ask_about(pictures, self._random)

    def prefer(self, board: str, left: str, right: str, said: str) -> None:
        """Answer on the pair that is asked about: "left", "right", "tie", or "enough" to be asked no more."""
        shares = {"left": 1.0, "right": 0.0, "tie": 0.5, "enough": None}
        if said not in shares:
            raise Refused("picks", f"one of {', '.join(shares)} was expected, not {said!r:.20}")
        self._board(board).answer((left, right), shares[said])

    def rate(self, board: str, question: int, value: float) -> None:
        """Rate the image that a search by "me" asks about; an answer to an earlier question counts for nothing."""
        number("rating", value, -100, 100)
        for run in self._runs(board):
            made = self._searches.rounds.get(run)
            if made is not None and made.question is not None and made.question[0] == question:
                made.question = None
                made.answers.put(float(value))

    def question(self, board: str) -> bytes:
        """The image that is asked about, as PNG."""
        for run in self._runs(board):
            made = self._searches.rounds.get(run)
            if made is not None and (asked := made.question) is not None:
                return asked[1]
        raise Refused("picture", "nothing is asked about now")

    def favourites(self, board: str, most: int = 3) -> list[str]:
        """The pictures that a person's votes put above an average one, best first."""
        found = self._board(board)
        pictures = found.pictures(self._candidates(found))
        return [one.name for one in pictures if one.strength > 1][:most]

    def more_like(
        self,
        board: str,
        pictures: Sequence[str] = (),
        *,
        move: str = "neighbour",
        cosine: float = 0.9,
        leave: float = 0.5,
        steps: int | None = None,
        count: int = 8,
    ) -> str:
        """Go on from pictures, the person's favourites where none are given, in a further round; returns its run.

        Args:
            board: whose.
            pictures: names.
            move, cosine, leave: of `Variations`.
            steps: of "again", which renders the same noises anew.
            count: variations in all; of "again" one of each.

        Raises:
            Refused: with the field that it is about.
        """
        found = self._board(board)
        picked = self._picked(found, pictures or self.favourites(board))
        if not picked:
            raise Refused("picks", "pick a picture, or give one a thumb up, to go on from")
        manifest = RunFiles(self.shelf.run(board)).manifest()
        count = whole("count", count, 1, MOST)
        asked = Asked.of(**told(manifest))
        # Variations draw their own seeds from it: others in each round.
        asked = replace(asked, seed=len(found.said.rounds), candidates=len(picked) if move == "again" else count)
        if move == "again":
            if steps is None:
                raise Refused("steps", "say how many steps the pictures are to be made with again")
            asked = replace(asked, steps=whole("steps", steps, 1, 1000))
        self._searches.check(asked)
        with about("picks"):
            algorithm = Variations([one.recipe for one in picked.values()], move, cosine, leave)  # type: ignore[arg-type]
        nfe = None
        if move == "branch":
            end = max(one.step for one in picked.values())
            start = min(max(round(leave * end), 1), end - 1)
            nfe = start * len(picked) + count * (end - start)
        if asked.model in EMBEDDED_MODELS:
            self._searches.planned_now(asked, algorithm, nfe)
        run = self._searches.begin(asked, algorithm, nfe)
        found.add(run)
        return run

    def different(self, board: str, pictures: Sequence[str], count: int = 4) -> list[str]:
        """Pictures of the board that are good, and differ from these and each other; no NFE."""
        found = self._board(board)
        self._picked(found, pictures)
        names, pixels, scores = [], [], []
        for one in found.pictures(self._candidates(found)):
            try:
                pixels.append(Image.fromarray(read_pixels(self.shelf.picture(one.name))))
            except ValueError:  # it wasn't kept
                continue
            names.append(one.name)
            scores.append(one.score)
        same = [at for at, image in enumerate(pixels) if image.size == pixels[0].size]
        names, scores = [names[at] for at in same], [scores[at] for at in same]
        given = [names.index(one) for one in pictures if one in names]
        if not given or len(names) == len(given):
            raise Refused("picks", "pick a picture first, on a board that has others, too")
        features = Features([])(as_batch([pixels[at] for at in same]))
        rows = pick_beside(given, np.array(scores), cosine_distances(features), whole("count", count, 1, MOST), 1.5)
        return [names[row] for row in rows]

    # Pictures and runs as files

    def picture(self, name: str) -> bytes:
        """A picture as PNG, its recipe inside."""
        return self.shelf.picture(name).read_bytes()

    def about(self, board: str, name: str) -> dict[str, Any]:
        """All that is known of a picture, as plain data."""
        found = self._board(board)
        one = self._picked(found, [name])[name]
        picture = next((p for p in found.pictures({name: one})), None)
        return {
            "name": name,
            "recipe": one.recipe.to_json(),
            "words": in_words(one.recipe),
            "seed": one.seed,
            "scores": dict(one.scores),
            "judges": dict(one.judges),
            "nfe": one.nfe,
            "step": one.step,
            "thumb": 0 if picture is None else picture.thumb,
        }

    def replay(self, board: str, name: str) -> str:
        """Make a picture again from its recipe, in its model's turn, and say how close that came."""
        manifest = RunFiles(self.shelf.run(split(name)[0])).manifest()
        asked = Asked.of(**{**told(manifest), "verifier": "clip"})
        self._searches.check(asked)
        file = self.shelf.picture(name)
        with about("picture"):
            made = self._searches.in_turn(asked.model, lambda: replay(file, model=asked.model, progress=False))
        apart = (
            "the same picture" if not made.difference else f"it differs by up to {round(made.difference * 255)} of 255"
        )
        return f"Made again for {made.nfe} NFE: {apart}; noise {made.noise}."

    def export(self, board: str) -> bytes:
        """All rounds of a board and what was said of them as one archive, without this machine's paths.

        Unpacked into a directory of runs, it is a board there.
        """
        files: dict[Path, list[str]] = {}
        for run in self._board(board).said.rounds:
            where = self.shelf.directory / run
            if (where / "run.json").is_file():  # else it was refused before it began
                files[where] = [one for one in files_of(where) if not one.startswith("states")]
                files[where] += present(where, [SAID])
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "board.zip"
            export_together(files, file)
            return file.read_bytes()

    def wait(self, board: str, seconds: float = 600) -> View:
        """Wait until nothing runs on a board."""
        ends = time.monotonic() + seconds
        while any(run in self._searches.running() for run in self._runs(board)):
            if time.monotonic() > ends:
                raise TimeoutError(f"board {board} still runs after {seconds:g} s")
            time.sleep(0.02)
        return self.view(board)
