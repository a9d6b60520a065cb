"""No step of ours waits for the device: nothing is read back from it, however many steps there are."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from samplers import Ancestral
from samplers.denoiser import DenoiserSampler
from samplers.pipelines.sampler import PipelineSampler
from tiny.pipelines import tiny
from tiny.search import space

READ = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"}
"""Operations whose result the CPU needs, or whose shape depends on values: on a GPU each waits for all before it."""


class Reads(TorchDispatchMode):
    """Counts what would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        if name in READ:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def reads(make, steps, transition):
    sampler = make(steps)
    grid = sampler.space()
    noise = grid.fresh([0, 1], condition=sampler.condition("a cat"))
    sampler.run(noise, grid.end, transition=transition)  # what is looked at once for a pipeline is looked at
    with Reads() as counted:
        sampler.run(noise, grid.end, transition=transition, keep=(1,))
    return counted.seen


def flux(steps):
    return PipelineSampler(tiny("flux"), steps=steps, height=16, width=16, max_sequence_length=8)


def sd(steps):
    return PipelineSampler(tiny("sd"), steps=steps, height=16, width=16)


@pytest.mark.parametrize("transition", [None, Ancestral(1.0)], ids=["ode", "ancestral"])
@pytest.mark.parametrize("make", [flux, sd])
def test_what_is_read_back_does_not_grow_with_the_steps(make, transition):
    few, many = (reads(make, steps, transition) for steps in (3, 7))
    assert few == many, "a step reads something back"
    assert few["equal"], "x is compared where the pipeline takes it: so this count sees what it should"


def test_a_step_that_reads_back_would_be_seen():
    def looking(x, alpha, sigma, prompts):
        return x * float(x.mean())

    def sampler(steps):
        return DenoiserSampler(looking, lambda asked, levels: space(asked or steps, levels))

    assert [reads(sampler, steps, None)["_local_scalar_dense"] for steps in (3, 7)] == [3, 7]


@pytest.mark.parametrize("transition", [None, Ancestral(1.0)], ids=["ode", "ancestral"])
def test_a_sampler_over_a_function_runs_where_nothing_can_be_read_at_all(transition):
    """On the meta device there are no values: each item(), cpu() or bool() raises."""
    sampler = DenoiserSampler(lambda x, *more: 0.5 * x, lambda asked, levels: space(asked or 5, levels))
    grid = sampler.space()
    noise = grid.fresh([0, 1], condition=sampler.condition("a cat"))
    final = sampler.run(replace(noise, x=noise.x.to("meta")), grid.end, transition=transition, keep=(2,)).final
    assert final.x.device.type == "meta" and final.step == grid.end
    with pytest.raises(NotImplementedError):
        final.x.cpu()
    assert torch.isfinite(sampler.run(noise, grid.end, transition=transition).final.x).all()
