"""Counts, lines and tables as people read them."""

import pytest

from noise_search.words import counted, one_line, table


def test_counts():
    said = [counted(count, what) for count, what in [(1, "search"), (2, "search"), (0, "seed"), (3, "family")]]
    assert said == ["1 search", "2 searches", "0 seeds", "3 families"]


def test_a_text_on_one_line():
    assert one_line("a red\ncircle\r\n\tand\0") == "a red circle and\ufffd"


ROWS = [["name", "NFE", "first", "second"], ["a", "16", "0.5 [0.25, 0.75]", "1"], ["bb", "8", "-", "-2.5"]]
WIDE = """\
name  NFE             first  second
a      16  0.5 [0.25, 0.75]       1
bb      8                 -    -2.5"""
NARROW = """\
name  NFE             first
a      16  0.5 [0.25, 0.75]
bb      8                 -

name  NFE  second
a      16       1
bb      8    -2.5"""


@pytest.mark.parametrize(("columns", "shown"), [("35", WIDE), ("34", NARROW), ("10", NARROW)])
def test_columns_that_a_terminal_has_no_room_for_follow_below(monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", columns)
    assert table(ROWS, "<>>>", named=2) == shown
