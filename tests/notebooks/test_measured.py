"""The numbers of the pages are those that are stored, and what the pages say of them follows."""

import re

import pytest

from notebooks import measured
from notebooks.wording import clear, difference, number, paragraph, table, told


def page(name):
    return (measured.ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", measured.PAGES)
def test_a_page_is_as_it_would_be_written_anew(name):
    assert page(name) == measured.written(page(name))


def test_every_block_stands_on_a_page_once():
    assert sorted(one for name in measured.PAGES for one in measured.names(page(name))) == sorted(measured.BLOCKS)


def test_what_the_pages_claim_follows_from_the_numbers():
    assert [claim for claim, holds in measured.claims().items() if not holds] == []


def test_no_measured_number_is_typed():
    for text in (page("notebooks/README.md"), page("README.md").split("\n## What search buys\n")[1].split("\n## ")[0]):
        typed = re.sub(r"<!-- measured: .*?<!-- end -->", "", text, flags=re.DOTALL).replace("2501.09732", "")
        assert re.findall(r"±|\d\.\d\d", typed) == []


def test_a_number_that_was_typed_or_a_claim_that_fails_is_seen(monkeypatch):
    text = page("notebooks/README.md")
    assert measured.written(text.replace("2.374", "2.474", 1)) == text
    monkeypatch.setattr(measured.bench, "claims", lambda: {"the moon is cheese": False})
    monkeypatch.setattr(measured, "PAGES", ())
    with pytest.raises(SystemExit, match="the moon is cheese"):
        measured.main()


def test_how_numbers_are_put():
    assert (
        number(-0.0004, 3) == "-0.000"
        and number(-1e-17, 2, "+") == "+0.00"
        and number(0.5, 1, "+") == "+0.5"
        and number(66.0, 0) == "66"
    )
    assert told((2.3, -0.001, 4.0), 1) == "2.3 [-0.0, 4.0]"
    assert (
        difference((-0.2, -0.3, -0.1), 1) == "**-0.2** [-0.3, -0.1]" and difference((0.2, 0, 1), 1) == "0.2 [0.0, 1.0]"
    )
    assert clear((1, 0.5, 2)) and not clear((1, 0, 2))
    assert table(["", 4], {"`a`": ["1"]}) == "| | 4 |\n|---|---|\n| `a` | 1 |"
    assert paragraph("a" * 70, "b" * 70) == f"{'a' * 70}\n{'b' * 70}"
