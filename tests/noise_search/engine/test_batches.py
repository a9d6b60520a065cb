"""The measured micro-batch: on rows that are needed anyway, by a clock that is told, kept and remembered."""

import json
import logging
import math

import pytest

from noise_search import search
from noise_search.algorithms.base import Job
from noise_search.engine import batches, driver
from noise_search.engine.batches import Batches, chosen_batches, key_of, remember, remembered, usual
from noise_search.engine.evaluator import Evaluator, Work
from noise_search.engine.readback import Memory
from noise_search.engine.scoring import Scorer
from noise_search.engine.worker import LocalWorker, Spent
from noise_search.engine.workers.wire import decode, encode
from noise_search.results.ledger import Ledger
from tiny.search import CountingSampler, brightness, space
from verifiers.base import FunctionVerifier


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISE_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batches.json"


def launch_bound(full: int):
    """Seconds of a micro-batch: those of a launch up to so many rows, then by the row."""
    return lambda rows: 1.0 * max(1.0, rows / full)


def settled(policy: Batches, seconds, disturbed=()) -> list[int]:
    """The sizes that are tried until one is kept; micro-batches of some numbers take ten times as long."""
    sizes = []
    while policy.measuring:
        sizes.append(policy.size)
        policy.took(policy.size, "kind", seconds(policy.size) * (10 if len(sizes) in disturbed else 1))
        assert len(sizes) < 100
    return sizes


@pytest.mark.parametrize("full", [1, 2, 8, 16, 64, 256, 1024])
@pytest.mark.parametrize("first", [1, 16])
def test_the_smallest_size_that_a_doubling_does_not_speed_up_is_found(first, full):
    policy = Batches(first, measuring=True)
    settled(policy, launch_bound(full))
    assert policy.size == min(full, batches.LARGEST)


def test_few_more_rows_than_that_are_looked_at():
    sizes = settled(Batches(1, measuring=True), launch_bound(1))
    assert sizes == [1, 1, 1, 2, 2, 4, 4] and sum(sizes) < batches.ROWS
    sizes = settled(Batches(16, measuring=True), launch_bound(16))
    assert sizes == [16, 16, 16, 32, 32, 64, 64, 8, 8] and sum(sizes[:-2]) <= batches.ROWS * 16


@pytest.mark.parametrize("slow", range(1, 8))
def test_one_disturbed_micro_batch_changes_nothing(slow):
    policy = Batches(1, measuring=True)
    settled(policy, launch_bound(8), disturbed={slow})
    assert policy.size == 8


def test_a_gain_below_a_twentieth_is_none():
    for gain, size in ((0.04, 1), (0.06, batches.LARGEST)):
        policy = Batches(1, measuring=True)
        settled(policy, lambda rows, gain=gain: rows * (1 - gain) ** math.log2(rows))
        assert policy.size == size


def test_only_full_micro_batches_of_one_kind_are_compared():
    policy = Batches(4, measuring=True)
    policy.took(4, "finished", 1.0)  # the first of all
    policy.took(3, "finished", 1.0)
    policy.took(4, "finished", 1.0)
    policy.took(4, "looked at", 0.001)
    assert policy.size == 4
    policy.took(4, "finished", 1.0)
    assert policy.size == 8


def test_memory_bounds_it_before_and_after_it_ran_out():
    policy = Batches(1, measuring=True)
    while policy.measuring:  # weights take .3, a row .1: 4 rows fit, and 8 don't
        policy.took(policy.size, "kind", 1.0, Memory(0.3, 0.3 + 0.1 * policy.size))
        assert policy.size <= 4
    assert policy.size == 4
    policy = Batches(1, measuring=True)
    for _ in range(5):
        policy.took(policy.size, "kind", 1.0)
    assert policy.size == 4 and policy.ran_out(4) and (policy.size, policy.measuring) == (2, False)
    assert not policy.ran_out(4), "another that was under way says nothing new"
    plain = Batches(7)
    assert plain.ran_out(7) and plain.size == 3 and not plain.measuring


def test_every_row_is_run_once_and_workers_of_any_speed_give_the_same():
    class Timed:
        def __init__(self):
            self.worker = LocalWorker(CountingSampler(), Scorer([FunctionVerifier(brightness)]))
            self.sizes = []

        def run(self, batch):
            self.sizes.append(len(batch.prompts))
            done = self.worker.run(batch)
            done.spent.seconds = {"denoise": launch_bound(4)(len(batch.prompts)), "compile": 99.0}
            return done

    def outcomes(policy):
        worker, ledger = Timed(), Ledger(nfe_budget=10**6)
        evaluator = Evaluator(worker, ["a cat"], [ledger], policy)
        noise = space().fresh(list(range(100)))
        work = Work(0, Job(noise, space().end), tuple(range(100)))
        found = [one for part in evaluator.run([work], lambda _: False) for one in part]
        return worker, ledger, evaluator, found

    worker, ledger, evaluator, measured = outcomes(Batches(1, measuring=True))
    assert worker.sizes == [1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16] + [4] * 9 + [1] and evaluator.batch_size == 4
    assert [one.id for one in measured] == list(range(100)) and ledger.nfe_waste == 0
    _, plain, _, alone = outcomes(Batches(100))
    assert [one.components for one in measured] == [one.components for one in alone]
    assert (ledger.nfe, ledger.denoiser_rows) == (plain.nfe, plain.denoiser_rows)


def test_the_usual_size_is_a_power_of_two_that_falls_with_the_latents():
    shapes = [(4, 16, 16), (4, 64, 64), (4, 96, 96), (4, 128, 128), (16, 128, 128), (16, 256, 256)]
    assert [usual(shape) for shape in shapes] == [16, 16, 4, 4, 1, 1]


MODEL = {"weights": {"unet": "1"}, "dtype": "float32"}


def choose(rows=1000, **changes):
    asked = {"model": MODEL, "identity": "abc", "device": "cpu", "shape": (4, 64, 64), **changes}
    return chosen_batches(asked["model"], asked["identity"], asked["device"], asked["shape"], rows)


def test_what_was_measured_is_remembered_for_the_model_size_dtype_and_device(own_cache):
    policy = choose()
    assert (policy.size, policy.measuring) == (16, True)
    settled(policy, launch_bound(32))
    again = choose(rows=1)
    assert (again.size, again.measuring) == (32, False)
    written = json.loads(own_cache.read_text())
    assert written["version"] == batches.VERSION and [one["rows"] for one in written["measured"].values()] == [32]
    assert choose(model={**MODEL, "loading": {"compile": "regional"}}).size == 32, "as it is without compiling"
    others = [
        {"identity": "other"},
        {"shape": (4, 32, 32)},
        {"model": {**MODEL, "dtype": "bfloat16"}},
        {"model": {**MODEL, "loading": {"offload": "model"}}},
    ]
    assert all(choose(**other).measuring for other in others)
    assert key_of("abc", (1,), "x", "cpu", {}) != key_of("abc", (1,), "x", "meta", {})


def test_few_rows_and_samplers_of_ones_own_are_not_measured():
    assert not choose(rows=batches.ROWS * 16 - 1).measuring and choose(rows=batches.ROWS * 16).measuring
    assert choose(model={"name": "denoiser"}) == Batches(16)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "can't be read"),
        ("[1]", "holds no measured"),
        ('{"version": 1, "measured": {"KEY": {"rows": 0}}}', ""),
        ('{"version": 1, "measured": {"KEY": 7}}', ""),
        ('{"version": 99, "measured": {"KEY": {"rows": 8}}}', ""),
    ],
)
def test_a_file_that_is_damaged_or_of_another_version_is_measured_again(own_cache, caplog, content, said):
    own_cache.parent.mkdir()
    own_cache.write_text(content.replace("KEY", "abc"))
    assert remembered("abc") is None
    assert said in caplog.text and bool(caplog.text) == bool(said)
    remember("abc", {"rows": 4})
    assert remembered("abc") == 4


def test_a_cache_that_can_not_be_written_loses_nothing(own_cache, caplog):
    own_cache.parent.write_text("a file in its place")
    with caplog.at_level(logging.DEBUG):
        remember("abc", {"rows": 4})
    assert "can't be kept" in caplog.text


def test_a_search_measures_records_and_remembers(own_cache, monkeypatch):
    monkeypatch.setattr(batches, "ROWS", 4)
    monkeypatch.setattr(batches, "usual", lambda shape: 1)
    steps = 2
    rows = property(lambda spent: launch_bound(2)(spent.denoiser_rows / spent.rows_per_evaluation / steps))
    monkeypatch.setattr(Spent, "total", rows)
    asked = {"prompt": "a red circle", "steps": steps, "verifier": lambda images, prompts: images.mean((1, 2, 3))}
    asked |= {"algorithm": "random", "progress": False, "candidates": 40}  # 31 rows until it is settled
    found = search(**asked)
    assert found.settings["batch_size"] == 2 and own_cache.exists() and found.ledger.nfe_waste == 0
    after = search(**{**asked, "candidates": 2})
    assert after.settings["batch_size"] == 2, "remembered"
    monkeypatch.setattr(driver, "chosen_batches", None)  # neither of these asks
    for fixed in ({"deterministic": True}, {"batch_size": 16}):
        assert search(**{**asked, "candidates": 2, **fixed}).settings["batch_size"] == 16
    assert [c.score for c in after.candidates] == pytest.approx([c.score for c in found.candidates[:2]], abs=1e-4)


def test_what_a_batch_took_of_memory_comes_back_from_a_worker():
    spent = Spent(3, 1, {"denoise": 1.0}, Memory(0.1, 0.5))
    assert decode(encode(spent)) == spent
