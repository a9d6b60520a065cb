"""Comparisons of a closed-form model: equal NFE, common noises, one run for many budgets, going on after a stop."""

import copy
import csv
import io
import itertools
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from noise_search import RandomSearch, SearchOverPaths, ZeroOrderSearch, search
from noise_search.algorithms.base import Job
from noise_search.comparison.cells import as_seeds, label, own_noises, spaced_seeds
from noise_search.comparison.compare import compare
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.running import Schedule, Speed
from noise_search.comparison.statistics.diversity import diversities
from noise_search.comparison.statistics.means import differences, means
from noise_search.comparison.statistics.multiplier import multipliers
from noise_search.comparison.statistics.transfer import transfers
from noise_search.comparison.store import SAVED, Store
from noise_search.disk.journal import Journal
from tiny import made_up
from tiny.pipelines import tiny
from tiny.search import CountingSampler, brightness, contrast
from verifiers import FunctionVerifier
from verifiers.aggregators.ranks import MeanRank

STEPS = 8
PROMPTS = ["a", "bb", "ccc"]


def run(**options):
    given = {"model": CountingSampler(STEPS), "verifier": brightness, "judges": [contrast], "candidates": (2, 4)}
    return compare(**{"prompts": PROMPTS, "algorithms": ["random", "zero-order"], "progress": False} | given | options)


@dataclass(frozen=True)
class Peeks:
    """Declares nothing of budgets, as an algorithm from elsewhere may."""

    name: ClassVar[str] = "peeks"
    whole_calls: ClassVar[bool] = True

    def plan(self, problem):
        yield Job(problem.fresh(problem.nfe_total // problem.space.end), problem.space.end)


class Plain:
    """As bare as an algorithm may be."""

    name, whole_calls = "plain", True

    def plan(self, problem):
        yield Job(problem.fresh(1), problem.space.end)


@dataclass(frozen=True)
class Twice(Peeks):
    """Knows a better noise than random search's first ones, as it looks further along their row."""

    name: ClassVar[str] = "twice"

    def plan(self, problem):
        yield Job(problem.fresh(1), problem.space.end)
        problem.fresh(40)
        yield Job(problem.fresh(problem.nfe_left // problem.space.end), problem.space.end)


def cells(found):
    return {one.cell: one for one in found.records}


def noises(found, seed=0):
    """The seed of each prompt's first noise, in their order."""
    return [cells(found)["random", prompt, found.budgets[0], seed].noise for prompt in PROMPTS]


def rewrite(directory, change):
    """Let `change` turn the lines of a directory's records, as JSON, into others, as of an earlier version."""
    journal = Journal(directory, "records.jsonl")
    lines = change(journal.lines(dict))
    journal.file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def scorer(name, version="1", of=lambda images, prompts: images.amax((1, 2, 3))):
    found = FunctionVerifier(of, name)
    found.version = version
    return found


def said(caplog, match, **options):
    """What a run finds that warns of `match`."""
    with caplog.at_level(logging.WARNING):
        found = run(**options)
    assert match in caplog.text
    return found


def test_every_cell_has_a_record_within_its_budget_from_the_noise_that_is_random_searchs_first():
    found = run(seeds=2, algorithms=["random", "zero-order", "paths"])
    assert len(found.records) == len(cells(found)) == 3 * 3 * 2 * 2
    assert found.algorithms == ("random", "zero-order", "paths") and found.budgets == (16, 32)
    assert found.seeds == (0, 1000) and found.prompts == tuple(PROMPTS) and found.complete
    pools = {(one.prompt, one.seed): one for one in found.pools}
    for one in found.records:
        assert 0 < one.nfe <= one.budget
        assert one.rows == one.nfe  # a row per evaluation: no guidance here
        assert set(one.scores) == {"brightness"} and set(one.judges) == {"contrast"}
        pool = pools[one.prompt, one.seed]
        assert one.first_scores["brightness"] == pytest.approx(pool.scores["brightness"][0], abs=1e-6)
        assert one.first_judges["contrast"] == pytest.approx(pool.judges["contrast"][0], abs=1e-6)


def test_each_prompt_has_noises_of_its_own_which_follow_from_its_text(tmp_path):
    found = run(seeds=2, out=tmp_path, algorithms=["random", "zero-order", "paths"])
    first = {one.prompt: one.offset for one in found.records}
    assert len(set(first.values())) == 3 and {(one.prompt, one.offset) for one in found.records} == set(first.items())
    for one in found.records:
        operations = json.loads(one.recipe)
        assert operations[0]["seed"] - first[one.prompt] - one.seed in range(5)
    assert noises(found, 1000) == [1000 + one for one in noises(found)]
    alone = run(prompts=["ccc"], algorithms=["random"])
    assert cells(alone)["random", "ccc", 32, 0].recipe == cells(found)["random", "ccc", 32, 0].recipe
    assert {one.offset for one in Comparison.read(tmp_path).pools} == set(first.values())


def test_a_directory_whose_prompts_share_noises_goes_on_with_them(tmp_path):
    run(out=tmp_path)
    rewrite(tmp_path, lambda lines: [{name: one[name] for name in one if name != "offset"} for one in lines])
    old = Comparison.read(tmp_path)
    assert {one.noise for one in old.records} == {0}
    assert all(np.isnan(one.score.low) for one in old.means())
    grown = run(out=tmp_path, seeds=2, prompts=[*PROMPTS, "dddd"])
    shared = {(one.prompt, one.seed): one.noise for one in grown.records}
    assert [shared[prompt, seed] for prompt in PROMPTS for seed in (0, 1000)] == [0, 1000] * 3
    assert shared["dddd", 0] > 2**16 and shared["dddd", 1000] == shared["dddd", 0] + 1000


def test_noises_of_prompts_never_meet():
    texts = [f"prompt {i}" for i in range(3000)]
    found = own_noises(texts, (0, 1000), 64, {})
    starts = sorted(found.values())
    assert min(np.diff(starts)) >= 2**16 and 2**16 <= starts[0] and starts[-1] < 2**32
    first = dict(list(found.items())[:2000])
    assert own_noises(texts[2000:], (0, 1000), 64, first) == found  # whatever stood there before keeps its noises
    moved = own_noises(["a", "b"], (0,), 4, {"a": own_noises(["b"], (0,), 4, {})["b"]})
    assert moved["a"] != moved["b"]
    with pytest.raises(ValueError, match="take all noises that there are"):
        own_noises(texts, (0,), 2**24, {})


def test_the_pool_grows_until_what_algorithms_are_worth_is_told_and_goes_on_where_it_stopped(tmp_path, capsys):
    asked = {
        "prompts": [*"abcdefghi"],
        "algorithms": {"twice": Twice()},
        "diagnosed": 0,
        "pictured": 0,
        "out": tmp_path,
    }
    model = CountingSampler(STEPS)
    small = run(**asked, model=model)
    assert {len(one) for one in small.pools} == {4}
    bound = {one.budget: one.times for one in small.multipliers() if one.algorithm == "twice"}[32]
    assert "high" in bound.at_least and bound.high == pytest.approx(1)
    before = model.rows
    large = run(**asked, model=model, pool_limit=8, progress=True)
    (size,) = {len(one) for one in large.pools}
    assert size in (8, 16, 32) and model.rows - before == 9 * (size - 4) * STEPS
    assert large.records == small.records
    for pool in large.pools:
        whole = search(pool.prompt, model=CountingSampler(STEPS), verifier=brightness, candidates=size,
                       seed=pool.offset, judges=[contrast], top_k=size, progress=False, algorithm="random")  # fmt: skip
        assert pool.scores["brightness"] == pytest.approx([one.score for one in whole.candidates], abs=1e-6)
        assert np.isfinite(pool.judges["contrast"]).all() and len(pool.judges["contrast"]) == size
    rewrite(tmp_path, lambda lines: lines[:-1])  # as if it had been stopped within the last round
    again = run(**asked, pool_limit=8)
    assert [one.scores for one in again.pools] == [one.scores for one in large.pools]
    before = model.rows
    assert run(**asked, model=model, pool_limit=8).pools == again.pools and model.rows == before


def test_what_the_pool_may_grow_by_is_told_before_a_start(capsys):
    run(progress=True, algorithms=["random"], candidates=(2,), pool_limit=4)
    said = capsys.readouterr().err
    assert f"and up to {3 * 2 * 3} further random candidates ({3 * 2 * 3 * STEPS} NFE), as pool_limit allows" in said


@pytest.mark.parametrize("algorithm", ["random", "zero-order", ZeroOrderSearch(neighbours=2, chains=2)])
def test_a_run_of_the_largest_budget_answers_for_every_smaller_one(algorithm):
    found = run(algorithms=[algorithm], candidates=(1, 3, 5, 6))
    name = algorithm if isinstance(algorithm, str) else label(algorithm)
    for count in (1, 3, 5, 6):
        alone = search(PROMPTS, model=CountingSampler(STEPS), algorithm=algorithm, verifier=brightness,
                       candidates=count, judges=[contrast], seed=noises(found), progress=False)  # fmt: skip
        for prompt, result in zip(PROMPTS, alone, strict=True):
            one = cells(found)[name, prompt, count * STEPS, 0]
            assert one.scores["brightness"] == pytest.approx(result.score, abs=1e-6)
            assert one.recipe == result.recipe.to_json()
            assert one.nfe == result.ledger.nfe
            assert one.shared == (count < 6)


@pytest.mark.parametrize("by", [{}, {"ensemble": "mean-rank"}], ids=["mean-z", "mean-rank"])
def test_several_verifiers_choose_as_a_run_of_each_budget_would_and_are_told_on_one_scale(by):
    both = {"verifier": [brightness, contrast], **by}
    both |= {"model": CountingSampler(2)}
    prompts, names, seed = ["a", "bb"], ("random", "zero-order"), 200
    found = run(prompts=prompts, algorithms=names, candidates=(4, 9), seeds=[seed], judges=[], **both)
    own = {(name, budget): [] for name in names for budget in found.budgets}
    for prompt, pool in zip(prompts, found.pools, strict=True):
        spread = {verifier: (np.mean(scores), np.std(scores)) for verifier, scores in pool.scores.items()}
        for name, budget in own:
            noise = seed + pool.offset
            alone = search(prompt, algorithm=name, nfe=budget, seed=noise, progress=False, **both)
            one = cells(found)[name, prompt, budget, seed]
            assert one.recipe == alone.recipe.to_json(), "scores against what came later chose it"
            own[name, budget].append(np.mean([(one.scores[v] - mean) / std for v, (mean, std) in spread.items()]))
    means = {cell: np.mean(z) for cell, z in own.items()}
    assert {(one.algorithm, one.budget): one.score.value for one in found.means()} == pytest.approx(means)
    assert {(one.algorithm, one.budget): one.score for one in found.multipliers()} == pytest.approx(means)
    apart = {budget: means["zero-order", budget] - means["random", budget] for budget in found.budgets}
    assert {one.budget: one.difference.value for one in found.differences()} == pytest.approx(apart)


def test_algorithms_that_look_at_the_budget_are_run_for_each():
    paths = [one for one in run(algorithms=["paths"]).records if one.algorithm == "paths"]
    drafts = run(algorithms=["random"], draft_steps=4, candidates=(3, 4))
    assert not any(one.shared for one in (*paths, *drafts.records))


def test_pools_hold_all_of_random_searchs_candidates_judged():
    found = run()
    for pool in found.pools:
        scores = search(
            pool.prompt,
            model=CountingSampler(STEPS),
            verifier=brightness,
            candidates=4,
            seed=pool.offset,
            progress=False,
            algorithm="random",
        )
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
    whole = run(seeds=2, diagnosed=0)
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
        part = run(seeds=2, diagnosed=0, out=tmp_path, verifier=stopping, model=model, on_interrupt="return")
    assert not part.complete and 0 < len(part.records) < len(whole.records)
    assert "cells to go" in caplog.text
    calls = [0] * 100
    before = model.rows
    done = run(seeds=2, diagnosed=0, out=tmp_path, verifier=stopping, model=model)
    assert done.complete and len(done.records) == len(whole.records)
    for cell, one in cells(done).items():
        assert one.scores == pytest.approx(cells(whole)[cell].scores)
    assert model.rows - before < 2 * 4 * STEPS * 6  # less than everything once more
    before = model.rows
    assert len(run(seeds=2, diagnosed=0, out=tmp_path, verifier=stopping, model=model).records) == len(whole.records)
    assert model.rows == before
    grown = run(
        prompts=["a", "dddd"], seeds=3, diagnosed=0, out=tmp_path, verifier=stopping, candidates=(2, 4, 8), model=model
    )
    assert {"dddd", *PROMPTS} == set(grown.prompts) and grown.budgets == (16, 32, 64) and len(grown.seeds) == 3
    assert cells(grown)["random", "a", 32, 0] == cells(done)["random", "a", 32, 0]
    assert Comparison.read(tmp_path).records == grown.records


@pytest.mark.parametrize("pools_first", [True, False], ids=["pools first", "records first"])
def test_a_file_that_is_cut_anywhere_is_made_whole_again(tmp_path, pools_first):
    asked = {"prompts": PROMPTS[:2], "candidates": (1, 2), "out": tmp_path, "pictured": 0, "diagnosed": 0}
    whole = run(**asked)
    file = tmp_path / "records.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    if not pools_first:  # as it was written once
        lines.sort(key=lambda line: json.loads(line)["kind"] == "pool")
    content = "".join(lines)
    ends = [0, *np.cumsum([len(line) for line in lines]).tolist()]
    for cut in sorted({at for end in ends for at in (end - 1, end, end + 1, end + 200) if 0 <= at <= len(content)}):
        file.write_text(content[:cut])
        found = run(**asked)
        assert found.complete and cells(found).keys() == cells(whole).keys(), cut
        assert {(one.prompt, one.seed, len(one)) for one in found.pools} == {("a", 0, 2), ("bb", 0, 2)}, cut
        assert len(multipliers(found.records, found.pools)) == 4, cut
        assert Comparison.read(tmp_path).records == found.records, cut


def test_a_pool_that_is_shorter_than_its_records_is_made_again(tmp_path):
    asked = {"prompts": ["a"], "algorithms": ["random"], "out": tmp_path}
    run(**asked, candidates=(2,))
    run(**asked, candidates=(2, 4))
    rewrite(
        tmp_path,
        lambda lines: [one for one in lines if one["kind"] == "record" or len(one["scores"]["brightness"]) == 2],
    )
    assert [len(one) for one in Comparison.read(tmp_path).pools] == [2]
    assert [len(one) for one in run(**asked, candidates=(2, 4)).pools] == [4]


def test_reading_writes_nothing(tmp_path, monkeypatch):
    run(out=tmp_path)
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    refused = pytest.fail
    monkeypatch.setattr("noise_search.comparison.store.check_writable", lambda place: refused(f"{place} is tried"))
    monkeypatch.setattr("noise_search.disk.journal.write_atomically", lambda *_: refused("something is written"))
    assert Comparison.read(tmp_path).records
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()} == before


def test_half_a_line_is_made_again_and_other_damage_is_named(tmp_path, caplog):
    found = run(out=tmp_path)
    file = tmp_path / "records.jsonl"
    content = file.read_text()
    file.write_text(content[:-40])
    again = said(caplog, "half a record", out=tmp_path)
    assert len(again.records) == len(found.records) and Comparison.read(tmp_path).records == again.records
    for line, match in (
        ('{"kind": "record"}', "a record has other fields than prompt, .*missing"),
        ('{"kind": "pool", "more": 1}', "a pool has other fields than prompt, .*more"),
        ("{}", "kind is None; expected one of record, pool"),
    ):
        file.write_text(f"{line}\n{content}")
        with pytest.raises(ValueError, match=f"line 1 of .*records.jsonl' is no record .*{match}"):
            run(out=tmp_path)


class Described(CountingSampler):
    def __init__(self, device="cpu", dtype="float32", versions="2.14"):
        super().__init__(STEPS)
        self.more = {"device": device, "dtype": dtype, "versions": versions}

    def describe(self):
        return {**super().describe(), **self.more}


@dataclass(frozen=True)
class Renoises:
    """An algorithm from elsewhere, whose steps are a function."""

    name: ClassVar[str] = "renoises"
    whole_calls: ClassVar[bool] = True

    change: Callable
    version: str = ""

    def plan(self, problem):
        first = problem.fresh(1)
        yield Job(first, problem.space.end)
        yield Job(self.change(problem, first), problem.space.end)


def near(cosine, version=""):
    return Renoises(lambda problem, noise: problem.space.neighbour(noise, problem.seeds(1), cosine=cosine), version)


def darker(factor, version=None):
    def darker(images, prompts):
        return images.mean((1, 2, 3)) * factor

    if version is not None:
        darker.version = version
    return darker


class Halved(MeanRank):
    """An aggregator of the user's own."""

    by = 2

    def values(self, table):
        return super().values(table) / self.by


class Thirded(Halved):
    by = 3


Thirded.__qualname__ = Thirded.__name__ = "Halved"
CHANCE = np.random.default_rng(0)


def guessing(images, prompts):
    return CHANCE.random(len(images))


FIRST, SECOND, THIRD, NEWER = scorer("first"), scorer("second"), scorer("third"), scorer("second", "2")


@pytest.mark.parametrize(
    ("made", "asked", "match"),
    [
        ({}, {"verifier": contrast, "judges": [brightness]}, "was made with another verifier"),
        ({"verifier": FIRST}, {"verifier": THIRD}, "another verifier: without verifier 'third', with verifier 'first'"),
        ({}, {"model": CountingSampler(4)}, "was made with another model"),
        ({"model": Described()}, {"model": Described(dtype="bfloat16")},
         "another model: dtype is bfloat16 here, float32 recorded"),
        ({"algorithms": {"mine": "zero-order"}}, {"algorithms": {"mine": ZeroOrderSearch(neighbours=2)}},
         "has 'mine' as ZeroOrder.*give it another label"),
        ({}, {"judges": [contrast, FIRST]}, "was made without judge 'first', whose scores its records lack"),
        ({}, {"judges": [contrast, FIRST, THIRD]}, "was made without judges 'first', 'third', whose .* leave them out"),
        ({"judges": [FIRST, SECOND]}, {"judges": [FIRST]}, "another judge: with judge 'second': use another directory"),
        ({"judges": [FIRST, SECOND]}, {"judges": [FIRST, THIRD]},
         "another judge: without judge 'third', with judge 'second': use"),
        ({"judges": [SECOND]}, {"judges": [NEWER]}, "with judge 'second' in version 1, which is 2 here"),
        ({"verifier": darker(1.0)}, {"verifier": darker(2.0), "prompts": ["a", "bb"]},
         r"with verifier 'darker' in version [0-9a-f]{8}-py[\d.]+, which is [0-9a-f]{8}-py[\d.]+ here: use "),
        ({"verifier": darker(1.0, "1")}, {"verifier": darker(1.0, "2")}, "'darker' in version 1, which is 2 here"),
        ({"algorithms": {"own": near(0.9)}}, {"algorithms": {"own": near(-0.9)}},
         r"has algorithm 'own' in version [0-9a-f]{8}-py[\d.]+, which is .* here: give it another label"),
        ({"algorithms": {"own": near(0.9)}}, {"algorithms": {"own": near(0.9, "2")}}, "has 'own' as .*; here it is"),
        ({"verifier": Halved(brightness)}, {"verifier": Thirded(brightness)}, "has ensemble in version .*, which is"),
        ({"draft_steps": 4}, {"draft_steps": 2},
         'another drafts: {"steps": 4, "renders": null}; here it is {"steps": 2,'),
        ({"seeds": [0, 2], "candidates": (2,)}, {"seeds": [0], "candidates": (8,)},
         "seeds 0 and 2 share noises, as a search draws 8 from 0; .* of seeds 0, 2: use"),
        ({"seeds": [2, 10], "candidates": (7,)}, {"seeds": [8], "candidates": (1,)},
         "seeds 2 and 8 share noises, as a search draws 7 from 2"),
    ],
)  # fmt: skip
def test_what_can_not_be_compared_is_not_mixed(made, asked, match, tmp_path):
    given = {"out": tmp_path, "prompts": ["a"], "algorithms": ["random"], "candidates": (4,), "diagnosed": 0}
    done = run(**given | made)
    with pytest.raises(ValueError, match=match):
        run(**given | asked)
    assert run(**given | made).records == done.records


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({"judges": [FIRST, SECOND]}, {"judges": [SECOND, FIRST]}),
        ({"seeds": [0, 2], "candidates": (2,)}, {"seeds": [2, 10], "candidates": (8,)}),
        ({"model": Described("cuda:0", versions="2.11")}, {"model": Described()}),
        ({"verifier": darker(1.0)}, {"verifier": darker(1.0)}),
        ({"verifier": darker(1.0, "1")}, {"verifier": darker(2.0, "1")}),
        ({"algorithms": {"own": near(0.9)}}, {"algorithms": {"own": near(0.9)}}),
        ({"algorithms": [Plain()]}, {"algorithms": [Plain()]}),
    ],
    ids=[
        "another order of judges",
        "seeds further away",
        "another device",
        "a function",
        "a function of a version",
        "an algorithm of a function",
        "an algorithm without a repr",
    ],
)
def test_what_can_be_compared_goes_on(made, asked, tmp_path, caplog):
    done, again = (run(out=tmp_path, prompts=["a"], diagnosed=0, **one) for one in (made, asked))
    assert again.complete and all(cells(again)[cell] == one for cell, one in cells(done).items())
    assert ("goes on on cpu, from cuda:0" in caplog.text) == ("model" in made)


def rewrite_settings(directory, change):
    """Let `change` edit the settings of a directory, as JSON."""
    file = directory / "settings.json"
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))


def test_what_nothing_tells_apart_does_not_go_on(tmp_path):
    given = {"out": tmp_path, "prompts": ["a"], "algorithms": ["random"], "candidates": (2,), "diagnosed": 0}
    run(**given, verifier=guessing)
    with pytest.raises(
        ValueError, match=r"can't go on with verifier 'guessing', .*uses CHANCE, a Generator.*`version`"
    ):
        run(**given, verifier=guessing)
    assert run(**given, verifier=scorer("mine"), overwrite=True).verifiers == ("mine",)


def test_code_of_another_python_is_not_compared(tmp_path):
    given = {"out": tmp_path, "prompts": ["a"], "algorithms": {"own": near(0.9)}, "candidates": (2,), "diagnosed": 0}
    run(**given)
    rewrite_settings(tmp_path, lambda known: known["own"].update({"algorithm 'own'": "12345678-py3.9"}))
    with pytest.raises(ValueError, match=r"in version 12345678-py3\.9, .*can't be compared between versions of Python"):
        run(**given)
    rewrite_settings(tmp_path, lambda known: known.pop("own"))
    with pytest.raises(ValueError, match=r"has algorithm 'own' in version unknown, which is"):
        run(**given)


def test_a_newer_field_of_an_algorithm_stops_no_directory(tmp_path):
    def recorded(text):
        rewrite_settings(tmp_path, lambda known: known["algorithms"].update(zo=text))

    given = {"out": tmp_path, "prompts": ["a"], "diagnosed": 0}
    run(**given, algorithms={"zo": ZeroOrderSearch(neighbours=2)})
    recorded("ZeroOrderSearch(neighbours=2, cosine=0.95)")  # as of a version without the others
    assert run(**given, algorithms={"zo": ZeroOrderSearch(neighbours=2)}).complete
    for before, here in (
        ("ZeroOrderSearch(neighbours=2)", ZeroOrderSearch(neighbours=2, cosine=0.9)),
        ("ZeroOrderSearch(neighbours=2, cosine=0.9)", ZeroOrderSearch(neighbours=2)),
        ("ZeroOrderSearch(neighbours=2, gone=1)", ZeroOrderSearch(neighbours=2)),
        ("SearchOverPaths(neighbours=2)", ZeroOrderSearch(neighbours=2)),
    ):
        recorded(before)
        with pytest.raises(ValueError, match=r"has 'zo' as .*give it another label"):
            run(**given, algorithms={"zo": here})


def test_a_model_that_was_changed_beside_its_weights_does_not_go_on(tmp_path):
    pipe = copy.deepcopy(tiny("sd"))
    given = {"out": tmp_path, "prompts": ["a"], "algorithms": ["random"], "candidates": (1,), "steps": 2}
    given |= {"judges": [], "diagnosed": 0, "model": pipe}
    run(**given)
    assert run(**given).complete
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pytest.raises(ValueError, match=r"another model: FreeU of unet is b1=1.2, .* here, missing recorded: use"):
        run(**given)
    rewrite_settings(tmp_path, lambda known: known["model"].pop("changes"))
    with pytest.raises(ValueError, match=r"another model: FreeU of unet .* here, and it wasn't recorded then"):
        run(**given)
    pipe.disable_freeu()
    options = {"callback_on_step_end": lambda pipe, step, timestep, values: values}
    with pytest.raises(ValueError, match=r"option callback_on_step_end is .*function.* here, missing recorded"):
        run(**given, model_options=options)
    run(**given, model_options=options, overwrite=True)
    with pytest.raises(ValueError, match="of option callback_on_step_end nothing tells whether it is the same"):
        run(**given, model_options=options)


def contents(directory):
    return {str(one.relative_to(directory)): one.read_bytes() for one in directory.rglob("*") if one.is_file()}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"notes.txt": "mine"}, "holds 'notes.txt', which no comparison wrote: give a new one"),
        ({"settings.json": '{"theme": "dark"}'}, "holds 'settings.json', which no comparison wrote"),
        ({"settings.json": "dark"}, "holds 'settings.json', which no comparison wrote"),
        ({"records.jsonl": '{"kind": "mine"}\n'}, "holds 'records.jsonl', which no comparison wrote"),
        ({"result.json": "{}"}, r"holds a search \(result.json\): give a new one"),
    ],
)  # fmt: skip
def test_a_directory_of_somebody_elses_is_refused_and_left_alone(files, match, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=match):
        run(out=tmp_path)
    if "notes.txt" not in files:
        with pytest.raises(ValueError, match=r"holds a search|was written by no comparison, and would be replaced"):
            run(out=tmp_path, overwrite=True)
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match=r"holds no comparison|is no JSON"):
        Comparison.read(tmp_path)


def test_only_what_a_comparison_wrote_is_ever_replaced(tmp_path):
    run(out=tmp_path).save()
    mine = [tmp_path / name for name in ("notes.txt", "mine.png", "images/mine.png")]
    for file in mine:
        file.write_bytes(b"mine")
    old = contents(tmp_path)
    for refused in ({"budgets": (7,), "candidates": None}, {"verifier": "none"}):
        with pytest.raises(ValueError, match=r"budgets=7|unknown verifier"):
            run(out=tmp_path, overwrite=True, **refused)
        assert contents(tmp_path) == old, "what is refused has removed nothing"
    found = run(out=tmp_path, overwrite=True, prompts=["dddd"], algorithms=["random"], candidates=(2,))
    assert found.prompts == ("dddd",) and Comparison.read(tmp_path).records == found.records
    left = {"settings.json", "records.jsonl", *(one.image for one in found.records)}
    assert contents(tmp_path).keys() == left | {"notes.txt", "mine.png", "images/mine.png"}
    assert all(file.read_bytes() == b"mine" for file in mine)
    (tmp_path / "report.html").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"report\.html in .* was written by no comparison, and would be replaced"):
        found.save()
    assert run(out=tmp_path, prompts=["dddd"], algorithms=["random"], candidates=(2,)).records == found.records
    (tmp_path / "report.html").unlink()
    paths = found.save()
    assert found.save() == paths and {path.name for path in paths.values()} <= {"records.jsonl", *SAVED}
    with pytest.raises(ValueError, match=r"holds a comparison \(records.jsonl\): give a new one"):
        search("a", model=CountingSampler(STEPS), verifier=brightness, candidates=1, progress=False).save(
            tmp_path, overwrite=True
        )


def test_going_on_is_said(tmp_path, capsys):
    run(out=tmp_path, prompts=["a"], progress=True)
    assert "going on" not in capsys.readouterr().err
    run(out=tmp_path, prompts=["a", "bb"], progress=True)
    assert f"going on in {str(tmp_path)!r}, which has 4 of 8 cells" in capsys.readouterr().err


def test_definitions_of_earlier_algorithms_stay(tmp_path):
    run(out=tmp_path, algorithms={"zo": ZeroOrderSearch(neighbours=2)})
    run(out=tmp_path, algorithms=["paths"])
    assert list(Comparison.read(tmp_path).settings["algorithms"]) == ["zo", "random", "paths"]
    with pytest.raises(ValueError, match=r"has 'zo' as ZeroOrderSearch\(neighbours=2.*give it another label"):
        run(out=tmp_path, algorithms={"zo": ZeroOrderSearch(neighbours=8)})


def test_the_command_stays_when_a_directory_grows_without_one(tmp_path):
    run(out=tmp_path)
    store = Store(tmp_path, writing=True)
    store.write_settings({**store.settings(), "command": "noise-search compare"})
    assert run(out=tmp_path, algorithms=["paths"]).settings["command"] == "noise-search compare"


def test_what_a_directory_without_records_was_made_for_binds_nobody(tmp_path):
    Store(tmp_path, writing=True).write_settings({**run().settings, "steps": 99})
    assert run(out=tmp_path).complete


def test_with_drafts_the_pool_is_random_search_without_them():
    model = CountingSampler(STEPS)
    found = run(model=model, draft_steps=2, budgets=(40, 64), candidates=None, seeds=2)
    assert {(one.prompt, one.seed) for one in found.pools} == {(p, s) for p in PROMPTS for s in (0, 1000)}
    plain = run(candidates=(8,), seeds=2, algorithms=["random"])
    alike = {(one.prompt, one.seed): one for one in plain.pools}
    for pool in found.pools:
        other = alike[pool.prompt, pool.seed]
        assert pool.nfe == STEPS and pool.scores["brightness"] == pytest.approx(other.scores["brightness"], abs=1e-6)
        assert np.isfinite(pool.judges["contrast"]).all() and len(pool) == 8
    assert {one.algorithm for one in found.records} == {"random", "zero-order"} and len(found.records) == 3 * 2 * 2 * 2


def test_pools_of_what_drafts_chose_are_made_anew(tmp_path):
    asked = {"out": tmp_path, "draft_steps": 2, "budgets": (40, 64), "candidates": None, "algorithms": ["random"]}
    done = run(**asked)
    # As they were: noise 0 and two renders, for all the NFE.
    chosen = {"nfe": 21, "scores": {"brightness": [9.0] * 3}, "judges": {"contrast": [9.0] * 3}}
    rewrite(tmp_path, lambda lines: [one | chosen if one["kind"] == "pool" else one for one in lines])
    assert {one.nfe for one in Comparison.read(tmp_path).pools} == {21}
    again = run(**asked)
    pools = ([replace(one, seconds=0) for one in some] for some in (Comparison.read(tmp_path).pools, done.pools))
    assert again.complete and again.records == done.records and next(pools) == next(pools)


@pytest.mark.parametrize("drafting", [False, True])
def test_algorithms_take_turns_chunk_by_chunk_random_search_first(drafting, monkeypatch):
    algorithms = {"zo": ZeroOrderSearch(), "random": RandomSearch(), "paths": SearchOverPaths()}
    store = Store(None)
    grid = itertools.product(algorithms, (8, 16), (0, 1000))
    store.add([made_up.record("b", name, budget, seed) for name, budget, seed in grid])
    store.add([made_up.pool([0, 0], "b", seed, nfe=8) for seed in (0, 1000) if not drafting])
    monkeypatch.setattr(Schedule, "_chunk", lambda *_: 2)
    runner = SimpleNamespace(algorithms=algorithms, prompts="abcde", drafting=drafting, shares=lambda _: False)
    tasks = Schedule(runner, store, (16, 8), (0, 1000), 8).left()
    found = [(one.seed, one.algorithm, one.pool, one.budgets, one.prompts) for one in tasks]
    if not drafting:
        block = [("random", False, (8, 16)), ("zo", False, (8, 16)), ("paths", False, (8,)), ("paths", False, (16,))]
        expected = [(seed, *one, at) for seed in (0, 1000) for at in ((0, 2), (3, 4)) for one in block]
        assert found == expected
        return
    assert found[:3] == [
        (0, "random", True, (16,), (0, 1)), (0, "random", False, (8,), (0,)), (0, "random", False, (16,), (0,))
    ]  # fmt: skip
    assert sorted(at for seed, _, is_pool, _, some in found for at in some if is_pool and not seed) == [0, 1, 2, 3, 4]


class Whole(CountingSampler):
    """Can't stop inside trajectories."""

    can_stop, limitation = False, "it runs whole"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"draft_steps": 2, "candidates": (4, 8), "algorithms": ("random", "zero-order", "paths")}, "'paths' stops at"),
        ({"draft_steps": 2, "candidates": (2, 8), "algorithms": ["random"]}, "16 NFE is too small for drafts"),
        ({"draft_steps": 8, "candidates": (4,), "algorithms": ["random"]}, "draft_steps=8 must be below the 8 steps"),
        ({"model": Whole(STEPS), "algorithms": ["random", "paths"]}, "'paths' stops inside trajectories"),
        ({"model": CountingSampler(2), "algorithms": ["paths"]}, "at least 3 steps"),
    ],
)
def test_what_one_algorithm_can_not_do_is_refused_before_anything_is_run(options, match, tmp_path):
    given = {"model": CountingSampler(STEPS), **options}
    with pytest.raises(ValueError, match=match):
        run(**given, out=tmp_path)
    assert given["model"].rows == 0 and not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Breaks(Peeks):
    name: ClassVar[str] = "breaks"

    def plan(self, problem):
        yield Job(problem.fresh(1), problem.space.end)
        raise RuntimeError("out of ideas")


def test_an_error_carries_what_was_complete_before_it(tmp_path):
    for out, where in ((None, "this error's attribute `comparison`"), (tmp_path, "where the same call goes on")):
        with pytest.raises(RuntimeError, match="out of ideas") as raised:
            run(algorithms=[Breaks()], out=out)
        found = raised.value.comparison
        assert {one.algorithm for one in found.records} == {"random"} and len(found.records) == 6
        assert not found.complete and len(found.pools) == 3
        assert any("complete before: 6 records" in note and where in note for note in raised.value.__notes__)


def test_before_a_start_the_cost_is_told_and_what_is_small_is_not_timed(capsys):
    model = CountingSampler(STEPS)
    run(model=model, progress=True, algorithms=["random"], candidates=(2,))
    said = capsys.readouterr().err
    assert f"{6 * STEPS} NFE in 1 search, at least 6 images for contrast to judge" in said and "about" not in said
    assert model.rows == 6 * STEPS
    run(model=model, progress=True, candidates=(4,), judges=[])
    said = capsys.readouterr().err
    assert f"{24 * STEPS} NFE in 2 searches, about " in said and "judge" not in said
    assert model.rows == (6 + 24 + 5) * STEPS


def test_an_early_interruption_is_told(caplog):
    def stop(images, prompts):
        raise KeyboardInterrupt

    found = said(
        caplog, "12 cells to go; nothing is done yet", verifier=FunctionVerifier(stop, "stop"), on_interrupt="return"
    )
    assert not found.complete and not found.records


def test_a_prompt_in_two_families_counts_for_the_first_with_a_warning(caplog):
    families = (("a", "x"), ("b", "y"), ("a", "z"), ("b", "y"))
    warning = "1 prompts occur in several families and count for the first, such as 'a', in 'x' and 'z'"
    found = said(caplog, warning, prompts=[{"prompt": text, "family": family} for text, family in families])
    assert {(one.prompt, one.family) for one in found.records} == {("a", "x"), ("b", "y")}


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
        ({"candidates": (0,)}, "candidates=0 must be at least 1, one trajectory of 8 steps"),
        ({"candidates": None, "budgets": (7,)}, "budgets=7 must be at least 8, one trajectory of 8 steps"),
        ({"candidates": None, "budgets": (8.5,)}, "budgets=8.5 must be a whole number"),
        ({"budgets": (16,)}, "both given"),
        ({"candidates": ()}, "no budget was given"),
        ({"seeds": (0, 3)}, "seeds 0 and 3 share noises"),
        ({"seeds": (0, 16), "draft_steps": 2, "candidates": (8,)},
         "seeds 0 and 16 share noises, as a search draws 32 from each"),
        ({"seeds": ()}, "no seed was given"),
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"seeds": -1}, "seeds=-1 must be at least 1"),
        ({"seeds": 1.5}, "seeds=1.5 must be a whole number, how many, or several"),
        ({"seeds": True}, "seeds=True must be a whole number"),
        ({"seeds": "3"}, "seeds='3' must be a whole number"),
        ({"seeds": [0.5, 7.9]}, "seed=0.5 must be a whole number"),
        ({"seeds": [-5]}, "seed=-5 must be a whole number from 0"),
        ({"seeds": [8, 8]}, "has one twice"),
        ({"algorithms": []}, r"algorithms=\[\] holds none"),
        ({"algorithms": {}}, r"algorithms=\{\} holds none"),
        ({"judges": [contrast, brightness]}, "judge 'brightness' is a verifier of the search, too .*held out"),
        ({"draft_renders": 2}, "give draft_steps with it"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps": 0}, "steps=0"),
        ({"prompts": [""]}, "empty"),
        ({"prompts": []}, "prompt"),
        ({"stpes": 3}, "takes no 'stpes': did you mean 'steps'"),
        ({"judges": ["orcale"]}, "unknown judge 'orcale'"),
        ({"pictured": -1}, "pictured=-1"),
        ({"pool_limit": 0}, "pool_limit=0 must be at least 1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        run(**options)


def test_rows_are_tidy_and_csv_reads_back():
    found = run(seeds=2)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(found.records)
    assert [float(row["score:brightness"]) for row in rows] == [one.scores["brightness"] for one in found.records]
    assert {"prompt", "algorithm", "budget", "seed", "nfe", "seconds", "judge:contrast"} <= rows[0].keys()


def test_records_are_read_as_they_were_kept(tmp_path):
    found = run(seeds=2, out=tmp_path)
    read = Comparison.read(tmp_path)
    assert read.records == found.records and read.pools == found.pools


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
    pytest.importorskip("pyarrow")
    found = run(seeds=2)
    frame = found.to_pandas()
    assert list(frame.columns) == list(found.rows()[0]) and len(frame) == len(found.records)
    again = pd.read_parquet(found.to_parquet(tmp_path / "records.parquet"))
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    best = again.groupby(["algorithm", "budget"])["score:brightness"].mean()
    mean = np.mean([one.scores["brightness"] for one in found.records if (one.algorithm, one.budget) == ("random", 32)])
    assert best["random", 32] == pytest.approx(mean)


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'noise-search\[tables\]'"):
        run().to_parquet(tmp_path / "x.parquet")


def test_the_table_says_what_was_found():
    text = str(run(seeds=2))
    lines = text.splitlines()
    assert len(lines) >= 2 + 4 and "best-of-N worth" in lines[1]
    assert [line.split()[:2] for line in lines[2:6]] == [
        [name, nfe] for nfe in ("16", "32") for name in ("random", "zero-order")
    ]


@pytest.mark.parametrize(("count", "candidates", "seeds"), [(3, 64, (0, 1000, 2000)), (2, 4000, (0, 10000))])
def test_seeds_leave_room_for_the_noises_of_each_other(count, candidates, seeds):
    assert spaced_seeds(count, candidates) == seeds


def test_seeds_share_noises_across_the_end_of_torchs_seeds():
    with pytest.raises(ValueError, match="share noises, as a search draws 4 from each"):
        as_seeds([1, 2**32 - 2], 4)
    assert as_seeds([2, 2**32 - 2], 4) == (2, 2**32 - 2) and as_seeds([7], 4) == (7,)


def test_numbers_of_numpy_are_seeds_too():
    found = run(seeds=np.array([7, 40]), algorithms=["random"], candidates=np.array([2]))
    assert found.seeds == (7, 40) and run(seeds=np.int64(2), algorithms=["random"]).seeds == (0, 1000)


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
