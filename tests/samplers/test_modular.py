"""A modular pipeline runs like the standard one; the specifications that its copies share stay the user's."""

import contextlib

import diffusers
import pytest
import torch

from contracts.pipeline_family import CAT, DOGS, STEPS, Family, FamilyContract, FamilyRun, denoisers, gap, hooked
from samplers import PipelineSampler
from samplers.pipelines.choose import sampler_for
from tiny import pipelines as tiny

FLUX = {"height": 16, "width": 16, "max_sequence_length": 12}


def modular():
    pipe = diffusers.FluxModularPipeline()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    parts = tiny.flux(True).components | {"scheduler": scheduler}
    pipe.update_components(**{k: v for k, v in parts.items() if k in pipe.component_names})
    pipe.set_progress_bar_config(disable=True)
    return pipe


class ModularFamily(Family):
    """A family that gives its images by name."""

    def plain(self, pipe, prompts, seeds, **more):
        options = {"num_inference_steps": STEPS} | self.options | more | dict([self.guidance])
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return pipe(prompt=list(prompts), generator=generators, output_type="pt", output="images", **options)


FAMILY = ModularFamily(modular, FLUX, (4, 8, 8), ("guidance_scale", 5.0), (1,), encodings=2)


def everything(pipe):
    """What a careless wrapper changes of a modular pipeline: attributes, specifications, blocks, modules."""

    def inside(block):
        return {k: (id(b), sorted(vars(b)), inside(b)) for k, b in getattr(block, "sub_blocks", {}).items()}

    return {
        "vars": {k: id(v) for k, v in vars(pipe).items()},
        "specs": {k: repr(v)[:2000] for k, v in pipe._component_specs.items()},
        "blocks": inside(pipe._blocks),
        "scheduler": {k: repr(v) for k, v in vars(pipe.scheduler).items()},
        "hooks": [len(m._forward_pre_hooks) for m in pipe.transformer.modules()],
    }


class TestModular(FamilyContract):
    @pytest.fixture
    def family(self):
        return FAMILY

    def test_fresh_is_the_pipelines_own_draw(self, family, run, monkeypatch):
        from diffusers.modular_pipelines.flux import before_denoise

        original, draws = before_denoise.randn_tensor, []

        def see(*args, **kwargs):
            draws.append(original(*args, **kwargs))
            return draws[-1].clone()

        monkeypatch.setattr(before_denoise, "randn_tensor", see)
        family.plain(family.make(), [CAT], [11])
        assert torch.equal(run.sampler.space().fresh([11]).x, draws[0])

    @pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
    def test_the_users_pipeline_is_untouched(self, family, error):
        run, calls = FamilyRun(family), []
        before, expected = everything(run.pipe), family.plain(family.make(), [DOGS], [5])

        def fail(rows):
            calls.append(rows)
            if error is not None and len(calls) == 2:
                raise error("in the second step")

        with hooked(denoisers(run.pipe), fail):
            with run.sampler, pytest.raises(error) if error else contextlib.ExitStack():
                run.sampler.decode(run.sampler.run(run.noise[[0, 1]], STEPS).final)
        assert everything(run.pipe) == before and len(calls) >= 2
        assert torch.equal(family.plain(run.pipe, [DOGS], [5]), expected)


def test_the_standard_pipeline_gives_the_same():
    found = []
    for pipe in (modular(), tiny.flux(True)):
        sampler = sampler_for(pipe, steps=STEPS, guidance=5.0, **FLUX)
        space = sampler.space()
        noise = space.neighbour(space.fresh([1], sampler.condition(CAT)), [2], 0.9)
        found.append(sampler.decode(sampler.run(noise, STEPS).final))
        assert sampler.describe()["pipeline"] == type(pipe).__name__
    assert gap(*found) < 1e-6


def test_inputs_of_other_blocks_are_unknown():
    with pytest.raises(TypeError, match=r"FluxModularPipeline takes no argument image; it takes .*max_sequence_length"):
        PipelineSampler(modular(), image=torch.zeros(1, 3, 16, 16))


def test_blocks_of_another_kind_are_told_what_to_give_instead():
    with pytest.raises(TypeError, match=r"StableDiffusionXLModularPipeline is modular, .*standard pipeline with the"):
        PipelineSampler(diffusers.StableDiffusionXLModularPipeline())
