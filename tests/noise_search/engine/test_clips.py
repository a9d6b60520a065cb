"""Clips: a tiny Wan searched from end to end, and how clips are scored."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from noise_search import load
from noise_search.disk.run import RunFiles
from noise_search.engine.scoring import Scorer
from samplers import PipelineSampler
from tiny.pipelines import tiny
from tiny.search import CountingSampler, brightness, fits, scores, toy_search
from verifiers import FunctionVerifier, Verifier

OPTIONS = {"max_sequence_length": 12, "num_frames": 5}
CALL = {"height": 16, "width": 16, "steps": 2, "guidance": 3.0, "batch_size": 2}


class Motion(Verifier):
    """Mean change from frame to frame; remembers what it was given."""

    name, version, needs = "motion", "1", frozenset({"frames"})

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def score(self, images, prompts, *, frames):
        self.seen.append((images, frames))
        return frames.diff(dim=1).abs().mean((1, 2, 3, 4))


def found(verifier, frames=5, **options):
    wan = {"model_options": {**OPTIONS, "num_frames": frames}, **CALL}
    return toy_search(tiny("wan"), "a cat", verifier=verifier, **wan, **options)


def clips_of(seeds):
    sampler = PipelineSampler(tiny("wan"), steps=2, guidance=3.0, height=16, width=16, **OPTIONS)
    noise = sampler.space().fresh(seeds, sampler.condition("a cat"))
    return sampler.decode(sampler.run(noise, 2).final)


def test_a_verifier_of_images_scores_the_frames_and_their_mean_counts(tmp_path):
    result = found(brightness, candidates=4, seed=3)
    clips = clips_of([3, 4, 5, 6])
    assert clips.shape == (4, 5, 3, 16, 16)
    expected = clips.mean((1, 2, 3, 4)).tolist()
    assert scores(result) == pytest.approx(expected, abs=1e-5)
    assert result.best.seed == 3 + int(np.argmax(expected)) and result.ledger.nfe == 8
    assert result.ledger.denoiser_rows == 2 * 8 and result.ledger.verifier_images == 4 * 5

    frames = [np.asarray(frame, dtype=float) for frame in result.frames]
    assert np.abs(np.stack(frames) / 255 - clips[result.best.id].movedim(1, -1).numpy()).max() < 3e-3
    assert np.array_equal(np.asarray(result.image), frames[2])
    paths = result.save(tmp_path)
    with Image.open(paths["clip"]) as gif, Image.open(paths["best"]) as png:
        assert paths["clip"].name == "best.gif" and gif.n_frames == 5 and gif.size == (16, 16)
        assert np.array_equal(np.asarray(png), frames[2]) and "seed" in png.text["noise_search"]
    assert json.loads(paths["result"].read_text())["best"]["clip"] == "best.gif"


def test_a_verifier_of_frames_gets_the_clip_and_its_middle_frame():
    motion, judge = Motion(), Motion()
    judge.name = "judge"
    result = found(motion, candidates=3, judges=[judge, brightness])
    given = torch.cat([frames for _, frames in motion.seen])
    clips = clips_of([0, 1, 2])
    torch.testing.assert_close(given, clips, atol=1e-5, rtol=0)
    assert all(torch.equal(images, frames[:, 2]) for images, frames in motion.seen)
    assert scores(result) == pytest.approx(clips.diff(dim=1).abs().mean((1, 2, 3, 4)).tolist())
    assert result.best.judges[judge.key] == pytest.approx(result.score, abs=3e-3), "judged in 8 bits"
    assert result.ledger.judge_images == 3 * (5 + 5) and len(judge.seen[0][1]) == 3


def test_a_verifier_of_frames_is_refused_for_a_model_of_images_before_anything_is_spent():
    sampler, motion = CountingSampler(), Motion()
    for options in ({"verifier": motion}, {"judges": [motion]}):
        with pytest.raises(ValueError, match="'motion' needs frames, and CountingSampler makes single images"):
            toy_search(sampler, candidates=2, **options)
    with pytest.raises(ValueError, match="needs frames"):
        found(motion, frames=1)
    assert sampler.rows == 0 and not motion.seen
    result = found(brightness, frames=1, candidates=1)
    assert result.image.size == (16, 16) and result.frames is None


def ramp(frames: int) -> torch.Tensor:
    """One clip whose frames get brighter from 0 to 1."""
    return torch.linspace(0, 1, frames).view(1, frames, 1, 1, 1).expand(1, frames, 3, 2, 2)


def test_at_most_eight_frames_are_scored_and_the_worst_counts_for_a_constraint():
    seen = []

    def look(images, prompts):
        seen.append((images[:, 0, 0, 0], prompts))
        return images.mean((1, 2, 3))

    floor = FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)) - 0.5, name="floor", kind="constraint")
    values, failures = Scorer([FunctionVerifier(look), floor]).score(ramp(81), ["a"])
    torch.testing.assert_close(seen[0][0], torch.linspace(0, 80, 8).round() / 80)
    assert seen[0][1] == ["a"] * 8 and failures == [None]
    assert [float(v[0]) for v in values.values()] == pytest.approx([0.5, -0.5], abs=1e-3)


def test_a_failure_on_one_frame_costs_that_clip_and_memory_is_shared_out():
    def fussy(images, prompts):
        if (images > 1.5 / 2).any():
            raise ValueError("too bright")
        return images.mean((1, 2, 3))

    clips = torch.cat([ramp(5) * 0.5, ramp(5)])
    found, failures = Scorer([FunctionVerifier(fits(3, fussy), "fussy")]).score(clips, ["a", "b"])
    (values,) = found.values()
    assert values[0] == pytest.approx(0.25) and np.isnan(values[1])
    assert failures[0] is None and "too bright" in failures[1]


@pytest.mark.parametrize("harm", ["cut", "removed"])
def test_a_clip_whose_frames_are_lost_is_made_again_and_never_a_still(harm, tmp_path):
    first = found(brightness, candidates=2, run=tmp_path)
    frames = tmp_path / "images" / f"{RunFiles(tmp_path).lines()[first.best.id]['key']}.safetensors"
    whole = frames.read_bytes()
    frames.write_bytes(whole[:100]) if harm == "cut" else frames.unlink()
    assert load(tmp_path).best.pixels is None
    again = found(brightness, candidates=2, run=tmp_path)
    assert np.array_equal(again.best.raw, first.best.raw) and again.ledger.nfe_waste == 2
    assert np.array_equal(load(tmp_path).best.raw, first.best.raw) and frames.read_bytes() == whole


def test_a_clip_of_a_line_that_says_nothing_of_it_is_read(tmp_path):
    first = found(brightness, candidates=1, run=tmp_path)
    journal = RunFiles(tmp_path).journal
    lines = [{name: one for name, one in line.items() if name != "clip"} for line in RunFiles(tmp_path).lines()]
    journal.file.unlink()
    journal.append(lines)
    assert np.array_equal(load(tmp_path).best.raw, first.best.raw)
