"""A journal that is cut or damaged anywhere is read as far as it is whole, and goes on there."""

import errno
import json
import logging
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_search.disk.files import plain
from noise_search.disk.journal import Journal, seal, unsealed

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


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=2))


@given(st.lists(st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=3), max_size=4), st.randoms())
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


@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_every_line_ends_in_the_checksum_of_what_is_before_it(line):
    text = json.dumps(line)
    sealed = seal(text)
    assert unsealed(sealed) == line
    assert json.loads(sealed) == {**line, "crc": f"{zlib.crc32(text.encode()):08x}"}  # any reader of JSON lines has it


def test_lines_are_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced, found = [], journal(tmp_path)
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(found.file.read_bytes()))
    found.append([{"a": 1}, {"a": 2}])
    assert synced == [b'{"a": 1, "crc": "fba18e97"}\n{"a": 2, "crc": "d08cdd54"}\n']
    found.append([])
    assert len(synced) == 1


MIDDLE = {"prompt": "*a hat* J", "scores": [0.25, -1e-05], "failure": None}


def damaged(directory, content, caplog) -> list[str]:
    """What is said of a damaged journal that nothing but whole lines of it are read from."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = journal(directory, content).lines(dict)
    whole = [{"a": 1}, MIDDLE, {"b": 2}]
    assert all(one in whole for one in found), found
    assert len(found) < len(whole) or content == seal('{"a": 1}') + b"\n", found
    return [one.getMessage() for one in caplog.records]


def test_a_bit_that_flipped_anywhere_leaves_out_its_line_which_is_named(tmp_path, caplog):
    """In text, numbers, the checksum and its name; where it makes or takes a line's end, both sides are left out."""
    before, line, after = (seal(json.dumps(one)) + b"\n" for one in ({"a": 1}, MIDDLE, {"b": 2}))
    for at in range(len(line)):
        for bit in range(8):
            torn = bytearray(line)
            torn[at] ^= 1 << bit
            said = damaged(tmp_path, before + bytes(torn) + after, caplog)
            assert said and "line 2 of " in said[0] and "is damaged (" in said[0], (at, bit, said)


def test_a_line_that_was_cut_in_the_middle_of_a_file_is_left_out(tmp_path, caplog):
    before, line, after = (seal(json.dumps(one)) + b"\n" for one in ({"a": 1}, MIDDLE, {"b": 2}))
    for cut in range(1, len(line) - 1):
        said = damaged(tmp_path, before + line[:cut] + b"\n" + after, caplog)
        assert len(said) == 1 and "line 2 of " in said[0] and "left out, and made again" in said[0], cut


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b'{"a": 1\n', "line 2 of .*lines.jsonl is damaged .*"),
        (b"\xff\n", "line 2 of .*lines.jsonl is damaged .*utf-8"),
        (b"\0\0\n", "line 2 of .*lines.jsonl is damaged"),
        (b"[1, 2]\n", r"line 2 of .* is damaged \(it holds '\[1, 2\]', expected an object in braces\)"),
        (b'{"a": 2, "crc": "d5203bd1"}\n', r"line 2 of .* is damaged \(its checksum is another\)"),
        (b'{"a": 1, "crd": "d5203bd1"}\n', r"line 2 of .* is damaged \(its checksum is none\)"),
    ],
)
def test_damage_before_the_last_line_is_left_out_and_named(tmp_path, caplog, damage, words):
    found = journal(tmp_path, b'{"a": 1}\n' + damage + b'{"a": 3}\n')
    assert found.lines(dict) == [{"a": 1}, {"a": 3}]
    [said] = [one.getMessage() for one in caplog.records]
    assert re.search(words, said) and said.endswith("it is left out, and made again")


def test_a_whole_line_that_is_refused_is_named(tmp_path):
    def read(line):
        if "refused" in line:
            raise ValueError("not that")

    found = journal(tmp_path)
    found.append([{}, {"refused": 1}])
    with pytest.raises(
        ValueError, match=r"line 2 of .*lines.jsonl' is no record \(not that\); remove it or start anew"
    ):
        found.lines(read)


def test_lines_of_earlier_versions_have_no_checksum_and_are_read(tmp_path, caplog):
    old = [{"a": 1}, {}, {"sha": "0123abcd"}, {"crc": 3, "b": 4}]
    found = journal(tmp_path, b"".join(json.dumps(one).encode() + b"\n" for one in old))
    assert found.lines(dict) == old
    found.append([{"new": 1}])
    assert found.lines(dict) == [*old, {"new": 1}] and not caplog.text


def test_ends_of_lines_that_an_editor_changed_are_no_damage(tmp_path):
    content = whole(tmp_path).replace(b"\n", b"\r\n")
    assert journal(tmp_path, content).lines(dict) == LINES


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
