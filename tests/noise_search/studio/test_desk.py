"""The desk without a page: real searches of the embedded model, and a person who is played."""

import io
import json
import math
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from noise_search import load, replay
from noise_search.replays.reading import read
from noise_search.studio.asked import ME, Asked
from noise_search.studio.board import Refused, Said, Shelf
from noise_search.studio.desk import Desk
from tiny.search import toy_search

PROMPT = "two yellow stars"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    found = Desk(tmp_path_factory.mktemp("studio") / "runs")
    yield found
    found.close()


def asked(**more):
    return Asked.of(**{"prompt": PROMPT, "algorithm": "random", "candidates": 5, **more})


def until(true, seconds=300):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.fixture(scope="module")
def board(desk):
    """A board with five pictures."""
    name = desk.start(asked())
    view = desk.wait(name)
    assert (view.state, view.message) == ("ended", "budget spent"), view
    return name


@pytest.fixture
def names(desk, board):
    """Its pictures of the first round, best score first; nothing is said of them."""
    found = desk._board(board).said
    found.thumbs, found.pairs, found.waiting = {}, [], []
    return [one.name for one in desk.view(board).pictures if one.name.startswith(f"{board}/")]


def test_a_search_is_a_run_with_all_its_pictures(desk, board, names):
    view, result = desk.view(board), load(desk.shelf.directory / board)
    assert view.nfe == result.ledger.nfe == view.budget and "5 candidates" in view.cost and view.small
    assert names == [f"{board}/{one.id}" for one in result.top(5)]
    assert [one.score for one in view.pictures] == sorted((c.score for c in result.candidates), reverse=True)
    assert len(view.points) == 5 and all(one.judges for one in view.pictures), "the oracle judges all of them"
    assert (desk.shelf.directory / board / "best.png").is_file()


def test_a_picture_holds_its_recipe_and_is_made_again(desk, board, names):
    content = desk.picture(names[0])
    made = replay(Image.open(io.BytesIO(content)), progress=False)
    assert made.difference == 0 or made.difference <= made.promised + 1e-6
    assert "noise" in desk.replay(board, names[0])
    about = desk.about(board, names[0])
    assert about["seed"] in range(5) and json.loads(about["recipe"])[0] == {
        "op": "fresh",
        "v": 1,
        "seed": about["seed"],
    }


def test_the_cost_is_told_before_the_start_and_as_the_search_counts(desk, board):
    assert desk.cost(asked()) == desk.view(board).cost
    assert "halving" in desk.cost(asked(algorithm="auto", candidates=16))


def test_thumbs_and_pairs_are_a_ranking_that_is_kept(desk, board, names):
    desk.thumb(board, names[-1], "up")
    desk.thumb(board, names[0], "down")
    order = [one.name for one in desk.view(board).pictures if one.round == 1]
    assert order[0] == names[-1] and order[-1] == names[0] and desk.favourites(board) == [names[-1]]
    desk.thumb(board, names[0], "down")
    assert names[0] not in desk._board(board).said.thumbs, "the same again takes it back"
    desk.compare(board, names[1:3])
    asked_about = set()
    while (pair := desk.view(board).pair) is not None:
        left, right, _ = pair
        asked_about.add((left, right))
        desk.prefer(board, left, right, "left" if left == names[2] else "right")
    assert asked_about == {(names[1], names[2]), (names[2], names[1])}, "both orders"
    order = [one.name for one in desk.view(board).pictures if one.round == 1]
    assert {*order[:2]} == {names[-1], names[2]} and order[-1] == names[1]
    again = Desk(desk.shelf.directory)
    assert [one.name for one in again.view(board).pictures if one.round == 1] == order, "it is on the disk"


def test_an_answer_to_an_earlier_pair_counts_for_nothing(desk, board, names):
    desk.compare(board, names[:2])
    left, right, count = desk.view(board).pair
    desk.prefer(board, right, left, "left")
    assert desk.view(board).pair == (left, right, count) and not desk._board(board).said.pairs
    desk.prefer(board, left, right, "enough")
    assert desk.view(board).pair is None


def test_answers_that_contradict_each_other_are_half_for_each():
    said = Said(["r"], pairs=[("r/1", "r/2", 1.0), ("r/2", "r/1", 1.0)])
    assert said.contradictions == 1 and math.isclose(said.strengths()["r/1"], said.strengths()["r/2"])
    assert Said(["r"], pairs=[("r/1", "r/2", 1.0), ("r/2", "r/1", 0.0)]).contradictions == 0


def test_different_ones_are_others_of_the_board(desk, board, names):
    found = desk.different(board, names[:1], 2)
    assert len(found) == 2 and not {*found} & {names[0]}
    with pytest.raises(Refused) as refused:
        desk.different(board, [], 2)
    assert refused.value.field == "picks"


@pytest.mark.parametrize(
    ("how", "made", "op"),
    [
        ({"move": "neighbour", "cosine": 0.95, "count": 2}, 2, "neighbour"),
        ({"move": "branch", "leave": 0.75, "count": 2}, 2, "branch"),
        ({"move": "again", "steps": 8}, 1, "run"),
    ],
)
def test_more_like_one_is_a_round_of_the_board(desk, board, names, how, made, op):
    desk.thumb(board, names[1], "up")
    run = desk.more_like(board, **how)  # of the favourite
    view = desk.wait(board)
    mine = [one for one in view.pictures if one.name.startswith(f"{run}/")]
    assert view.state == "ended", view.message
    assert len(mine) == made and view.rounds[-1] == run and view.nfe == view.budget
    recipes = [json.loads(desk.about(board, one.name)["recipe"]) for one in mine]
    origin = json.loads(desk.about(board, names[1])["recipe"])[0]
    assert all(one[0] == origin and op in [step["op"] for step in one] for one in recipes)
    assert run not in [row["name"] for row in desk.boards()], "a round isn't a board of its own"


def test_stopping_keeps_the_best_so_far(desk):
    name = desk.start(asked(candidates=64))
    until(lambda: desk.view(name).pictures)
    desk.stop(name)
    view = desk.wait(name)
    assert view.state == "stopped" and 0 < len(view.pictures) < 64
    assert load(desk.shelf.directory / name).score == view.pictures[0].score
    assert next(row for row in desk.boards() if row["name"] == name)["best"] == view.pictures[0].score


def test_a_stopped_search_goes_on_where_it_was(desk, board):
    name = desk.start(asked(candidates=12, seed=70))
    until(lambda: desk.view(name).pictures)
    desk.stop(name)
    before = {one.name: one.score for one in desk.wait(name).pictures}
    again = Desk(desk.shelf.directory)
    assert again.view(name).state == "interrupted" and 0 < len(before) < 12
    assert {again.view(name).asked[one] for one in ("algorithm", "candidates")} == {"random", 12}
    assert again.resume(name) == name
    assert {one.name for one in again.view(name).pictures} >= before.keys(), "nothing goes away meanwhile"
    view = again.wait(name)
    after = {one.name: one.score for one in view.pictures}
    assert view.state == "ended" and len(after) == 12 and view.nfe == view.budget and before.items() <= after.items()
    with pytest.raises(Refused, match="it is ended"):
        again.resume(name)


def test_one_search_per_model_at_a_time(desk):
    first, second = desk.start(asked(candidates=64)), desk.start(asked(candidates=2, seed=50))
    until(lambda: desk.view(first).pictures)
    assert desk.view(second).state == "waiting"
    assert "once the search that runs with shapes-flow is done" in desk.cost(asked(candidates=63)), (
        "nobody waits for it"
    )
    assert desk.view(first).state == "running"
    desk.stop(first)
    assert desk.wait(second).state == "ended" and desk.view(first).state == "stopped"
    waiting = [desk.start(asked(candidates=64)), desk.start(asked())]
    for one in reversed(waiting):
        desk.stop(one)
    assert desk.wait(waiting[1]).state == "stopped" and not desk.view(waiting[1]).pictures


def test_a_round_that_never_ran_gives_its_number_to_no_other_board(tmp_path):
    desk, small = Desk(tmp_path), {"candidates": 1, "steps": 2}
    board, busy = desk.start(asked(**small)), desk.start(asked(verifier=ME, **small))
    until(lambda: desk.view(busy).question)
    waiting = desk.more_like(board, [f"{board}/0"], count=1)
    desk.stop(board), desk.stop(busy)
    desk.wait(busy), desk.wait(board)
    assert desk.view(board).rounds == [board, waiting] and desk.view(board).state == "stopped"
    desk.close()
    for again in (Desk(tmp_path), Desk(tmp_path)):
        other = again.start(asked(prompt="a red circle", **small))
        again.wait(other)
        assert [one.name for one in again.view(board).pictures] == [f"{board}/0"]
        assert {board, other} <= {row["name"] for row in again.boards()}
        again.close()


def test_pictures_are_those_of_the_rows_that_have_their_ids_by_now(tmp_path):
    shelf, options = Shelf(tmp_path), {"algorithm": "paths", "keep_images": "all", "run": tmp_path / "0001"}
    for nfe in (192, 96):
        result = toy_search(nfe=nfe, **options)
        for one in result.candidates:
            if one.finished:
                assert read(shelf.picture(f"0001/{one.id}")).recipe == one.recipe, (nfe, one.id)


def test_a_person_scores_and_steers(desk):
    name = desk.start(asked(verifier=ME, algorithm="zero-order", candidates=4))
    told = []

    def person():
        while len(told) < 4:
            number = desk.view(name).question
            if number is not None and number not in [one for one, _ in told]:
                with Image.open(io.BytesIO(desk.question(name))) as image:
                    value = float(np.asarray(image).mean()) % 10
                told.append((number, value))
                desk.rate(name, number, value)
                desk.rate(name, number, 3.5)  # a second click is late
            time.sleep(0.01)

    played = threading.Thread(target=person)
    played.start()
    view = desk.wait(name)
    played.join(10)
    assert view.state == "ended" and view.asked["verifier"] == ME
    assert sorted(one.score for one in view.pictures) == pytest.approx(sorted(value for _, value in told))


def test_a_person_is_not_asked_again(desk):
    name = desk.start(asked(verifier=ME, candidates=3, seed=90))
    for number in (1, 2):
        until(lambda number=number: desk.view(name).question == number)
        desk.rate(name, number, number)
    until(lambda: desk.view(name).question == 3)
    desk.stop(name)
    assert desk.wait(name).state == "stopped"
    desk.resume(name)
    until(lambda: desk.view(name).question == 4)
    assert [one.score for one in desk.view(name).pictures] == [2, 1]
    desk.rate(name, 4, 5)
    assert [one.score for one in desk.wait(name).pictures] == [5, 2, 1]


def test_a_board_is_exported_and_is_one_elsewhere(desk, board, names, tmp_path):
    desk.thumb(board, names[-1], "up")
    desk.more_like(board, count=1)
    here = desk.wait(board)
    with zipfile.ZipFile(io.BytesIO(desk.export(board))) as archive:
        archive.extractall(tmp_path)
    there = Desk(tmp_path).view(board)
    assert there.pictures == here.pictures and there.rounds == here.rounds and here.pictures[0].thumb == 1


def test_a_run_is_exported_without_paths_of_this_machine(desk, board):
    with zipfile.ZipFile(io.BytesIO(desk.export(board))) as archive:
        assert (
            f"{board}/run.json" in archive.namelist()
            and str(desk.shelf.directory) not in archive.read(f"{board}/run.json").decode()
        )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a" * 5000}, "prompt"),
        ({"model": "shapes-flo"}, "model"),
        ({"model": "../../etc"}, "model"),
        ({"verifier": "clp"}, "verifier"),
        ({"algorithm": "halvin"}, "algorithm"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": "many"}, "candidates"),
        ({"seed": -1}, "seed"),
        ({"steps": 2.5}, "steps"),
        ({"guidance": math.nan}, "guidance"),
    ],
)
def test_what_cannot_be_searched_is_said_at_its_field(desk, given, field):
    before = desk.shelf.names()
    with pytest.raises(Refused) as refused:
        desk.start(asked(**given))
    assert refused.value.field == field and "\n" not in str(refused.value) and desk.shelf.names() == before


def test_only_offered_models_may_be_asked_for(tmp_path):
    desk = Desk(tmp_path, models=["shapes-ddim"])
    with pytest.raises(Refused, match="isn't offered"):
        desk.start(asked(model="shapes-flow"))
    assert desk.choices()["model"] == ["shapes-ddim"]


@pytest.mark.parametrize("name", ["..", "../secret", "/etc", "a/b", "", ".hidden", "nothing", "x" * 200, "0001\n"])
def test_a_name_reaches_nothing_outside_the_runs(desk, tmp_path, name):
    (desk.shelf.directory.parent / "secret").mkdir(exist_ok=True)
    (desk.shelf.directory.parent / "secret" / "run.json").write_text("{}")
    for ask in (desk.view, desk.export, lambda one: desk.picture(f"{one}/0")):
        with pytest.raises(Refused):
            ask(name)


def test_a_link_to_elsewhere_is_no_run(desk, board):
    link = desk.shelf.directory / "link"
    link.symlink_to(desk.shelf.directory.parent / "secret", target_is_directory=True)
    with pytest.raises(Refused):
        desk.view("link")
    link.unlink()


def test_a_damaged_run_is_listed_as_such(desk):
    broken = desk.shelf.directory / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "run.json").write_text("{")
    assert next(row for row in desk.boards() if row["name"] == "broken")["state"] == "damaged"
