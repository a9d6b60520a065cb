from contextlib import contextmanager

import pytest
import torch

from contracts.sampler import SamplerContract
from samplers import DenoiserSampler
from tiny.samplers import flow_space, mixture_denoiser, vp_space

MEANS = torch.linspace(-1, 1, 24).reshape(2, 12)


class Counted:
    """A denoiser that remembers the rows of each call, and answers by prompt."""

    def __init__(self, fn):
        self.fn, self.rows = fn, []

    def __call__(self, x, alpha, sigma, prompts):
        assert len(prompts) == len(x)
        self.rows.append(len(x))
        lengths = torch.tensor([0.01 * len(p) for p in prompts]).reshape(-1, 1, 1, 1)
        return self.fn(x, alpha, sigma, prompts) + lengths


class TestDenoiserSampler(SamplerContract):
    @pytest.fixture(params=[flow_space, vp_space], ids=["flow", "vp"])
    def model(self, request):
        return Counted(mixture_denoiser(MEANS, 0.4)), request.param(5)

    @pytest.fixture
    def sampler(self, model):
        return DenoiserSampler(model[0], model[1], prediction="x0")

    @pytest.fixture
    def of_eta(self, model):
        return lambda eta: DenoiserSampler(model[0], model[1], eta=eta)

    @pytest.fixture
    def counting(self, model):
        @contextmanager
        def count():
            model[0].rows.clear()
            yield model[0].rows

        return count


def test_prompts_reach_their_rows():
    space = flow_space(3)
    sampler = DenoiserSampler(Counted(mixture_denoiser(MEANS, 0.4)), space)
    short, long = sampler.condition("a"), sampler.condition("a" * 40)
    ends = [sampler.run(space.fresh([1], c), space.end).final for c in (short, long)]
    assert (ends[1].x - ends[0].x).mean() > 0.1


def test_a_failing_denoiser_is_still_paid_for():
    space, calls = flow_space(4), []

    def fails_late(x, alpha, sigma, prompts):
        calls.append(len(x))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return 0 * x

    sampler = DenoiserSampler(fails_late, space)
    with pytest.raises(RuntimeError, match="out of memory"):
        sampler.run(space.fresh([1, 2]), space.end)
    assert sampler.denoiser_rows == 6


def test_rows_that_are_no_images_need_a_decoder():
    space = flow_space(2, (4,))
    end = DenoiserSampler(lambda x, a, s, p: 0 * x, space).run(space.fresh([1]), 2).final
    with pytest.raises(ValueError, match="pass decode="):
        DenoiserSampler(lambda x, a, s, p: 0 * x, space).decode(end)
    image = DenoiserSampler(lambda x, a, s, p: x, space, decode=lambda x: x.new_full((len(x), 3, 2, 2), 0.5))
    assert image.decode(end).shape == (1, 3, 2, 2)


def test_a_decoder_with_weights_leaves_no_graph():
    space, weight = flow_space(2), torch.ones(1, requires_grad=True)
    sampler = DenoiserSampler(lambda x, a, s, p: weight * x, space, decode=lambda x: (weight * x).sigmoid())
    assert not sampler.decode(sampler.run(space.fresh([1]), 2).final).requires_grad
