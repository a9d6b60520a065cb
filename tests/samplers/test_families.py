"""The families people use, each with the scheduler it is published with."""

from contextlib import contextmanager

import diffusers
import pytest

from contracts.pipeline_family import CAT, STEPS, Family, FamilyContract, FamilyRun, denoisers, gap, hooked
from contracts.sampler import SamplerContract
from samplers import PipelineSampler
from tiny import llm_pipelines as llm
from tiny import pipelines as tiny
from tiny import t5_pipelines as t5

SIZE = {"height": 16, "width": 16}
SHORT = SIZE | {"max_sequence_length": 12}
SD = SIZE | {"negative_prompt": "bad"}
PIXART = SHORT | {"use_resolution_binning": False, "clean_caption": False, "negative_prompt": "bad"}
INSTRUCTION = {"complex_human_instruction": ["draw", "well", "this"]}  # as many lines as rows: they are no prompts
SANA = {"height": 32, "width": 32, "max_sequence_length": 24, "use_resolution_binning": False, **INSTRUCTION}
FLUX2 = SHORT | {"text_encoder_out_layers": (0, 1, 2)}
WAN = SHORT | {"num_frames": 5, "negative_prompt": "bad"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
SCALE = ("guidance_scale", 5.0)
TRUE_CFG = ("true_cfg_scale", 4.0)


def dpm(order: int, **fields) -> diffusers.DPMSolverMultistepScheduler:
    return diffusers.DPMSolverMultistepScheduler(solver_order=order, **fields)


def unipc(**fields) -> diffusers.UniPCMultistepScheduler:
    return diffusers.UniPCMultistepScheduler(**FLOW, **fields)


def pndm() -> diffusers.PNDMScheduler:
    return diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1, **tiny.SD_BETAS)


UNIPC_1 = {"solver_order": 1, "disable_corrector": list(range(STEPS))}

FAMILIES = {
    "sd15-pndm": Family(lambda: tiny.stable_diffusion(pndm()), SD, (4, 8, 8), SCALE, reference=tiny.stable_diffusion),
    "sd15-unguided": Family(tiny.stable_diffusion, SIZE, (4, 8, 8), ("guidance_scale", 1.0), (1,), encodings=2),
    "sdxl": Family(tiny.stable_diffusion_xl, SD, (4, 8, 8), SCALE),
    "sd3": Family(t5.stable_diffusion_3, SHORT | {"negative_prompt": "bad"}, (4, 8, 8), SCALE),
    "flux": Family(lambda: tiny.flux(True), SHORT, (4, 8, 8), SCALE, (1,), encodings=2),
    "flux-true-cfg": Family(tiny.flux, SHORT | {"negative_prompt": "bad"}, (4, 8, 8), TRUE_CFG, (1, 1), encodings=3),
    "flux2": Family(llm.flux2, FLUX2, (16, 4, 4), SCALE, (1,), encodings=2),
    "flux2-klein": Family(llm.flux2_klein, FLUX2, (16, 4, 4), SCALE, (1, 1), encodings=3),
    "pixart-sigma": Family(
        lambda: t5.pixart_sigma(dpm(2)), PIXART, (4, 8, 8), SCALE, reference=lambda: t5.pixart_sigma(dpm(1))
    ),
    "sana": Family(
        lambda: llm.sana(dpm(2, **FLOW)), SANA, (4, 16, 16), SCALE, reference=lambda: llm.sana(dpm(1, **FLOW))
    ),
    "qwen-image": Family(llm.qwen_image, SIZE | {"negative_prompt": " "}, (1, 4, 8, 8), TRUE_CFG, (1, 1), encodings=3),
    "qwen-image-unguided": Family(llm.qwen_image, SIZE, (1, 4, 8, 8), ("true_cfg_scale", 1.0), (1,), encodings=2),
    "z-image": Family(llm.z_image, SIZE | {"max_sequence_length": 64}, (4, 8, 8), SCALE),
    "z-image-weakly-guided": Family(
        llm.z_image, SIZE | {"max_sequence_length": 64}, (4, 8, 8), ("guidance_scale", 0.5)
    ),
    "z-image-turbo": Family(
        llm.z_image, SIZE | {"max_sequence_length": 64}, (4, 8, 8), ("guidance_scale", 0.0), (1,), encodings=2
    ),
    "wan": Family(
        lambda: t5.wan(scheduler=unipc()),
        WAN,
        (16, 2, 2, 2),
        SCALE,
        (1, 1),
        reference=lambda: t5.wan(scheduler=unipc(**UNIPC_1)),
    ),
    "wan-expanded-timesteps": Family(lambda: t5.wan(expand_timesteps=True), WAN, (16, 2, 2, 2), SCALE, (1, 1)),
    "wan-two-denoisers": Family(lambda: t5.wan(0.875), WAN, (16, 2, 2, 2), SCALE, (1, 1)),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
class TestFamilies(FamilyContract):
    pass


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
        PipelineSampler(t5.wan(scheduler=unipc()), steps=STEPS, **WAN)


def test_a_guidance_scale_that_the_model_ignores_is_told():
    with pytest.warns(UserWarning, match=r"guidance_scale = 4\.0 is ignored by this model.*true_cfg_scale"):
        PipelineSampler(llm.qwen_image(), guidance=4.0, **SIZE)


def test_skip_layer_guidance_counts_steps_so_only_whole_runs_are_offered():
    skip = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.01, "skip_layer_guidance_stop": 0.7}
    options, pipe = SHORT | skip, t5.stable_diffusion_3()
    expected = tiny.stock_images(pipe, [CAT], [1], num_inference_steps=STEPS, guidance_scale=5.0, **options)
    sampler = PipelineSampler(pipe, steps=STEPS, guidance=5.0, **options)
    noise = sampler.space().fresh([1], sampler.condition(CAT))
    assert not sampler.can_stop
    with pytest.raises(ValueError, match=f"skip_guidance_layers.* allows whole runs from 0 to {STEPS} only"):
        sampler.run(noise, 1)
    assert gap(sampler.decode(sampler.run(noise, STEPS).final), expected) <= 1e-5


def test_a_tokenizer_pads_on_its_own_side_again():
    pipe = llm.sana()
    pipe.tokenizer.padding_side = "left"  # Sana sets "right" on the shared object
    sampler = PipelineSampler(pipe, steps=STEPS, **SANA)
    sampler.run(sampler.space().fresh([1], sampler.condition(CAT)), 1)
    assert pipe.tokenizer.padding_side == "left"


def test_prompts_of_unequal_lengths_share_a_batch_where_encodings_are_lists():
    run = FAMILIES["z-image"].run
    rows: list[int] = []
    with hooked(denoisers(run.pipe), rows.append):
        run.sampler.run(run.noise, 1)
    assert rows == [2 * 3]
    rows.clear()
    qwen = FAMILIES["qwen-image"].run
    with hooked(denoisers(qwen.pipe), rows.append):
        qwen.sampler.run(qwen.noise, 1)
    assert rows == [2, 2, 1, 1], "tensors of unequal lengths run in groups"
