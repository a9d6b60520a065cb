"""`scheduler="keep"`: the user's own scheduler, whole runs only."""

import diffusers
import pytest
import tiny_pipelines as tiny
import torch

from samplers import PipelineSampler

EULER = {"steps_offset": 1, **tiny.SD_BETAS}
SCHEDULERS = {
    "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, **EULER),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**EULER),
    "dpm++": lambda: diffusers.DPMSolverMultistepScheduler(**EULER),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**EULER),
    "euler-ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**EULER),
    "lcm": lambda: diffusers.LCMScheduler(**tiny.SD_BETAS),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_the_plain_pipeline(name):
    pipe = tiny.stable_diffusion(SCHEDULERS[name]())
    options = {"num_inference_steps": 4, "guidance_scale": 5.0}
    expected = tiny.stock_images(pipe, ["a cat", "two dogs"], [1, 2], **options)
    sampler = PipelineSampler(pipe, steps=4, guidance=5.0, scheduler="keep")
    space = sampler.space()
    rows = [space.fresh([s], sampler.condition(p)) for s, p in ((1, "a cat"), (2, "two dogs"))]
    run = sampler.run(type(rows[0]).cat(rows), space.end)
    torch.testing.assert_close(sampler.decode(run.final), expected, atol=1e-5, rtol=0)
    assert run.denoiser_rows == 2 * 2 * space.end == sampler.rows_per_evaluation * 2 * space.end
    alone = sampler.decode(sampler.run(rows[1], space.end).final)
    torch.testing.assert_close(alone, expected[1:], atol=1e-5, rtol=0)


def test_only_whole_runs():
    sampler = PipelineSampler(tiny.stable_diffusion(), steps=4, scheduler="keep")
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    assert not sampler.can_stop
    with pytest.raises(ValueError, match="scheduler='keep' allows whole runs from 0 to 4 only"):
        sampler.run(noise, 2)
    with pytest.raises(ValueError, match=r"rho = 0\.5 needs the sampler's own steps"):
        sampler.run(noise, 4, rho=0.5)
    with pytest.raises(ValueError, match=r"eta = 1\.0 has no effect"):
        PipelineSampler(tiny.stable_diffusion(), eta=1.0, scheduler="keep")
