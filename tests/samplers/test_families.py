"""The families people use, each with the scheduler it is published with."""

from contextlib import contextmanager
from functools import partial

import diffusers
import pytest

from contracts.pipeline_family import (
    CAT,
    DOGS,
    STEPS,
    Family,
    FamilyContract,
    FamilyRun,
    denoisers,
    fresh,
    hooked,
)
from contracts.sampler import SamplerContract
from samplers import PipelineSampler
from tiny.pipelines import EULER, FLUX, ddim, image_latents, picture, tiny

SIZE = {"height": 16, "width": 16}
BAD = {"negative_prompt": "bad"}
PIXART = FLUX | BAD | {"use_resolution_binning": False, "clean_caption": False}
INSTRUCTION = {"complex_human_instruction": ["draw", "well", "this"]}  # as many lines as rows: they are no prompts
SANA = {"height": 32, "width": 32, "max_sequence_length": 24, "use_resolution_binning": False, **INSTRUCTION}
FLUX2 = FLUX | {"text_encoder_out_layers": (0, 1, 2)}
Z_IMAGE = SIZE | {"max_sequence_length": 64}
WAN = FLUX | BAD | {"num_frames": 5}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
IMAGE = {"image": picture()}
SCALE = ("guidance_scale", 5.0)
TRUE_CFG = ("true_cfg_scale", 4.0)
DPM = diffusers.DPMSolverMultistepScheduler
FLOW_DPM = partial(DPM, **FLOW)
PNDM = partial(diffusers.PNDMScheduler, skip_prk_steps=True, **EULER)
UNIPC = partial(diffusers.UniPCMultistepScheduler, **FLOW)
UNIPC_1 = partial(UNIPC, solver_order=1, disable_corrector=list(range(STEPS)))


class LabelFamily(Family):
    """A family that takes class labels for prompts."""

    def called(self, pipe, prompts, **options):
        return pipe([{CAT: 0, DOGS: 1}[p] for p in prompts], **options)[0]


SD, VIDEO = (4, 8, 8), (16, 2, 2, 2)
FAMILIES = {
    "sd15-pndm": Family("sd", SIZE | BAD, SD, SCALE, scheduler=PNDM, first_order=ddim),
    "sd15-unguided": Family("sd", SIZE, SD, ("guidance_scale", 1.0), (1,), encodings=2),
    "sdxl": Family("sdxl", SIZE | BAD, SD, SCALE),
    "sd3": Family("sd3", FLUX | BAD, SD, SCALE),
    "flux": Family("flux-guided", FLUX, SD, SCALE, (1,), encodings=2),
    "flux-true-cfg": Family("flux", FLUX | BAD, SD, TRUE_CFG, (1, 1), encodings=3),
    "flux2": Family("flux2", FLUX2, (16, 4, 4), SCALE, (1,), encodings=2),
    "flux2-klein": Family("flux2-klein", FLUX2, (16, 4, 4), SCALE, (1, 1), encodings=3),
    "pixart-sigma": Family(
        "pixart", PIXART, SD, SCALE, scheduler=partial(DPM, solver_order=2), first_order=partial(DPM, solver_order=1)
    ),
    "sana": Family("sana", SANA, (4, 16, 16), SCALE, scheduler=FLOW_DPM, first_order=partial(FLOW_DPM, solver_order=1)),
    "qwen-image": Family("qwen-image", SIZE | {"negative_prompt": " "}, (1, *SD), TRUE_CFG, (1, 1), encodings=3),
    "qwen-image-unguided": Family("qwen-image", SIZE, (1, *SD), ("true_cfg_scale", 1.0), (1,), encodings=2),
    "z-image": Family("z-image", Z_IMAGE, SD, SCALE),
    "z-image-weakly-guided": Family("z-image", Z_IMAGE, SD, ("guidance_scale", 0.5)),
    "z-image-turbo": Family("z-image", Z_IMAGE, SD, ("guidance_scale", 0.0), (1,), encodings=2),
    "wan": Family("wan", WAN, VIDEO, SCALE, (1, 1), scheduler=UNIPC, first_order=UNIPC_1),
    "wan-expanded-timesteps": Family("wan", WAN, VIDEO, SCALE, (1, 1), fields={"expand_timesteps": True}),
    "wan-two-denoisers": Family("wan-two-denoisers", WAN, VIDEO, SCALE, (1, 1)),
    "dit": LabelFamily("dit", {}, SD, ("guidance_scale", 4.0)),
    "dit-unguided": LabelFamily("dit", {}, SD, ("guidance_scale", 1.0), (1,)),
    "controlnet": Family("sd-controlnet", IMAGE | BAD, SD, SCALE),
    "controlnet-guess": Family("sd-controlnet", IMAGE | {"guess_mode": True}, SD, SCALE),
    "image-to-image": Family("sd-image", {"image": image_latents(), "strength": 1.0}, SD, SCALE),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
class TestFamilies(FamilyContract):
    def test_text_is_encoded_once_per_prompt(self, family):
        if isinstance(family, LabelFamily):
            assert family.run.sampler.text_encodings == 0, "labels need no encoder"
        else:
            super().test_text_is_encoded_once_per_prompt(family)


class TestSampling(SamplerContract):
    """What every sampler must do, stochastic steps and branches among it, on layouts of each kind."""

    tolerance = 5e-5

    @pytest.fixture(params=["flux2", "qwen-image", "z-image", "wan-two-denoisers"])
    def made(self, request):
        return FamilyRun(FAMILIES[request.param])

    @pytest.fixture
    def sampler(self, made):
        return made.sampler

    @pytest.fixture
    def counting(self, made):
        @contextmanager
        def counted():
            rows: list[int] = []
            with hooked(denoisers(made.pipe), rows.append):
                yield rows

        return counted


def test_the_first_order_replacement_is_said_once():
    with pytest.warns(UserWarning, match="UniPCMultistepScheduler is replaced by its first-order"):
        PipelineSampler(tiny("wan", UNIPC()), steps=STEPS, **WAN).space()


def test_a_tokenizer_pads_on_its_own_side_again():
    pipe = tiny("sana")
    pipe.tokenizer.padding_side = "left"  # Sana sets "right" on the shared object
    sampler = PipelineSampler(pipe, steps=STEPS, **SANA)
    sampler.run(fresh(sampler, [1]), 1)
    assert pipe.tokenizer.padding_side == "left"


@pytest.mark.parametrize(("name", "calls"), [("z-image", [2 * 3]), ("qwen-image", [2, 2, 1, 1])])
def test_prompts_of_unequal_lengths_share_a_batch_where_encodings_are_lists(name, calls):
    """Tensors of unequal lengths run in groups."""
    run, rows = FAMILIES[name].run, []
    with hooked(denoisers(run.pipe), rows.append):
        run.sampler.run(run.noise, 1)
    assert rows == calls
