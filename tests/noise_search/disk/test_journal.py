"""A journal that is cut anywhere is read as far as it is whole, and goes on there."""

import errno
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_search.disk.files import plain
from noise_search.disk.journal import Journal

LINES = [
    {"prompt": "a hat\nof 3 €, \u2028", "scores": [0.25, None]},
    {},
    {"prompt": "\ud800", "deep": {"er": [[1], []]}},
]


def journal(directory, content=b"") -> Journal:
    found = Journal(directory, "lines.jsonl")
    found.file.write_bytes(content)
    return found


def whole(directory, lines=LINES) -> bytes:
    found = journal(directory)
    found.append(lines)
    return found.file.read_bytes()


def test_what_is_cut_at_any_byte_is_read_as_far_as_it_is_whole_and_goes_on(tmp_path, caplog):
    content = whole(tmp_path)
    for cut in range(len(content) + 1):
        found, kept = journal(tmp_path, content[:cut]), LINES[: content[:cut].count(b"\n")]
        caplog.clear()
        assert found.lines(dict) == kept, cut
        assert found.file.read_bytes() == content[:cut]  # reading writes nothing
        assert ("half a record" in caplog.text) == (not content[:cut].endswith(b"\n") and cut > 0)
        found.append(LINES[1:])
        assert found.lines(dict) == kept + LINES[1:] and found.file.read_bytes().endswith(b"\n"), cut


json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=2))


@given(st.lists(st.lists(st.dictionaries(st.text(), json, max_size=3), max_size=3), max_size=4), st.randoms())
def test_killed_again_and_again_it_holds_what_was_whole(tmp_path_factory, batches, random):
    found, kept = journal(tmp_path_factory.mktemp("journal")), []
    for batch in batches:
        found.append(batch)
        kept += batch
        content = found.file.read_bytes()
        cut = random.randint(0, len(content))
        found.file.write_bytes(content[:cut])
        kept = kept[: content[:cut].count(b"\n")]
        assert found.lines(dict) == kept


def test_lines_are_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced, found = [], journal(tmp_path)
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(found.file.read_bytes()))
    found.append([{"a": 1}, {"a": 2}])
    assert synced == [b'{"a": 1}\n{"a": 2}\n']
    found.append([])
    assert len(synced) == 1


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (b'{"a": 1\n', "line 2 of .*lines.jsonl' is no record .*; remove it or start anew"),
        (b"\xff\n", "line 2 of .*lines.jsonl' is no record .*utf-8"),
        (b"\0\0\n", "line 2 of .*lines.jsonl' is no record"),
        (b"[1, 2]\n", r"line 2 of .* is no record \(it holds '\[1, 2\]', expected an object in braces\)"),
        (b'{"refused": 1}\n', r"line 2 of .* is no record \(not that\)"),
    ],
)
def test_damage_before_the_last_line_is_named(tmp_path, damage, match):
    def read(line):
        if "refused" in line:
            raise ValueError("not that")

    with pytest.raises(ValueError, match=match):
        journal(tmp_path, b"{}\n" + damage + b"{}\n").lines(read)


def test_empty_lines_and_no_file_are_nothing(tmp_path):
    assert Journal(tmp_path, "none.jsonl").lines(dict) == []
    assert journal(tmp_path, b'\n{"a": 1}\r\n \n').lines(dict) == [{"a": 1}]


def test_settings_are_replaced_as_a_whole(tmp_path, monkeypatch):
    found = journal(tmp_path)
    assert found.settings() == {}
    found.write_settings({"steps": 8, "name": "é"})
    assert found.settings_file.read_text() == '{\n  "steps": 8,\n  "name": "\\u00e9"\n}\n'

    def full(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        found.write_settings({"steps": 9})
    assert found.settings() == {"steps": 8, "name": "é"}
    assert {one.name for one in tmp_path.iterdir()} == {"settings.json", "lines.jsonl"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_damaged_settings_are_named(tmp_path, content):
    found = journal(tmp_path)
    found.settings_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"settings.json' is no JSON .*use another directory"):
        found.settings()


@dataclass(frozen=True)
class Part:
    value: float
    file: Path = Path("a/b.png")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Part(math.nan), {"value": None, "file": "a/b.png"}),
        ({"parts": (Part(1.5),), 3: -math.inf}, {"parts": [{"value": 1.5, "file": "a/b.png"}], "3": None}),
        ([np.float64("nan"), np.int64(3), np.array([[1.0, np.inf]])], [None, 3, [[1.0, None]]]),
        ("text", "text"),
        ((True, None, 2**70), [True, None, 2**70]),
    ],
)
def test_values_are_written_as_plain_json(value, expected):
    assert repr(plain(value)) == repr(expected)
