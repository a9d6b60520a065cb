"""Many workers find what one does: in any order of arrival, through deaths, in processes, and on a run that goes on."""

import contextlib
import copy
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from noise_search import (
    AllCandidatesFailed,
    Climb,
    Halving,
    LocalWorkers,
    RayWorkers,
    SearchOverPaths,
    ZeroOrderSearch,
    compare,
    load,
    search,
)
from noise_search.cli import options
from noise_search.disk.run import RunFiles
from noise_search.engine.crew import WorkersFailed
from noise_search.engine.scoring import Scorer
from noise_search.engine.setup import widening
from noise_search.engine.worker import BatchStopped, SearchOutOfMemory, Spent
from noise_search.engine.workers.asked import resolved
from noise_search.engine.workers.local import LocalCrew
from noise_search.engine.workers.wire import Untold, decode, encode
from noise_search.resolve import Named
from noise_search.results.data import BEYOND
from samplers import Glass, Mix
from samplers.recipe import Recipe
from tiny.clusters import clustered, node
from tiny.crews import Deadly, Hanging, Shuffled, Simulated
from tiny.search import STUBS, CountingSampler, brightness, exact_x0, fits, told, toy_search
from verifiers.base import FunctionVerifier, VerifierUnusable

ALGORITHMS = ["random", ZeroOrderSearch(), ZeroOrderSearch(chains=3), SearchOverPaths(), Halving(), Climb(), *STUBS]
ALGORITHMS.append(Halving(finish=3, diversity=1.5))
PROMPTS = ["a prompt", "another one", "a third"]


def found(results):
    """All that results say; of one prompt or of several."""
    return [told(one) for one in results] if isinstance(results, list) else told(results)


def without_waste(results):
    """The same but for what was in vain."""
    several = results if isinstance(results, list) else [results]
    left = [copy.deepcopy(told(one)) for one in several]
    for one in left:
        for name in ("nfe_waste", "denoiser_rows"):
            del one["ledger"][name]
    return left


CREWS = st.builds(Shuffled, st.integers(1, 6), st.integers(0, 2**20))
ASKED = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from(ALGORITHMS),
        "batch_size": st.integers(1, 6),
        "nfe": st.integers(8, 150),
        "seed": st.integers(0, 99),
        "deterministic": st.booleans(),
        "prompt": st.sampled_from(["a prompt", PROMPTS]),
    }
)


UNEVEN = {
    "algorithm": STUBS[1],
    "batch_size": 4,
    "nfe": 34,
    "seed": 0,
    "deterministic": True,
    "prompt": PROMPTS,
}
"""Padding shared by prompts with different numbers of rows: their shares were once added up in another order."""


@settings(max_examples=60, deadline=None)
@given(CREWS, ASKED)
@example(Shuffled(2, 1), UNEVEN)
def test_any_number_of_workers_in_any_order_finds_what_one_process_does(crew, asked):
    alone, many = toy_search(**asked), toy_search(workers=crew, **asked)
    assert found(many) == found(alone)
    several = many if isinstance(many, list) else [many]
    for one, other in zip(several, alone if isinstance(alone, list) else [alone], strict=True):
        assert (one.best.raw == other.best.raw).all() and [c.id for c in one.bests] == [c.id for c in other.bests]
    assert sum(one.ledger.nfe + one.ledger.nfe_waste for one in several) == crew.sampler.rows


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**20), ASKED)
def test_deaths_change_nothing_but_waste_unless_a_batch_dies_three_times(size, seed, asked):
    crew = Shuffled(size, seed, deaths=0.08)
    try:
        many = toy_search(workers=crew, **asked)
    except AllCandidatesFailed:  # there were few, and they are lost
        assert max(crew.deaths_of.values()) == 3
        return
    several = many if isinstance(many, list) else [many]
    if max(crew.deaths_of.values(), default=0) < 3:
        assert without_waste(many) == without_waste(toy_search(**asked))
    ledgers = [one.ledger for one in several]
    assert sum(one.nfe + one.nfe_waste for one in ledgers) == pytest.approx(sum(one.denoiser_rows for one in ledgers))


@settings(max_examples=30, deadline=None)
@given(CREWS, ASKED, st.integers(1, 8))
def test_what_is_beyond_a_limit_is_waste_and_never_wins(crew, asked, patience):
    alone, many = toy_search(patience=patience, **asked), toy_search(patience=patience, workers=crew, **asked)
    pairs = zip(*((one if isinstance(one, list) else [one]) for one in (alone, many)), strict=True)
    for one, other in pairs:
        assert (one.best.id, one.score, one.stop_reason) == (other.best.id, other.score, other.stop_reason)
        assert one.ledger.nfe == other.ledger.nfe
        kept = [[(c.id, c.score) for c in r.candidates if BEYOND not in (c.failure or "")] for r in (one, other)]
        assert kept[0] == kept[1]


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.integers(1, 5), ASKED)
def test_a_run_goes_on_with_another_number_of_workers(tmp_path_factory, before, after, asked):
    run, whole = (tmp_path_factory.mktemp("run") / name for name in ("halted", "whole"))
    alone = toy_search(run=whole, **asked)
    seen: list[object] = []

    def stop(candidate):
        seen.append(candidate)
        if len(seen) == 3:
            raise RuntimeError("that's all for today")

    with contextlib.suppress(RuntimeError):  # raised where no image is finished that could be returned
        toy_search(run=run, workers=Shuffled(before, seed=before), on_candidate=stop, **asked)
    many = toy_search(run=run, workers=Shuffled(after, seed=after), **asked)
    assert [r["candidates"] for r in without_waste(many)] == [r["candidates"] for r in without_waste(alone)]
    rows = [{one["key"]: one["scores"] for one in RunFiles(at).lines() if "key" in one} for at in (run, whole)]
    assert rows[0] == rows[1]
    read = load(run)
    assert [one.score for one in (read if isinstance(read, list) else [read])] == [
        one.score for one in (alone if isinstance(alone, list) else [alone])
    ]


def test_as_many_batches_are_under_way_as_there_are_workers_and_no_more():
    crew = Shuffled(5)
    toy_search(workers=crew, nfe=160, batch_size=2)
    assert crew.most == 5


def test_memory_that_runs_out_in_a_worker_halves_its_batch():
    crew = Shuffled(3, sampler=CountingSampler(fn=fits(3, exact_x0)))
    many, alone = toy_search(workers=crew, nfe=160, batch_size=16), toy_search(nfe=160, batch_size=2)
    assert many.settings["batch_size"] == 2
    assert [c.score for c in many.candidates] == pytest.approx([c.score for c in alone.candidates], abs=1e-6)
    assert many.ledger.nfe == 160 and many.ledger.nfe + many.ledger.nfe_waste == crew.sampler.rows


def test_an_error_in_a_worker_ends_the_search_with_what_the_others_still_found():
    def failing(x, alpha, sigma, prompts):
        if crew.sampler.rows > 8 * 6:
            raise RuntimeError("model broke")
        return exact_x0(x, alpha, sigma, prompts)

    crew = Shuffled(3, sampler=CountingSampler(fn=failing))
    result = toy_search(workers=crew, nfe=160, batch_size=2)
    assert result.stop_reason == "RuntimeError: model broke" and result.candidates
    assert result.ledger.nfe + result.ledger.nfe_waste == crew.sampler.rows and not crew.running


def test_after_ctrl_c_no_batch_starts_and_those_under_way_are_kept():
    crew = Shuffled(4)
    asked: list[object] = []

    def interrupt(candidate):
        if not asked:
            asked.append(candidate)
            os.kill(os.getpid(), signal.SIGINT)

    result = toy_search(workers=crew, nfe=320, batch_size=1, on_candidate=interrupt, on_interrupt="return")
    assert result.stop_reason == "interrupted" and not crew.running
    assert result.ledger.nfe == 8 * len(result.candidates) < 320 and not result.ledger.nfe_waste


class Fatal(Shuffled):
    """Workers that die of the noise of seed 3, which they take first."""

    def wait(self):
        seeds = {recipe.seed for batch in self.running.values() for recipe in batch.rows.recipes}
        self._random.choice = lambda tickets: next(
            (t for t in tickets if 3 in {r.seed for r in self.running[t].rows.recipes}), min(tickets)
        )
        self._deaths = float(3 in seeds)
        return super().wait()


def test_candidates_are_lost_after_three_deaths_and_cost_what_they_were_charged():
    crew = Fatal(2)
    result = toy_search(workers=crew, nfe=80, batch_size=2)
    assert [c.id for c in result.candidates if c.failure == "its workers ended 3 times"] == [2, 3] and crew.died == 3
    assert len(result.candidates) == 10 and result.ledger.nfe == 80
    assert result.ledger.nfe_waste == 2 * 2 * 8, "of two of three attempts; the third is charged"


def test_a_set_is_found_beside_a_row_that_was_lost():
    result = toy_search(workers=Fatal(2), algorithm=Halving(finish=2, diversity=1.5), candidates=8, batch_size=1)
    assert [c.id for c in result.candidates if c.failure] == [3] and result.stop_reason == "budget spent"


def test_a_search_whose_every_batch_kills_its_workers_ends():
    result = toy_search(workers=Shuffled(2, deaths=0.0), nfe=8, batch_size=2)
    assert result.score
    with pytest.raises(WorkersFailed, match="4 micro-batches in a row"):
        toy_search(workers=Shuffled(2, deaths=1.0), nfe=160, batch_size=2)


def test_rounds_too_small_for_the_workers_are_said_once(caplog):
    toy_search(workers=Shuffled(8), nfe=320, batch_size=4, algorithm=ZeroOrderSearch())
    (said,) = [one.getMessage() for one in caplog.records if "wait in a round" in one.getMessage()]
    assert said == (
        "7 of 8 workers wait in a round of 4 rows, 4 to a micro-batch; what keeps them busy: batch_size=1, and "
        "ZeroOrderSearch(neighbours=..., chains=...) or more prompts at once"
    )
    caplog.clear()
    toy_search(workers=Shuffled(2), nfe=320, batch_size=4)
    assert not caplog.records


@pytest.mark.parametrize("algorithm", [Climb(), ZeroOrderSearch(), Halving(), SearchOverPaths()])
def test_settings_that_widen_rounds_are_settings(algorithm):
    said = widening(algorithm)
    for name in re.findall(r"(\w+)=\.\.\.", said):
        assert said.startswith(type(algorithm).__name__) and hasattr(algorithm, name)
    assert said.endswith("more prompts at once")


def test_where_all_score_and_what_a_worker_is_told_of_it():
    seen: list[str] = []

    class Looks(FunctionVerifier):
        def __call__(self, images, prompts, **needs):
            seen.append(images.device.type)
            return torch.ones(len(images))

    Scorer([Looks(brightness)], device="meta").score(torch.rand(2, 3, 4, 4), ["a", "b"])
    assert seen == ["meta"]
    workers = LocalWorkers(1, verifier_device="cuda:7")
    if torch.cuda.device_count() < 8:
        with pytest.raises(WorkersFailed, match="worker on cpu can't load: device 'cuda:7' can't be used here"):
            search(PROMPT, workers=workers, device="cpu", algorithm="random", **FLOW)


# workers in simulated time: late ones, and repeats


SLOW = {"stragglers": 0.1, "slow": 30.0}


@pytest.mark.parametrize(("algorithm", "seed"), [("random", 0), (Halving(), 1), (ZeroOrderSearch(chains=3), 2)])
def test_stragglers_that_are_run_once_more_change_nothing_but_waste_and_time(algorithm, seed):
    asked = {"algorithm": algorithm, "seed": seed, "nfe": 300, "batch_size": 2}
    patient, hurried = Simulated(4, **SLOW), Simulated(4, **SLOW, speculate=3.0)
    alone, slow, fast = (toy_search(workers=one, **asked) for one in (None, patient, hurried))
    assert found(slow) == found(alone) and without_waste(fast) == without_waste(alone)
    assert not slow.ledger.nfe_waste and fast.ledger.nfe_waste and hurried.now < patient.now
    running = sum(one.rows for one in hurried._taken.values())  # the slower of two, when the search was over
    assert fast.ledger.nfe + fast.ledger.nfe_waste == hurried.sampler.rows + running
    assert fast.ledger.denoiser_rows == fast.ledger.nfe + fast.ledger.nfe_waste


def test_repeats_survive_deaths():
    crew = Simulated(4, **SLOW, deaths=0.05, loading=5.0, speculate=2.0)
    many = toy_search(workers=crew, nfe=600, batch_size=2)
    assert without_waste(many) == without_waste(toy_search(nfe=600, batch_size=2)) and crew.ended > 2


def test_a_worker_that_hangs_is_ended_and_its_batch_run_again():
    crew = Simulated(4, stragglers=0.05, slow=math.inf, timeout=100.0)
    many = toy_search(workers=crew, nfe=600, batch_size=2)
    assert without_waste(many) == without_waste(toy_search(nfe=600, batch_size=2))
    assert crew.ended and crew.now < 100 * (crew.ended + 4) and many.ledger.nfe_waste == 16 * crew.ended


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"timeout": 0}, "timeout=0 must be more than 0"),
        ({"speculate": 0.5}, "speculate=0.5 must be at least 1"),
        ({"verifier_device": ""}, "verifier_device='' must be a device's name"),
    ],
)
@pytest.mark.parametrize("make", [lambda **asked: LocalWorkers(2, **asked), RayWorkers])
def test_settings_of_workers_that_can_not_be(make, asked, words):
    with pytest.raises(ValueError, match=words):
        make(**asked)


# what goes over the wire


def test_all_that_a_batch_is_made_of_comes_back():
    recipe = Recipe.start("fresh", seed=3).then("neighbour", seed=4, cosine=0.95)
    ran = recipe.then_run(0, 4, "grid", 1.0)
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    value = {
        "numbers": (1, 2.5, float("nan"), None, True),
        0.25: np.arange(6, dtype=np.float64).reshape(2, 3) / 7,
        "named": Named("clip", {"output": "cosine"}),
        "how": (Mix(0.5), Glass(0.4, 6, stride=5)),
        "dtype": torch.bfloat16,
        "tensor": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        "image": image,
        "path": Path("a/b"),
    }
    back = decode(encode(value))
    assert back["numbers"][:2] == (1, 2.5) and np.isnan(back["numbers"][2]) and back["path"] == "a/b"
    assert (back[0.25] == value[0.25]).all() and back[0.25].dtype == np.float64
    assert back["named"] == value["named"] and back["how"] == value["how"] and back["dtype"] is torch.bfloat16
    assert back["tensor"].equal(value["tensor"]) and (np.asarray(back["image"]) == np.asarray(image)).all()
    assert decode(encode((recipe, ran))) == (recipe, ran)
    other = decode(encode(ran, [recipe]), [recipe])
    assert other == ran and other.before is recipe, "memory is shared with what it goes on from"
    assert len(encode(ran, [ran])) < len(encode(ran))
    both = Recipe.join([ran, Recipe.start("fresh", seed=7)], "mean", weights=[1.0, 2.0])
    made = decode(encode((recipe, ran, both, ran)))
    assert made == (recipe, ran, both, ran) and made[1].before is made[0], "in one message too"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SearchOutOfMemory("too large"),
        VerifierUnusable("spent"),
        torch.OutOfMemoryError("out of memory"),
    ],
)
def test_errors_keep_their_kind_and_text(error):
    back = decode(encode(BatchStopped(error, Spent(4, 2, {"denoise": 1.5}), True)))
    assert type(back.error) is type(error) and str(back.error) == str(error)
    assert (back.spent.denoiser_rows, back.spent.seconds, back.denoised) == (4, {"denoise": 1.5}, True)


def test_an_error_of_another_kind_keeps_its_name_and_nothing_else_is_told():
    class Strange(Exception):
        pass

    assert str(decode(encode(Strange("very")))) == "Strange: very"
    with pytest.raises(Untold, match="object"):
        encode({"what": object()})


def test_a_comparison_by_workers_has_the_same_records():
    asked = {"model": CountingSampler(), "verifier": brightness, "budgets": [16, 48], "diagnosed": 0, "progress": False}
    alone, many = (compare(PROMPTS, workers=crew, batch_size=2, **asked) for crew in (None, Shuffled(3)))
    assert [(r.prompt, r.algorithm, r.nfe, r.scores) for r in many.records] == [
        (r.prompt, r.algorithm, r.nfe, r.scores) for r in alone.records
    ]
    assert [pool.scores for pool in many.pools] == [pool.scores for pool in alone.pools]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(None, None), ("2", 2), ("cuda:0,cuda:1", ["cuda:0", "cuda:1"]), ("ray", "ray"), ("ray://a:1", "ray://a:1")],
)
def test_what_is_typed_for_workers(typed, meant):
    assert options.workers(typed) == meant


# what is refused


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "model is a CountingSampler, which can't be told"),
        ({"model": "shapes-flow"}, "verifier is a brightness, which can't be told"),
        ({"model": "shapes-flow", "verifier": "clip", "workers": 0}, "workers=0 must be at least 1"),
        ({"model": "shapes-flow", "verifier": "clip", "workers": []}, "workers=\\[\\] must be a number"),
        ({"model": "shapes-flow", "verifier": "clip", "workers": "two"}, "workers='two' must be"),
    ],
)
def test_what_no_worker_can_be_told_is_refused_in_one_line(asked, words):
    with pytest.raises(ValueError, match=words) as raised:
        toy_search(**{"workers": 2, **asked})
    assert "\n" not in str(raised.value)
    if "told" in words:
        assert "factory='my_module:make'" in str(raised.value)


@pytest.mark.parametrize("wrong", ["make", "a module:make", "module:", 3])
def test_a_factory_is_a_module_and_a_function(wrong):
    with pytest.raises(ValueError, match="module:function"):
        LocalWorkers(2, factory=wrong)


def test_the_short_forms():
    assert resolved(2) == LocalWorkers(2) and resolved(["cpu"]) == LocalWorkers(["cpu"]) and resolved(None) is None
    assert resolved("ray") == RayWorkers() and resolved("ray://head:10001") == RayWorkers("ray://head:10001")
    assert LocalWorkers(3).on("cpu") == ("cpu", "cpu", "cpu") and LocalWorkers(["cuda:1"]).on("cpu") == ("cuda:1",)


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"noise-search\[ray\]"):
        search("a star", steps=4, candidates=1, workers="ray", progress=False, algorithm="random")


# processes


PROMPT = "a red circle to the left of a blue square"
FLOW = {"steps": 4, "candidates": 8, "batch_size": 2, "verifier": "clip", "progress": False}


def whole(result):
    content = copy.deepcopy(result.to_json())
    del content["ledger"]["seconds"]
    return content


@pytest.mark.parametrize(("workers", "algorithm"), [(1, Halving()), (2, "random"), (["cpu"] * 3, ZeroOrderSearch())])
def test_processes_find_what_this_one_does_to_the_bit(workers, algorithm, tmp_path):
    asked = {**FLOW, "algorithm": algorithm}
    alone, many = search(PROMPT, **asked), search(PROMPT, workers=workers, run=tmp_path / "run", **asked)
    assert whole(many) == whole(alone) and (many.best.raw == alone.best.raw).all()
    assert [c.recipe for c in many.candidates] == [c.recipe for c in alone.candidates]
    assert whole(search(PROMPT, run=tmp_path / "run", **asked)) == whole(alone), "in this process, from the journal"


def kill_one(crew: LocalCrew) -> None:
    """SIGKILL to a worker that runs a batch."""
    if busy := [child for child in crew._children if child in crew._taken]:
        os.kill(busy[0].pid, signal.SIGKILL)


def test_workers_that_are_killed_are_replaced_and_their_batches_run_again(monkeypatch):
    crews: list[LocalCrew] = []
    monkeypatch.setattr(
        LocalCrew, "begin", lambda self, grids, real=LocalCrew.begin: (crews.append(self), real(self, grids))
    )
    kills: list[int] = []

    def kill(candidate):
        if candidate.id in (1, 3):
            kills.append(candidate.id)
            kill_one(crews[0])

    asked = {**FLOW, "algorithm": "random"}
    many, alone = search(PROMPT, workers=2, on_candidate=kill, **asked), search(PROMPT, **asked)
    assert sorted(kills) == [1, 3]
    assert [c.score for c in many.candidates] == [c.score for c in alone.candidates]
    # one that is killed between its answer and its next batch wastes nothing
    assert many.ledger.nfe == alone.ledger.nfe and many.ledger.nfe_waste <= 2 * 2 * 4
    assert many.ledger.denoiser_rows == (many.ledger.nfe + many.ledger.nfe_waste) * many.ledger.rows_per_evaluation


def test_a_batch_that_kills_its_process_three_times_loses_its_candidates_and_a_factory_makes_any_model():
    workers = LocalWorkers(2, factory="tiny.crews:deadly")
    result = search("a prompt", model=Deadly(), verifier=brightness, workers=workers, **DEADLY)
    alone = search("a prompt", model=Deadly(), verifier=brightness, **DEADLY)
    assert [c.id for c in result.candidates if c.failure == "its workers ended 3 times"] == [4, 5]
    mine, theirs = ({c.id: c.score for c in r.candidates if c.id not in (4, 5)} for r in (result, alone))
    assert mine == theirs and result.ledger.nfe == alone.ledger.nfe and result.ledger.nfe_waste == 2 * 2 * 4


def test_a_process_that_hangs_is_ended_and_its_batch_run_again(monkeypatch, tmp_path):
    monkeypatch.setenv("HANGS_ONCE", str(tmp_path / "hung"))
    asked = {"model": Hanging(), "verifier": brightness, **DEADLY}
    workers = LocalWorkers(2, factory="tiny.crews:hanging", timeout=5.0)
    result, alone = search("a prompt", workers=workers, **asked), search("a prompt", **asked)
    assert (tmp_path / "hung").exists() and without_waste(result) == without_waste(alone)
    assert result.ledger.nfe_waste >= 2 * 4


DEADLY = {"algorithm": "random", "candidates": 8, "batch_size": 2, "progress": False}


@pytest.mark.parametrize(
    ("factory", "words"),
    [("tiny.crews:another", "has model .* they must be the same"), ("tiny.crews:missing", "can't be imported")],
)
def test_workers_with_another_model_or_none_are_refused_before_anything_is_spent(factory, words):
    sampler = Deadly()
    with pytest.raises(WorkersFailed, match=words):
        search("a prompt", model=sampler, verifier=brightness, workers=LocalWorkers(1, factory=factory), **DEADLY)
    assert not sampler.rows


by_hand = pytest.mark.skipif("WITH_RAY" not in os.environ, reason="takes a minute or more: set WITH_RAY=1")


@by_hand
def test_actors_of_ray_find_what_this_process_does_to_the_bit():
    asked = {**FLOW, "algorithm": Halving()}
    with clustered(1) as cluster:
        many = search(PROMPT, workers=RayWorkers(cluster.address, count=2, num_gpus=0), **asked)
        assert whole(many) == whole(search(PROMPT, **asked))
        with pytest.raises(WorkersFailed, match="the Ray cluster has 0 GPUs"):
            search(PROMPT, workers=RayWorkers(cluster.address), **asked)


@by_hand
def test_a_node_that_dies_leaves_its_work_to_the_others_and_one_that_comes_takes_its_place():
    asked = {"model": Deadly(), "verifier": brightness, **DEADLY, "candidates": 24}
    with clustered(2, num_gpus=1) as cluster:  # GPUs that Ray counts, and nobody has

        def kill(candidate):
            if candidate.id == 3:
                cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            if candidate.id == 9:  # until then one worker goes on alone
                cluster.add_node(**node(num_gpus=1))

        workers = RayWorkers(cluster.address, factory="tiny.crews:harmless")
        many = search("a prompt", workers=workers, on_candidate=kill, **asked)
    assert without_waste(many) == without_waste(search("a prompt", **asked))


SCRIPT = """
    import os, subprocess, sys
    from noise_search import LocalWorkers, search
    from tiny.crews import Deadly
    from tiny.search import brightness

    print("imported", flush=True)  # unguarded: nobody imports it again

    def told(candidate):
        if candidate.id == 3:
            print("found", flush=True)

    search("a prompt", model=Deadly(), verifier=brightness, candidates=10**6, batch_size=1, algorithm="random",
           workers=LocalWorkers(2, factory="tiny.crews:harmless"), progress=False, on_candidate=told)
"""


def children(pid: int) -> set[int]:
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes as Linux tells them")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_driver(tmp_path, how):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    driver = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    lines = [driver.stdout.readline().strip() for _ in range(2)]
    assert lines == ["imported", "found"]
    workers = children(driver.pid)
    assert len(workers) == 2
    driver.send_signal(how)
    assert driver.wait(60) != 0
    ends = time.monotonic() + 10
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < ends, alive
        time.sleep(0.05)
    assert "imported" not in driver.stdout.read()
