"""What a search tells while it runs: its events, and what the real trackers have of them on disk."""

import json
import logging
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from noise_search import AllCandidatesFailed, TensorBoard, ZeroOrderSearch, compare, load
from noise_search.comparison.cells import label
from tiny.search import CountingSampler, brightness, contrast, raising, toy_search

PROMPTS = ["a prompt", "../a: longer/one"]


def followed(**options):
    events = []
    return toy_search(log=events.append, **options), events


def of(events, kind, index=0):
    return [one for one in events if one["event"] == kind and one["index"] == index]


def test_events_are_the_search_in_order():
    result, events = followed(candidates=5, judges=[contrast])
    assert [one["event"] for one in events] == ["start", *["candidate"] * 5, "end"]
    [start], told, [end] = of(events, "start"), of(events, "candidate"), of(events, "end")
    assert start["settings"]["verifier"]["name"] == "brightness" and start["prompts"] == 1 and start["run"] is None
    assert [one["id"] for one in told] == [one.id for one in result.candidates]
    assert [one["score"] for one in told] == [one.score for one in result.candidates]
    assert [one["scores"] for one in told] == [{"brightness": one.score} for one in result.candidates]
    assert [one["nfe"] for one in told] == [8, 16, 24, 32, 40]
    assert [one["best"] for one in told] == list(np.maximum.accumulate([one.score for one in result.candidates]))
    assert [one["id"] for one in told if one["is_best"]] == [one.id for one in result.bests]
    shown = [one["image"] for one in told if one["image"] is not None]
    assert [one.tobytes() for one in shown] == [one.image.tobytes() for one in result.bests]
    seconds = [one["seconds"] for one in events]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert end["score"] == result.score and end["first_score"] == result.first_score
    assert end["judges"] == {"contrast": next(iter(result.judges.values()))}
    assert end["ledger"] == result.ledger.to_json() and end["stop_reason"] == "budget spent"


def test_each_prompt_has_its_events():
    results, events = followed(prompt=PROMPTS, candidates=3)
    for index, (prompt, result) in enumerate(zip(PROMPTS, results, strict=True)):
        mine = [one for one in events if one["index"] == index]
        assert {one["prompt"] for one in mine} == {prompt}
        assert [one["score"] for one in of(events, "candidate", index)] == [one.score for one in result.candidates]
        assert of(events, "end", index)[0]["score"] == result.score
    assert {one["prompts"] for one in events if one["event"] == "start"} == {2}


def test_a_score_that_only_ranks_has_no_best_so_far():
    _, events = followed(candidates=4, verifier=[brightness, contrast], ensemble="mean-rank")
    told = of(events, "candidate")
    assert {one["best"] for one in told} == {None} and set(told[0]["scores"]) == {"brightness", "contrast"}
    assert any(one["is_best"] for one in told)


def test_failed_candidates_and_searches_are_told_as_such():
    def fails_once(images, prompts):
        scores = brightness(images, prompts)
        scores[0] = float("nan")
        return scores

    _, events = followed(candidates=3, verifier=fails_once, batch_size=3)
    assert [one["score"] is None for one in of(events, "candidate")] == [True, False, False]
    told = []
    with pytest.raises(AllCandidatesFailed):
        toy_search(candidates=2, verifier=raising(RuntimeError("no score today")), log=told.append)
    assert told[-1]["event"] == "end" and told[-1]["score"] is None
    told.clear()
    with pytest.raises(RuntimeError, match="gone"):
        toy_search(CountingSampler(fn=raising(RuntimeError("gone"))), candidates=2, log=told.append)
    assert [one["event"] for one in told] == ["start", "end"] and told[-1]["stop_reason"] == "failed"


def test_what_fails_to_listen_is_left_out_and_said_once(caplog):
    heard = []

    def deaf(event):
        heard.append(event)
        if event["event"] == "candidate":
            raise ConnectionError("the server\nis away")

    with caplog.at_level(logging.WARNING):
        result = toy_search(candidates=4, log=deaf)
    assert len(result.candidates) == 4 and len(heard) == 2
    [said] = [one.getMessage() for one in caplog.records if "deaf" in one.getMessage()]
    assert said == "log deaf failed (ConnectionError: the server is away); the search goes on without it"


def test_a_run_that_goes_on_tells_what_it_had_again(tmp_path):
    _, before = followed(candidates=2, run=tmp_path / "run")
    result, events = followed(candidates=3, run=tmp_path / "run")
    assert [one["score"] for one in of(events, "candidate")] == [one.score for one in result.candidates]
    assert of(events, "start")[0]["run"] == str(tmp_path / "run") and len(of(before, "candidate")) == 2
    more = []
    load(tmp_path / "run").resume(nfe=32, model=CountingSampler(), verifier=brightness, progress=False, log=more.append)
    assert len(of(more, "candidate")) == 4


@pytest.mark.parametrize(
    ("log", "kind", "said"),
    [
        ("wandbb", ValueError, "unknown log 'wandbb'; did you mean 'wandb'"),
        (3, TypeError, "log=3 is a int; expected 'wandb', 'trackio', 'tensorboard', or a function of events"),
    ],
)
def test_what_is_no_log_is_refused_before_anything_is_computed(log, kind, said):
    sampler = CountingSampler()
    with pytest.raises(kind, match=said):
        toy_search(sampler, candidates=2, log=log)
    assert sampler.rows == 0


def test_a_tracker_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="log='wandb' needs wandb: pip install wandb"):
        toy_search(candidates=2, log="wandb")


# of a comparison


def compared(log, **options):
    asked = {"model": CountingSampler(), "algorithms": {"random": "random", "zero": "zero-order"}, "candidates": (2, 4)}
    asked |= {"verifier": brightness, "judges": [contrast], "diagnosed": 0, "progress": False}
    return compare(**{"prompts": PROMPTS, "log": log} | asked | options)


def test_each_search_of_a_comparison_is_told_as_its_own(tmp_path):
    events, out = [], tmp_path / "out"
    table = compared(events.append, out=out)
    started = [one for one in events if one["event"] == "start"]
    searches = [{"algorithm": name, "nfe": 32, "seed": 0} for name in ("random", "zero")]  # 16 NFE are in 32
    assert [one["search"] for one in started] == [searches[0], searches[0], searches[1], searches[1]]
    assert {(one["prompts"], one["run"]) for one in started} == {(2, str(out))}
    assert {one["comparison"] for one in events} == {str(out)}
    assert {(one["index"], one["prompt"]) for one in events} == set(enumerate(PROMPTS))
    told = [(one["search"]["algorithm"], one["prompt"], one["nfe"], one["score"]) for one in candidates(events)]
    for record in table.records:
        mine = [score for *cell, nfe, score in told if cell == [record.algorithm, record.prompt] and nfe <= record.nfe]
        assert max(mine) == record.scores["brightness"]
    events.clear()
    compared(events.append, out=out, algorithms={"random": "random", "zero": "zero-order", "paths": "paths"})
    assert {one["search"]["algorithm"] for one in events} == {"paths"}  # the others are there


def candidates(events):
    return [one for one in events if one["event"] == "candidate"]


def test_prompts_of_a_comparison_have_their_places_in_searches_of_some_of_them(tmp_path):
    events, out = [], tmp_path / "out"
    compared(None, out=out, prompts=PROMPTS[:1])
    compared(events.append, out=out)
    assert {(one["index"], one["prompt"]) for one in events} == {(1, PROMPTS[1])}


def test_who_fails_to_listen_to_a_comparison_is_told_no_more_by_any_search(caplog):
    heard = []

    def deaf(event):
        heard.append(event)
        raise ConnectionError("away")

    with caplog.at_level(logging.WARNING):
        table = compared(deaf)
    assert len(table.records) == 8 and len(heard) == 1
    assert [one.getMessage() for one in caplog.records if "deaf" in one.getMessage()] == [
        "log deaf failed (ConnectionError: away); the search goes on without it"
    ]


def test_a_comparison_refuses_what_is_no_log_before_anything_is_computed():
    sampler = CountingSampler()
    with pytest.raises(ValueError, match="unknown log 'wandbb'; did you mean 'wandb'"):
        compared("wandbb", model=sampler)
    assert sampler.rows == 0


# the real ones


def test_tensorboard_has_a_run_for_each_prompt(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    results = toy_search(prompt=PROMPTS, candidates=3, judges=[contrast], log=TensorBoard(tmp_path))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0001", "0002"]
    for directory, result in zip(("0001", "0002"), results, strict=True):
        found = accumulator.EventAccumulator(str(tmp_path / directory))
        found.Reload()
        scores = [(one.step, one.value) for one in found.Scalars("score")]
        assert scores == [(c.nfe, pytest.approx(c.score)) for c in result.candidates]
        assert found.Scalars("best")[-1].value != found.Scalars("best")[0].value or len(result.bests) == 1
        assert [one.step for one in found.Images("best image")] == list(result.bests_nfe)
        assert found.Scalars("ledger/nfe")[0].value == 24 and found.Scalars("judges/contrast/best")
        assert found.Tensors("prompt/text_summary")[0].tensor_proto.string_val == [result.prompt.encode()]


def test_tensorboard_has_the_searches_of_a_comparison_by_name(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    neighbours = ZeroOrderSearch(neighbours=2, cosine=0.5)
    table = compared(TensorBoard(tmp_path), algorithms=["random", neighbours])
    names = {"random": "random, 32 NFE, seed 0"}
    names[label(neighbours)] = "zero-order(neighbours=2, cosine=0.5), 32 NFE, seed 0"
    assert {one.name for one in tmp_path.iterdir()} == set(names.values())
    for record in table.records:
        prompt = dict(zip(PROMPTS, ("a prompt", "---a- longer-one"), strict=True))[record.prompt]
        found = accumulator.EventAccumulator(str(tmp_path / names[record.algorithm] / prompt / "0001"))
        found.Reload()
        scores = [one.value for one in found.Scalars("score") if one.step <= record.nfe]
        assert max(scores) == pytest.approx(record.scores["brightness"])
        assert not any(tag.startswith("search/") for tag in found.Tags()["scalars"])


ELSEWHERE = """
import json, sys
from tiny.search import contrast, toy_search
results = toy_search(prompt=["a prompt", "../a: longer/one"], candidates=3, judges=[contrast], log=sys.argv[1])
found = [[[c.nfe, c.score] for c in one.candidates] for one in results]
print(json.dumps([found, [list(one.bests_nfe) for one in results]]))
"""


COMPARED = """
import sys
from noise_search import compare
from tiny.search import CountingSampler, brightness
asked = {"algorithms": ["zero-order"], "candidates": [2], "verifier": brightness, "diagnosed": 0, "progress": False}
compare(["a prompt"], model=CountingSampler(), log=sys.argv[1], **asked)
"""


def followed_elsewhere(tracker, folder):
    """What a search found that a tracker followed."""
    return json.loads(_elsewhere(ELSEWHERE, tracker, folder))  # alone: what trackers print goes to standard error


def _elsewhere(code, tracker, folder):
    """What a process says on standard output whose settings and files are all in a folder."""
    own = {"TRACKIO_DIR": "trackio", "WANDB_DIR": "", "WANDB_CACHE_DIR": "cache"}
    own |= {"WANDB_CONFIG_DIR": "config", "WANDB_DATA_DIR": "data", "HOME": ""}
    environment = os.environ | {name: str(folder / place) for name, place in own.items()}
    environment |= {"WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, tracker]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "the search goes on without it" not in done.stderr, done.stderr
    return done.stdout


def test_trackio_has_a_run_for_each_prompt(tmp_path):
    pytest.importorskip("trackio")
    scores, bests = followed_elsewhere("trackio", tmp_path)
    with sqlite3.connect(tmp_path / "trackio" / "noise-search.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    for name, found, best in zip(("a prompt", "---a- longer-one"), scores, bests, strict=True):
        *told, (_, end) = [(step, json.loads(metrics)) for run, step, metrics in rows if run == name]
        assert [[step, one["score"]] for step, one in told] == [[nfe, pytest.approx(score)] for nfe, score in found]
        assert [step for step, one in told if "best image" in one] == best
        assert end["ledger/nfe"] == 24 and "judges/contrast/best" in end and end["end/score"] == told[-1][1]["best"]
        assert len(list((tmp_path / "trackio" / "media" / "noise-search" / name).rglob("*.png"))) == len(best)


def test_wandb_has_a_run_for_each_prompt_without_a_network(tmp_path):
    pytest.importorskip("wandb")
    scores, bests = followed_elsewhere("wandb", tmp_path)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    for file in files:
        told, end, name, group = read_wandb(file)
        index = ["a prompt", "---a- longer-one"].index(name)
        assert group.startswith("2 prompts, ")
        assert [[one["nfe"], one["score"]] for one in told] == [[n, pytest.approx(s)] for n, s in scores[index]]
        assert [one["nfe"] for one in told if "best image.path" in one] == bests[index]
        assert end["ledger/nfe"] == 24 and "judges/contrast/best" in end


def test_a_comparison_is_a_group_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    _elsewhere(COMPARED, "wandb", tmp_path)
    found = [read_wandb(file) for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))]
    assert sorted(name for *_, name, _ in found) == [
        f"{one}, 16 NFE, seed 0, a prompt" for one in ("random", "zero-order")
    ]
    [group] = {group for *_, group in found}
    assert group.startswith("comparison, ")


def records(content):
    """The parts of a LevelDB log behind seven bytes: blocks of 32 kB of checksum, length, kind (1 whole, 4 last)."""
    at, part = 7, b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield part
            part = b""


def read_wandb(file):
    """History, summary, name and group of an offline run."""
    from wandb.proto import wandb_internal_pb2 as proto

    told, end, named = [], {}, ("", "")
    for data in records(file.read_bytes()):
        record = proto.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = {".".join(one.nested_key) or one.key: one.value_json for one in record.history.item}
            told.append({key: json.loads(value) for key, value in items.items()})
        if record.HasField("summary"):
            end |= {".".join(one.nested_key) or one.key: json.loads(one.value_json) for one in record.summary.update}
        if record.HasField("run"):
            named = (record.run.display_name, record.run.run_group)
    return told, end, *named
