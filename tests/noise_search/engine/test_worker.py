"""The seam between an evaluator and whoever runs its batches: plain data both ways, and every cost is booked."""

import pickle

import numpy as np
import pytest
import torch

from noise_search import SearchOutOfMemory, SearchOverPaths, ZeroOrderSearch, search
from noise_search.algorithms.base import Job
from noise_search.engine import driver
from noise_search.engine.evaluator import Evaluator, Work
from noise_search.engine.scoring import Scorer
from noise_search.engine.worker import Batch, BatchStopped, Done, LocalWorker, Rows, Spent
from noise_search.results.ledger import Ledger
from tiny.search import STUBS, CountingSampler, brightness, contrast, space
from verifiers.base import FunctionVerifier, VerifierUnusable

END = space().end
PROMPTS = ("a cat", "two dogs")


class FakeWorker:
    """No model: moves nothing, paints each row grey by its seed, scores by the seed; `failures` come first."""

    def __init__(self, *failures: BatchStopped) -> None:
        self.batches: list[Batch] = []
        self.failures = list(failures)

    def run(self, batch: Batch) -> Done:
        batch = pickle.loads(pickle.dumps(batch))
        self.batches.append(batch)
        if self.failures:
            raise self.failures.pop(0)
        rows, count = batch.rows, len(batch.prompts)
        arrived = {
            step: Rows(
                rows.x, step, rows.grid, tuple(r.then_run(rows.step, step, rows.grid, 1.0) for r in rows.recipes)
            )
            for step in (*batch.keep, batch.stop)
        }
        seeds = np.array([float(recipe.operations[0]["seed"]) for recipe in rows.recipes])
        done = Done(
            final=arrived[batch.stop],
            kept={step: arrived[step] for step in batch.keep},
            spent=Spent(2 * count * (batch.stop - rows.step), 2, {"denoise": 1.5}),
            pixels=np.full((count, 4, 4, 3), seeds[:, None, None, None], np.uint8) if batch.score else None,
            scores={"seed": seeds} if batch.score else {},
            failures=(None,) * count,
            pictures=int(batch.score),
            device="elsewhere",
        )
        return pickle.loads(pickle.dumps(done))


def evaluate(worker, counts=(3, 2), batch_size=4, fixed=False, **job):
    """One job for each prompt through an evaluator."""
    ledgers = [Ledger(nfe_budget=100) for _ in counts]
    evaluator = Evaluator(worker, PROMPTS, ledgers, batch_size, fixed)
    works, first = [], 0
    for prompt, count in enumerate(counts):
        noise = space().fresh(list(range(first, first + count)), condition=prompt)
        works.append(Work(prompt, Job(noise, END, **job), tuple(range(first, first + count))))
        first += count
    return evaluator, ledgers, [one for part in evaluator.run(works, lambda work: False) for one in part]


def test_prompts_take_turns_and_every_row_comes_back_as_it_was_asked_for():
    worker = FakeWorker()
    evaluator, ledgers, outcomes = evaluate(worker, keep=(2,))
    assert [batch.prompts for batch in worker.batches] == [(*PROMPTS, *PROMPTS), PROMPTS[:1]]
    assert [one.id for one in outcomes] == [0, 3, 1, 4, 2]
    for one in outcomes:
        assert one.state.recipes[0].seed == one.id == one.components["seed"] and (one.pixels == one.id).all()
        assert one.state.step == END and one.state.conditions == (one.work.prompt,)
        assert one.kept[2].step == 2 and one.kept[2].conditions == (one.work.prompt,)
    assert evaluator.device == "elsewhere"
    assert [one.nfe for one in ledgers] == [3 * END, 2 * END] and not any(one.nfe_waste for one in ledgers)
    assert [one.denoiser_rows for one in ledgers] == [6 * END, 4 * END]
    assert [one.decodes for one in ledgers] == [one.verifier_images for one in ledgers] == [3, 2]
    assert [dict(one.seconds) for one in ledgers] == [{"denoise": 0.75 + 1.5}, {"denoise": 0.75}]


def test_rows_that_are_not_scored_are_not_looked_at():
    _, ledgers, outcomes = evaluate(FakeWorker(), score=False)
    assert not any(one.components for one in outcomes) and all(one.pixels is None for one in outcomes)
    assert not any(one.decodes or one.verifier_images for one in ledgers)


def test_padding_goes_all_the_way_and_is_waste():
    worker = FakeWorker()
    _, ledgers, outcomes = evaluate(worker, counts=(3,), fixed=True)
    assert [len(batch.prompts) for batch in worker.batches] == [4] and len(outcomes) == 3
    assert (ledgers[0].nfe, ledgers[0].nfe_waste, ledgers[0].denoiser_rows) == (3 * END, END, 8 * END)


def test_a_batch_that_ran_out_of_memory_is_waste_and_runs_again_in_halves():
    lost = BatchStopped(torch.OutOfMemoryError("CUDA out of memory"), Spent(10, 2, {"denoise": 1.0}), denoised=False)
    worker = FakeWorker(pickle.loads(pickle.dumps(lost)))
    evaluator, ledgers, outcomes = evaluate(worker)
    assert [len(batch.prompts) for batch in worker.batches] == [4, 2, 2, 1] and evaluator.batch_size == 2
    assert [one.id for one in outcomes] == [0, 3, 1, 4, 2]
    assert [one.nfe for one in ledgers] == [3 * END, 2 * END] and sum(one.nfe_waste for one in ledgers) == 5
    assert sum(one.denoiser_rows for one in ledgers) == 10 + 2 * 5 * END


def test_a_single_row_that_runs_out_of_memory_says_what_helps():
    lost = [BatchStopped(RuntimeError("out of memory"), Spent(), denoised=False) for _ in range(2)]
    with pytest.raises(SearchOutOfMemory, match="smaller height"):
        evaluate(FakeWorker(*lost), counts=(2,), batch_size=2)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SearchOutOfMemory("too large")])
@pytest.mark.parametrize("denoised", [False, True])
def test_another_end_goes_on_as_it_is_and_only_rows_that_arrived_are_charged(error, denoised):
    ledger = Ledger(nfe_budget=100)
    evaluator = Evaluator(FakeWorker(BatchStopped(error, Spent(12, 2), denoised)), PROMPTS, [ledger], batch_size=4)
    with pytest.raises(type(error)) as raised:
        list(evaluator.run([Work(0, Job(space().fresh([0, 1]), END), (0, 1))], lambda work: False))
    assert raised.value is error
    assert (ledger.nfe, ledger.nfe_waste, ledger.denoiser_rows) == ((2 * END, 0, 12) if denoised else (0, 6, 12))


def test_what_a_last_batch_gave_is_handed_out_before_its_verifier_is_given_up():
    class Spending(FakeWorker):
        def run(self, batch):
            done = super().run(batch)
            return Done(**vars(done) | {"unusable": VerifierUnusable("no money left")})

    evaluator = Evaluator(Spending(), PROMPTS, [Ledger(nfe_budget=100)], batch_size=2)
    run = evaluator.run([Work(0, Job(space().fresh([0, 1, 2]), END), (0, 1, 2))], lambda work: False)
    assert [one.id for one in next(run)] == [0, 1]
    with pytest.raises(VerifierUnusable, match="no money left"):
        next(run)


class Pickling(LocalWorker):
    """The real worker, behind a door that only bytes go through."""

    def run(self, batch: Batch) -> Done:
        return pickle.loads(pickle.dumps(super().run(pickle.loads(pickle.dumps(batch)))))


@pytest.mark.parametrize("algorithm", ["random", ZeroOrderSearch(), SearchOverPaths(), *STUBS], ids=repr)
def test_a_search_is_the_same_through_bytes(algorithm, monkeypatch):
    def run():
        verifiers, options = [brightness, contrast], {"nfe": 10 * END + 3, "batch_size": 3, "progress": False}
        return search(list(PROMPTS), model=CountingSampler(), algorithm=algorithm, verifier=verifiers, **options)

    here = run()
    monkeypatch.setattr(driver, "LocalWorker", Pickling)
    for one, other in zip(here, run(), strict=True):
        left, right = one.to_json(), other.to_json()
        for found in (left, right):
            found["ledger"].pop("seconds")
        assert left == right and (one.best.pixels == other.best.pixels).all()


def test_a_batch_says_what_it_cost_when_its_verifier_fails():
    def broken(images, prompts):
        raise ValueError("never worked")

    sampler = CountingSampler()
    noise = space().fresh([0, 1, 2, 3])
    with pytest.raises(BatchStopped) as stopped:
        LocalWorker(sampler, Scorer([FunctionVerifier(broken)])).run(Batch(Rows.of(noise), PROMPTS * 2, END))
    found = stopped.value
    assert isinstance(found.error, ValueError) and found.denoised and found.spent.denoiser_rows == sampler.rows
    assert found.spent.seconds.keys() == {"denoise", "decode", "verify"}
