"""How many searches each algorithm and budget has, and whether a directory that was read is complete."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_search.comparison.comparison import Comparison
from noise_search.comparison.statistics.coverage import Coverage, span
from noise_search.comparison.store import Store
from tiny.drawn import SETTINGS, comparison, uneven
from tiny.made_up import record

parts = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["random", "paths"]), st.sampled_from([10, 20]), st.integers(0, 1)
)


@given(st.sets(parts, min_size=1))
def test_it_is_whole_where_every_combination_is_there(cells):
    found = Coverage.of([record(prompt, algorithm, budget, seed) for prompt, algorithm, budget, seed in cells])
    product = {
        (p, a, b, s)
        for p, *_ in cells for _, a, *_ in cells for *_, b, _ in cells for *_, s in cells
    }  # fmt: skip
    assert (found.searched, found.wanted) == (len(cells), len(product))
    assert found.is_whole == (cells == product) == (found.warning == "")
    by_place = [[one for one in cells if one[1:3] == place] for place in {one[1:3] for one in cells}]
    assert found.searches == (min(map(len, by_place)), max(map(len, by_place)))


@pytest.mark.parametrize(
    ("found", "settings", "complete"),
    [
        (comparison(prompts=3), SETTINGS, True),
        (uneven(), SETTINGS, False),
        (comparison(prompts=3), {**SETTINGS, "algorithms": {"random": "RandomSearch()", "begun": "Mine()"}}, False),
    ],
)
def test_a_directory_is_complete_where_every_combination_is_there(found, settings, complete, tmp_path):
    store = Store(tmp_path)
    store.write_settings(settings)
    store.add([*found.records, *found.pools])
    read = Comparison.read(tmp_path)
    assert read.complete == complete and len(read.records) == len(found.records)


def test_counts_in_words():
    assert [span((1, 1), "prompt"), span((2, 4), "prompt")] == ["1 prompt", "from 2 to 4 prompts"]
    assert str(Coverage.of([record()])) == "1 prompt and 1 search per algorithm and NFE"
