"""Replays where the model is no plain text-to-image pipeline: clips, image to image, whole runs, seeds of calls."""

import copy
import warnings
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from noise_search import ZeroOrderSearch, replay, search
from tiny.pipelines import SD_BETAS, tiny
from tiny.search import brightness

SIZES = {"verifier": brightness, "steps": 3, "candidates": 3, "batch_size": 3, "progress": False}


def lcm():
    return tiny("sd", diffusers.LCMScheduler(**SD_BETAS))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "prompt", "algorithm"),
    [
        (lcm, "a cat", ZeroOrderSearch(neighbours=2)),
        (partial(tiny, "by-itself"), "", "random"),
        (partial(tiny, "dit"), "golden retriever", "random"),
        (lambda: tiny("sd", diffusers.EulerAncestralDiscreteScheduler(**SD_BETAS)), "a cat", "random"),
    ],
    ids=["runs whole", "seeds only", "class labels", "replaced scheduler"],
)
def test_what_is_searched_in_part_is_replayed_as_it_was(make, prompt, algorithm, tmp_path):
    result = search(prompt or "a cat", model=make(), algorithm=algorithm, **SIZES)
    with warnings.catch_warnings():
        file = result.save(tmp_path)["result"]
        for candidate in result.candidates:
            again = replay(file, candidate=candidate.id, model=make(), progress=False)
            assert np.abs(again.pixels.astype(int) - candidate.pixels).max() <= 1
            assert (again.nfe, again.noise, again.notes) == (3, "bit for bit", ())
    with pytest.raises(ValueError, match="pass the pipeline"):
        replay(file, progress=False)


def test_a_clip_is_replayed_whole_and_saved_as_it_moves(tmp_path):
    sizes = SIZES | {"candidates": 2, "steps": 2}
    options = {"max_sequence_length": 12, "num_frames": 5}
    result = search("a cat", model=tiny("wan"), model_options=options, height=16, width=16, guidance=3.0, **sizes)
    paths = result.save(tmp_path)
    kept = replay(result, model=tiny("wan"), progress=False)
    assert kept.clip.shape == (5, 16, 16, 3) and len(kept.frames) == 5 and kept.difference <= 1.001 / 255
    assert np.abs(kept.clip.astype(int) - result.best.clip).max() <= 1 and kept.tensor.shape == (5, 3, 16, 16)
    shown = replay(paths["best"], model=tiny("wan"), verifier=brightness, progress=False)
    assert shown.difference <= 1.001 / 255 and list(shown.scores.values()) == pytest.approx([result.score], abs=1e-4)
    with Image.open(shown.save(tmp_path / "again.gif")) as gif:
        assert gif.n_frames == 5


def test_the_image_of_image_to_image_is_asked_for_again_and_no_other_will_do(tmp_path):
    start = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    options = {"image": start, "strength": 1.0}
    result = search("a cat", model=tiny("sd-image"), model_options=options, **SIZES)
    file = result.save(tmp_path)["best"]
    again = replay(file, model=tiny("sd-image"), model_options={"image": start.copy()}, progress=False)
    assert again.difference <= 1.001 / 255
    assert "Denoising strength: 1" in Image.open(file).text["parameters"]
    with pytest.raises(ValueError, match=r"option 'image' \(Image of shape \(16, 16, 3\).*pass it again"):
        replay(file, model=tiny("sd-image"), progress=False)
    rotated = {"image": start.rotate(90)}
    with pytest.raises(ValueError, match=r"'image' is not what .*best.png' was made with"):
        replay(file, model=tiny("sd-image"), model_options=rotated, progress=False)


def test_an_option_that_is_a_tuple_stays_one(tmp_path):
    pipe = partial(tiny, "sdxl")
    options = {"original_size": (64, 64), "crops_coords_top_left": (0, 8)}
    file = search("a cat", model=pipe(), model_options=options, **SIZES).save(tmp_path)["best"]
    assert replay(file, model=pipe(), progress=False).difference <= 1.001 / 255


def test_half_precision_is_replayed_in_half_precision(tmp_path):
    pipe = copy.deepcopy(tiny("sd")).to(torch.bfloat16)  # the tiny modules are every test's
    result = search("a cat", model=pipe, **SIZES | {"batch_size": 1})
    again = replay(result.save(tmp_path)["best"], model=pipe, progress=False)
    assert again.difference <= 1.001 / 255 and again.notes == ()
