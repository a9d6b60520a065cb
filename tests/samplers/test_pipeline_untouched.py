"""The user's pipeline is the same object in the same state after success, error and Ctrl-C."""

import gc
import threading

import diffusers
import pytest
import torch

from samplers import PipelineSampler, State
from tiny import pipelines as tiny
from tiny.pipelines import snapshot

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}


def make(name):
    pipe = tiny.stable_diffusion() if name == "sd" else tiny.flux()
    options = {"guidance": 5.0} if name == "sd" else FLUX
    return pipe, PipelineSampler(pipe, steps=3, **options)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_after_success(name):
    pipe, sampler = make(name)
    before = snapshot(pipe)
    with sampler:
        noise = sampler.space().fresh([1], sampler.condition("a cat"))
        sampler.decode(sampler.run(noise, 3, rho=0.5, keep=[1]).final)
        sampler.describe()
    assert snapshot(pipe) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_after_an_error_in_the_model(name, error):
    pipe, sampler = make(name)
    noise = sampler.space().fresh([1, 2], sampler.condition("a cat"))
    expected = sampler.run(noise, 3).final.x
    rows, denoiser = sampler.denoiser_rows, getattr(pipe, "unet", None) or pipe.transformer
    calls = []

    def fail(module, args, kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise error("in the second step")

    handle = denoiser.register_forward_pre_hook(fail, with_kwargs=True)
    before = snapshot(pipe)
    with pytest.raises(error):
        sampler.run(noise, 3)
    after = snapshot(pipe)
    handle.remove()
    assert after == before
    per = sampler.rows_per_evaluation * 2
    assert sampler.denoiser_rows - rows in (per, 2 * per), "what ran before the error is paid for"
    assert torch.equal(sampler.run(noise, 3).final.x, expected)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_the_next_plain_call_is_as_ever(name):
    pipe, sampler = make(name)
    options = {"num_inference_steps": 3, **({} if name == "sd" else FLUX)}
    before = tiny.stock_images(pipe, ["a cat"], [5], **options)
    sampler.run(sampler.space().fresh([1], sampler.condition("a cat")), 2)
    assert torch.equal(tiny.stock_images(pipe, ["a cat"], [5], **options), before)


def test_later_changes_of_the_users_scheduler_do_not_reach_the_sampler():
    pipe, sampler = make("sd")
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    before = sampler.run(noise, 3).final.x
    pipe.scheduler = diffusers.EulerDiscreteScheduler()
    assert torch.equal(sampler.run(noise, 3).final.x, before)


def test_text_is_encoded_once_per_prompt():
    for name, per_prompt in (("sd", 2), ("flux", 1)):  # SD's guidance encodes the empty prompt along
        pipe, sampler = make(name)
        calls = []
        handle = pipe.text_encoder.register_forward_pre_hook(
            lambda m, a, k, calls=calls: calls.append(len(a[0] if a else k["input_ids"])), with_kwargs=True
        )
        cat, dogs = sampler.condition("a cat"), sampler.condition("two dogs")
        space = sampler.space()
        noise = State.cat([space.fresh([1, 2], cat), space.fresh([3, 4], dogs)])
        for state in (noise, noise[[0, 3]], noise[1]):
            sampler.decode(sampler.run(state, 2, keep=[1]).final)
        handle.remove()
        assert calls == [1] * (2 * per_prompt) and sampler.text_encodings == 2


def test_progress_bars_stay_silent_and_the_safety_checker_is_dropped(capsys):
    pipe, sampler = make("sd")
    pipe.set_progress_bar_config()
    pipe.safety_checker = lambda **_: pytest.fail("the safety checker ran")
    checker = pipe.safety_checker
    sampler.decode(sampler.run(sampler.space().fresh([1], sampler.condition("a cat")), 3).final)
    assert pipe.safety_checker is checker and capsys.readouterr().err == ""


def test_one_search_per_denoiser():
    pipe, first = make("sd")
    second = PipelineSampler(pipe, steps=3)
    with first, pytest.raises(RuntimeError, match="already in use by another search"):
        second.space()
    with first:
        first.space()
    with second, pytest.raises(RuntimeError, match="already in use"), first:
        pass
    second.space()


def test_a_search_that_was_dropped_frees_its_denoiser():
    pipe, first = make("sd")
    first.__enter__()
    del first
    gc.collect()
    PipelineSampler(pipe, steps=3).space()


def test_two_threads_on_one_sampler_are_told():
    pipe, sampler = make("sd")
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    inside, go = threading.Event(), threading.Event()

    def wait(module, args):
        inside.set()
        go.wait(20)

    handle = pipe.unet.register_forward_pre_hook(wait)
    thread = threading.Thread(target=lambda: sampler.run(noise, 1))
    thread.start()
    inside.wait(20)
    with pytest.raises(RuntimeError, match="another thread"):
        sampler.run(noise, 1)
    go.set()
    thread.join()
    handle.remove()


def test_model_offload_hooks_are_freed_once_at_the_end():
    pipe, sampler = make("sd")
    freed = []
    pipe.maybe_free_model_hooks = lambda: freed.append(1)
    pipe._all_hooks = ["a hook"]
    with sampler:
        noise = sampler.space().fresh([1], sampler.condition("a cat"))
        sampler.decode(sampler.run(noise, 3).final)
        assert freed == []
    assert freed == [1]
