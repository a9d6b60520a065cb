"""What a look costs: against what real calls take, and without touching the pipeline."""

from contextlib import contextmanager

import diffusers
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from samplers import DenoiserSampler, NoiseSpace, PipelineSampler, flow_matching
from samplers.pipelines.prices import Counted
from tiny.pipelines import FLUX, snapshot, tiny

SIZE = {"height": 16, "width": 16}
CALLS = {  # with guidance in one call, and in two
    "sd": SIZE | {"negative_prompt": "bad", "guidance": 5.0},
    "flux": FLUX | {"negative_prompt": "bad", "guidance": 4.0, "guidance_argument": "true_cfg_scale"},
}


def attention(query, key, value, *args, out_shape=None, **kwargs):
    """FLOP of attention on a CPU, which torch's counter doesn't know."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


@contextmanager
def counted():
    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        yield counter


@pytest.mark.parametrize("name", CALLS)
def test_the_price_is_that_of_real_calls_and_nothing_is_run_or_counted_before(name):
    pipe = tiny(name)
    sampler = PipelineSampler(pipe, steps=2, **CALLS[name])
    sampler.space()
    assert "look_price" not in vars(sampler)
    before, drawn = snapshot(pipe), torch.get_rng_state()
    price = sampler.look_price
    assert sampler.denoiser_rows == 0 and snapshot(pipe) == before and torch.equal(torch.get_rng_state(), drawn)
    noise = sampler.space().fresh([0], sampler.condition(""))
    sampler.run(noise, 1)  # after which the text isn't encoded again
    with counted() as evaluation:
        seen = sampler.run(noise, 1).final
    with counted() as decoding:
        sampler.decode(seen)
    assert price == pytest.approx(decoding.get_total_flops() / evaluation.get_total_flops(), rel=0.02)


def test_nobody_knows_it_where_nothing_can_be_looked_at_or_counted():
    assert PipelineSampler(tiny("sd"), steps=2, scheduler="keep", **SIZE).look_price is None
    pipe = tiny("sd")
    pipe.unet = Valued(pipe.unet)
    assert PipelineSampler(pipe, steps=2, **SIZE).look_price is None


class Valued(diffusers.UNet2DConditionModel):
    """A denoiser whose path depends on values."""

    def __new__(cls, net):
        return super().__new__(cls)

    def __init__(self, net):
        self.__dict__.update(net.__dict__)

    def forward(self, sample, *args, **kwargs):
        return super().forward(sample if float(sample.sum()) > 0 else -sample, *args, **kwargs)


def test_hooks_and_replaced_forwards_are_not_counted_or_called():
    with torch.random.fork_rng():
        module, called = torch.nn.Sequential(torch.nn.Linear(3, 4)), []
    module.register_forward_pre_hook(lambda *given: called.append(given))
    module[0].forward = called.append
    stand_in = Counted(module)
    output = stand_in(torch.ones(2, 3))
    assert isinstance(stand_in, torch.nn.Sequential)
    assert torch.equal(output, torch.zeros(2, 4)) and stand_in.flops == 2 * 2 * 3 * 4 and not called


def test_a_denoisers_price_is_declared():
    space = NoiseSpace((3, 8, 8), ("channel", "height", "width"), *flow_matching.grid([1.0, 0.5]))
    assert DenoiserSampler(lambda *given: given[0], space).look_price is None
    assert DenoiserSampler(lambda *given: given[0], space, look_price=0.2).look_price == 0.2
    with pytest.raises(ValueError, match=r"look_price is -1\.0; expected evaluations"):
        DenoiserSampler(lambda *given: given[0], space, look_price=-1.0)
