"""A disk that is full costs a run what wasn't written, and never what was found."""

import errno
import os
import shutil

import pytest

from noise_search import load
from tiny.search import scores, toy_search

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(monkeypatch):
    """A disk that takes so many files and lines."""
    taken, room = [0], [10**9]

    def limited(call):
        def write(*given):
            taken[0] += 1
            if taken[0] > room[0]:
                raise FULL
            call(*given)

        return write

    def takes(count):
        taken[0], room[0] = 0, count

    monkeypatch.setattr("os.fsync", limited(os.fsync))
    monkeypatch.setattr("os.replace", limited(os.replace))
    monkeypatch.setattr("noise_search.engine.run._WAIT", 0.0)
    return takes


def test_wherever_a_disk_is_full_the_best_so_far_comes_back_and_the_run_goes_on(disk, tmp_path, caplog):
    """Of 3 micro-batches each has two pictures and its lines, after both of the manifest; the end is the twelfth."""
    options = {"candidates": 6, "batch_size": 2, "run": tmp_path / "run"}
    whole = toy_search(candidates=6, batch_size=2)
    for count in range(2, 13):
        caplog.clear()
        disk(count)
        found = toy_search(**options)
        assert scores(found) == scores(whole)[: len(found.candidates)] and found.image.size == (4, 4)
        early = count < 11
        assert ("No space left" in found.stop_reason) == early and isinstance(found.error, OSError) == early
        assert ("the run can't be written to (No space left on device)" in caplog.text) == (count < 12)
        disk(10**9)
        journalled = load(tmp_path / "run").candidates
        assert len(journalled) >= 2 * min((count - 2) // 3, 3)
        assert [one.score for one in journalled] == scores(whole)[: len(journalled)], "of lines that are whole"
        again = toy_search(**options)
        assert scores(again) == scores(whole) and again.ledger.nfe == 48 and again.stop_reason == "budget spent"
        assert load(tmp_path / "run").score == whole.score
        shutil.rmtree(tmp_path / "run")


def test_where_not_even_the_manifest_can_be_written_nothing_is_computed(disk, tmp_path):
    seen = []
    disk(0)
    with pytest.raises(OSError, match="No space left"):
        toy_search(candidates=2, run=tmp_path / "run", on_candidate=seen.append)
    assert not seen


def test_a_picture_that_can_not_be_written_again_is_in_the_result_still(disk, tmp_path, caplog):
    options = {"candidates": 2, "run": tmp_path / "run"}
    whole = toy_search(**options)
    shutil.rmtree(tmp_path / "run" / "images")
    disk(2)
    again = toy_search(**options)
    assert again.image.tobytes() == whole.image.tobytes() and "No space left" in caplog.text


def test_a_picture_that_can_not_be_made_again_loses_nothing_else(tmp_path, monkeypatch, caplog):
    def lost(*given, **more):
        raise RuntimeError("no model today")

    options = {"candidates": 2, "run": tmp_path / "run"}
    whole = toy_search(**options)
    shutil.rmtree(tmp_path / "run" / "images")
    monkeypatch.setattr("noise_search.engine.driver._made_again", lost)
    again = toy_search(**options)
    assert scores(again) == scores(whole) and again.ledger.nfe == 16
    assert "(RuntimeError: no model today)" in caplog.text
    with pytest.raises(ValueError, match=r"picture isn't in .*; resume\(\) makes it again"):
        _ = again.image
