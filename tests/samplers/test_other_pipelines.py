"""Pipelines without `latents=`, with an image to start from or to follow, and without a prompt."""

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, DOGS, STEPS, Family, FamilyContract, denoisers, gap, hooked
from samplers import NotDrivable, PipelineSampler, State, WholeCallSampler, sampler_for
from samplers.pipelines import prompts as prompting
from samplers.pipelines import randn
from tiny import other_pipelines as other
from tiny import pipelines as tiny

SD = {"height": 16, "width": 16}
SCALE = ("guidance_scale", 5.0)


class LabelFamily(Family):
    """A family that takes class labels for prompts."""

    def plain(self, pipe, prompts, seeds, **more):
        ids = [{CAT: 0, DOGS: 1}[p] for p in prompts]
        options = {"num_inference_steps": STEPS} | self.options | more | dict([self.guidance])
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return pipe(ids, generator=generators, output_type="pt", **options)[0]


FAMILIES = {
    "dit": LabelFamily(other.dit, {}, (4, 8, 8), ("guidance_scale", 4.0)),
    "dit-unguided": LabelFamily(other.dit, {}, (4, 8, 8), ("guidance_scale", 1.0), (1,)),
    "controlnet": Family(other.controlnet, {"image": other.picture(), "negative_prompt": "bad"}, (4, 8, 8), SCALE),
    "controlnet-guess": Family(other.controlnet, {"image": other.picture(), "guess_mode": True}, (4, 8, 8), SCALE),
    "image-to-image": Family(other.image_to_image, {"image": other.image_latents(), "strength": 1.0}, (4, 8, 8), SCALE),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
class TestOtherFamilies(FamilyContract):
    def test_text_is_encoded_once_per_prompt(self, family):
        if isinstance(family, LabelFamily):
            assert family.run.sampler.text_encodings == 0, "labels need no encoder"
        else:
            super().test_text_is_encoded_once_per_prompt(family)


def whole_run(sampler, prompt, seeds):
    """Images of whole runs from these seeds."""
    space = sampler.space()
    return sampler.decode(sampler.run(space.fresh(seeds, sampler.condition(prompt)), space.end).final)


def test_class_labels_by_name_or_number():
    pipe = other.dit()
    sampler = PipelineSampler(pipe, steps=STEPS)
    retriever = sampler.condition("golden retriever")
    named = whole_run(sampler, "golden retriever", [1])
    for same in ("207", " Golden Retriever "):
        assert torch.equal(whole_run(sampler, same, [1]), named)
    stock = pipe([207], num_inference_steps=STEPS, generator=torch.Generator().manual_seed(1), output_type="pt")[0]
    assert gap(named, stock) < 1e-5 and retriever == 0
    with pytest.raises(ValueError, match=r"'golden retreiver' is no class.* golden retriever.*below 1000"):
        sampler.condition("golden retreiver")
    with pytest.raises(ValueError, match="'1000' is no class"):
        sampler.condition("1000")
    with pytest.raises(ValueError, match="class_labels cannot be passed"):
        PipelineSampler(pipe, class_labels=[1])


@tiny.seeded
def consistency(classes):
    fields = {k: v for k, v in other.unconditional().unet.config.items() if k[0] != "_"}
    unet = diffusers.UNet2DModel(**fields | {"num_class_embeds": classes})
    return tiny.quiet(diffusers.ConsistencyModelPipeline(unet, diffusers.CMStochasticIterativeScheduler()))


def test_class_labels_of_a_model_by_another_name():
    """A consistency model's UNet has the classes, and its call wants to know the number of rows besides."""
    pipe = consistency(10)
    with pytest.warns(UserWarning, match="gives no latents .*seeds of whole calls"):
        sampler = sampler_for(pipe, steps=2)
    generator = torch.Generator().manual_seed(1)
    stock = pipe(class_labels=3, num_inference_steps=2, generator=generator, output_type="pt").images
    assert gap(whole_run(sampler, "3", [1]), stock) < 1e-6 < gap(whole_run(sampler, "4", [1]), stock)
    with pytest.raises(ValueError, match="'10' is no class of this pipeline: expected a class number below 10"):
        sampler.condition("10")
    assert prompting.asked(pipe, ["3", "4"]) == {"class_labels": [3, 4], "batch_size": 2}


def test_a_model_without_classes_is_asked_for_a_number_of_images():
    pipe = consistency(None)
    sampler = WholeCallSampler(pipe, steps=2)
    generator = torch.Generator().manual_seed(1)
    stock = pipe(num_inference_steps=2, generator=generator, output_type="pt").images
    assert gap(whole_run(sampler, "anything", [1]), stock) < 1e-6
    assert prompting.asked(pipe, ["", ""]) == {"batch_size": 2}


def test_noise_that_was_never_drawn_is_a_limit_of_the_pipeline():
    with (
        pytest.raises(NotDrivable, match=r"DiTPipeline drew no noise of shape \(1, 4, 8, 8\).*WholeCallSampler"),
        randn.first_draw(diffusers.DiTPipeline, torch.zeros(1, 4, 8, 8)),
    ):
        pass


def test_a_latent_output_is_not_decoded_on_the_way():
    pipe, decoded = other.dit(), []
    original = pipe.vae.decode
    vars(pipe.vae)["decode"] = lambda *args, **kwargs: decoded.append(1) or original(*args, **kwargs)
    try:
        sampler = PipelineSampler(pipe, steps=STEPS)
        noise = sampler.space().fresh([1], sampler.condition(CAT))
        decoded.clear()
        end = sampler.run(sampler.run(noise, 1).final, STEPS).final
        assert not decoded
        sampler.decode(end)
        assert decoded == [1]
    finally:
        del vars(pipe.vae)["decode"]


def test_without_a_prompt_any_number_of_rows_is_asked_for():
    pipe = other.unconditional()
    sampler = PipelineSampler(pipe, steps=4)
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    stock = pipe(batch_size=2, generator=generators, num_inference_steps=4, output_type="np").images
    assert gap(whole_run(sampler, "", [1, 2]), torch.from_numpy(stock).movedim(-1, 1)) < 1e-5
    assert sampler.denoiser_rows == 8 and sampler.space().shape == (3, 8, 8)


EULER = {"steps_offset": 1, **tiny.SD_BETAS}
SCHEDULERS = {
    "ddim": tiny.ddim,
    "euler": lambda: diffusers.EulerDiscreteScheduler(**EULER),
    "euler-trailing": lambda: diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **EULER),
}


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_image_is_noised_to_where_its_strength_says(name, strength):
    pipe, options = other.image_to_image(SCHEDULERS[name]()), {"image": other.image_latents(), "strength": strength}
    calls: list[int] = []
    with hooked(denoisers(pipe), calls.append):
        stock = pipe(
            CAT,
            num_inference_steps=6,
            generator=torch.Generator().manual_seed(3),
            output_type="pt",
            guidance_scale=5.0,
            **options,
        )[0]
    sampler = PipelineSampler(pipe, steps=6, guidance=5.0, **options)
    space = sampler.space()
    assert space.end == len(calls) == int(6 * strength) and sampler.can_stop
    noise = State.cat([space.fresh([3, 4], sampler.condition(CAT)), space.fresh([3], sampler.condition(DOGS))])
    assert gap(whole_run(sampler, CAT, [3]), stock) < 1e-5
    whole = sampler.run(noise, space.end, rho=0.5, keep=[1])
    middle = sampler.run(noise, 1, rho=0.5).final
    resumed = sampler.run(middle[[2, 0]], space.end, rho=0.5).final
    assert gap(resumed.x, whole.final.x[[2, 0]]) < 1e-5 * float(whole.final.x.abs().max())
    assert whole.denoiser_rows == 2 * 3 * space.end


def test_an_image_to_image_grid_with_fewer_steps_and_extra_levels():
    pipe, options = other.image_to_image(), {"image": other.image_latents(), "strength": 0.5}
    sampler = PipelineSampler(pipe, steps=8, **options)
    full, draft, levels = sampler.space(), sampler.space(steps=4), sampler.space(levels=[0.3])
    assert (full.end, draft.end, levels.end) == (4, 2, 5) and levels.noise_level(0) == full.noise_level(0)
    noise = full.fresh([3], sampler.condition(CAT))
    stock = pipe([CAT], num_inference_steps=4, generator=torch.Generator().manual_seed(3), output_type="pt", **options)[
        0
    ]
    assert gap(sampler.decode(sampler.run(draft.adopt(noise), 2).final), stock) < 1e-5
    assert sampler.run(levels.adopt(noise), 5).final.x.isfinite().all()
    with pytest.raises(ValueError, match="raise strength"):
        PipelineSampler(pipe, steps=4, image=other.image_latents(), strength=0.1).space()


def test_a_state_renoised_to_the_start_has_its_image_already():
    sampler = PipelineSampler(other.image_to_image(), steps=6, image=other.image_latents(), strength=0.5)
    space = sampler.space()
    noise = space.fresh([1, 2], sampler.condition(CAT))
    end = sampler.run(noise, space.end).final
    back = space.renoise(end, 0, [5, 6])
    mixed = State.cat([noise[[0]], back[[1]]])
    ends = sampler.run(mixed, space.end).final
    assert gap(ends.x[[0]], end.x[[0]]) < 1e-4
    twice = space.alphas[0] * other.image_latents() + space.sigmas[0] * back.x[[1]]
    seen: list[torch.Tensor] = []
    handle = sampler._calls.pipe.unet.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    sampler.run(back[[1]], 1)
    handle.remove()
    assert torch.equal(seen[0][:1], back.x[[1]]) and not torch.allclose(seen[0][:1], twice)


def test_every_candidate_starts_from_the_same_sample_of_the_image():
    """A VAE encodes an image by drawing: here always with the same seed, so that rows differ by their noise alone."""
    options = {"image": other.picture(), "strength": 0.5}
    pipe = other.image_to_image()
    sampler = PipelineSampler(pipe, steps=6, **options)
    space = sampler.space()
    noise = space.neighbour(space.fresh([3], sampler.condition(CAT)), [1, 2, 3], 0.9)
    whole = sampler.run(noise, space.end).final
    alone = sampler.run(noise[2], space.end).final
    assert gap(alone.x, whole.x[[2]]) < 1e-4
    encoded = pipe.vae.encode(other.picture() * 2 - 1).latent_dist.sample(torch.Generator().manual_seed(0))
    encoded = (encoded * pipe.vae.config.scaling_factor).detach()
    given = PipelineSampler(pipe, steps=6, image=encoded, strength=0.5)
    assert given.condition(CAT) == 0 and given.space().id == space.id
    assert gap(given.run(noise, space.end).final.x, whole.x) < 1e-4


def test_flux_image_to_image_noises_before_it_packs():
    pipe = other.flux_image_to_image()
    options = {"height": 16, "width": 16, "max_sequence_length": 12, "image": other.picture(), "strength": 0.75}
    sampler = PipelineSampler(pipe, steps=4, **options)
    space = sampler.space()
    assert space.shape == (4, 8, 8) and space.end == 3
    noise = space.fresh([1, 2], sampler.condition(CAT))
    whole = sampler.run(noise, 3, keep=[1])
    resumed = sampler.run(whole.kept[1][[1]], 3).final
    assert gap(resumed.x, whole.final.x[[1]]) < 1e-5
    encoded = pipe._encode_vae_image(other.picture() * 2 - 1, torch.Generator().manual_seed(0)).detach()
    start = (1 - space.sigmas[0]) * encoded + space.sigmas[0] * noise.x
    packed = pipe._pack_latents(start, 2, 4, 8, 8)
    seen: list[torch.Tensor] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    sampler.run(noise, 1)
    handle.remove()
    assert gap(seen[0], packed) < 1e-5


def test_a_kept_scheduler_noises_the_image_itself():
    scheduler = diffusers.LCMScheduler(**tiny.SD_BETAS)
    pipe, options = other.image_to_image(scheduler), {"image": other.image_latents(), "strength": 0.5}
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    stock = pipe([CAT] * 2, num_inference_steps=4, generator=generators, output_type="pt", **options)[0]
    sampler = PipelineSampler(pipe, steps=4, scheduler="keep", **options)
    assert gap(whole_run(sampler, CAT, [1, 2]), stock) < 1e-5


def test_dit_with_a_kept_scheduler():
    pipe = other.dit(diffusers.DPMSolverMultistepScheduler())
    stock = pipe([0, 0], num_inference_steps=4, generator=[torch.Generator().manual_seed(s) for s in (1, 2)])
    sampler = PipelineSampler(pipe, steps=4, scheduler="keep")
    images = whole_run(sampler, CAT, [1, 2])
    pixels = torch.stack([torch.tensor(list(im.getdata())).reshape(16, 16, 3).movedim(-1, 0) for im in stock[0]])
    assert gap(images, pixels / 255) <= 0.51 / 255


def test_control_windows_count_steps():
    pipe, options = other.controlnet(), {"image": other.picture(), "control_guidance_end": 0.5}
    stock = tiny.stock_images(pipe, [CAT], [1], num_inference_steps=4, **options)
    sampler = PipelineSampler(pipe, steps=4, **options)
    assert gap(whole_run(sampler, CAT, [1]), stock) < 1e-5 and not sampler.can_stop
    assert gap(whole_run(PipelineSampler(pipe, steps=4, image=other.picture()), CAT, [1]), stock) > 1e-3
    with pytest.raises(ValueError, match="control_guidance_end allows whole runs"):
        sampler.run(sampler.space().fresh([1], 0), 1)


def test_images_among_the_options_are_described_by_their_content():
    described = [
        PipelineSampler(other.controlnet(), steps=2, image=image).describe()["options"]["image"]
        for image in (other.picture(), other.picture(), other.picture() * 0.5)
    ]
    assert described[0] == described[1] != described[2]
