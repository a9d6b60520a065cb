"""What lives in the modules of a pipeline: caches, attention processors, offload hooks, overrides."""

import copy
import types
import warnings
from contextlib import nullcontext

import diffusers
import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor, CLIPVisionConfig

from contracts.pipeline_family import CAT, DOGS, failing, fresh, gap, images, own
from samplers import PipelineSampler, State
from tiny.pipelines import FLUX, SD_BETAS, clip_config, quiet, seeded, snapshot, stock_images, tiny

STEPS = 4


def cached_flux():
    pipe = own(tiny("flux"))
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=50.0))
    with pytest.warns(UserWarning, match="a step cache is enabled.*whole runs only"):
        return pipe, PipelineSampler(pipe, steps=STEPS, **FLUX)


def test_a_step_cache_allows_whole_runs_only_and_is_described():
    _, sampler = cached_flux()
    assert not sampler.can_stop and sampler.limitation == "a step cache"
    assert sampler.describe()["step_caches"] == ["FirstBlockCacheConfig(threshold=50.0)"]
    with pytest.raises(ValueError, match="a step cache allows whole runs from 0 to 4 only"):
        sampler.run(fresh(sampler, [1]), 2)
    plain = own(tiny("flux"))
    apply_first_block_cache(plain.transformer, FirstBlockCacheConfig(threshold=50.0))
    with pytest.warns(UserWarning, match="a step cache is enabled"):
        by_hooks = PipelineSampler(plain, steps=STEPS, **FLUX)
    assert not by_hooks.can_stop and by_hooks.describe()["step_caches"]
    assert PipelineSampler(tiny("flux"), steps=STEPS, **FLUX).describe()["step_caches"] == []


def test_a_step_cache_leaks_into_no_other_call():
    _, sampler = cached_flux()
    stock = own(tiny("flux"))
    stock.transformer.enable_cache(FirstBlockCacheConfig(threshold=50.0))
    for seeds in ([1, 2], [3], [4, 5, 6], [1, 2]):  # other batch sizes, and the first again
        expected = stock_images(stock, [CAT] * len(seeds), seeds, num_inference_steps=STEPS, **FLUX)
        assert gap(images(sampler, seeds), expected) < 1e-5
    uncached = stock_images(tiny("flux"), [CAT] * 2, [1, 2], num_inference_steps=STEPS, **FLUX)
    assert gap(images(sampler, [1, 2]), uncached) > 1e-4, "the cache is at work"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_no_cache_behind(error):
    pipe, sampler = cached_flux()
    expected = images(sampler, [1])
    with failing(pipe, error, at=3), pytest.raises(error):
        images(sampler, [2, 3])
    assert torch.equal(images(sampler, [1]), expected)
    plain = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS, **FLUX)
    assert gap(plain, expected) < 1e-5, "nor for the user"


PAG = {"guidance_scale": 5.0, "pag_scale": 2.0}


def pag():
    parts = tiny("sd").components | {"unet": copy.deepcopy(tiny("sd").unet), "pag_applied_layers": "mid"}
    return quiet(diffusers.StableDiffusionPAGPipeline(**parts, requires_safety_checker=False))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_attention_processors_are_put_back(error):
    pipe = pag()
    sampler = PipelineSampler(pipe, steps=STEPS, **PAG)
    assert sampler.rows_per_evaluation == 3
    noise = fresh(sampler, [1])
    before = dict(pipe.unet.attn_processors)
    with failing(pipe, error) as calls, pytest.raises(error) if error else nullcontext():
        sampler.run(sampler.run(noise, 1).final, STEPS)
    now = pipe.unet.attn_processors
    assert all(now[name] is processor for name, processor in before.items()) and set(calls) == {3}


def test_perturbed_attention_equals_the_plain_pipeline():
    expected = stock_images(pag(), [CAT, DOGS], [1, 2], num_inference_steps=STEPS, **PAG)
    sampler = PipelineSampler(pag(), steps=STEPS, **PAG)
    stopped = sampler.run(State.cat([fresh(sampler, [1]), fresh(sampler, [2], DOGS)]), 2).final
    assert gap(sampler.decode(sampler.run(stopped, STEPS).final), expected) < 1e-5


@seeded
def alarmed():
    """A safety checker that blackens everything, and the pipeline that has it."""
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    configs = {"text_config": clip_config().to_dict(), "vision_config": vision.to_dict()}
    checker = StableDiffusionSafetyChecker(CLIPConfig(**configs, projection_dim=16))
    checker.concept_embeds_weights.data.fill_(-10.0)
    size = {"height": 16, "width": 16}
    fields = {"safety_checker": checker, "feature_extractor": CLIPImageProcessor(size=size, crop_size=size)}
    return tiny("sd", **fields, requires_safety_checker=True), checker


def test_a_safety_checker_blackens_no_candidate_and_stays_with_the_user():
    pipe, checker = alarmed()
    black = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    sampler = PipelineSampler(pipe, steps=STEPS)
    shown = images(sampler, [1])
    bare = stock_images(tiny("sd"), [CAT], [1], num_inference_steps=STEPS)
    assert black.max() == 0 and gap(shown, bare) < 1e-5 and shown.std() > 0.02
    assert pipe.safety_checker is checker and checker.concept_embeds_weights[0] == -10
    assert stock_images(pipe, [CAT], [1], num_inference_steps=STEPS).max() == 0


def test_a_watermark_is_on_no_candidate_and_stays_with_the_user():
    pipe, marked = tiny("sdxl"), []
    pipe.watermark = types.SimpleNamespace(apply_watermark=lambda x: marked.append(1) or 0 * x)
    bare = stock_images(tiny("sdxl"), [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(PipelineSampler(pipe, steps=STEPS), [1]), bare) < 1e-5 and not marked
    stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    assert marked


def test_model_offload_runs_and_its_hooks_are_the_users():
    pipe = own(tiny("sd"))
    pipe.enable_model_cpu_offload(device="cpu")
    expected = stock_images(tiny("sd"), [CAT] * 2, [1, 2], num_inference_steps=STEPS)
    hooks = list(pipe._all_hooks)
    sampler = PipelineSampler(pipe, steps=STEPS)
    with sampler:
        noise = fresh(sampler, [1, 2])
        for _ in range(2):
            middle = sampler.run(noise, 2).final
            found = sampler.decode(sampler.run(middle, STEPS).final)
            assert gap(found, expected) < 1e-5
            assert pipe._all_hooks == hooks and pipe.unet._hf_hook is hooks[1].hook, "kept until the end"
    assert [type(h) for h in pipe._all_hooks] == [type(h) for h in hooks]
    for model in (pipe.unet, pipe.text_encoder, pipe.vae):
        assert any(model._hf_hook is hook.hook for hook in pipe._all_hooks), "armed again, by the user's own list"
    again = stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=STEPS)
    assert gap(again, expected) < 1e-5


def test_group_offload_stays_on_the_modules():
    pipe, cpu = own(tiny("flux")), torch.device("cpu")
    group = {"onload_device": cpu, "offload_device": cpu, "offload_type": "block_level", "num_blocks_per_group": 1}
    pipe.transformer.enable_group_offload(**group)
    before = snapshot(pipe)
    expected = stock_images(tiny("flux"), [CAT], [1], num_inference_steps=STEPS, **FLUX)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = PipelineSampler(pipe, steps=STEPS, **FLUX)
    assert sampler.can_stop, "it is no cache"
    with sampler:
        noise = fresh(sampler, [1])
        end = sampler.run(sampler.run(noise, 1).final, STEPS).final
        assert gap(sampler.decode(end), expected) < 1e-6
    assert snapshot(pipe) == before


def test_an_override_of_a_tool_runs_on_the_view():
    """A method that a tool put on the object: bound to the user's pipeline, it would run with its scheduler."""
    seen = []

    def encode_prompt(self, prompt, *args, **kwargs):
        seen.append(self)
        louder = prompt.upper() if isinstance(prompt, str) else [p.upper() for p in prompt]
        return type(self).encode_prompt(self, louder, *args, **kwargs)

    euler = diffusers.EulerDiscreteScheduler(steps_offset=1, **SD_BETAS)
    pipe = tiny("sd", euler)
    pipe.encode_prompt = types.MethodType(encode_prompt, pipe)
    pipe.prepare_latents = pipe.prepare_latents  # saved, and so bound: Euler's sigma would scale the noise
    expected = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)
    other_case = stock_images(tiny("sd", euler), ["A CAT"], [1], num_inference_steps=STEPS)
    assert gap(expected, other_case) < 1e-6
    seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = PipelineSampler(pipe, steps=STEPS)
    assert gap(images(sampler, [1]), expected) < 1e-5
    assert seen and all(view is not pipe for view in seen)


def test_an_override_that_cannot_be_moved_to_the_view_is_told():
    pipe = tiny("sd")
    original = pipe.encode_prompt
    pipe.encode_prompt = lambda *args, **kwargs: original(*args, **kwargs)
    with pytest.warns(UserWarning, match="encode_prompt of this StableDiffusionPipeline was replaced"):
        sampler = PipelineSampler(pipe, steps=STEPS)
    expected = stock_images(tiny("sd"), [CAT], [1], num_inference_steps=STEPS)
    assert gap(images(sampler, [1]), expected) < 1e-5
