"""Sheets of searches: which picture stands where, by the pixels of the page."""

import numpy as np
import pytest
import torch
from PIL import Image

from noise_search.results import sheet
from noise_search.results.sheet import save_sheets, sheets
from tiny.search import CountingSampler, brightness, contrast, toy_search

ALL = [
    toy_search(prompt=prompt, seed=seed, algorithm=algorithm, candidates=2)
    for prompt in ("a prompt", "another one")
    for seed in (0, 1000)
    for algorithm in ("random", "zero-order")
]


WIDTH, GAP = 64, 12


def blind_to_a(images, prompts):
    seen = torch.tensor([float("nan") if one == "a" else 1.0 for one in prompts])
    return seen * brightness(images, prompts)


def where(page, pixels, width=WIDTH):
    """Columns and tops at which a picture stands on a page, enlarged exactly."""
    times = width // pixels.shape[1]
    picture = pixels.repeat(times, 0).repeat(times, 1)
    whole = np.asarray(page.convert("RGB"))
    found = []
    for column, x in enumerate(range(GAP, page.width - width, width + GAP)):
        beginnings = np.flatnonzero((whole[:, x : x + width] == picture[0]).all((1, 2)))
        found += [(column, int(y)) for y in beginnings if np.array_equal(whole[y : y + width, x : x + width], picture)]
    return found


def places(page, results, width=WIDTH):
    return [where(page, one.best.pixels, width) for one in results]


def rows(found):
    """The place of each top among all tops, from above."""
    tops = sorted({top for places in found for _, top in places})
    return [{tops.index(top) for _, top in places} for places in found]


def test_rows_are_prompts_and_columns_all_else_that_differs():
    [page] = sheets(ALL, width=WIDTH)
    found = places(page, ALL)
    assert [at % 4 in {column for column, _ in one} for at, one in enumerate(found)] == [True] * 8
    assert [at // 4 in one for at, one in enumerate(rows(found))] == [True] * 8
    assert len({place for one in found for place in one}) == 8


def test_any_axis_makes_the_rows():
    for axis, of in (("seed", [0, 0, 1, 1] * 2), ("algorithm", [0, 1] * 4)):
        found = rows(places(sheets(ALL, rows=axis, width=WIDTH)[0], ALL))
        assert all(row in one for row, one in zip(of, found, strict=True)), axis


def test_a_list_flows_and_one_search_shows_what_it_kept():
    eleven = [toy_search(seed=1000 * i, candidates=1) for i in range(11)]
    found = places(sheets(eleven, width=WIDTH)[0], eleven)
    assert [one[0][0] for one in found] == [*range(8), *range(3)] and rows(found) == [{0}] * 8 + [{1}] * 3
    result = toy_search(candidates=6, top_k=4, judges=[contrast])
    kept = [one for one in result.top(6) if one.pixels is not None]
    [page] = sheets([result], width=WIDTH)
    assert len(kept) >= 4
    assert [where(page, one.pixels)[0][0] for one in kept] == list(range(len(kept)))


def test_what_differs_otherwise_or_is_missing_still_has_its_place():
    one, same = toy_search(candidates=2), toy_search(CountingSampler(steps=4), nfe=16)
    other = toy_search(prompt="another", candidates=2)
    [page] = sheets([one, same, other], width=WIDTH)
    (first,), (second,), (third,) = places(page, [one, same, other])
    assert first[0] == third[0] == 0 and second == (1, first[1]) and third[1] > first[1]
    failing = toy_search(prompt=["a", "b"], candidates=1, verifier=blind_to_a)
    assert failing[0].failed and not failing[1].failed
    [page] = sheets(failing, width=WIDTH)
    [(column, top)] = where(page, failing[1].best.pixels)
    assert column == 1
    assert (np.asarray(page)[top : top + WIDTH, GAP : GAP + WIDTH] == 0xE8).mean() > 0.3, "grey stands for none"


def test_large_sheets_are_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "_LARGEST", 330)
    pages = sheets(ALL, width=WIDTH)
    assert all(max(page.size) <= 330 for page in pages)
    paths = save_sheets(ALL, tmp_path / "all.png", width=128)
    assert [one.name for one in paths] == ["all.png", "all-2.png", "all-3.png", "all-4.png"]
    pages = [Image.open(path) for path in paths]
    assert all(max(page.size) <= 330 for page in pages)
    assert all(any(where(page, one.best.pixels, 128) for page in pages) for one in ALL)


def test_awkward_prompts_and_pictures_are_drawn():
    long, odd = toy_search(prompt="long " * 200, candidates=1), toy_search(prompt="🦊 $x^ \0", candidates=1)
    [page] = sheets([long, odd], width=50)
    assert page.height < 600, "titles are cut"
    assert len(where(sheets([odd], width=WIDTH)[0], odd.best.pixels)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": "promt"}, "unknown rows 'promt'; did you mean 'prompt'"),
        ({"width": 4}, "width=4 must be at least 16 pixels"),
    ],
)
def test_what_makes_no_sheet_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        sheets(ALL, **options)
    with pytest.raises(ValueError, match="no results"):
        sheets([])
