"""`bench()`: the shipped candidates are what random search makes, and algorithms are held against them."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

import noise_search
from noise_search import Job, prompt_sets
from noise_search.arguments import first_seed
from noise_search.cli.app import app
from noise_search.comparison.cells import sharing
from noise_search.comparison.standard_pools import StandardPools
from noise_search.shapes import EMBEDDED_MODELS


@dataclass(frozen=True)
class First:
    """The first noise alone, whatever the budget."""

    name: ClassVar[str] = "first"
    whole_calls: ClassVar[bool] = True
    anytime: ClassVar[bool] = True

    def plan(self, problem):
        yield Job(problem.fresh(1), stop=problem.space.end)


@pytest.mark.parametrize("split", ["validation", "evaluation"])
@pytest.mark.parametrize("model", EMBEDDED_MODELS)
def test_every_prompt_of_the_task_has_its_candidates(model, split):
    pools, prompts = StandardPools.load(model, split), prompt_sets.load("shapes-hard", split=split)
    assert (pools.prompts, pools.families) == (prompts.texts, prompts.families)
    for name, scores in pools.scores.items():
        assert scores.shape == (len(prompts), 256) and np.isfinite(scores).all(), name
    assert {*np.unique(pools.scores["oracle"])} == {0, 1}
    right = pools.scores["oracle-facts"] == 1
    assert (right == (pools.scores["oracle"] == 1)).all()
    assert all(len(np.unique(row)) > 200 for name in ("clip", "aesthetic") for row in pools.scores[name])


def test_no_two_prompts_share_noises():
    texts = [
        text for split in ("validation", "evaluation") for text in prompt_sets.load("shapes-hard", split=split).texts
    ]
    drawn = {first_seed(text): 256 for text in texts}
    assert len(drawn) == 84 and sharing(drawn) is None and max(drawn) < 2**31
    assert first_seed("a red circle", 5) == first_seed("a red circle") + 5


@pytest.mark.parametrize("model", EMBEDDED_MODELS)
def test_a_candidate_made_again_has_the_shipped_scores(model):
    pools, row, at = StandardPools.load(model, "evaluation"), 41, 200
    text = pools.prompts[row]
    asked = {"model": model, "verifier": list(pools.keys), "judges": ["oracle"]}
    made = noise_search.search(text, candidates=1, seed=first_seed(text) + at, progress=False, **asked).candidates[0]
    for name, key in pools.keys.items():
        assert made.scores[key] == pytest.approx(pools.scores[name][row, at], abs=2e-3), name
    assert next(iter(made.judges.values())) == pools.scores["oracle"][row, at]


def test_an_algorithm_begins_from_the_noises_of_the_shipped_candidates(tmp_path):
    asked = {"split": "validation", "per_family": 1, "out": tmp_path, "progress": False}
    found = noise_search.bench(First(), budgets=(1, 4), **asked)
    pools = StandardPools.load("shapes-flow", "validation")
    assert found.complete and found.algorithms == ("random", "first") and len(found.prompts) == 4
    for one in found.records:
        shipped = pools.scores["vlm"][pools.prompts.index(one.prompt)]
        expected = shipped[0] if one.algorithm == "first" else shipped[: one.budget // 20].max()
        assert one.scores["vlm"] == pytest.approx(expected, abs=2e-3) and one.offset == first_seed(one.prompt)
        assert one.rows == (0 if one.algorithm == "random" else 40)  # random search wasn't run
    worth = {(one.algorithm, one.budget): one.candidates for one in found.multipliers()}
    assert worth["first", 20] < worth["random", 80] and all(len(pool) == 256 for pool in found.pools)
    before = (tmp_path / "records.jsonl").read_bytes()
    again = noise_search.bench(First(), budgets=(4,), **asked)
    assert again.records == found.records and (tmp_path / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"model": "shapes-floww"}, "'shapes-floww'"),
        ({"split": "test"}, "'test'"),
        ({"verifier": "oracle"}, "verifier with shipped scores 'oracle'"),
        ({"judges": ["hps"]}, "verifier with shipped scores 'hps'"),
        ({"budgets": (8, 257)}, "budgets=257 is more than the 256 random candidates"),
        ({"budgets": (0,)}, "budgets=0 must be at least 1"),
        ({"algorithm": "zero-ordr"}, "zero-order"),
    ],
)
def test_what_the_bench_refuses(asked, told):
    with pytest.raises(ValueError, match=told):
        noise_search.bench(**{"algorithm": "zero-order", **asked})


def test_scores_that_do_not_hold_here_are_refused(monkeypatch):
    real = StandardPools.load("shapes-flow", "validation")
    other = StandardPools(**{**vars(real), "scores": {**real.scores, "clip": real.scores["clip"][:, ::-1]}})
    monkeypatch.setattr(StandardPools, "load", lambda *_: other)
    with pytest.raises(ValueError, match="differs from the shipped scores by"):
        noise_search.bench("zero-order", verifier="clip", split="validation", budgets=(1,), progress=False)


def test_the_command(tmp_path):
    given = ["zero-order", "--budgets", "1", "--split", "validation", "--per-family", "1", "--format", "json"]
    ended = CliRunner().invoke(app, ["bench", *given])
    assert ended.exit_code == 0, ended.output
    rows = json.loads(ended.stdout)["records"]
    assert {row["algorithm"] for row in rows} == {"random", "zero-order"} and len(rows) == 8
    # One candidate is random search's first, whatever the algorithm.
    by_prompt = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], []).append(row["score:vlm"])
    assert all(one == pytest.approx(other, abs=2e-3) for one, other in by_prompt.values())
