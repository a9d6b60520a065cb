"""What a run has cost is told exactly, however often it went on: rows through the denoiser are NFE and waste."""

import shutil

import pytest
import torch

from noise_search import load
from tiny.search import CountingSampler, brightness, toy_search


@pytest.mark.parametrize("algorithm", ["random", "zero-order", "halving", "climb", "paths"])
@pytest.mark.parametrize("budgets", [(48, 96, 144), (96, 32, 96), (64, 64, 128, 64)])
def test_rows_are_nfe_and_waste_after_every_budget(tmp_path, algorithm, budgets):
    """Whatever was computed for one budget and isn't used by another is waste there, and there alone."""
    sampler = CountingSampler()
    for nfe in budgets:
        found = toy_search(sampler, algorithm=algorithm, nfe=nfe, run=tmp_path / "run")
        ledger = found.ledger
        assert ledger.denoiser_rows == sampler.rows == ledger.nfe + ledger.nfe_waste, (nfe, ledger)
        assert load(tmp_path / "run").ledger.to_json() == ledger.to_json()
    once = toy_search(algorithm=algorithm, nfe=budgets[-1])
    assert [one.recipe for one in found.candidates] == [one.recipe for one in once.candidates]
    assert found.ledger.nfe == once.ledger.nfe


def test_what_limits_leave_is_waste_once(tmp_path):
    sampler = CountingSampler()
    for patience in (2, None, 2):
        found = toy_search(sampler, candidates=12, batch_size=4, patience=patience, run=tmp_path / "run")
        assert found.ledger.denoiser_rows == sampler.rows == found.ledger.nfe + found.ledger.nfe_waste


def test_what_is_made_again_is_waste_once(tmp_path):
    sampler = CountingSampler()
    options = {"algorithm": "halving", "candidates": 8, "run": tmp_path / "run"}
    whole = toy_search(sampler, **options)
    for lost in ("images", "states", "images"):
        shutil.rmtree(tmp_path / "run" / lost)
        again = toy_search(sampler, **options)
        assert again.ledger.denoiser_rows == sampler.rows == again.ledger.nfe + again.ledger.nfe_waste, lost
        assert again.score == whole.score and again.ledger.nfe == whole.ledger.nfe


def test_each_prompt_has_its_own_waste(tmp_path):
    sampler, prompts = CountingSampler(), ["a prompt", "another one"]
    for nfe in (48, 96, 144):
        found = toy_search(sampler, prompts, algorithm="paths", nfe=nfe, run=tmp_path / "run")
        ledgers = [one.ledger for one in found]
        assert [one.denoiser_rows for one in ledgers] == [one.nfe + one.nfe_waste for one in ledgers]
        assert sum(one.denoiser_rows for one in ledgers) == sampler.rows


class Stopping:
    """Brightness, but for some calls that only raise."""

    version = "1"

    def __init__(self, error, calls):
        self.error, self.calls, self.asked = error, calls, 0

    def __call__(self, images, prompts):
        self.asked += 1
        if self.asked in self.calls:
            raise self.error
        return brightness(images, prompts)


@pytest.mark.parametrize(
    ("algorithm", "error", "calls"),
    [
        ("random", KeyboardInterrupt(), [2, 5]),
        ("halving", KeyboardInterrupt(), [2, 5]),  # nothing is finished by then, and something is rescued
        ("climb", KeyboardInterrupt(), [2, 5]),
        ("random", torch.OutOfMemoryError("CUDA out of memory. Tried"), range(3, 6)),
        ("random", ValueError("no"), range(4, 30)),
    ],
)
def test_what_ended_in_its_scoring_is_waste_to_those_that_go_on(tmp_path, algorithm, error, calls):
    sampler, verifier = CountingSampler(), Stopping(error, calls)
    asked = {"algorithm": algorithm, "candidates": 24, "batch_size": 2, "on_interrupt": "return"}
    reasons = []
    while not reasons or reasons[-1] != "budget spent":
        found = toy_search(sampler, verifier=verifier, run=tmp_path / "run", **asked)
        reasons.append(found.stop_reason)
        assert found.ledger.denoiser_rows == sampler.rows == found.ledger.nfe + found.ledger.nfe_waste, reasons
        assert load(tmp_path / "run").ledger.to_json() == found.ledger.to_json()
    assert len(reasons) > 1 and found.ledger.nfe_waste > 0
