"""What the options of a call may be, what a pipeline must be, and which options leave whole runs only."""

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, fresh, gap, images
from samplers import NotDrivable, PipelineSampler
from tiny.pipelines import FLUX, SD_BETAS, DrawsByItself, ddim, picture, quiet, seeded, stock_images, tiny

STEPS = 4


class Hidden(diffusers.DDIMPipeline):
    """Draws by itself, in a module that has `randn_tensor`."""

    __call__ = DrawsByItself.__call__


class Doubling(diffusers.StableDiffusionPipeline):
    """Changes the latents it is given, where there are steps."""

    def prepare_latents(self, *args, **kwargs):
        latents = super().prepare_latents(*args, **kwargs)
        return latents if self.scheduler.num_inference_steps == 0 else 2 * latents


class Odd(diffusers.StableDiffusionPipeline):
    """Does not name its denoiser."""

    @property
    def components(self):
        return {k: v for k, v in super().components.items() if k != "unet"}


OWNED = ["latents", "generator", "num_images_per_prompt", "output_type", "return_dict"]
TRUE_CFG = {"guidance_argument": "true_cfg_scale"}
SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
REFUSED_AT_ONCE = [  # pipeline, options, error, message
    *((lambda: tiny("sd"), {owned: None}, ValueError, f"{owned} cannot be passed") for owned in OWNED),
    *(
        (lambda thing=thing: thing, {}, TypeError, "must be a loaded diffusers DiffusionPipeline")
        for thing in (None, "runwayml/stable-diffusion-v1-5", torch.nn.Linear(2, 2))
    ),
    (lambda: tiny("sd"), {"guidence": 3.0}, TypeError, "takes no argument guidence"),
    (lambda: tiny("sd"), {"guidance": 3.0, **TRUE_CFG}, TypeError, "takes no argument true_cfg_scale"),
    (lambda: tiny("flux"), {"guidance": 4.0, **TRUE_CFG, **FLUX}, ValueError, "no effect without a negative prompt"),
    (
        lambda: tiny("sdxl"),
        {"denoising_end": 0.8},
        ValueError,
        "denoising_end cannot be passed: the sampler itself",
    ),
    (
        lambda: tiny("sd"),
        {"steps": 4, "num_inference_steps": 6},
        ValueError,
        "steps and num_inference_steps are one option by two names",
    ),
    (
        lambda: tiny("sd-image"),
        {"image": torch.cat([picture()] * 2)},
        ValueError,
        "image holds 2 images, and StableDiffusionImg2ImgPipeline begins each candidate from one of them",
    ),
    (lambda: tiny("sd"), {"guidance": 1.0, "guidance_scale": 9.0}, ValueError, "guidance and guidance_scale"),
    (lambda: tiny("by-itself"), {}, NotDrivable, r"draws its noise by itself.*WholeCallSampler"),
    (
        lambda: tiny("sd", diffusers.LCMScheduler(**SD_BETAS)),
        {},
        NotDrivable,
        r"LCMScheduler has no first-order rule.*scheduler='keep'",
    ),
    (lambda: tiny("sd", cls=Odd), {}, ValueError, "has no denoiser among its components"),
    (lambda: tiny("sd"), {"scheduler": "keep", "eta": 1.0}, ValueError, r"eta = 1\.0 has no effect"),
]


@pytest.mark.parametrize(("make", "options", "error", "message"), REFUSED_AT_ONCE)
def test_what_cannot_be_is_refused_at_once(make, options, error, message):
    with pytest.raises(error, match=message):
        PipelineSampler(make(), **options)


HEUN = diffusers.FlowMatchHeunDiscreteScheduler
REFUSED_WHEN_SEEN = {
    "Hidden": (lambda: tiny("unconditional", cls=Hidden), {}, NotDrivable, "drew no noise"),
    "zero SNR": (lambda: tiny("sd", ddim(**SNR)), {}, ValueError, "rescale_betas_zero_snr"),
    "sigmas": (
        lambda: tiny("flux", HEUN()),
        FLUX | {"steps": 3},
        ValueError,
        "a number of steps only, got sigmas",
    ),
    "Doubling": (lambda: tiny("sd", cls=Doubling), {"steps": 3}, ValueError, "changed the latents it was given"),
}


@pytest.mark.filterwarnings("ignore:.*is replaced by its first-order")
@pytest.mark.parametrize("name", REFUSED_WHEN_SEEN)
def test_what_only_a_call_shows_is_refused_then(name):
    make, options, error, message = REFUSED_WHEN_SEEN[name]
    sampler = PipelineSampler(make(), **options)
    with pytest.raises(error, match=message):
        images(sampler, [1], "")


def adapted():
    adapter = seeded(lambda: diffusers.T2IAdapter(3, [16, 32], 1, 4, "full_adapter_xl"))()
    return quiet(diffusers.StableDiffusionXLAdapterPipeline(**tiny("sdxl").components | {"adapter": adapter}))


def halve(pipe, step, t, given):
    return {"latents": given["latents"] * 0.5}


SKIP = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.01, "skip_layer_guidance_stop": 0.7}
PICTURE = {"image": picture(), "height": 16, "width": 16}
COUNTED = {  # options that count steps: pipeline, that option among others
    "skip_guidance_layers": (lambda: tiny("sd3"), FLUX | SKIP),
    "control_guidance_end": (lambda: tiny("sd-controlnet"), PICTURE | {"control_guidance_end": 0.5}),
    "adapter_conditioning_factor": (adapted, PICTURE | {"adapter_conditioning_factor": 0.5}),
    "callback_on_step_end": (lambda: tiny("sd"), {"callback_on_step_end": halve}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_options_that_count_steps_allow_whole_runs_only(name):
    """They would count the steps of a part as if they were all."""
    make, options = COUNTED[name]
    expected = stock_images(make(), [CAT], [1], num_inference_steps=STEPS, guidance_scale=5.0, **options)
    sampler = PipelineSampler(make(), steps=STEPS, guidance=5.0, **options)
    assert gap(images(sampler, [1]), expected) <= 1e-5 and not sampler.can_stop
    with pytest.raises(ValueError, match=f"{name}.* allows whole runs from 0 to {STEPS} only"):
        sampler.run(fresh(sampler, [1]), 1)
    without = {k: v for k, v in options.items() if k not in {name, *SKIP}}
    always = PipelineSampler(make(), steps=STEPS, guidance=5.0, **without)
    noise = fresh(always, [1, 2])
    resumed = always.decode(always.run(always.run(noise, 2).final, STEPS).final)
    assert always.can_stop and gap(resumed, images(always, [1, 2])) < 1e-5 and gap(resumed[:1], expected) > 1e-4


def test_images_among_the_options_are_described_by_their_content():
    described = [
        PipelineSampler(tiny("sd-controlnet"), steps=2, image=image).describe()["options"]["image"]
        for image in (picture(), picture(), picture() * 0.5)
    ]
    assert described[0] == described[1] != described[2]


def test_the_users_dictionaries_are_not_written_to():
    given = {"scale": 1.0}
    sampler = PipelineSampler(tiny("flux"), steps=STEPS, joint_attention_kwargs=given, **FLUX)
    images(sampler, [1])
    assert given == {"scale": 1.0} and sampler._calls.options["joint_attention_kwargs"] is given


def test_a_guidance_scale_that_the_model_ignores_is_told():
    with pytest.warns(UserWarning, match=r"guidance_scale = 4\.0 is ignored by this model.*true_cfg_scale"):
        PipelineSampler(tiny("qwen-image"), guidance=4.0, height=16, width=16)


def test_prompts_that_were_encoded_stand_for_the_prompt_in_every_row():
    pipe = tiny("sd")
    with torch.no_grad():
        embeds, negative = pipe.encode_prompt(CAT, "cpu", 1, True, "bad")
    given = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    found = images(PipelineSampler(pipe, steps=3, guidance=5.0, **given), [1, 2], "whatever it is called")
    expected = stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=3, guidance_scale=5.0, negative_prompt="bad")
    assert gap(found, expected) <= 5e-5
    with pytest.raises(ValueError, match="prompt_embeds has 2 rows; expected 1"):
        PipelineSampler(pipe, steps=3, guidance=5.0, prompt_embeds=embeds.repeat(2, 1, 1))


def test_true_cfg_by_embeddings_has_an_effect_and_is_counted():
    pipe = tiny("flux")
    with torch.no_grad():
        embeds, pooled, _ = pipe.encode_prompt("bad", None, max_sequence_length=12)
    options = FLUX | {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled}
    sampler = PipelineSampler(pipe, steps=3, guidance=4.0, guidance_argument="true_cfg_scale", **options)
    assert sampler.rows_per_evaluation == 2
    asked = FLUX | {"true_cfg_scale": 4.0, "negative_prompt": "bad"}
    assert gap(images(sampler, [1, 2]), stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=3, **asked)) <= 5e-5
