"""What is claimed of a pipeline is shown on it: plain runs, rows that share a batch, and what is done where not."""

import json
from dataclasses import asdict

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, denoisers, fresh, gap, hooked, images
from samplers import PipelineSampler, WholeCallSampler, sampler_for
from samplers.pipelines.claims import Claims, show
from tiny.pipelines import EULER, ddim, picture, stock_images, tiny

STEPS = 4


class MixesRows(diffusers.StableDiffusionPipeline):
    """Adds to each row what the rows of its call have in common."""

    def prepare_extra_step_kwargs(self, generator, eta):
        step = self.scheduler.step

        def mixed(output, t, sample, **kwargs):
            return step(output + output.mean(0) * (len(output) > 1), t, sample, **kwargs)

        vars(self.scheduler)["step"] = mixed
        return super().prepare_extra_step_kwargs(generator, eta)


class TakesOneRow(diffusers.StableDiffusionPipeline):
    """Has no batches."""

    def encode_prompt(self, prompt, *args, **kwargs):
        if isinstance(prompt, list) and len(prompt) > 1:
            raise ValueError("one prompt at a time")
        return super().encode_prompt(prompt, *args, **kwargs)

    def prepare_latents(self, batch_size, *args, **kwargs):
        if batch_size > 1:
            raise ValueError("one image at a time")
        return super().prepare_latents(batch_size, *args, **kwargs)


class ForgetsItsNoise(diffusers.StableDiffusionPipeline):
    """Takes latents, and starts its loop from others where it takes steps."""

    def prepare_latents(self, *args, **kwargs):
        latents = super().prepare_latents(*args, **kwargs)
        return latents * 0.5 if len(self.scheduler.timesteps) else latents


class Unrepeatable(diffusers.StableDiffusionPipeline):
    """Adds noise that no generator of its call gives."""

    def prepare_latents(self, *args, **kwargs):
        latents = super().prepare_latents(*args, **kwargs)
        return latents + torch.randn(latents.shape) * bool(len(self.scheduler.timesteps))


def shown(cls, **options):
    return show(PipelineSampler(tiny("sd", cls=cls), steps=STEPS, guidance=4.0, **options), CAT)


def test_an_honest_pipeline_keeps_all_claims_in_few_evaluations():
    claims = shown(diffusers.StableDiffusionPipeline)
    assert claims.is_plain and claims.drives and claims.rows_together and claims.repeats is None
    assert claims.plain == 0 and 0 <= claims.rows < 5e-5 and claims.nfe == 2 + 2 * 2 + 2 * 2


def test_rows_that_depend_on_their_batch_run_alone():
    claims = shown(MixesRows)
    assert claims.is_plain and not claims.rows_together and claims.rows > 1e-3
    pipe, calls = tiny("sd", cls=MixesRows), []
    with pytest.warns(UserWarning, match=r"candidates of this MixesRows differ in a batch \(by 0\.\d+ of 1\): each"):
        sampler = sampler_for(pipe, steps=STEPS, shown=lambda one: show(one, CAT))
    with hooked(denoisers(pipe), calls.append):
        found = images(sampler, [1, 2])
    assert len(calls) == 2 * STEPS, "a call for each row and step"
    expected = torch.cat([stock_images(pipe, [CAT], [seed], num_inference_steps=STEPS) for seed in (1, 2)])
    assert gap(found, expected) <= 5e-5


def test_a_pipeline_without_batches_runs_its_rows_alone():
    with pytest.warns(UserWarning, match="candidates of this TakesOneRow can't share a call: each runs alone"):
        sampler = sampler_for(tiny("sd", cls=TakesOneRow), steps=STEPS, shown=lambda one: show(one, CAT))
    assert images(sampler, [1, 2]).isfinite().all()


def test_noise_that_does_not_arrive_leaves_the_seeds_of_whole_calls():
    claims = shown(ForgetsItsNoise)
    assert not claims.drives and "changed the latents" in claims.failed
    assert json.loads(json.dumps(asdict(claims), allow_nan=False))["plain"] is None, (
        "what isn't known has a word in JSON"
    )
    pipe = tiny("sd", cls=ForgetsItsNoise)
    with pytest.warns(UserWarning, match=r"changed the latents .*: searching over seeds of whole calls"):
        sampler = sampler_for(pipe, steps=STEPS, shown=lambda one: show(one, CAT))
    assert isinstance(sampler, WholeCallSampler)
    assert gap(images(sampler, [3]), stock_images(pipe, [CAT], [3], num_inference_steps=STEPS)) < 1e-6


def test_what_does_not_repeat_itself_claims_no_seed_and_is_no_witness():
    looked = PipelineSampler(tiny("sd", cls=Unrepeatable), steps=STEPS)
    claims = Claims(plain=0.4, rows=0.0, repeats=False, tolerance=5e-5)
    assert claims.drives and not claims.is_plain
    assert show(looked, CAT).repeats in (False, None), "the loop's start is checked before anything is compared"
    kept = PipelineSampler(
        tiny("flux", diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)),
        steps=2,
        scheduler="keep",
        height=16,
        width=16,
        max_sequence_length=12,
    )
    claims = show(kept, CAT)
    assert claims.repeats is False and claims.drives and not claims.is_plain
    assert not kept.plain_seeds, "it draws from the global generator"


def test_a_first_order_rule_is_compared_by_the_pipelines_own_scheduler():
    """Its own pictures are others; what it hands in, and how it decodes, is what counts."""
    heun = tiny("sd", diffusers.HeunDiscreteScheduler(**EULER))
    sampler = PipelineSampler(heun, steps=STEPS, guidance=4.0)
    assert sampler.replaced and show(sampler, CAT).is_plain


def test_what_the_plain_pipeline_refuses_is_its_own_error():
    with pytest.raises(ValueError, match="have to be divisible by 8"):
        sampler_for(tiny("sd"), steps=STEPS, height=13, width=16)


OWN = {
    "ddim": (ddim, False),
    "ddim-linspace": (lambda: ddim(timestep_spacing="linspace"), True),
    "ddim-trailing-uneven": (lambda: ddim(timestep_spacing="trailing"), True),
    "pndm": (lambda: diffusers.PNDMScheduler(skip_prk_steps=True, **EULER), True),
    "euler": (lambda: diffusers.EulerDiscreteScheduler(**EULER), False),
    "euler-ancestral": (lambda: diffusers.EulerAncestralDiscreteScheduler(**EULER), True),
    "dpm++": (lambda: diffusers.DPMSolverMultistepScheduler(**EULER), True),
    "unipc": (lambda: diffusers.UniPCMultistepScheduler(**EULER), True),
    "heun": (lambda: diffusers.HeunDiscreteScheduler(**EULER), True),
    "lcm": (lambda: diffusers.LCMScheduler(beta_schedule="scaled_linear"), True),
}


@pytest.mark.filterwarnings("error:.*first-order")
@pytest.mark.parametrize("name", OWN)
def test_whole_runs_are_the_pipelines_own_whatever_its_scheduler(name):
    make, others = OWN[name]
    pipe = tiny("sd", make())
    sampler = sampler_for(pipe, steps=7, guidance=4.0, stops=False)
    assert sampler.can_stop is not others and bool(sampler.note) is others
    expected = stock_images(pipe, [CAT, CAT], [1, 2], num_inference_steps=7, guidance_scale=4.0)
    assert gap(images(sampler, [1, 2]), expected) <= 5e-5 and sampler.plain_seeds


@pytest.mark.parametrize("name", ["ddim-linspace", "ddim-trailing-uneven", "pndm", "euler-ancestral"])
def test_states_on_the_way_need_steps_of_the_first_order_which_claim_no_seed(name):
    with pytest.warns(UserWarning, match=r"is replaced by its first-order .*scheduler='keep'") as warned:
        sampler = sampler_for(tiny("sd", OWN[name][0]()), steps=7, guidance=4.0)
    (said,) = [one for one in warned if "first-order" in str(one.message)]
    assert said.filename == __file__, "it points at the user's line"
    assert sampler.can_stop and not sampler.plain_seeds and "states on the way" in sampler.note


@pytest.mark.parametrize("name", ["sd-image", "flux-image"])
def test_an_image_that_is_no_tensor_goes_to_every_row(name):
    pipe, options = tiny(name), {"image": picture(), "strength": 0.6}
    if name == "flux-image":
        options |= {"height": 16, "width": 16, "max_sequence_length": 12}
    sampler = PipelineSampler(pipe, steps=5, **options)
    assert show(sampler, CAT).rows_together
    assert fresh(sampler, [1]).x.shape[1:] == sampler.space().shape
