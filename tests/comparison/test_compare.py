"""Comparisons of a closed-form model: equal NFE, common noises, one run for many budgets, going on after a stop."""

import csv
import io
import json
import logging
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from toy import CountingSampler, brightness, contrast

from noise_search import RandomSearch, ZeroOrderSearch, search
from noise_search.comparison.cells import label, spaced_seeds
from noise_search.comparison.compare import compare
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.diversity import diversities
from noise_search.comparison.multiplier import multipliers
from noise_search.comparison.records import from_json, to_json
from noise_search.comparison.schedule import Schedule, Speed
from noise_search.comparison.statistics import differences, means
from noise_search.comparison.store import Store, read
from noise_search.comparison.transfer import transfers
from noise_search.protocol import Job
from verifiers import FunctionVerifier

STEPS = 8
PROMPTS = ["a", "bb", "ccc"]


def run(**options):
    given = {"model": CountingSampler(STEPS), "verifier": brightness, "judges": [contrast], "candidates": (2, 4)}
    return compare(**{"prompts": PROMPTS, "algorithms": ["random", "zero-order"], "progress": False} | given | options)


def cells(found):
    return {one.cell: one for one in found.records}


def test_every_cell_has_a_record_within_its_budget():
    found = run(seeds=2, algorithms=["random", "zero-order", "paths"])
    assert len(found.records) == len(cells(found)) == 3 * 3 * 2 * 2
    assert found.algorithms == ("random", "zero-order", "paths") and found.budgets == (16, 32)
    assert found.seeds == (0, 1000) and found.prompts == tuple(PROMPTS) and found.complete
    for one in found.records:
        assert 0 < one.nfe <= one.budget
        assert one.rows == one.nfe  # a row per evaluation: no guidance here
        assert set(one.scores) == {"brightness"} and set(one.judges) == {"contrast"}


def test_all_algorithms_begin_with_the_same_noise_which_is_random_searchs_first():
    found = run(seeds=2, algorithms=["random", "zero-order", "paths"])
    pools = {(one.prompt, one.seed): one for one in found.pools}
    for one in found.records:
        pool = pools[one.prompt, one.seed]
        assert one.first_scores["brightness"] == pytest.approx(pool.scores["brightness"][0], abs=1e-6)
        assert one.first_judges["contrast"] == pytest.approx(pool.judges["contrast"][0], abs=1e-6)


@pytest.mark.parametrize("algorithm", ["random", "zero-order", ZeroOrderSearch(neighbours=2, chains=2)])
def test_a_run_of_the_largest_budget_answers_for_every_smaller_one(algorithm):
    found = run(algorithms=[algorithm], candidates=(1, 3, 5, 6))
    name = algorithm if isinstance(algorithm, str) else label(algorithm)
    for count in (1, 3, 5, 6):
        alone = search(PROMPTS, model=CountingSampler(STEPS), algorithm=algorithm, verifier=brightness,
                       candidates=count, judges=[contrast], progress=False)  # fmt: skip
        for prompt, result in zip(PROMPTS, alone, strict=True):
            one = cells(found)[name, prompt, count * STEPS, 0]
            assert one.scores["brightness"] == pytest.approx(result.score, abs=1e-6)
            assert one.recipe == result.recipe.to_json()
            assert one.nfe == result.ledger.nfe
            assert one.shared == (count < 6)


def test_algorithms_that_look_at_the_budget_are_run_for_each():
    model = CountingSampler(STEPS)
    found = run(model=model, algorithms=["random", "paths"])
    paths = [one for one in found.records if one.algorithm == "paths"]
    assert not any(one.shared for one in paths)
    drafts = run(algorithms=["random"], draft_steps=4, candidates=(3, 4))
    assert not any(one.shared for one in drafts.records)


def test_pools_hold_all_of_random_searchs_candidates_judged():
    found = run()
    for pool in found.pools:
        scores = search(pool.prompt, model=CountingSampler(STEPS), verifier=brightness, candidates=4, progress=False)
        assert pool.scores["brightness"] == pytest.approx([c.score for c in scores.candidates], abs=1e-6)
        assert np.isfinite(pool.judges["contrast"]).all() and len(pool.judges["contrast"]) == 4
        assert pool.nfe == STEPS


def test_a_candidate_that_violates_a_constraint_is_no_candidate_of_the_pool():
    truth = np.array([one.scores["brightness"] for one in run(candidates=(6,)).pools])
    limit = float(np.median(truth))
    dark = FunctionVerifier(lambda images, prompts: limit - images.mean((1, 2, 3)), "dark", kind="constraint")
    found = run(verifier=[contrast, dark], judges=[brightness], candidates=(6,))
    pool = np.array([one.scores["contrast"] for one in found.pools])
    assert np.array_equal(np.isnan(pool), truth > limit) and 0 < np.isnan(pool).sum() < pool.size
    assert {name for one in found.records for name in one.scores} == {"contrast"}


def test_a_prompt_without_a_winner_is_a_finding():
    never = FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)) - 99, "never", kind="constraint")
    found = run(verifier=[brightness, never])
    assert len(found.records) == 3 * 2 * 2 and all(np.isnan(one.scores["brightness"]) for one in found.records)
    assert "-" in found.table()


def test_a_directory_goes_on_where_it_stopped_and_grows(tmp_path, caplog):
    whole = run(seeds=2)
    calls = []

    def interrupted(images, prompts):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return brightness(images, prompts)

    model = CountingSampler(STEPS)
    stopping = FunctionVerifier(interrupted, "brightness")
    stopping.version = "1"
    with caplog.at_level(logging.WARNING):
        part = run(seeds=2, out=tmp_path, verifier=stopping, model=model)
    assert not part.complete and 0 < len(part.records) < len(whole.records)
    assert "cells to go" in caplog.text
    calls = [0] * 100
    before = model.rows
    done = run(seeds=2, out=tmp_path, verifier=stopping, model=model)
    assert done.complete and len(done.records) == len(whole.records)
    for cell, one in cells(done).items():
        assert one.scores == pytest.approx(cells(whole)[cell].scores)
    assert model.rows - before < 2 * 4 * STEPS * 6  # less than everything once more
    before = model.rows
    assert len(run(seeds=2, out=tmp_path, verifier=stopping, model=model).records) == len(whole.records)
    assert model.rows == before
    grown = run(prompts=["a", "dddd"], seeds=3, out=tmp_path, verifier=stopping, candidates=(2, 4, 8), model=model)
    assert {"dddd", *PROMPTS} == set(grown.prompts) and grown.budgets == (16, 32, 64) and len(grown.seeds) == 3
    assert cells(grown)["random", "a", 32, 0] == cells(done)["random", "a", 32, 0]
    assert Comparison.read(tmp_path).records == grown.records


def test_half_a_line_is_made_again_and_other_damage_is_named(tmp_path, caplog):
    found = run(out=tmp_path)
    file = tmp_path / "records.jsonl"
    content = file.read_text()
    file.write_text(content[:-40])
    with caplog.at_level(logging.WARNING):
        again = run(out=tmp_path)
    assert "half a record" in caplog.text and len(again.records) == len(found.records)
    assert len(read(file)) >= len(found.records)
    file.write_text('{"kind": "record"}\n' + content)
    with pytest.raises(ValueError, match=r"line 1 of .*records.jsonl' is no record"):
        run(out=tmp_path)


def test_what_can_not_be_compared_is_not_mixed(tmp_path):
    run(out=tmp_path)
    with pytest.raises(ValueError, match="was made with another verifier"):
        run(out=tmp_path, verifier=contrast, judges=[brightness])
    with pytest.raises(ValueError, match="was made with another model"):
        run(out=tmp_path, model=CountingSampler(4))
    with pytest.raises(ValueError, match=r"has 'mine' as ZeroOrder.*give it another label"):
        run(out=tmp_path, algorithms={"mine": "zero-order"})
        run(out=tmp_path, algorithms={"mine": ZeroOrderSearch(neighbours=2)})


def test_a_comparison_goes_on_with_other_versions_and_devices_but_not_in_another_precision(tmp_path, caplog):
    class Described(CountingSampler):
        more: ClassVar[dict[str, str]] = {}

        def describe(self):
            return {**super().describe(), **self.more}

    model = Described(STEPS)
    Described.more = {"device": "cuda:0", "dtype": "float32", "versions": "2.11"}
    done = run(out=tmp_path, model=model)
    Described.more = {"device": "cpu", "dtype": "float32", "versions": "2.14"}
    before = model.rows
    with caplog.at_level(logging.WARNING):
        again = run(out=tmp_path, model=model)
    assert model.rows == before and again.records == done.records
    assert "goes on on cpu, from cuda:0" in caplog.text
    Described.more = {"device": "cpu", "dtype": "bfloat16", "versions": "2.14"}
    with pytest.raises(ValueError, match="another model: dtype is bfloat16 here, float32 recorded"):
        run(out=tmp_path, model=model)


@dataclass(frozen=True)
class Peeks:
    """Declares nothing of budgets, as an algorithm from elsewhere may."""

    name: ClassVar[str] = "peeks"
    whole_calls: ClassVar[bool] = True

    def plan(self, problem):
        yield Job(problem.fresh(problem.nfe_total // problem.space.end), problem.space.end)


def test_own_algorithms_and_labels():
    found = run(algorithms={"mine": Peeks(), "zo 2": ZeroOrderSearch(neighbours=2)})
    assert found.algorithms == ("random", "mine", "zo 2")
    same = [cells(found)[name, "a", 32, 0].scores for name in ("random", "mine")]
    assert same[0] == pytest.approx(same[1])
    assert label(ZeroOrderSearch(neighbours=8)) == "zero-order(neighbours=8)" and label(RandomSearch()) == "random"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"algorithms": "random"}, "expected several"),
        ({"algorithms": ["randm"]}, "unknown algorithm 'randm'; did you mean 'random'"),
        ({"algorithms": ["zero-order", ZeroOrderSearch()]}, "expected different ones"),
        ({"algorithms": {"random": "zero-order"}}, "label 'random' is that of random search"),
        ({"candidates": (0,)}, "candidates=0 is below one trajectory"),
        ({"candidates": None, "budgets": (7,)}, "nfe=7 is below one trajectory"),
        ({"budgets": (16,)}, "both given"),
        ({"candidates": ()}, "no budget was given"),
        ({"seeds": (0, 3)}, "seeds 0 and 3 share noises"),
        ({"seeds": ()}, "no seed was given"),
        ({"prompts": [""]}, "empty"),
        ({"prompts": []}, "prompt"),
        ({"stpes": 3}, "takes no stpes"),
        ({"judges": ["orcale"]}, "unknown judge 'orcale'"),
        ({"pictured": -1}, "pictured=-1"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        run(**options)


def test_rows_are_tidy_and_csv_reads_back():
    found = run(seeds=2)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(found.records)
    assert [float(row["score:brightness"]) for row in rows] == [one.scores["brightness"] for one in found.records]
    assert {"prompt", "algorithm", "budget", "seed", "nfe", "seconds", "judge:contrast"} <= rows[0].keys()
    for one in (*found.records, *found.pools):
        assert from_json(json.loads(json.dumps(to_json(one)))) == one


def test_rows_tell_how_far_the_winners_of_a_prompt_lie_apart():
    found = run(seeds=2, prompts=["a"], algorithms=["random"], candidates=(2,))
    first, second = (np.array(one.embedding) for one in found.records)
    assert [row["diversity"] for row in found.rows()] == pytest.approx([1 - first @ second] * 2, abs=1e-4)
    assert [row["diversity"] for row in run(prompts=["a"]).rows()] == [None] * 4


def test_its_statistics_are_methods():
    found = run(seeds=2)
    assert found.means() == means(found.records, found.pools) and found.means("contrast") != found.means()
    assert found.differences("contrast") == differences(found.records, found.pools, "contrast")
    assert found.multipliers() == multipliers(found.records, found.pools)
    assert str(found.transfers()) == str(transfers(found.records, found.pools))  # some are NaN
    assert found.diversities() == diversities(found.records)


def test_rows_go_to_pandas_and_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    found = run(seeds=2)
    frame = found.to_pandas()
    assert list(frame.columns) == list(found.rows()[0]) and len(frame) == len(found.records)
    again = pandas.read_parquet(found.to_parquet(tmp_path / "records.parquet"))
    pandas.testing.assert_frame_equal(again, frame, check_dtype=False)
    best = again.groupby(["algorithm", "budget"])["score:brightness"].mean()
    mean = np.mean([one.scores["brightness"] for one in found.records if (one.algorithm, one.budget) == ("random", 32)])
    assert best["random", 32] == pytest.approx(mean)


@pytest.mark.parametrize(("module", "call"), [("pandas", "to_pandas"), ("pyarrow", "to_parquet")])
def test_without_pandas_or_pyarrow_one_line_says_what_to_install(module, call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    found = run()
    with pytest.raises(ImportError, match=rf"needs {module}: pip install 'noise-search\[tables\]'"):
        getattr(found, call)(*([tmp_path / "x.parquet"] if call == "to_parquet" else []))


def test_the_table_says_what_was_found():
    text = str(run(seeds=2))
    lines = text.splitlines()
    assert len(lines) >= 2 + 4 and "best-of-N worth" in lines[1]
    assert [line.split()[:2] for line in lines[2:6]] == [
        [name, nfe] for nfe in ("16", "32") for name in ("random", "zero-order")
    ]


def test_seeds_leave_room_for_the_noises_of_each_other():
    assert spaced_seeds(3, 64) == (0, 1000, 2000)
    assert spaced_seeds(2, 4000) == (0, 10000)


def test_large_pictures_are_searched_in_fewer_prompts_at_once():
    schedule = Schedule(None, Store(None), (STEPS * 64,), (0,), STEPS)  # what runs is not asked here
    small, large = (Speed(nfe=1e-6, judged=0.0, picture=3 * side**2) for side in (64, 1024))
    assert [schedule._chunk(STEPS * 64, speed) for speed in (small, large)] == [24, 2]
    slow = Speed(nfe=0.01, judged=0.0, picture=1)
    assert schedule._chunk(STEPS * 64, slow) == 5  # of about 30 seconds


def test_images_stay_those_of_their_prompt_when_the_order_changes_or_labels_look_alike(tmp_path):
    zero_order = {"my zo": "zero-order", "my-zo": ZeroOrderSearch(neighbours=2)}
    run(prompts=["bb", "ccc"], algorithms=zero_order, out=tmp_path)
    found = run(prompts=PROMPTS, algorithms=zero_order, out=tmp_path)
    assert len({one.image for one in found.records}) == len(found.records)
    for one in found.records:
        with Image.open(tmp_path / one.image) as image:
            assert json.loads(image.text["noise_search"])["prompt"] == one.prompt
            assert np.asarray(image).mean() / 255 == pytest.approx(one.scores["brightness"], abs=0.01)
