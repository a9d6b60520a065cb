import diffusers
import pytest
import torch

from samplers import NotDrivable, PipelineSampler
from tiny import other_pipelines as other
from tiny import pipelines as tiny
from tiny.other_pipelines import DrawsByItself

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}


@pytest.mark.parametrize("owned", ["latents", "generator", "num_images_per_prompt", "output_type", "return_dict"])
def test_owned_arguments_are_refused(owned):
    with pytest.raises(ValueError, match=f"{owned} cannot be passed"):
        PipelineSampler(tiny.stable_diffusion(), **{owned: None})


@pytest.mark.parametrize("thing", [None, "runwayml/stable-diffusion-v1-5", torch.nn.Linear(2, 2)])
def test_what_is_no_pipeline_is_refused(thing):
    with pytest.raises(TypeError, match="must be a loaded diffusers DiffusionPipeline"):
        PipelineSampler(thing)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="takes no argument guidence"):
        PipelineSampler(tiny.stable_diffusion(), guidence=3.0)
    with pytest.raises(TypeError, match="takes no argument true_cfg_scale"):
        PipelineSampler(tiny.stable_diffusion(), guidance=3.0, guidance_argument="true_cfg_scale")


def test_true_cfg_without_a_negative_prompt_is_refused():
    with pytest.raises(ValueError, match="no effect without a negative prompt"):
        PipelineSampler(tiny.flux(), guidance=4.0, guidance_argument="true_cfg_scale", **FLUX)


def test_a_pipeline_whose_noise_cannot_be_replaced_is_refused():
    pipe = tiny.quiet(DrawsByItself(other.unconditional().unet, diffusers.DDIMScheduler()))
    with pytest.raises(NotDrivable, match=r"draws its noise by itself.*WholeCallSampler"):
        PipelineSampler(pipe)


def test_a_pipeline_in_a_module_that_draws_is_found_out_by_the_probe():
    class Hidden(diffusers.DDIMPipeline):
        __call__ = DrawsByItself.__call__

    pipe = tiny.quiet(Hidden(other.unconditional().unet, diffusers.DDIMScheduler()))
    with pytest.raises(NotDrivable, match="drew no noise"):
        PipelineSampler(pipe).space()


def test_options_that_cut_the_grid_are_refused():
    with pytest.raises(ValueError, match="denoising_end cannot be passed: the sampler itself stops"):
        PipelineSampler(tiny.stable_diffusion_xl(), denoising_end=0.8)


def test_an_unknown_scheduler_is_refused():
    pipe = tiny.stable_diffusion(diffusers.LCMScheduler(**tiny.SD_BETAS))
    with pytest.raises(ValueError, match=r"LCMScheduler has no first-order rule.*scheduler='keep'"):
        PipelineSampler(pipe)


def test_epsilon_at_zero_terminal_snr_is_refused():
    pipe = tiny.stable_diffusion(tiny.ddim(rescale_betas_zero_snr=True, timestep_spacing="trailing"))
    with pytest.raises(ValueError, match="rescale_betas_zero_snr"):
        PipelineSampler(pipe).space()


def test_custom_sigmas_where_the_scheduler_takes_none_are_refused():
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="takes a number of steps only, got sigmas"),
    ):
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
        PipelineSampler(tiny.flux(scheduler=scheduler), steps=3, **FLUX).space()


def test_options_that_count_steps_allow_whole_runs_only(monkeypatch):
    monkeypatch.setattr("samplers.pipelines.options.INDEX_KEYED", {"guidance_rescale"})
    sampler = PipelineSampler(tiny.stable_diffusion(), steps=3, guidance_rescale=0.5)
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    assert not sampler.can_stop
    with pytest.raises(ValueError, match="guidance_rescale allows whole runs from 0 to 3 only"):
        sampler.run(noise, 2)
    assert sampler.run(noise, 3).final.step == 3


def test_a_pipeline_that_changes_its_latents_is_refused():
    class Doubling(diffusers.StableDiffusionPipeline):
        def prepare_latents(self, *args, **kwargs):
            latents = super().prepare_latents(*args, **kwargs)
            return latents if self.scheduler.num_inference_steps == 0 else 2 * latents

    parts = tiny.stable_diffusion().components
    pipe = tiny.quiet(Doubling(**parts, requires_safety_checker=False))
    sampler = PipelineSampler(pipe, steps=3)
    noise = sampler.space().fresh([1], sampler.condition("a cat"))
    with pytest.raises(ValueError, match="changed the latents it was given"):
        sampler.run(noise, 3)


def test_a_denoiser_by_no_known_name_is_refused():
    class Odd(diffusers.StableDiffusionPipeline):
        @property
        def components(self):
            return {k: v for k, v in super().components.items() if k != "unet"}

    pipe = Odd(**tiny.stable_diffusion().components, requires_safety_checker=False)
    with pytest.raises(ValueError, match="has no denoiser among its components"):
        PipelineSampler(pipe)


def test_an_option_by_two_names_is_refused():
    with pytest.raises(ValueError, match="steps and num_inference_steps are one option by two names"):
        PipelineSampler(tiny.stable_diffusion(), steps=4, num_inference_steps=6)
    with pytest.raises(ValueError, match="guidance and guidance_scale"):
        PipelineSampler(tiny.stable_diffusion(), guidance=1.0, guidance_scale=9.0)
