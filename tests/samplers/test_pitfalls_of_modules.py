"""What lives in the modules of a pipeline: caches, attention processors, offload hooks, overrides, threads."""

import copy
import threading
import types
import warnings

import diffusers
import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor, CLIPVisionConfig

from contracts.pipeline_family import CAT, DOGS, denoisers, gap, hooked
from samplers import PipelineSampler, State, WholeCallSampler
from tiny import other_pipelines as other
from tiny import pipelines as tiny
from tiny.pipelines import snapshot

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}
STEPS = 4


def own(pipe):
    """The pipeline with modules that no other test shares."""
    view = copy.copy(pipe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            setattr(view, name, copy.deepcopy(part))
    return view


def images(sampler, seeds, prompt=CAT):
    space = sampler.space()
    return sampler.decode(sampler.run(space.fresh(seeds, sampler.condition(prompt)), space.end).final)


def cached_flux():
    pipe = own(tiny.flux())
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=50.0))
    with pytest.warns(UserWarning, match="a step cache is enabled.*whole runs only"):
        return pipe, PipelineSampler(pipe, steps=STEPS, **FLUX)


def test_a_step_cache_allows_whole_runs_only_and_is_described():
    _, sampler = cached_flux()
    assert not sampler.can_stop and sampler.limitation == "a step cache"
    assert sampler.describe()["step_caches"] == ["FirstBlockCacheConfig(threshold=50.0)"]
    noise = sampler.space().fresh([1], sampler.condition(CAT))
    with pytest.raises(ValueError, match="a step cache allows whole runs from 0 to 4 only"):
        sampler.run(noise, 2)
    plain = own(tiny.flux())
    apply_first_block_cache(plain.transformer, FirstBlockCacheConfig(threshold=50.0))
    with pytest.warns(UserWarning, match="a step cache is enabled"):
        by_hooks = PipelineSampler(plain, steps=STEPS, **FLUX)
    assert not by_hooks.can_stop and by_hooks.describe()["step_caches"]
    assert PipelineSampler(tiny.flux(), steps=STEPS, **FLUX).describe()["step_caches"] == []


def test_a_step_cache_leaks_into_no_other_call():
    _, sampler = cached_flux()
    stock = own(tiny.flux())
    stock.transformer.enable_cache(FirstBlockCacheConfig(threshold=50.0))
    for seeds in ([1, 2], [3], [4, 5, 6], [1, 2]):  # other batch sizes, and the first again
        expected = tiny.stock_images(stock, [CAT] * len(seeds), seeds, num_inference_steps=STEPS, **FLUX)
        assert gap(images(sampler, seeds), expected) < 1e-5
    uncached = tiny.stock_images(tiny.flux(), [CAT] * 2, [1, 2], num_inference_steps=STEPS, **FLUX)
    assert gap(images(sampler, [1, 2]), uncached) > 1e-4, "the cache is at work"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_no_cache_behind(error):
    pipe, sampler = cached_flux()
    expected, calls = images(sampler, [1]), []

    def fail(rows):
        calls.append(rows)
        if len(calls) == 3:
            raise error("in the third step")

    with hooked(denoisers(pipe), fail), pytest.raises(error):
        images(sampler, [2, 3])
    assert torch.equal(images(sampler, [1]), expected)
    plain = tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS, **FLUX)
    assert gap(plain, expected) < 1e-5, "nor for the user"


def pag():
    parts = tiny.stable_diffusion().components | {"unet": copy.deepcopy(tiny.stable_diffusion().unet)}
    return tiny.quiet(
        diffusers.StableDiffusionPAGPipeline(**parts, pag_applied_layers="mid", requires_safety_checker=False)
    )


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_attention_processors_are_put_back(error):
    pipe, calls = pag(), []
    sampler = PipelineSampler(pipe, steps=STEPS, guidance=5.0, pag_scale=2.0)
    assert sampler.rows_per_evaluation == 3
    noise = sampler.space().fresh([1], sampler.condition(CAT))
    before = dict(pipe.unet.attn_processors)

    def fail(rows):
        calls.append(rows)
        if error and len(calls) == 2:
            raise error("in the second step")

    with hooked(denoisers(pipe), fail):
        if error:
            with pytest.raises(error):
                sampler.run(noise, STEPS)
        else:
            sampler.run(sampler.run(noise, 1).final, STEPS)
    now = pipe.unet.attn_processors
    assert all(now[name] is processor for name, processor in before.items()) and set(calls) == {3}


def test_perturbed_attention_equals_the_plain_pipeline():
    options = {"guidance_scale": 5.0, "pag_scale": 2.0}
    expected = tiny.stock_images(pag(), [CAT, DOGS], [1, 2], num_inference_steps=STEPS, **options)
    sampler = PipelineSampler(pag(), steps=STEPS, guidance=5.0, pag_scale=2.0)
    space = sampler.space()
    noise = State.cat([space.fresh([s], sampler.condition(p)) for s, p in ((1, CAT), (2, DOGS))])
    stopped = sampler.run(noise, 2).final
    assert gap(sampler.decode(sampler.run(stopped, STEPS).final), expected) < 1e-5


def alarmed():
    """A pipeline whose safety checker blackens everything."""
    text = tiny.clip_config().to_dict()
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    build = tiny.seeded(
        lambda: StableDiffusionSafetyChecker(
            CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=16)
        )
    )
    checker = build()
    checker.concept_embeds_weights.data.fill_(-10.0)
    size = {"height": 16, "width": 16}
    extractor = CLIPImageProcessor(size=size, crop_size=size)
    parts = tiny.stable_diffusion().components | {"safety_checker": checker, "feature_extractor": extractor}
    return tiny.quiet(diffusers.StableDiffusionPipeline(**parts)), checker


def test_a_safety_checker_blackens_no_candidate_and_stays_with_the_user():
    pipe, checker = alarmed()
    black = tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    sampler = PipelineSampler(pipe, steps=STEPS)
    shown = images(sampler, [1])
    bare = tiny.stock_images(tiny.stable_diffusion(), [CAT], [1], num_inference_steps=STEPS)
    assert black.max() == 0 and gap(shown, bare) < 1e-5 and shown.std() > 0.02
    assert pipe.safety_checker is checker and checker.concept_embeds_weights[0] == -10
    assert tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS).max() == 0


def test_a_watermark_is_on_no_candidate_and_stays_with_the_user():
    pipe, marked = tiny.stable_diffusion_xl(), []
    pipe.watermark = types.SimpleNamespace(apply_watermark=lambda x: marked.append(1) or 0 * x)
    bare = tiny.stock_images(tiny.stable_diffusion_xl(), [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(PipelineSampler(pipe, steps=STEPS), [1]), bare) < 1e-5 and not marked
    tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    assert marked


def test_model_offload_runs_and_its_hooks_are_the_users():
    pipe = own(tiny.stable_diffusion())
    pipe.enable_model_cpu_offload(device="cpu")
    expected = tiny.stock_images(tiny.stable_diffusion(), [CAT] * 2, [1, 2], num_inference_steps=STEPS)
    hooks = list(pipe._all_hooks)
    sampler = PipelineSampler(pipe, steps=STEPS)
    with sampler:
        noise = sampler.space().fresh([1, 2], sampler.condition(CAT))
        for _ in range(2):
            middle = sampler.run(noise, 2).final
            found = sampler.decode(sampler.run(middle, STEPS).final)
            assert gap(found, expected) < 1e-5
            assert pipe._all_hooks == hooks and pipe.unet._hf_hook is hooks[1].hook, "kept until the end"
    assert [type(h) for h in pipe._all_hooks] == [type(h) for h in hooks]
    for model in (pipe.unet, pipe.text_encoder, pipe.vae):
        assert any(model._hf_hook is hook.hook for hook in pipe._all_hooks), "armed again, by the user's own list"
    again = tiny.stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=STEPS)
    assert gap(again, expected) < 1e-5


def test_group_offload_stays_on_the_modules():
    pipe, cpu = own(tiny.flux()), torch.device("cpu")
    group = {"onload_device": cpu, "offload_device": cpu, "offload_type": "block_level", "num_blocks_per_group": 1}
    pipe.transformer.enable_group_offload(**group)
    before = snapshot(pipe)
    expected = tiny.stock_images(tiny.flux(), [CAT], [1], num_inference_steps=STEPS, **FLUX)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = PipelineSampler(pipe, steps=STEPS, **FLUX)
    assert sampler.can_stop, "it is no cache"
    with sampler:
        noise = sampler.space().fresh([1], sampler.condition(CAT))
        end = sampler.run(sampler.run(noise, 1).final, STEPS).final
        assert gap(sampler.decode(end), expected) < 1e-6
    assert snapshot(pipe) == before


def test_an_override_of_a_tool_runs_on_the_view():
    """A method that a tool put on the object: bound to the user's pipeline, it would run with its scheduler."""
    seen = []

    def encode_prompt(self, prompt, *args, **kwargs):
        seen.append(self)
        return type(self).encode_prompt(self, [p.upper() for p in prompt], *args, **kwargs)

    euler = diffusers.EulerDiscreteScheduler(steps_offset=1, **tiny.SD_BETAS)
    pipe = tiny.stable_diffusion(euler)
    pipe.encode_prompt = types.MethodType(encode_prompt, pipe)
    pipe.prepare_latents = pipe.prepare_latents  # saved, and so bound: Euler's sigma would scale the noise
    expected = tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    other_case = tiny.stock_images(tiny.stable_diffusion(euler), ["A CAT"], [1], num_inference_steps=STEPS)
    assert gap(expected, other_case) < 1e-6
    seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = PipelineSampler(pipe, steps=STEPS)
    assert gap(images(sampler, [1]), expected) < 1e-5
    assert seen and all(view is not pipe for view in seen)


def test_an_override_that_cannot_be_moved_to_the_view_is_told():
    pipe = tiny.stable_diffusion()
    original = pipe.encode_prompt
    pipe.encode_prompt = lambda *args, **kwargs: original(*args, **kwargs)
    with pytest.warns(UserWarning, match="encode_prompt of this StableDiffusionPipeline was replaced"):
        sampler = PipelineSampler(pipe, steps=STEPS)
    expected = tiny.stock_images(tiny.stable_diffusion(), [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(sampler, [1]), expected) < 1e-5


def test_the_users_dictionaries_are_not_written_to():
    given = {"scale": 1.0}
    pipe = tiny.flux()
    sampler = PipelineSampler(pipe, steps=STEPS, joint_attention_kwargs=given, **FLUX)
    images(sampler, [1])
    assert given == {"scale": 1.0} and sampler._calls.options["joint_attention_kwargs"] is given


def held(module):
    """A hook that holds a denoiser in its first forward: (it is inside, let it go, the hook)."""
    inside, go = threading.Event(), threading.Event()

    def wait(module, args):
        inside.set()
        go.wait(20)

    return inside, go, module.register_forward_pre_hook(wait)


def in_threads(*jobs):
    """Run the jobs at the same time; their results, or what they raised."""
    found = [None] * len(jobs)
    ready = threading.Barrier(len(jobs))

    def work(index, job):
        ready.wait(20)
        try:
            found[index] = job()
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=work, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_pipelines_in_threads_of_their_own_do_not_meet():
    makers = {  # latents=, two that draw by the same randn_tensor, one that uses the global generator
        "sd": lambda: PipelineSampler(own(tiny.stable_diffusion()), steps=STEPS),
        "dit": lambda: PipelineSampler(own(other.dit()), steps=STEPS),
        "dit-too": lambda: PipelineSampler(own(other.dit()), steps=STEPS),
        "kept": lambda: PipelineSampler(
            own(tiny.stable_diffusion(diffusers.LCMScheduler(**tiny.SD_BETAS))), steps=STEPS, scheduler="keep"
        ),
    }
    seeds = {name: [i, i + 10] for i, name in enumerate(makers)}
    serial = [images(make(), seeds[name]) for name, make in makers.items()]
    randn = diffusers.pipelines.dit.pipeline_dit.randn_tensor
    for _ in range(3):
        jobs = [lambda make=make, name=name: images(make(), seeds[name]) for name, make in makers.items()]
        for found, expected in zip(in_threads(*jobs), serial, strict=True):
            assert isinstance(found, torch.Tensor), found
            assert gap(found, expected) < 1e-5
    assert diffusers.pipelines.dit.pipeline_dit.randn_tensor is randn


def test_a_plain_call_in_another_thread_draws_for_itself():
    """While one thread's draws are replaced, the same pipeline class in another draws as ever."""
    searched, plain = PipelineSampler(own(other.dit()), steps=STEPS), own(other.dit())

    def call():
        generator = torch.Generator().manual_seed(5)
        return plain([0], num_inference_steps=STEPS, generator=generator, output_type="pt").images

    expected = call()
    inside, go, handle = held(searched._calls.pipe.transformer)
    noise = searched.space().fresh([1], searched.condition(CAT))
    thread = threading.Thread(target=lambda: searched.run(noise, 1))
    thread.start()
    inside.wait(20)
    found = call()
    go.set()
    thread.join()
    handle.remove()
    assert torch.equal(found, expected)


def test_two_searches_of_one_denoiser_in_two_threads_are_told():
    pipe = own(tiny.stable_diffusion())
    first, second = (PipelineSampler(pipe, steps=STEPS) for _ in range(2))
    inside, go, handle = held(pipe.unet)
    noise = first.space().fresh([1], first.condition(CAT))
    second.space()
    second.condition(CAT)
    thread = threading.Thread(target=lambda: first.run(noise, 1))
    thread.start()
    inside.wait(20)
    with pytest.raises(RuntimeError, match="UNet2DConditionModel is already in use by another search"):
        second.run(noise, 1)
    go.set()
    thread.join()
    handle.remove()
    assert gap(second.run(noise, 1).final.x, first.run(noise, 1).final.x) == 0


def test_a_look_at_a_pipeline_that_another_search_has_touches_no_denoiser(monkeypatch):
    """The look ends at the first forward, whosever it is: it may put its hooks only on what it has claimed."""
    pipe, hooks = own(tiny.stable_diffusion()), []
    register = pipe.unet.register_forward_pre_hook
    monkeypatch.setattr(
        pipe.unet, "register_forward_pre_hook", lambda *args, **how: hooks.append(args) or register(*args, **how)
    )
    second = WholeCallSampler(pipe, steps=STEPS)
    with PipelineSampler(pipe, steps=STEPS), pytest.raises(RuntimeError, match="already in use by another search"):
        second.space()
    assert not hooks and second.space().end == STEPS and hooks


def test_a_look_ends_no_plain_call_in_another_thread():
    found = []

    class Meanwhile(diffusers.DDIMPipeline):
        def __call__(self, *args, **how):
            found.extend(in_threads(lambda: self.unet(torch.zeros(1, 3, 8, 8), 1).sample))
            return super().__call__(*args, **how)

    pipe = own(other.unconditional())
    assert WholeCallSampler(tiny.quiet(Meanwhile(pipe.unet, pipe.scheduler)), steps=STEPS).space().end == STEPS
    assert isinstance(found[0], torch.Tensor)
