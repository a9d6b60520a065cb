"""The thread that writes: in order, never more than one thing at a time, and errors reach its owner."""

import threading

import pytest

from noise_search.disk.writer import Writer


def test_things_are_done_in_order_and_at_most_one_is_under_way():
    writer, done, gate = Writer(), [], threading.Event()
    writer.put(lambda: (gate.wait(10), done.append(1))[0] and None)
    assert done == [], "its owner goes on"
    second = threading.Thread(target=lambda: writer.put(lambda: done.append(2)))
    second.start()
    second.join(0.05)
    assert second.is_alive(), "the second waits for the first"
    gate.set()
    second.join(10)
    writer.flush()
    assert done == [1, 2]
    writer.close()


def test_an_error_is_raised_once_where_its_owner_is_next_and_nothing_is_begun_behind_it():
    writer, done = Writer(), []

    def fail():
        raise OSError(28, "No space left on device")

    writer.put(fail)
    with pytest.raises(OSError, match="No space left"):
        writer.put(lambda: done.append(1))
    writer.put(lambda: done.append(2))
    writer.flush()
    assert done == [2]
    writer.put(fail)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
