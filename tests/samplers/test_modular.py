"""A modular pipeline runs like the standard one; the specifications that its copies share stay the user's."""

import diffusers
import pytest
import torch

from contracts.pipeline_family import STEPS, Family, FamilyContract, fresh, gap
from samplers import PipelineSampler
from samplers.pipelines.choose import sampler_for
from tiny.pipelines import FLUX, tiny


def modular():
    pipe = diffusers.FluxModularPipeline()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    parts = tiny("flux-guided").components | {"scheduler": scheduler}
    pipe.update_components(**{k: v for k, v in parts.items() if k in pipe.component_names})
    pipe.set_progress_bar_config(disable=True)
    return pipe


class ModularFamily(Family):
    """A family that gives its images by name."""

    def make(self):
        return modular()

    def called(self, pipe, prompts, **options):
        return pipe(prompt=list(prompts), output="images", **options)


FAMILY = ModularFamily("flux-guided", FLUX, (4, 8, 8), ("guidance_scale", 5.0), (1,), encodings=2)


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
    snapshot = staticmethod(everything)

    @pytest.fixture
    def family(self):
        return FAMILY

    def drawing_module(self, pipe):
        from diffusers.modular_pipelines.flux import before_denoise

        return before_denoise


def test_the_standard_pipeline_gives_the_same():
    found = []
    for pipe in (modular(), tiny("flux-guided")):
        sampler = sampler_for(pipe, steps=STEPS, guidance=5.0, **FLUX)
        space = sampler.space()
        noise = space.neighbour(fresh(sampler, [1]), [2], 0.9)
        found.append(sampler.decode(sampler.run(noise, STEPS).final))
        assert sampler.describe()["pipeline"] == type(pipe).__name__
    assert gap(*found) < 1e-6


def test_inputs_of_other_blocks_are_unknown():
    with pytest.raises(TypeError, match=r"FluxModularPipeline takes no argument image; it takes .*max_sequence_length"):
        PipelineSampler(modular(), image=torch.zeros(1, 3, 16, 16))


def test_blocks_of_another_kind_are_told_what_to_give_instead():
    with pytest.raises(TypeError, match=r"StableDiffusionXLModularPipeline is modular, .*standard pipeline with the"):
        PipelineSampler(diffusers.StableDiffusionXLModularPipeline())
