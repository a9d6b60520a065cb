"""Pipelines without `latents=`, with an image to start from or to follow, and without a prompt."""

import diffusers
import pytest
import torch
from PIL import Image

from contracts.pipeline_family import CAT, DOGS, STEPS, denoisers, fresh, gap, hooked, images
from samplers import Mix, NotDrivable, PipelineSampler, State, WholeCallSampler, sampler_for
from samplers.pipelines import prompts as prompting
from samplers.pipelines import randn
from samplers.pipelines.claims import show
from tiny.pipelines import EULER, FLUX, SD_BETAS, ddim, image_latents, picture, quiet, seeded, stock_images, tiny


def test_class_labels_by_name_or_number():
    pipe = tiny("dit")
    sampler = PipelineSampler(pipe, steps=STEPS)
    retriever = sampler.condition("golden retriever")
    named = images(sampler, [1], "golden retriever")
    for same in ("207", " Golden Retriever "):
        assert torch.equal(images(sampler, [1], same), named)
    stock = stock_images(pipe, [207], [1], num_inference_steps=STEPS)
    assert gap(named, stock) < 1e-5 and retriever == 0
    with pytest.raises(ValueError, match=r"'golden retreiver' is no class.* golden retriever.*below 1000"):
        sampler.condition("golden retreiver")
    with pytest.raises(ValueError, match="'1000' is no class"):
        sampler.condition("1000")
    with pytest.raises(ValueError, match="class_labels cannot be passed"):
        PipelineSampler(pipe, class_labels=[1])


@seeded
def consistency(classes):
    fields = {k: v for k, v in tiny("unconditional").unet.config.items() if k[0] != "_"}
    unet = diffusers.UNet2DModel(**fields | {"num_class_embeds": classes})
    return quiet(diffusers.ConsistencyModelPipeline(unet, diffusers.CMStochasticIterativeScheduler()))


def test_class_labels_of_a_model_by_another_name():
    """A consistency model's UNet has the classes, and its call wants to know the number of rows besides."""
    pipe = consistency(10)
    with pytest.warns(UserWarning, match=r"not the plain pipeline's .*seeds of whole calls"):
        sampler = sampler_for(pipe, steps=2, shown=lambda one: show(one, "3"))
    generator = torch.Generator().manual_seed(1)
    stock = pipe(class_labels=3, num_inference_steps=2, generator=generator, output_type="pt").images
    assert gap(images(sampler, [1], "3"), stock) < 1e-6 < gap(images(sampler, [1], "4"), stock)
    with pytest.raises(ValueError, match="'10' is no class of this pipeline: expected a class number below 10"):
        sampler.condition("10")
    assert prompting.asked(pipe, ["3", "4"]) == {"class_labels": [3, 4], "batch_size": 2}


def test_a_model_without_classes_is_asked_for_a_number_of_images():
    pipe = consistency(None)
    sampler = WholeCallSampler(pipe, steps=2)
    generator = torch.Generator().manual_seed(1)
    stock = pipe(num_inference_steps=2, generator=generator, output_type="pt").images
    assert gap(images(sampler, [1], "anything"), stock) < 1e-6
    assert prompting.asked(pipe, ["", ""]) == {"batch_size": 2}


def test_noise_that_was_never_drawn_is_a_limit_of_the_pipeline():
    with (
        pytest.raises(NotDrivable, match=r"DiTPipeline drew no noise of shape \(1, 4, 8, 8\).*WholeCallSampler"),
        randn.handed_in(diffusers.DiTPipeline, torch.zeros(1, 4, 8, 8)),
    ):
        pass


def test_a_latent_output_is_not_decoded_on_the_way():
    pipe, decoded = tiny("dit"), []
    original = pipe.vae.decode
    vars(pipe.vae)["decode"] = lambda *args, **kwargs: decoded.append(1) or original(*args, **kwargs)
    try:
        sampler = PipelineSampler(pipe, steps=STEPS)
        noise = fresh(sampler, [1])
        decoded.clear()
        end = sampler.run(sampler.run(noise, 1).final, STEPS).final
        assert not decoded
        sampler.decode(end)
        assert decoded == [1]
    finally:
        del vars(pipe.vae)["decode"]


def test_without_a_prompt_any_number_of_rows_is_asked_for():
    pipe = tiny("unconditional")
    sampler = PipelineSampler(pipe, steps=4)
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    stock = pipe(batch_size=2, generator=generators, num_inference_steps=4, output_type="np").images
    assert gap(images(sampler, [1, 2], ""), torch.from_numpy(stock).movedim(-1, 1)) < 1e-5
    assert sampler.denoiser_rows == 8 and sampler.space().shape == (3, 8, 8)


SCHEDULERS = {
    "ddim": ddim,
    "euler": lambda: diffusers.EulerDiscreteScheduler(**EULER),
    "euler-trailing": lambda: diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **EULER),
}


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_image_is_noised_to_where_its_strength_says(name, strength):
    pipe, options = tiny("sd-image", SCHEDULERS[name]()), {"image": image_latents(), "strength": strength}
    calls: list[int] = []
    with hooked(denoisers(pipe), calls.append):
        stock = stock_images(pipe, [CAT], [3], num_inference_steps=6, guidance_scale=5.0, **options)
    sampler = PipelineSampler(pipe, steps=6, guidance=5.0, **options)
    space = sampler.space()
    assert space.end == len(calls) == int(6 * strength) and sampler.can_stop
    noise = State.cat([fresh(sampler, [3, 4]), fresh(sampler, [3], DOGS)])
    assert gap(images(sampler, [3]), stock) < 1e-5
    whole = sampler.run(noise, space.end, transition=Mix(0.5), keep=[1])
    middle = sampler.run(noise, 1, transition=Mix(0.5)).final
    resumed = sampler.run(middle[[2, 0]], space.end, transition=Mix(0.5)).final
    assert gap(resumed.x, whole.final.x[[2, 0]]) < 1e-5 * float(whole.final.x.abs().max())
    assert whole.denoiser_rows == 2 * 3 * space.end


def test_an_image_to_image_grid_with_fewer_steps_and_extra_levels():
    pipe, options = tiny("sd-image"), {"image": image_latents(), "strength": 0.5}
    sampler = PipelineSampler(pipe, steps=8, **options)
    full, draft, levels = sampler.space(), sampler.space(steps=4), sampler.space(levels=[0.3])
    assert (full.end, draft.end, levels.end) == (4, 2, 5) and levels.noise_level(0) == full.noise_level(0)
    noise = fresh(sampler, [3])
    stock = stock_images(pipe, [CAT], [3], num_inference_steps=4, **options)
    assert gap(sampler.decode(sampler.run(draft.adopt(noise), 2).final), stock) < 1e-5
    assert sampler.run(levels.adopt(noise), 5).final.x.isfinite().all()
    with pytest.raises(ValueError, match="raise strength"):
        PipelineSampler(pipe, steps=4, image=image_latents(), strength=0.1).space()


def test_a_state_renoised_to_the_start_has_its_image_already():
    sampler = PipelineSampler(tiny("sd-image"), steps=6, image=image_latents(), strength=0.5)
    space = sampler.space()
    noise = fresh(sampler, [1, 2])
    end = sampler.run(noise, space.end).final
    back = space.renoise(end, 0, [5, 6])
    mixed = State.cat([noise[[0]], back[[1]]])
    ends = sampler.run(mixed, space.end).final
    assert gap(ends.x[[0]], end.x[[0]]) < 1e-4
    twice = space.alphas[0] * image_latents() + space.sigmas[0] * back.x[[1]]
    seen: list[torch.Tensor] = []
    handle = sampler._calls.pipe.unet.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    sampler.run(back[[1]], 1)
    handle.remove()
    assert torch.equal(seen[0][:1], back.x[[1]]) and not torch.allclose(seen[0][:1], twice)


def test_moved_noises_start_from_the_sample_of_the_image_that_their_first_had():
    """A VAE encodes an image by drawing: rows that were moved from one noise differ by their noise alone."""
    pipe = tiny("sd-image")
    sampler = PipelineSampler(pipe, steps=6, image=picture(), strength=0.5)
    space = sampler.space()
    noise = space.neighbour(space.fresh([3], sampler.condition(CAT)), [1, 2, 3], 0.9)
    whole = sampler.run(noise, space.end).final
    alone = sampler.run(noise[2], space.end).final
    assert gap(alone.x, whole.x[[2]]) < 1e-4
    encoded = pipe.vae.encode(picture() * 2 - 1).latent_dist.sample(torch.Generator().manual_seed(3))
    encoded = (encoded * pipe.vae.config.scaling_factor).detach()
    given = PipelineSampler(pipe, steps=6, image=encoded, strength=0.5)
    assert given.condition(CAT) == 0 and given.space().sigmas == space.sigmas
    given_noise = State(noise.x, 0, None, noise.recipes, noise.conditions, given.space().id)
    assert gap(given.run(given_noise, space.end).final.x, whole.x) < 1e-4


FROM_IMAGES = {
    "sd-image": ({"image": Image.new("RGB", (16, 16), "red"), "strength": 0.6}, 10, 6),
    "flux-image": ({"image": picture(), "strength": 0.75, **FLUX}, 4, 3),
}


@pytest.mark.parametrize("scheduler", ["first-order", "keep"])
@pytest.mark.parametrize("name", FROM_IMAGES)
def test_noise_is_drawn_after_the_image_as_the_pipeline_does(name, scheduler):
    options, asked, end = FROM_IMAGES[name]
    pipe = tiny(name)
    sampler = PipelineSampler(pipe, steps=asked, scheduler=scheduler, **options)
    space = sampler.space()
    assert space.before == ((1, 4, 8, 8),) and space.end == end and sampler.asked_steps == asked
    assert sampler.plain_seeds
    expected = torch.cat([stock_images(pipe, [CAT], [s], num_inference_steps=asked, **options) for s in (5, 6)])
    assert gap(images(sampler, [5, 6]), expected) <= 5e-5
    if sampler.can_stop:
        noise = fresh(sampler, [1, 2])
        whole = sampler.run(noise, end, keep=[1])
        assert gap(sampler.run(whole.kept[1][[1]], end).final.x, whole.final.x[[1]]) < 1e-5


def test_a_kept_scheduler_noises_the_image_itself():
    scheduler = diffusers.LCMScheduler(**SD_BETAS)
    pipe, options = tiny("sd-image", scheduler), {"image": image_latents(), "strength": 0.5}
    stock = stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=4, **options)
    sampler = PipelineSampler(pipe, steps=4, scheduler="keep", **options)
    assert gap(images(sampler, [1, 2]), stock) < 1e-5


def test_dit_with_a_kept_scheduler():
    pipe = tiny("dit", diffusers.DPMSolverMultistepScheduler())
    stock = stock_images(pipe, [0, 0], [1, 2], num_inference_steps=4)
    assert gap(images(PipelineSampler(pipe, steps=4, scheduler="keep"), [1, 2]), stock) <= 1e-5
