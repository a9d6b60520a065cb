"""The user's pipeline is the same object in the same state after success, error and Ctrl-C; one search at a time."""

import gc
import threading
from contextlib import contextmanager

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, denoisers, failing, fresh, gap, images, own
from samplers import Mix, PipelineSampler, WholeCallSampler
from samplers.pipelines.denoisers import held
from tiny.pipelines import FLUX, SD_BETAS, quiet, snapshot, stock_images, tiny

STEPS = 3
CALLS = {"sd": {"guidance": 5.0}, "flux": FLUX}


def make(name):
    pipe = tiny(name)
    return pipe, PipelineSampler(pipe, steps=STEPS, **CALLS[name])


@pytest.mark.parametrize("name", CALLS)
def test_after_success(name):
    pipe, sampler = make(name)
    stock = {"num_inference_steps": STEPS, **({} if name == "sd" else FLUX)}
    expected = stock_images(pipe, [CAT], [5], **stock)
    before = snapshot(pipe)
    with sampler:
        sampler.decode(sampler.run(fresh(sampler, [1]), STEPS, transition=Mix(0.5), keep=[1]).final)
        sampler.describe()
    assert snapshot(pipe) == before
    assert torch.equal(stock_images(pipe, [CAT], [5], **stock), expected), "the next plain call is as ever"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("name", CALLS)
def test_after_an_error_in_the_model(name, error):
    pipe, sampler = make(name)
    noise = fresh(sampler, [1, 2])
    expected, rows = sampler.run(noise, STEPS).final.x, sampler.denoiser_rows
    with failing(pipe, error):
        before = snapshot(pipe)
        with pytest.raises(error):
            sampler.run(noise, STEPS)
        assert snapshot(pipe) == before
    per = sampler.rows_per_evaluation * 2
    assert sampler.denoiser_rows - rows in (per, 2 * per), "what ran before the error is paid for"
    assert torch.equal(sampler.run(noise, STEPS).final.x, expected)


def test_later_changes_of_the_users_scheduler_do_not_reach_the_sampler():
    pipe, sampler = make("sd")
    noise = fresh(sampler, [1])
    before = sampler.run(noise, STEPS).final.x
    pipe.scheduler = diffusers.EulerDiscreteScheduler()
    assert torch.equal(sampler.run(noise, STEPS).final.x, before)


def test_progress_bars_stay_silent_and_the_safety_checker_is_dropped(capsys):
    pipe, sampler = make("sd")
    pipe.set_progress_bar_config()
    pipe.safety_checker = checker = lambda **_: pytest.fail("the safety checker ran")
    images(sampler, [1])
    assert pipe.safety_checker is checker and capsys.readouterr().err == ""


def test_model_offload_hooks_are_freed_once_at_the_end():
    (pipe, sampler), freed = make("sd"), []
    pipe.maybe_free_model_hooks = lambda: freed.append(1)
    pipe._all_hooks = ["a hook"]
    with sampler:
        images(sampler, [1])
        assert freed == []
    assert freed == [1]


def test_claims_nest_in_one_thread():
    pipe, first = make("sd")
    second, modules = PipelineSampler(pipe, steps=STEPS), denoisers(pipe)
    with first:
        with first, second:
            images(second, [1])
        assert all(map(held, modules)), "the end of an inner search leaves the outer one's claim"
        images(first, [1])
        first.close()
        assert not any(map(held, modules))
    assert not any(map(held, modules))


def test_a_call_in_the_middle_of_another_searchs_call_is_told():
    pipe, first = make("sd")
    second = PipelineSampler(pipe, steps=STEPS)
    noise, found = fresh(first, [1]), []

    def inside(module, args):
        handle.remove()
        with pytest.raises(RuntimeError, match="in the middle of another search's call") as told:
            second.space()
        found.append(told)

    handle = denoisers(pipe)[0].register_forward_pre_hook(inside)
    first.run(noise, 1)
    assert found and second.space().end == STEPS


def test_a_search_that_was_dropped_frees_its_denoiser():
    pipe, first = make("sd")
    first.__enter__()
    del first
    gc.collect()
    PipelineSampler(pipe, steps=STEPS).space()


@contextmanager
def meanwhile(sampler, noise):
    """While another thread runs the noise by one step and is inside its denoiser."""
    inside, go = threading.Event(), threading.Event()

    def wait(module, args):
        inside.set()
        go.wait(20)

    handle = denoisers(sampler._calls.pipe)[0].register_forward_pre_hook(wait)
    thread = threading.Thread(target=lambda: sampler.run(noise, 1))
    thread.start()
    inside.wait(20)
    try:
        yield
    finally:
        go.set()
        thread.join()
        handle.remove()


def in_threads(*jobs):
    """Run the jobs at the same time; their results, or what they raised."""
    found = [None] * len(jobs)
    ready = threading.Barrier(len(jobs))

    def work(index, job):
        ready.wait(20)
        try:
            found[index] = job()
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=work, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_two_threads_on_one_sampler_are_told():
    _, sampler = make("sd")
    noise = fresh(sampler, [1])
    with meanwhile(sampler, noise), pytest.raises(RuntimeError, match="another thread"):
        sampler.run(noise, 1)


def test_searches_of_one_denoiser_in_two_threads_wait_for_each_other_and_say_so_once(caplog):
    pipe = own(tiny("sd"))
    first, second = (PipelineSampler(pipe, steps=STEPS) for _ in range(2))
    noise, found = fresh(first, [1]), []
    fresh(second, [1])
    waiting = threading.Thread(target=lambda: found.append(second.run(noise, 1).final.x))
    with meanwhile(first, noise):
        waiting.start()
        waiting.join(1.5)  # longer than one look
        assert waiting.is_alive() and not found
    waiting.join(20)
    assert gap(found[0], first.run(noise, 1).final.x) == 0
    assert [record.message for record in caplog.records] == [
        "waiting for another search on the same model, in another thread, to end"
    ]


def test_a_plain_call_in_another_thread_draws_for_itself():
    """While one thread's draws are replaced, the same pipeline class in another draws as ever."""
    searched, plain = PipelineSampler(own(tiny("dit")), steps=STEPS), own(tiny("dit"))

    def call():
        generator = torch.Generator().manual_seed(5)
        return plain([0], num_inference_steps=STEPS, generator=generator, output_type="pt").images

    expected = call()
    with meanwhile(searched, fresh(searched, [1])):
        found = call()
    assert torch.equal(found, expected)


def test_pipelines_in_threads_of_their_own_do_not_meet():
    lcm = diffusers.LCMScheduler(**SD_BETAS)
    makers = {  # latents=, two that draw by the same randn_tensor, one that uses the global generator
        "sd": lambda: PipelineSampler(own(tiny("sd")), steps=STEPS),
        "dit": lambda: PipelineSampler(own(tiny("dit")), steps=STEPS),
        "dit-too": lambda: PipelineSampler(own(tiny("dit")), steps=STEPS),
        "kept": lambda: PipelineSampler(own(tiny("sd", lcm)), steps=STEPS, scheduler="keep"),
    }
    seeds = {name: [i, i + 10] for i, name in enumerate(makers)}
    serial = [images(make(), seeds[name]) for name, make in makers.items()]
    randn = diffusers.pipelines.dit.pipeline_dit.randn_tensor
    for _ in range(3):
        jobs = [lambda make=make, name=name: images(make(), seeds[name]) for name, make in makers.items()]
        for found, expected in zip(in_threads(*jobs), serial, strict=True):
            assert isinstance(found, torch.Tensor), found
            assert gap(found, expected) < 1e-5
    assert diffusers.pipelines.dit.pipeline_dit.randn_tensor is randn


def test_a_look_at_a_pipeline_that_another_search_has_touches_no_denoiser(monkeypatch):
    """The look ends at the first forward, whosever it is: it may put its hooks only on what it has claimed."""
    pipe, hooks = own(tiny("sd")), []
    register = pipe.unet.register_forward_pre_hook
    monkeypatch.setattr(
        pipe.unet, "register_forward_pre_hook", lambda *args, **how: hooks.append(args) or register(*args, **how)
    )
    second, found = WholeCallSampler(pipe, steps=STEPS), []
    look = threading.Thread(target=lambda: found.append(second.space().end))
    with PipelineSampler(pipe, steps=STEPS):
        look.start()
        look.join(0.2)
        assert look.is_alive() and not hooks
    look.join(20)
    assert found == [STEPS] and hooks


def test_a_look_ends_no_plain_call_in_another_thread():
    found = []

    class Meanwhile(diffusers.DDIMPipeline):
        def __call__(self, *args, **how):
            found.extend(in_threads(lambda: self.unet(torch.zeros(1, 3, 8, 8), 1).sample))
            return super().__call__(*args, **how)

    pipe = own(tiny("unconditional"))
    assert WholeCallSampler(quiet(Meanwhile(pipe.unet, pipe.scheduler)), steps=STEPS).space().end == STEPS
    assert isinstance(found[0], torch.Tensor)
