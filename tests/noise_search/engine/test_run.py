"""A run directory survives what happens to runs: kills, damage, full disks, other searches, other settings."""

import contextlib
import errno
import json
import math
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noise_search import AllCandidatesFailed, Climb, Halving, RandomSearch, ZeroOrderSearch, load, replay
from noise_search.disk.lease import lease
from noise_search.disk.run import RunFiles
from noise_search.engine.loading import state_of
from tiny.search import (
    CountingSampler,
    Killed,
    Mortal,
    brightness,
    contrast,
    exact_x0,
    fits,
    raising,
    told,
    toy_search,
)
from verifiers import FunctionVerifier


def brightness_squared(images, prompts):
    return brightness(images, prompts) ** 2


CLOSED = [RandomSearch(), ZeroOrderSearch(), Halving(), Halving(finish=3, diversity=1.5), Climb()]
ASKED = {"nfe": 96, "batch_size": 3, "algorithm": Halving()}


def rows_of(run: Path) -> list[dict]:
    return [line for line in RunFiles(run).lines() if "id" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that ended, and what it found; copied by those that harm it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, told(toy_search(run=run, **ASKED))


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


def gone_on(run: Path, **more) -> dict:
    """What the search finds that goes on there; what it costs to mend is waste."""
    found = told(toy_search(run=run, **ASKED | more))
    found["ledger"] = {name: found["ledger"][name] for name in ("nfe", "nfe_budget")}
    return found


def expected(whole) -> dict:
    return {**whole[1], "ledger": {name: whole[1]["ledger"][name] for name in ("nfe", "nfe_budget")}}


def test_a_journal_cut_anywhere_is_read_as_far_as_it_is_whole_and_goes_on(whole, copy):
    journal = copy / "evaluations.jsonl"
    content = journal.read_bytes()
    for cut in range(0, len(content) + 1, 61):
        journal.write_bytes(content[:cut])
        rows = content[:cut].count(b"\n")
        assert len(RunFiles(copy).lines()) == rows
        result = load(copy)
        assert len(result.candidates) == len([one for one in rows_of(copy) if one["scored"]]), cut
        if cut % 13 == 0:
            assert gone_on(copy) == expected(whole), cut


def test_flipped_bits_cost_the_row_that_they_hit(whole, copy, caplog):
    journal, content = copy / "evaluations.jsonl", (copy / "evaluations.jsonl").read_bytes()
    lines, rng = content.count(b"\n"), random.Random(0)
    for at in rng.sample(range(len(content)), 60):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        journal.write_bytes(bytes(damaged))
        caplog.clear()
        left = len(RunFiles(copy).lines())
        assert lines - 2 <= left <= lines
        assert (left == lines) or "damaged" in caplog.text or "half a record" in caplog.text
        load(copy)
        if at % 7 == 0:
            assert gone_on(copy) == expected(whole), at


@pytest.mark.parametrize("lost", ["states", "images"])
@pytest.mark.parametrize("how", ["gone", "empty", "other"])
def test_latents_and_pictures_that_are_lost_are_made_again(whole, copy, lost, how):
    for file in sorted((copy / lost).iterdir()):
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(b"" if how == "empty" else b"\x80\x04." * 30)
    sampler = CountingSampler()
    found = toy_search(sampler, run=copy, **ASKED)
    assert sampler.rows > 0 and found.ledger.nfe_waste > 0
    assert found.ledger.denoiser_rows == found.ledger.nfe + found.ledger.nfe_waste
    again = told(found)
    again["ledger"] = {name: again["ledger"][name] for name in ("nfe", "nfe_budget")}
    assert again == expected(whole)
    assert np.abs(np.asarray(found.image, int) - np.asarray(toy_search(**ASKED).image, int)).max() <= 1
    assert load(copy).image.tobytes() == found.image.tobytes()


CHANGES = {
    "prompts": {"prompt": "another"},
    "seeds": {"seed": 1},
    "algorithm": {"algorithm": Halving(keep=0.4)},
    "verifier": {"verifier": contrast},
    "baseline": {"baseline": False},
    "deterministic": {"deterministic": True},
    "steps": {"sampler": CountingSampler(steps=7)},
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_search_is_refused_and_says_what_differs(copy, what):
    before = {one: one.read_bytes() for one in copy.rglob("*") if one.is_file()}
    change = dict(CHANGES[what])
    with pytest.raises(ValueError, match=r"holds another search: .* here, .*recorded") as refused:
        toy_search(change.pop("sampler", None), change.pop("prompt", "a prompt"), run=copy, **ASKED | change)
    assert what in str(refused.value)
    assert {one: one.read_bytes() for one in copy.rglob("*") if one.is_file()} == before


def test_what_changes_no_evaluation_may_differ(whole, copy):
    nobody = CountingSampler(fn=Mortal(0))
    more = {"batch_size": 8, "time_limit": 99.0, "top_k": 2, "judges": [contrast], "on_candidate": print}
    found = toy_search(nobody, run=copy, **ASKED | more)
    assert found.score == whole[1]["score"] and found.best.judges
    attempts = RunFiles(copy).manifest()["attempts"]
    assert [one["batch_size"] for one in attempts] == [3, 8]


def test_a_directory_of_somebody_else_is_refused_and_overwriting_removes_what_a_run_wrote(copy, tmp_path):
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="another search"):
        toy_search(run=copy, **ASKED | {"seed": 5})
    toy_search(run=copy, overwrite=True, **ASKED | {"seed": 5, "nfe": 16})
    assert (copy / "notes.txt").read_text() == "mine" and load(copy).settings["seed"] == 5
    assert {one.stem for one in (copy / "images").iterdir()} <= {row["key"] for row in rows_of(copy)}
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"'thesis.txt', which no search wrote"):
        toy_search(run=other, **ASKED)
    (other / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="which no search wrote"):
        toy_search(run=other, **ASKED)


def test_a_manifest_names_no_workers_and_removes_nothing(copy):
    known = json.loads((copy / "run.json").read_text())
    known["call"] |= {"workers": "ray://elsewhere:1", "overwrite": True, "log": "tensorboard", "unheard": 1}
    (copy / "run.json").write_text(json.dumps(known))
    before = (copy / "evaluations.jsonl").read_bytes()
    load(copy).resume(model=CountingSampler(fn=Mortal(0)), verifier=brightness)
    assert (copy / "evaluations.jsonl").read_bytes().startswith(before)


def test_one_at_a_time_writes(copy):
    with lease(copy), pytest.raises(ValueError, match=rf"is being written to by process {os.getpid()} on .* since"):
        toy_search(run=copy, **ASKED)
    assert state_of(copy) == "complete"


def test_a_failed_score_is_kept_until_it_is_asked_for_again(tmp_path):
    broken = True

    def flaky(images, prompts):
        scores = images.mean((1, 2, 3))
        return torch.where((scores * 1e4).long() % 3 == 0, torch.nan, scores) if broken else scores

    verifier = FunctionVerifier(flaky, "flaky")
    verifier.version = "1"
    asked = {"nfe": 96, "verifier": verifier, "run": tmp_path / "run", "algorithm": ZeroOrderSearch()}
    first = toy_search(**asked)
    failed = [one.id for one in first.candidates if one.failure]
    assert failed
    broken = False
    assert [one.id for one in toy_search(**asked).candidates if one.failure] == failed
    mended = load(tmp_path / "run").resume(retry_failed=True, model=CountingSampler(), verifier=verifier)
    assert not any(one.failure for one in mended.candidates)
    plain = toy_search(**{name: one for name, one in asked.items() if name != "run"})
    assert [one.score for one in mended.candidates] == [one.score for one in plain.candidates]
    # Success beats failure: it isn't run a third time.
    again = toy_search(CountingSampler(fn=Mortal(0)), **asked)
    assert told(again)["candidates"] == told(mended)["candidates"]


@pytest.mark.parametrize("keep", ["top", "bests", "all"])
def test_pictures_are_kept_as_asked(tmp_path, keep):
    run = tmp_path / "run"
    found = toy_search(run=run, nfe=160, algorithm="random", top_k=3, keep_images=keep, batch_size=2)
    kept = {one.stem for one in (run / "images").glob("*.png")}
    by_id = {row["id"]: row["key"] for row in rows_of(run)}
    wanted = {
        "all": set(by_id),
        "top": {one.id for one in (*found.top(3), *found.bests, found.first)},
        "bests": {one.id for one in (*found.bests, found.first)},
    }[keep]
    assert kept == {by_id[one] for one in wanted}
    again = replay(run / "images" / f"{by_id[found.best.id]}.png", model=CountingSampler())
    assert np.abs(again.pixels.astype(int) - np.asarray(found.image, int)).max() <= 1


def test_judges_are_not_asked_twice(tmp_path):
    asked = []

    def judge(images, prompts):
        asked.append(len(images))
        return contrast(images, prompts)

    judge.version = "1"
    options = {"run": tmp_path / "run", "judges": [judge], **ASKED}
    first = toy_search(**options)
    count = sum(asked)
    again = toy_search(**options)
    assert sum(asked) == count > 0
    assert again.best.judges == first.best.judges == load(tmp_path / "run").best.judges


def test_what_judges_cost_is_told_where_a_kill_comes_behind_them(tmp_path, monkeypatch):
    asked = {"judges": [contrast, brightness_squared], **ASKED}
    whole = toy_search(**asked)
    monkeypatch.setattr("noise_search.engine.run.Run.end", raising(Killed()))
    with pytest.raises(Killed):
        toy_search(run=tmp_path / "run", **asked)
    monkeypatch.undo()
    assert load(tmp_path / "run").ledger.judge_images == whole.ledger.judge_images > 0
    assert told(toy_search(run=tmp_path / "run", **asked)) == told(whole)


def test_ctrl_c_ends_within_a_micro_batch_and_the_rest_is_made_later(tmp_path):
    seen = []

    def interrupt(candidate):
        seen.append(candidate)
        if len(seen) == 4:
            signal.raise_signal(signal.SIGINT)

    asked = {"algorithm": "random", "nfe": 96, "batch_size": 2, "run": tmp_path / "run"}
    stopped = toy_search(on_candidate=interrupt, on_interrupt="return", **asked)
    assert len(stopped.candidates) == len(rows_of(tmp_path / "run")) == 4
    assert state_of(tmp_path / "run") == "interrupted"
    resumed = stopped.resume(on_candidate=None)
    assert told(resumed) == told(toy_search(**asked | {"run": None})) and state_of(tmp_path / "run") == "complete"


def test_sigterm_is_heeded_like_ctrl_c(tmp_path):
    def end(candidate):
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt) as ended:
        toy_search(on_candidate=end, on_interrupt="raise", run=tmp_path / "run", algorithm="random", batch_size=1)
    assert len(ended.value.result.candidates) == 1 == len(rows_of(tmp_path / "run"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_callback_that_fails_loses_nothing(tmp_path):
    asked = {"algorithm": "random", "nfe": 64, "batch_size": 4, "run": tmp_path / "run"}
    found = toy_search(on_candidate=raising(RuntimeError("mine")), **asked)
    assert isinstance(found.error, RuntimeError) and len(rows_of(tmp_path / "run")) == 4
    assert state_of(tmp_path / "run") == "failed"
    assert told(toy_search(**asked)) == told(toy_search(**asked | {"run": None}))


def test_a_full_disk_ends_the_search_with_what_it_has_and_damages_nothing(tmp_path, monkeypatch):
    run, synced = tmp_path / "run", []
    asked = {"algorithm": "random", "nfe": 64, "batch_size": 2}
    real = os.fsync

    def full(handle):
        synced.append(handle)
        if len(synced) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("noise_search.engine.run._WAIT", 0.0)
    found = toy_search(run=run, **asked)
    assert isinstance(found.error, OSError) and "No space left" in found.stop_reason
    monkeypatch.undo()
    assert len(load(run).candidates) < 8
    assert told(toy_search(run=run, **asked)) == told(toy_search(**asked))


def test_a_directory_that_cant_be_written_to_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; expected a directory"):
        toy_search(CountingSampler(fn=Mortal(0)), run=tmp_path / "file", **ASKED)


@pytest.mark.parametrize("stage", ["denoise", "score"])
def test_out_of_memory_changes_nothing_but_the_batch(tmp_path, stage):
    sampler = CountingSampler(fn=fits(2, exact_x0)) if stage == "denoise" else CountingSampler()
    verifier = FunctionVerifier(fits(2, brightness) if stage == "score" else brightness, "bright")
    verifier.version = "1"
    asked = {"nfe": 96, "algorithm": Climb(), "verifier": verifier}
    found = toy_search(sampler, run=tmp_path / "run", batch_size=8, **asked)
    plain = toy_search(batch_size=2, **asked)
    assert [one.score for one in found.candidates] == pytest.approx([one.score for one in plain.candidates], abs=1e-6)
    assert found.ledger.denoiser_rows == found.ledger.nfe + found.ledger.nfe_waste
    again = toy_search(CountingSampler(fn=Mortal(0)), run=tmp_path / "run", batch_size=8, **asked)
    assert again.ledger.denoiser_rows == found.ledger.denoiser_rows


def test_scores_that_arent_finite_come_back_as_they_were(tmp_path):
    def odd(images, prompts):
        values = [math.nan, math.inf, 1.0, -math.inf, 2.0]
        return torch.tensor([values[int(1e5 * float(one.mean())) % 5] for one in images])

    odd.version = "1"
    asked = {"verifier": odd, "nfe": 160, "algorithm": "random", "run": tmp_path / "run"}
    first, again = toy_search(**asked), toy_search(**asked)
    assert str([c.scores for c in first.candidates]) == str([c.scores for c in again.candidates])
    loaded = load(tmp_path / "run")
    assert [c.failure for c in loaded.candidates] == [c.failure for c in first.candidates]


def test_a_verifier_that_hangs_loses_the_score_that_it_was_asked_for(tmp_path):
    release, seen = threading.Event(), []

    def slow(images, prompts):
        seen.extend(images)
        if len(images) > 1 or len(seen) == 7:
            release.wait(30)
        return images.mean((1, 2, 3))

    started = time.monotonic()
    found = toy_search(verifier=slow, verifier_timeout=0.8, algorithm="random", nfe=64, batch_size=4)
    release.set()
    failed = [one.failure for one in found.candidates if one.failure]
    assert failed == ["slow failed: no score within 0.8 s"] and time.monotonic() - started < 20
    assert len(found.candidates) == 8


def test_several_prompts_share_a_directory_and_a_budget(tmp_path):
    prompts, run = ["a", "a longer prompt", "the longest prompt of all"], tmp_path / "run"
    asked = {"algorithm": "random", "share": "difficulty", "nfe": 48, "batch_size": 2}
    whole = toy_search(prompt=prompts, **asked)
    for evaluations in (9, 20, 5):
        with contextlib.suppress(Killed):
            toy_search(CountingSampler(fn=Mortal(evaluations)), prompts, run=run, **asked)
    found = toy_search(prompt=prompts, run=run, **asked)
    assert [told(one) for one in found] == [told(one) for one in whole] == [told(one) for one in load(run)]
    assert isinstance(found[0].resume(), list)


def test_no_winner_is_a_run_too(tmp_path):
    def nothing(images, prompts):
        return torch.full((len(images),), torch.nan)

    with pytest.raises(AllCandidatesFailed):
        toy_search(verifier=nothing, nfe=24, algorithm="random", run=tmp_path / "run")
    assert load(tmp_path / "run").failed


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("kill"), st.integers(0, 60)),
        st.tuples(st.just("extend"), st.integers(16, 160)),
        st.tuples(st.just("limit"), st.integers(1, 9)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, which=st.sampled_from(CLOSED))
def test_any_sequence_of_runs_kills_and_extensions_ends_where_one_run_does(tmp_path_factory, actions, which):
    run, nfe = tmp_path_factory.mktemp("any") / "run", 48
    asked = {"algorithm": which, "verifier": [brightness, contrast], "batch_size": 3, "run": run}
    for action, value in actions:
        nfe = max(nfe, value) if action == "extend" else nfe
        lives = value if action == "kill" else 10**6
        patience = value if action == "limit" else None
        with contextlib.suppress(Killed):
            toy_search(CountingSampler(fn=Mortal(lives)), nfe=nfe, patience=patience, **asked)
        if (run / "run.json").exists():
            load(run)
    found, whole = toy_search(nfe=nfe, **asked), toy_search(nfe=nfe, **asked | {"run": None})
    first, second = told(found), told(whole)
    assert first.pop("ledger")["nfe"] == second.pop("ledger")["nfe"]
    assert first == second == {name: one for name, one in told(load(run)).items() if name != "ledger"}
    keys = [row["key"] for row in rows_of(run)]
    assert len(keys) == len({*keys})


def test_what_no_search_wrote_is_refused(copy):
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**manifest, "run_version": 99}))
    with pytest.raises(ValueError, match=r"written in version 99, .* update it"):
        load(copy)
    (copy / "run.json").write_text(json.dumps({**manifest, "settings": 3}))
    with pytest.raises(ValueError, match=r"run\.json' is no manifest of a search; give another directory"):
        load(copy)
    (copy / "run.json").write_text(json.dumps(manifest))
    line = {**rows_of(copy)[0], "key": "../../x"}
    line.pop("crc", None)
    RunFiles(copy).journal.append([line])
    with pytest.raises(ValueError, match=r"is no record \(its key is '../../x'\)"):
        load(copy)
