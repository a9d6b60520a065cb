"""One writer at a time in a directory, who is named, and whose death frees it."""

import errno
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from noise_search.disk import lease as leases
from noise_search.disk.lease import LOCK, holder, lease

HOLD = """
import sys, time
from pathlib import Path
from noise_search.disk.lease import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holding(directory, seconds=60.0):
    """Another process that holds a directory."""
    command = [sys.executable, "-c", HOLD, str(directory), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_in_the_same_process_is_refused_by_name(tmp_path):
    with lease(tmp_path):
        named = rf"process {os.getpid()} on {re.escape(platform.node())} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
        with (
            pytest.raises(ValueError, match=rf"'{tmp_path}' is being written to by {named}: wait for it"),
            lease(tmp_path),
        ):
            pass
        assert re.fullmatch(named, holder(tmp_path)), "a refusal leaves the lease and its name as they are"
    assert holder(tmp_path) is None
    with lease(tmp_path):
        pass


def test_a_second_holder_in_another_process_is_refused_by_name(tmp_path):
    process = holding(tmp_path)
    try:
        with pytest.raises(ValueError, match=f"is being written to by process {process.pid} on "), lease(tmp_path):
            pass
        assert f"process {process.pid} on " in holder(tmp_path)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_who_was_killed_holds_nothing(tmp_path, how):
    process = holding(tmp_path)
    process.send_signal(how)
    process.wait()
    assert holder(tmp_path) is None, "what it wrote into the file is no lock"
    with lease(tmp_path):
        assert f"process {os.getpid()} on " in holder(tmp_path)
    assert holder(tmp_path) is None


def test_the_file_goes_with_its_holder(tmp_path):
    with lease(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert not any(tmp_path.iterdir())


def test_an_error_inside_frees_the_directory(tmp_path):
    with pytest.raises(RuntimeError), lease(tmp_path):
        raise RuntimeError
    with lease(tmp_path):
        pass


def test_nobody_holds_what_is_not_there_or_was_never_held(tmp_path):
    assert holder(tmp_path) is None and holder(tmp_path / "none") is None
    assert not any(tmp_path.iterdir()), "asking writes nothing"


def test_asking_who_holds_it_keeps_nobody_out(tmp_path):
    """Who asks about a killed one has the lock for a moment, in which a search that begins waits."""
    (tmp_path / LOCK).write_text("process 1 on a machine")
    asking = (tmp_path / LOCK).open("r+b")
    leases._lock(asking)
    threading.Timer(0.02, asking.close).start()
    with lease(tmp_path):
        assert f"process {os.getpid()} on " in holder(tmp_path)


def test_a_holder_that_goes_on_is_refused_soon(tmp_path):
    process = holding(tmp_path)
    try:
        started = time.monotonic()
        with pytest.raises(ValueError, match="is being written to"), lease(tmp_path):
            pass
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()


def test_where_there_are_no_locks_it_is_said_and_the_search_goes_on(tmp_path, monkeypatch, caplog):
    def without(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(leases, "_lock", without)
    with lease(tmp_path), lease(tmp_path):
        assert holder(tmp_path) is None
    assert "takes no locks (No locks available): let no second process write there" in caplog.text


COUNT = """
import sys
from pathlib import Path
from noise_search.disk.lease import lease
where, count = Path(sys.argv[1]), 0
while count < 100:
    try:
        with lease(where):
            file = where / "count"
            file.write_text(str(int(file.read_text()) + 1))
            count += 1
    except ValueError:
        pass
"""


def test_of_several_that_come_and_go_one_at_a_time_is_let_in(tmp_path):
    """The file goes with each, and whoever waited for it must not be let in beside who made the next."""
    (tmp_path / "count").write_text("0")
    several = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(3)]
    assert [one.wait(timeout=60) for one in several] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300" and not (tmp_path / LOCK).exists()
