"""What cannot be taken step by step is still searched: whole runs with noise handed in, or seeds of whole calls."""

import copy
import warnings
from dataclasses import replace
from functools import partial

import diffusers
import pytest
import torch

import noise_search
from contracts.pipeline_family import CAT, DOGS, denoisers, failing, fresh, gap, hooked, images
from samplers import Mix, NotDrivable, PipelineSampler, State, WholeCallSampler, sampler_for
from samplers.pipelines.view import make_view
from tiny.pipelines import EULER, SD_BETAS, DrawsByItself, snapshot, stock_images, tiny

STEPS = 3


class CopiesItsScheduler(diffusers.StableDiffusionPipeline):
    """Steps its latents with a deep copy of its scheduler, after a step of its own, as LTX2 does for audio."""

    def __call__(self, *args, **kwargs):
        sound_scheduler = copy.deepcopy(self.scheduler)
        sound_scheduler.set_timesteps(2)
        for t in sound_scheduler.timesteps[:1]:
            sound_scheduler.step(torch.zeros(1, 2), t, torch.zeros(1, 2))
        return super().__call__(*args, **kwargs)


class StepsCopies(diffusers.StableDiffusionPipeline):
    """Takes every step with a deep copy of its scheduler."""

    @property
    def scheduler(self):
        return copy.deepcopy(vars(self)["scheduler"])

    @scheduler.setter
    def scheduler(self, value):
        vars(self)["scheduler"] = value


class Combined(diffusers.DiffusionPipeline):
    """Runs another pipeline inside, as Kandinsky's and Stable Cascade's combined ones do."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.inner_pipe = diffusers.DDIMPipeline(unet, scheduler)
        self.inner_pipe.set_progress_bar_config(disable=True)

    def __call__(self, prompt, generator=None, num_inference_steps=5, output_type="np", return_dict=True):
        one = generator[0] if isinstance(generator, list) else generator
        images = self.inner_pipe(1, one, num_inference_steps=num_inference_steps, output_type="np").images
        return (images,)


def combined():
    return tiny("unconditional", cls=Combined)


LCM = partial(diffusers.LCMScheduler, **SD_BETAS)
PIPELINES = {
    "sd-euler-ancestral": lambda: tiny("sd", diffusers.EulerAncestralDiscreteScheduler(**EULER)),
    "sd-lcm": lambda: tiny("sd", LCM()),
    "sd-heun": lambda: tiny("sd", diffusers.HeunDiscreteScheduler(**EULER)),
    "draws-by-itself": partial(tiny, "by-itself"),
    "combined": combined,
    "dit": partial(tiny, "dit"),
}


def stock(pipe, prompt, seed):
    """The user's own call."""
    asked = {"class_labels": [0]} if isinstance(pipe, diffusers.DiTPipeline) else {"prompt": prompt}
    asked = {} if isinstance(pipe, DrawsByItself) else asked
    generator = torch.Generator().manual_seed(seed)
    images = pipe(**asked, generator=generator, num_inference_steps=STEPS, output_type="pt", return_dict=False)[0]
    return images if isinstance(images, torch.Tensor) else torch.from_numpy(images).movedim(-1, 1)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_candidate_is_the_users_call_with_its_seed(name):
    pipe = PIPELINES[name]()
    with torch.random.fork_rng():
        expected = {seed: stock(pipe, CAT, seed) for seed in (4, 5)}
    before, rows = snapshot(pipe), []
    sampler = WholeCallSampler(pipe, steps=STEPS)
    assert not (sampler.can_stop or sampler.can_move)
    with hooked(denoisers(pipe), rows.append):
        space = sampler.space()
        assert rows == [] and sampler.denoiser_rows == 0, "looking costs nothing"
        run = sampler.run(space.fresh([4, 5], sampler.condition(CAT)), space.end)
    assert gap(sampler.decode(run.final), torch.cat([expected[4], expected[5]])) < 1e-6
    assert run.denoiser_rows == sum(rows) == sampler.denoiser_rows
    assert sum(rows) == 2 * space.end * sampler.rows_per_evaluation and space.end == len(rows) / 2
    alone = sampler.run(space.fresh([5], sampler.condition(CAT)), space.end).final
    assert torch.equal(alone.x, run.final.x[1:]) and alone.recipes == run.final.recipes[1:]
    assert alone.recipes[0].seed == 5 and snapshot(pipe) == before


STALE = {
    "scheduler": lambda pipe: pipe.scheduler.set_timesteps(STEPS + 4),
    "count": lambda pipe: vars(pipe).update(_num_timesteps=STEPS + 4),
}


@pytest.mark.parametrize("name", STALE)
def test_steps_of_an_earlier_call_are_not_counted(name):
    pipe = combined()
    STALE[name](pipe)
    assert WholeCallSampler(pipe, steps=STEPS).space().end == STEPS


def test_pipelines_inside_are_used_as_copies():
    """With the outer's own scheduler, and one further in with another."""
    pipe, further, used = combined(), combined(), []
    inner = pipe.inner_pipe
    inner.scheduler, inner.innermost = pipe.scheduler, further
    inner.watermark = inner.safety_checker = "the user's"
    inner.set_progress_bar_config(desc="the user's")
    further.maybe_free_model_hooks = inner.maybe_free_model_hooks = lambda: used.append("hooks")
    pipe(CAT, torch.Generator(), num_inference_steps=STEPS + 4)
    used.clear()
    view = make_view(pipe, scheduler := copy.deepcopy(pipe.scheduler))
    assert view.inner_pipe is not inner and view.inner_pipe.scheduler is scheduler
    assert view.inner_pipe.innermost is not further and view.inner_pipe.innermost.inner_pipe is not further.inner_pipe
    assert view.inner_pipe.innermost.scheduler not in (scheduler, further.scheduler)
    assert view.inner_pipe.safety_checker is view.inner_pipe.watermark is None

    def state():
        users = [inner, further, further.inner_pipe]
        return [{k: id(v) for k, v in (vars(p) | vars(p.scheduler)).items()} for p in users]

    before, bars = state(), [dict(inner._progress_bar_config), inner.watermark]
    sampler = WholeCallSampler(pipe, steps=STEPS)
    found = images(sampler, [1])
    assert state() == before and [dict(inner._progress_bar_config), inner.watermark] == bars and not used
    assert sampler.space().end == STEPS and gap(found, stock(pipe, CAT, 1)) < 1e-6


def test_prompts_reach_their_rows_and_are_encoded_once():
    pipe, encoded = PIPELINES["sd-lcm"](), []
    sampler = WholeCallSampler(pipe, steps=STEPS, guidance=5.0, negative_prompt="bad")
    space, cat, dogs = sampler.space(), sampler.condition(CAT), sampler.condition(DOGS)
    seeds = State.cat([space.fresh([1, 2], cat), space.fresh([1], dogs)])
    handle = pipe.text_encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    images = sampler.decode(sampler.run(seeds, space.end).final)
    handle.remove()
    assert gap(images[0], images[2]) > 1e-3 and len(encoded) == 2 * 2 and sampler.text_encodings == 2


def test_what_is_no_seed_is_refused():
    sampler = WholeCallSampler(tiny("by-itself"), steps=STEPS, reason="it draws its noise by itself")
    space = sampler.space()
    seeds = space.fresh([1], sampler.condition(""))
    moves = {"neighbour": ([1], 0.9), "pcn": ([1], 0.1), "renoise": (0, [1]), "branch": ([1],)}
    for name, arguments in (moves | {"crossover": (seeds, [1])}).items():
        with pytest.raises(ValueError, match=f"{name} needs noise that can be handed in.*draws its noise by itself"):
            getattr(space, name)(seeds, *arguments)
    with pytest.raises(ValueError, match=r"mean needs noise that can be handed in"):
        space.mean([seeds, seeds])
    for use, message in [
        (lambda: sampler.run(seeds, 1), "draws its noise by itself allows whole runs"),
        (lambda: sampler.run(seeds, space.end, transition=Mix(0.5)), r"Mix\(rho=0\.5\) needs .* steps, and it draws"),
        (lambda: sampler.space(levels=[0.5]), "allows whole runs only"),
    ]:
        with pytest.raises(ValueError, match=message):
            use()
    moved = replace(seeds, recipes=(seeds.recipes[0].then("neighbour", seed=1, cosine=0.9),))
    with pytest.raises(ValueError, match="a candidate here is a seed"):
        sampler.run(moved, space.end)
    assert sampler.space(2).end == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_fails_is_paid_for_and_leaves_the_pipeline_as_it_was(error):
    pipe = PIPELINES["sd-lcm"]()
    sampler = WholeCallSampler(pipe, steps=STEPS)
    seeds = fresh(sampler, [1])
    before, paid = snapshot(pipe), sampler.denoiser_rows
    with failing(pipe, error) as calls, pytest.raises(error):
        sampler.run(seeds, STEPS)
    assert snapshot(pipe) == before and sampler.denoiser_rows - paid == sum(calls[:1]), "the second forward never began"


def test_a_scheduler_that_is_copied_inside_runs_whole_with_noise_handed_in():
    pipe = tiny("sd", diffusers.EulerDiscreteScheduler(**EULER), cls=CopiesItsScheduler)
    with pytest.raises(NotDrivable, match=r"copies its scheduler.*scheduler='keep'"):
        PipelineSampler(pipe)
    with pytest.warns(UserWarning, match=r"copies its scheduler.*: running it whole; random and zero-order search"):
        sampler = sampler_for(pipe, steps=STEPS, guidance=5.0)
    assert sampler.can_move and not sampler.can_stop and "copies its scheduler" in sampler.limitation
    expected = stock_images(pipe, [CAT] * 2, [1, 2], num_inference_steps=STEPS, guidance_scale=5.0)
    assert gap(images(sampler, [1, 2]), expected) < 1e-5
    with pytest.raises(ValueError, match=r"copies its scheduler.* allows whole runs"):
        sampler.run(fresh(sampler, [1]), 1)


def test_a_copy_that_no_source_shows_is_refused_when_it_is_made():
    pipe = tiny("sd", cls=StepsCopies)
    with pytest.raises(NotDrivable, match="copies its scheduler"):
        PipelineSampler(pipe, steps=STEPS).space()


class CopiesByAnotherName(diffusers.StableDiffusionPipeline):
    """Steps something else with a deep copy of its scheduler, by a name that does not tell."""

    def prepare_extra_step_kwargs(self, generator, eta):
        sound = copy.deepcopy(self.scheduler)
        sound.set_timesteps(2)
        for t in sound.timesteps[:1]:
            sound.step(torch.zeros(1, 2), t, torch.zeros(1, 2))
        return super().prepare_extra_step_kwargs(generator, eta)


class ShiftsItsNoise(diffusers.StableDiffusionPipeline):
    """Starts from noise that is not plain."""

    def prepare_latents(self, *args, **kwargs):
        return super().prepare_latents(*args, **kwargs) + 0.5


SEEN_BY_A_CALL = {  # they take latents, and only a call shows what they make of them
    "copies": (CopiesByAnotherName, "copies its scheduler", "running it whole"),
    "shifts": (ShiftsItsNoise, "does not return plain noise", "seeds of whole calls"),
}


@pytest.mark.parametrize("name", SEEN_BY_A_CALL)
def test_what_only_a_call_shows_is_found_while_choosing(name):
    cls, reason, left = SEEN_BY_A_CALL[name]
    pipe = tiny("sd", cls=cls)
    with pytest.warns(UserWarning, match=f"{reason}.*{left}") as warned:
        sampler = sampler_for(pipe, steps=STEPS)
    assert len(warned) == 1 and reason in sampler.limitation
    assert gap(images(sampler, [1]), stock_images(pipe, [CAT], [1], num_inference_steps=STEPS)) < 1e-5


def test_what_only_a_call_shows_ends_no_search():
    pipe = tiny("sd", cls=CopiesByAnotherName)
    how = {"steps": STEPS, "candidates": 2, "progress": False, "judges": []}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # random search runs whole anyway
        result = noise_search.search(CAT, model=pipe, verifier=lambda images, prompts: images.mean((1, 2, 3)), **how)
    first = result.candidates[0]
    expected = stock_images(pipe, [CAT], [first.recipe.seed], num_inference_steps=STEPS)
    assert first.score == pytest.approx(float(expected.mean()), abs=1e-5)


def test_choosing_costs_one_encoding_and_no_forward():
    pipe, rows, encoded = tiny("sd"), [], []
    handle = pipe.text_encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    with hooked(denoisers(pipe), rows.append):
        sampler = sampler_for(pipe, steps=STEPS, guidance=5.0)
        assert encoded == [1, 1], "of one empty prompt, and its unconditional half"
        space = sampler.space()
        sampler.run(space.fresh([1], sampler.condition("")), 1)
    assert encoded == [1, 1] and len(rows) == 1, "what was seen is kept"
    asked = sampler_for(pipe, steps=STEPS, guidance=5.0, first_prompt=CAT)
    asked.run(asked.space().fresh([1], asked.condition(CAT)), 1)
    handle.remove()
    assert len(encoded) == 4 and asked.text_encodings == 1, "nothing is encoded that will not be run"


UNKNOWN = {
    "LCMScheduler": LCM,
    "TCDScheduler": partial(diffusers.TCDScheduler, **SD_BETAS),
    "CogVideoXDDIMScheduler": partial(
        diffusers.CogVideoXDDIMScheduler, **SD_BETAS, rescale_betas_zero_snr=False, clip_sample=False
    ),
    "EDMEulerScheduler": diffusers.EDMEulerScheduler,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_scheduler_is_run_whole(name):
    pipe = tiny("sd", UNKNOWN[name]())
    with pytest.warns(UserWarning, match=f"^{name} has no first-order rule here: running it whole") as warned:
        sampler = sampler_for(pipe, steps=STEPS, guidance=5.0)
    assert len(warned) == 1 and sampler.limitation == f"{name} has no first-order rule here"
    space, pivot = sampler.space(), fresh(sampler, [1])
    near = space.neighbour(pivot, [1], 0.99999)
    ends = [sampler.decode(sampler.run(s, space.end).final) for s in (pivot, near)]
    if name not in ("LCMScheduler", "TCDScheduler"):  # those draw while they run
        assert gap(*ends) < 0.1, "noise is handed in, so a neighbour is near"
    expected = stock_images(pipe, [CAT], [1], num_inference_steps=STEPS, guidance_scale=5.0)
    assert gap(ends[0], expected) < 1e-5


@pytest.mark.parametrize("make", [partial(tiny, "by-itself"), combined])
def test_a_pipeline_that_takes_no_noise_is_searched_by_seeds(make):
    with pytest.warns(UserWarning, match="searching over seeds of whole calls; random search works") as warned:
        sampler = sampler_for(make(), steps=STEPS)
    assert isinstance(sampler, WholeCallSampler) and len(warned) == 1 and sampler.limitation in str(warned[0].message)
    with pytest.raises(ValueError, match=r"eta = 1\.0 has no effect"):
        sampler_for(make(), steps=STEPS, eta=1.0)


@pytest.mark.filterwarnings("error")
def test_what_can_be_driven_is_driven_in_silence():
    for pipe in (tiny("sd"), tiny("dit")):
        sampler = sampler_for(pipe, steps=STEPS)
        assert isinstance(sampler, PipelineSampler) and sampler.can_stop and not sampler.limitation


def test_the_callers_mistakes_are_no_reason_to_fall_back():
    with pytest.raises(TypeError, match="takes no argument wrong"):
        sampler_for(tiny("by-itself"), wrong=1)
    with pytest.raises(ValueError, match="cannot be passed"):
        sampler_for(tiny("by-itself"), generator=None)
