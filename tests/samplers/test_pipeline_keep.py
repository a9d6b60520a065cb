"""`scheduler="keep"`: the user's own scheduler, whole runs only."""

import diffusers
import pytest
import torch

from samplers import PipelineSampler
from tiny import pipelines as tiny

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


def test_a_row_does_not_depend_on_its_batch_where_the_scheduler_draws_from_the_global_generator():
    flow = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    options = {"height": 16, "width": 16, "max_sequence_length": 12}
    sampler = PipelineSampler(tiny.flux(scheduler=flow), steps=4, scheduler="keep", **options)
    noise = sampler.space().fresh([1, 2, 3], sampler.condition("a cat"))
    together = sampler.run(noise, 4)
    assert together.denoiser_rows == 3 * 4 and together.final.recipes[2].seed == 3
    alone = [sampler.run(noise[i], 4).final.x for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together.final.x, atol=1e-5, rtol=0)


def test_a_scheduler_that_draws_nothing_runs_its_rows_together():
    pipe = tiny.stable_diffusion(SCHEDULERS["dpm++"]())
    sampler = PipelineSampler(pipe, steps=2, guidance=1.0, scheduler="keep")
    noise = sampler.space().fresh([1, 2, 3], sampler.condition("a cat"))
    calls: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    for _ in range(2):
        sampler.run(noise, 2)
    handle.remove()
    assert calls == [1, 1, 2, 2, 3, 3], "one row tells, and then all go together"
