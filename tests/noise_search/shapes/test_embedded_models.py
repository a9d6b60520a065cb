"""The embedded pipelines and verifiers, through exactly the code that serves the large ones."""

import gc

import numpy as np
import open_clip
import pytest
import torch
from diffusers import DiffusionPipeline

from noise_search import search
from noise_search.models import read_card
from noise_search.shapes import EMBEDDED_MODELS, WEIGHTS
from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.pipelines import call_arguments
from tiny.command import PROMPT
from tiny.search import brightness, scores
from verifiers import CLIPScore

MODELS = sorted(EMBEDDED_MODELS)
STEPS = 6


@pytest.fixture(scope="module", params=MODELS)
def named(request):
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS[request.param])
    pipe.set_progress_bar_config(disable=True)
    yield request.param, pipe
    gc.collect()


def plain(name, pipe, seeds, prompt=PROMPT, output="np", **changes):
    """The loop that users write today: one generator per image, one batch."""
    arguments = call_arguments(name) | {"num_inference_steps": STEPS} | changes
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(prompt, num_images_per_prompt=len(seeds), generator=generators, output_type=output, **arguments).images


def run(pipe, **options):
    return search(PROMPT, model=pipe, **{"algorithm": "random", "steps": STEPS, "progress": False, **options})


def denoiser(pipe):
    return getattr(pipe, "unet", None) or pipe.transformer


def test_the_same_noise_gives_the_same_image_as_the_stock_pipeline(named):
    name, pipe = named
    result = run(pipe, candidates=3, top_k=3, seed=5)
    stock = plain(name, pipe, [5, 6, 7])
    for candidate, image in zip(result.candidates, stock, strict=True):
        assert np.abs(candidate.pixels / 255 - image).max() <= 0.5 / 255 + 1e-4


def test_best_of_n_picks_the_winner_of_the_plain_loop(named):
    name, pipe = named
    folder = f"local-dir:{WEIGHTS / 'clip'}"
    model, preprocess = open_clip.create_model_from_pretrained(folder)
    words = open_clip.get_tokenizer(folder)
    model.eval()
    images = plain(name, pipe, range(8), output="pil")
    with torch.no_grad():
        text = model.encode_text(words([PROMPT]), normalize=True)
        image = model.encode_image(torch.stack([preprocess(i) for i in images]), normalize=True)
    cosine = (image @ text.T)[:, 0]
    result = run(pipe, candidates=8)
    assert result.best.seed == int(cosine.argmax())
    expected = (2.5 * cosine.clamp(min=0)).tolist()
    assert [c.score for c in result.candidates] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("stop", [None, RuntimeError("verifier broke"), KeyboardInterrupt()], ids=repr)
def test_the_users_pipeline_is_untouched(named, stop):
    name, pipe = named

    def verifier(images, prompts):
        if stop is not None:
            raise stop
        return images.mean((1, 2, 3))

    before = plain(name, pipe, [0])  # a first plain call leaves attributes of its own
    attributes = dict(vars(pipe))
    scheduler = {k: v for k, v in vars(pipe.scheduler).items() if not torch.is_tensor(v)}
    bar = dict(pipe._progress_bar_config)
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in denoiser(pipe).modules()]
    random_state = torch.get_rng_state()
    try:
        run(pipe, verifier=verifier, candidates=4)
    except (RuntimeError, KeyboardInterrupt) as error:
        assert error is stop
    assert {k: id(v) for k, v in vars(pipe).items()}.keys() == attributes.keys()
    assert all(vars(pipe)[k] is v for k, v in attributes.items() if not k.startswith("_"))
    assert {k: v for k, v in vars(pipe.scheduler).items() if not torch.is_tensor(v)}.keys() == scheduler.keys()
    assert pipe._progress_bar_config == bar
    assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in denoiser(pipe).modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random_state)
    assert np.array_equal(plain(name, pipe, [0]), before)


def test_denoiser_rows_are_counted_exactly_and_text_is_encoded_once(named):
    _, pipe = named
    seen = {"rows": 0, "texts": 0}

    def count(module, args, kwargs):
        sample = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        seen["rows"] += len(sample)

    def encode(module, args, kwargs):
        seen["texts"] += 1

    handles = [
        denoiser(pipe).register_forward_pre_hook(count, with_kwargs=True),
        pipe.text_encoder.register_forward_pre_hook(encode, with_kwargs=True),
    ]
    try:
        results = search(
            [PROMPT, "a green star"],
            model=pipe,
            nfe=5 * STEPS + 3,
            steps=STEPS,
            batch_size=3,
            progress=False,
            algorithm="random",
        )
    finally:
        for handle in handles:
            handle.remove()
    assert [r.ledger.nfe for r in results] == [5 * STEPS] * 2
    assert sum(r.ledger.denoiser_rows for r in results) == seen["rows"] == 2 * 2 * 5 * STEPS
    assert seen["texts"] <= 4, "two prompts and, at most once for each, the empty negative prompt"


def test_a_candidate_does_not_depend_on_its_batch(named):
    _, pipe = named
    one, many = (run(pipe, candidates=5, batch_size=size) for size in (1, 5))
    assert scores(one) == pytest.approx(scores(many), abs=1e-4)
    assert one.best.id == many.best.id


def test_settings_pass_through(named):
    name, pipe = named
    argument = read_card(EMBEDDED_MODELS[name]).defaults["guidance_argument"]
    same = {"negative_prompt": "a green star", "height": 32, "width": 48}
    result = run(pipe, candidates=1, steps=4, guidance=2.0, verifier=brightness, **same)
    stock = plain(name, pipe, [0], num_inference_steps=4, **{argument: 2.0}, **same)[0]
    assert result.best.pixels.shape == (32, 48, 3)
    assert np.abs(result.best.pixels / 255 - stock).max() <= 0.5 / 255 + 1e-4


def test_short_names_mean_what_the_model_declares():
    result = search(PROMPT, candidates=1, steps=2, verifier=["clip", "aesthetic"], judges=["oracle"], progress=False)
    assert str(WEIGHTS) not in str(result.to_json()), "recorded names carry no path of this machine"
    keys = [key.split("@")[0] for key in (*result.best.scores, *result.judges)]
    assert keys == ["clip", "aesthetic", "oracle"]
    assert all(np.isfinite(v) for v in result.best.scores.values())


def test_the_embedded_clip_tells_right_from_wrong():
    scenes = sample_scenes(200, 999)
    texts = captions(scenes, 999)
    images = render(scenes)
    clip = CLIPScore(str(WEIGHTS / "clip"))
    right, wrong = clip(images, texts), clip(images, [near_miss(t, i) for i, t in enumerate(texts)])
    assert float((right > wrong).float().mean()) > 0.9


def test_what_a_verifier_cuts_off_a_prompt_is_recorded():
    long = " and ".join(["a red circle"] * 8)
    with pytest.warns(UserWarning, match=r"clip reads \d+"):
        result = search(long, candidates=1, steps=2, progress=False)
    (cut,) = result.settings["unread_prompts"].values()
    assert set(cut) == {"clip"} and long.endswith(cut["clip"])
    assert "unread_prompts" not in search("a red circle", candidates=1, steps=2, progress=False).settings


def test_a_search_says_what_its_judge_cannot_read():
    with pytest.warns(UserWarning, match="oracle can't read 'a cat'"):
        result = search("a cat", candidates=1, steps=2, judges=["oracle"], progress=False)
    assert np.isnan(result.judges["oracle@2"]["best"])
    assert result.settings["unread_prompts"] == {"a cat": {"oracle": "a cat"}}
