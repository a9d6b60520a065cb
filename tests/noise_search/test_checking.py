"""`check`, the table of tested pipelines, and what a search does with both."""

import json

import diffusers
import pytest
import torch
from typer.testing import CliRunner

import noise_search
from benchmarks.pipelines import PAGE, page, settings
from noise_search import checking, claims
from noise_search.cli.app import app
from samplers.base import Sampler
from tiny.pipelines import EULER, SD_BETAS, snapshot, stock_images, tiny
from tiny.table import ENTRIES

STEPS = 4
HOW = {"steps": STEPS, "candidates": 2, "progress": False, "judges": []}


def bright(images, prompts):
    return images.mean((1, 2, 3))


def holds(found):
    return {one.claim: one.holds for one in found.points}


class Mine(diffusers.StableDiffusionPipeline):
    """A class that no table knows."""


class Mixing(Mine):
    """Rows of a call have something in common."""

    def prepare_latents(self, batch_size, *args, **kwargs):
        self.many = batch_size > 1
        return super().prepare_latents(batch_size, *args, **kwargs)

    def prepare_extra_step_kwargs(self, generator, eta):
        step, many = self.scheduler.step, self.many
        vars(self.scheduler)["step"] = lambda m, t, x, **more: step(m + m.mean(0) * many, t, x, **more)
        return super().prepare_extra_step_kwargs(generator, eta)


def test_everything_holds_and_the_pipeline_is_left_as_it_was():
    pipe = tiny("sd")
    before = snapshot(pipe)
    found = noise_search.check(pipe, prompt="a cat", steps=STEPS, guidance=4.0)
    assert found.ok and found.level == "everything" and found.rows and not found.why
    assert all(holds(found).values()) and len(found.points) == 6 and found.nfe == 30
    assert snapshot(pipe) == before
    content = json.loads(json.dumps(found.to_json()))
    assert content["ok"] and content["works"] == "all algorithms" and len(content["points"]) == 6
    assert "all algorithms can be used" in str(found) and "<pre>" in found._repr_html_()


def test_a_claim_that_fails_is_named_with_what_still_works():
    found = noise_search.check(tiny("sd", cls=Mixing), prompt="a cat", steps=STEPS)
    assert not found.ok and holds(found)["a candidate alone is that in a batch"] is False
    assert found.works == "all algorithms, each candidate alone" and "NO" in str(found)


def test_whole_runs_and_seeds_are_levels_and_no_failures():
    lcm = noise_search.check(tiny("sd", diffusers.LCMScheduler(**SD_BETAS)), prompt="a cat", steps=STEPS)
    assert lcm.ok and lcm.level == "whole runs" and "LCMScheduler has no first-order rule" in lcm.why
    own = noise_search.check(tiny("by-itself"), steps=STEPS)
    assert own.ok and own.level == "seeds" and not own.rows and own.works == "random search, each candidate alone"
    assert holds(own)["denoiser rows are counted"] is True


def test_images_that_are_not_finite_fail():
    pipe = tiny("sd")
    broken = type(pipe.vae).from_config(pipe.vae.config)
    torch.nn.init.constant_(broken.decoder.conv_out.bias, float("nan"))
    pipe.vae = broken
    found = noise_search.check(pipe, prompt="a cat", steps=STEPS)
    assert not found.ok and holds(found)["images are finite"] is False


def test_what_is_no_pipeline_and_what_it_refuses():
    class Own(Sampler):
        space = condition = run = decode = describe = None

    with pytest.raises(TypeError, match="is no pipeline"):
        noise_search.check(Own())
    with pytest.raises(ValueError, match="divisible by 8"):
        noise_search.check(tiny("sd"), height=13, width=16)
    with pytest.raises(TypeError, match="takes no 'guidance_scale': did you mean 'guidance'"):
        noise_search.check(tiny("sd"), guidance_scale=3)


def test_the_command_prints_the_table_and_ends_with_one_where_a_claim_fails(tmp_path):
    tiny("sd").save_pretrained(tmp_path / "sd")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "sd"), "--prompt", "a cat"])
    assert done.exit_code == 0 and "a run is the plain pipeline's" in done.stdout, done.output
    pipe = tiny("sd")
    broken = type(pipe.vae).from_config(pipe.vae.config)
    torch.nn.init.constant_(broken.decoder.conv_out.bias, float("nan"))
    pipe.vae = broken
    pipe.save_pretrained(tmp_path / "broken")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "broken"), "--format", "json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["ok"] is False
    done = CliRunner().invoke(app, ["check", str(tmp_path / "nothing")])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1


def test_a_search_looks_once_at_a_class_that_no_table_knows(monkeypatch, tmp_path):
    monkeypatch.setenv("NOISE_SEARCH_CACHE", str(tmp_path))
    results = [noise_search.search("a cat", model=tiny("sd", cls=Mine), verifier=bright, **HOW) for _ in range(2)]
    assert [one.ledger.check_nfe for one in results] == [10, 0] and all(one.ledger.nfe == 2 * STEPS for one in results)
    assert [one.settings["sampler"]["check"]["before"] for one in results] == [False, True]
    assert results[0].settings["sampler"]["check"]["shown"]["plain"] == 0 and "checks 10" in str(results[0].ledger)
    other = noise_search.search("a cat", model=tiny("sd", cls=Mine), verifier=bright, guidance=3.0, **HOW)
    assert other.ledger.check_nfe == 10, "other options are another kind of call"
    skipped = noise_search.search("a cat", model=tiny("sd", cls=Mine), verifier=bright, eta=0.3, check=False, **HOW)
    assert skipped.ledger.check_nfe == 0 and skipped.settings["sampler"]["check"] == {}
    known = json.loads((tmp_path / "claims.json").read_text())
    for damaged in ("{half", json.dumps({key: {"plain": 0.0} for key in known})):
        (tmp_path / "claims.json").write_text(damaged)
        again = noise_search.search("a cat", model=tiny("sd", cls=Mine), verifier=bright, **HOW)
        assert again.ledger.check_nfe == 10, "what is damaged is shown again"


def test_a_search_does_less_with_what_does_not_hold():
    with pytest.warns(UserWarning, match="candidates of this Mixing differ in a batch"):
        result = noise_search.search("a cat", model=tiny("sd", cls=Mixing), verifier=bright, **HOW)
    expected = stock_images(tiny("sd"), ["a cat"] * 2, [0, 1], num_inference_steps=STEPS)
    assert [one.score for one in result.candidates] == pytest.approx(expected.mean((1, 2, 3)).tolist(), abs=1e-5)


def test_a_class_of_the_table_is_searched_without_looking():
    result = noise_search.search("a cat", model=tiny("sd"), verifier=bright, **HOW)
    assert result.ledger.check_nfe == 0
    assert result.settings["sampler"]["check"]["tested"] == "StableDiffusionPipeline"


def test_seeds_and_steps_of_a_picture_are_what_the_plain_pipeline_takes(tmp_path):
    """Also where the pipeline draws the sample of its image first, and a strength leaves out steps."""
    from PIL import Image

    pipe = tiny("sd-image", diffusers.DPMSolverMultistepScheduler(**EULER))
    options = {"image": Image.new("RGB", (16, 16), (200, 90, 40)), "strength": 0.6}
    result = noise_search.search("a cat", model=pipe, verifier=bright, model_options=options, **HOW | {"steps": 10})
    result.save(tmp_path)
    with Image.open(tmp_path / "best.png") as saved:
        words = saved.text["parameters"]
        pixels = torch.tensor(list(saved.convert("RGB").getdata())) / 255
    assert f"Seed: {result.best.seed}" in words and "Steps: 10," in words
    expected = stock_images(pipe, ["a cat"], [result.best.seed], num_inference_steps=10, **options)[0]
    assert (expected.movedim(0, -1).reshape(-1, 3) - pixels).abs().max() <= 0.51 / 255


def test_no_seed_is_claimed_of_pictures_that_the_pipeline_would_not_draw(tmp_path):
    from PIL import Image

    pipe = tiny("sd", diffusers.PNDMScheduler(skip_prk_steps=True, **EULER))
    with pytest.warns(UserWarning, match="PNDMScheduler is replaced"):
        result = noise_search.search("a cat", model=pipe, verifier=bright, scheduler="first-order", **HOW)
    result.save(tmp_path)
    with Image.open(tmp_path / "best.png") as saved:
        assert "Seed" not in saved.text["parameters"]
    own = noise_search.search("a cat", model=pipe, verifier=bright, **HOW)
    expected = stock_images(pipe, ["a cat"], [own.best.seed], num_inference_steps=STEPS)
    assert own.best.score == pytest.approx(float(expected.mean()), abs=1e-5)
    assert "PNDMScheduler as it is" in own.settings["sampler"]["note"]


def test_the_table_holds_the_rows_that_are_built_and_is_the_page():
    content = json.loads(claims.TABLE.read_text())
    assert len(claims.tested()) >= 60 and {one["level"] for one in content["rows"]} == set(checking.LEVELS)
    assert all(one.keys() == {"plain", "rows", "pieces"} for one in claims.tested().values())
    assert {one["row"] for one in content["rows"]} == set(ENTRIES)
    assert PAGE.read_text() == page(content)


FAST = [
    "StableDiffusionInpaintPipeline",
    "FluxFillPipeline",
    "FluxKontextPipeline",
    "AuraFlowPipeline",
    "LTXPipeline",
    "HunyuanImagePipeline",
]


@pytest.mark.parametrize("name", FAST)
def test_rows_of_the_table_are_what_a_run_finds(name):
    rows = {one["row"]: one for one in json.loads(claims.TABLE.read_text())["rows"]}
    entry = ENTRIES[name]
    found = noise_search.check(entry.make(), prompt=entry.prompt, steps=entry.steps, **settings(entry.options))
    assert (found.level, found.rows, found.why) == (rows[name]["level"], rows[name]["rows"], rows[name]["why"])
