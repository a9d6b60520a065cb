from contextlib import contextmanager

import pytest
import torch

from contracts.sampler import SamplerContract
from samplers import PipelineSampler
from tiny import pipelines as tiny

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}
CASES = {
    "sd-guided": (tiny.stable_diffusion, {"guidance": 5.0, "negative_prompt": "bad"}),
    "sd-unguided": (tiny.stable_diffusion, {"guidance": 1.0}),
    "sdxl": (tiny.stable_diffusion_xl, {"guidance": 5.0}),
    "flux": (tiny.flux, FLUX),
    "flux-true-cfg": (
        tiny.flux,
        FLUX | {"guidance": 4.0, "guidance_argument": "true_cfg_scale", "negative_prompt": "bad"},
    ),
}


@contextmanager
def counted(pipe):
    """Rows of each denoiser call, by a forward hook of the test's own."""
    rows: list[int] = []

    def count(module, args, kwargs):
        rows.append(len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]))

    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    handle = denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


class TestPipelineSampler(SamplerContract):
    tolerance = 5e-5

    @pytest.fixture(params=CASES)
    def case(self, request):
        make, options = CASES[request.param]
        return make(), options

    @pytest.fixture
    def sampler(self, case):
        return PipelineSampler(case[0], steps=3, **case[1])

    @pytest.fixture
    def counting(self, case):
        return lambda: counted(case[0])

    def test_rows_per_evaluation_is_known_before_the_first_run(self, sampler, noise):
        estimated = sampler.rows_per_evaluation
        sampler.run(noise, 1)
        assert sampler.rows_per_evaluation == estimated

    def test_moved_noise_and_renoised_states_run(self, sampler, noise):
        space = sampler.space()
        near = space.neighbour(noise, [1, 2, 3], 0.999999)
        far = space.neighbour(noise, [1, 2, 3], 0.5)
        ends = [sampler.run(s, space.end).final.x for s in (noise, near, far)]
        assert (ends[0] - ends[1]).abs().max() < 0.2 * (ends[0] - ends[2]).abs().max()
        back = space.renoise(sampler.run(noise, space.end).final, 1, [4, 5, 6])
        assert sampler.run(back, space.end).final.x.isfinite().all()

    def test_space_is_the_unpacked_latent(self, sampler):
        space = sampler.space()
        assert space.shape == (4, 8, 8) and space.axes == ("channel", "height", "width") and space.end == 3


def _bfloat16_draw(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.bfloat16)


def test_a_bfloat16_pipeline_keeps_its_noise_in_float32():
    pipe = tiny.flux()
    parts = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
    try:
        for part in parts.values():
            part.to(torch.bfloat16)
        sampler = PipelineSampler(pipe, steps=3, **FLUX)
        noise = sampler.space().fresh([1, 2], sampler.condition("a cat"))
        end = sampler.run(noise, 3).final
        images = sampler.decode(end)
        stock = tiny.stock_images(pipe, ["a cat"] * 2, [1, 2], num_inference_steps=3, **FLUX)
    finally:
        for part in parts.values():
            part.to(torch.float32)
    assert noise.x.dtype == end.x.dtype == images.dtype == torch.float32
    assert sampler.describe()["dtype"] == "bfloat16"
    if not torch.equal(noise.x[:1].bfloat16(), _bfloat16_draw(noise.x[:1].shape)):
        pytest.skip("this torch draws bfloat16 noise that is not its rounded float32 noise: a seed means another image")
    torch.testing.assert_close(images, stock.float(), atol=2e-2, rtol=0)
