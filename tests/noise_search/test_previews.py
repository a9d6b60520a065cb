"""Small decoders of looks: which one is meant, what they show, what that costs, and how far they are trusted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from scipy.stats import spearmanr

import noise_search
from noise_search import previews
from noise_search.algorithms.halving import Halving
from noise_search.engine.manifest import AnotherSearch
from noise_search.engine.scoring import Scorer
from noise_search.engine.setup import set_up
from noise_search.engine.worker import Batch, LocalWorker, Rows
from noise_search.engine.workers import asked
from noise_search.engine.workers.station import Station
from noise_search.engine.workers.wire import decode, encode
from noise_search.models import load_model
from noise_search.previews import Agreement, resolve_preview
from noise_search.resolve import resolve_aggregator
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS, TINY, WEIGHTS
from noise_search.shapes.train.tiny import model as tiny_decoder
from tiny.command import run_many
from tiny.search import CountingSampler, brightness, scores, told, toy_search

RACE = Halving(rungs=(0.25, 0.5), finish=2)
SEARCH = {"algorithm": RACE, "candidates": 8}
PROMPT = "a red circle to the left of a blue square"


def half_size(latents):
    """Half of the pixels, as they are: other scores than the sampler's own decoder gives."""
    return (latents[..., ::2, ::2] / 2 + 0.5).clamp(0, 1)


def as_own(latents):
    return (latents / 2 + 0.5).clamp(0, 1)


def stand_in(vae):
    sampler = SimpleNamespace(pipe=SimpleNamespace(vae=vae))
    return SimpleNamespace(name="a model", sampler=sampler, card=SimpleNamespace(preview=None, directory=None))


@pytest.mark.parametrize(
    ("channels", "scaling", "shift", "found"),
    [
        (4, 0.18215, None, "madebyollin/taesd"),
        (4, 0.13025, None, "madebyollin/taesdxl"),
        (16, 1.5305, 0.0609, "madebyollin/taesd3"),
        (16, 0.3611, 0.1159, "madebyollin/taef1"),
        (4, 0.5, None, None),  # Playground's scale
        (32, 0.41407, None, None),
    ],
)
def test_the_latent_space_tells_which_one_fits(channels, scaling, shift, found):
    blocks = {"block_out_channels": (8,), "norm_num_groups": 4}
    vae = AutoencoderKL(latent_channels=channels, scaling_factor=scaling, shift_factor=shift, **blocks)
    if found is not None:
        assert previews._place("taesd", stand_in(vae)) == found
        return
    with pytest.raises(ValueError, match=r"no small decoder is known .* of a model \(AutoencoderKL\).*taesdxl"):
        previews._place("taesd", stand_in(vae))


def test_models_without_an_autoencoder_have_none():
    with pytest.raises(ValueError, match=r"no small decoder is known for the latents of CountingSampler"):
        toy_search(preview="taesd", **SEARCH)


@pytest.mark.parametrize("given", [3, "", AutoencoderTiny, ["taesd"]])
def test_what_cant_decode_is_refused_before_a_model_is_loaded(given):
    with pytest.raises(TypeError, match=r"preview=.* can't decode; expected 'taesd'"):
        noise_search.search("a circle", model="no/such", preview=given)


@pytest.mark.parametrize("given", ["no-such-place", "./none/here"])
def test_a_place_that_isnt_there(given):
    with pytest.raises(ValueError, match="no such directory"):
        toy_search(preview=given, **SEARCH)


def test_one_of_other_latents_is_refused():
    with pytest.raises(ValueError, match=r"decodes latents \[5, height, width\], and those of .* are \[3, 4, 4\]"):
        toy_search(preview=AutoencoderTiny(latent_channels=5), **SEARCH)


@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x[:, 0], lambda x: x.numpy()])
def test_a_function_that_gives_no_images_ends_the_search(wrong):
    with pytest.raises(ValueError, match=r"gave .* for latents \(\d+, 3, 4, 4\); expected images"):
        toy_search(preview=wrong, **SEARCH)


def test_one_that_shows_the_same_changes_nothing_but_the_cost():
    plain, seen = toy_search(**SEARCH), toy_search(preview=as_own, **SEARCH)
    assert scores(seen) == scores(plain)
    assert seen.ledger.nfe == plain.ledger.nfe
    assert seen.ledger.decodes == plain.ledger.decodes + previews.COMPARED
    assert seen.ledger.verifier_images == plain.ledger.verifier_images + previews.COMPARED
    record = seen.settings["preview"]
    assert (record["name"], record["compared"], [*record["rank_correlation"].values()]) == ("as_own", 8, [1.0])


def test_looks_are_by_it_and_finished_images_by_the_models_own():
    sampler = CountingSampler()
    found = toy_search(sampler, preview=half_size, **SEARCH)
    begun = sampler.run(sampler.space().fresh(range(8), 0), 2).final  # the first rung of the first rows
    by_id = {one.id: one for one in found.candidates}
    small, full = (brightness(decode(begun.x0), [""] * 8).tolist() for decode in (half_size, as_own))
    assert [by_id[at].score for at in range(8)] == pytest.approx(small, abs=1e-6)
    [told_correlation] = found.settings["preview"]["rank_correlation"].values()
    assert told_correlation == pytest.approx(spearmanr(small, full).statistic, abs=1e-3)
    assert found.image.size == (4, 4)
    finished = [one for one in found.candidates if one.finished]
    assert len(finished) >= 2
    assert found.score == pytest.approx(float(brightness(as_images(found), [""])[0]), abs=0.01)


def as_images(result):
    return torch.from_numpy(np.asarray(result.image).copy()).movedim(-1, 0)[None] / 255


@pytest.mark.parametrize("size", [1, 3, 16])
def test_nothing_depends_on_batches(size):
    one, other = (toy_search(preview=half_size, batch_size=at, **SEARCH) for at in (5, size))
    assert told(one) == told(other)


def test_a_run_goes_on_with_it_and_no_other(tmp_path):
    straight = toy_search(preview=half_size, **SEARCH)
    toy_search(preview=half_size, run=tmp_path, patience=1, **SEARCH)
    again = toy_search(preview=half_size, run=tmp_path, **SEARCH)
    assert scores(again) == scores(straight)
    assert again.settings["preview"] == straight.settings["preview"]
    assert noise_search.load(tmp_path).settings["preview"] == straight.settings["preview"]
    for other in (None, as_own):
        with pytest.raises(AnotherSearch, match="preview is"):
            toy_search(preview=other, run=tmp_path, **SEARCH)


def test_where_nothing_is_looked_at_it_has_no_effect(caplog):
    found = toy_search(preview=half_size, candidates=4)
    assert "preview has no effect: random search" in caplog.text
    assert "preview" not in found.settings


def test_ranks_that_it_doesnt_keep_are_said(caplog):
    toy_search(preview=lambda latents: 1 - as_own(latents), **SEARCH)
    assert "ranks x0 predictions otherwise than the full decoder (rank correlation -1.00 by brightness" in caplog.text


def test_few_or_failed_scores_tell_no_correlation():
    seen = Agreement()
    for at in range(3):
        seen.add({"a": at}, {"a": at})
    seen.add({"a": np.nan}, {"a": 1.0})
    assert seen.correlations == {}
    assert "weren't compared" in previews.agreement_in_words({"name": "x", **seen.record()})


def test_a_worker_is_told_a_name_and_no_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taesd").mkdir()
    assert previews.told_to_workers("taesd") == "taesd", "which means the published one to the search, too"
    assert previews.told_to_workers(tmp_path) == str(tmp_path)
    with pytest.raises(ValueError, match="can't be told to them"):
        previews.told_to_workers(half_size)


def test_prices_follow_it():
    loaded = load_model("shapes-flow", first_prompt=PROMPT)
    with loaded.sampler as sampler:
        preview = resolve_preview(tiny_decoder(), loaded, sampler.space())
        by = resolve_aggregator(brightness, loaded)
        plain, small = (
            set_up(RACE, loaded, by, (), None, 8, None, None, preview=one).terms.model.look_price
            for one in (None, preview)
        )
    assert plain == sampler.look_price
    assert small == preview.price < plain / 4  # FLOPs of both, on meta tensors


def test_what_was_scored_on_the_way_is_made_again_as_it_was_seen(tmp_path):
    tiny_decoder().save_pretrained(tmp_path / "decoder")
    race = {"algorithm": Halving(rungs=(0.2,), finish=1), "candidates": 3, "steps": 5, "progress": False}
    found = noise_search.search(PROMPT, preview=tmp_path / "decoder", **race)
    unfinished = next(one for one in found.candidates if not one.finished)
    again = noise_search.replay(found, candidate=unfinished.id, verifier="clip", progress=False)
    assert [*again.scores.values()] == pytest.approx([unfinished.score], abs=1e-3)
    assert not again.notes
    (tmp_path / "decoder").rename(tmp_path / "gone")
    [note] = noise_search.replay(found, candidate=unfinished.id, progress=False).notes
    assert "is shown by the model's own" in note


def test_a_worker_looks_by_the_same_one(tmp_path):
    tiny_decoder().save_pretrained(tmp_path)
    loaded = load_model("shapes-flow", first_prompt=PROMPT)
    by = resolve_aggregator("clip", loaded)
    hand = {"model": "shapes-flow", "settings": ModelSettings(), "verifier": "clip", "ensemble": "mean-z"}
    hand |= {"first_prompt": PROMPT, "timeout": None, "preview": tmp_path}
    told_to_it = asked.told(asked.LocalWorkers(1), loaded, by, **hand)
    assert told_to_it is not None
    with loaded.sampler as sampler:
        grid = sampler.space()
        sampler.condition(PROMPT)
        batch = Batch(Rows.of(grid.fresh([0, 1])), (PROMPT, PROMPT), 1, unfinished=True, compared=(0,))
        preview = resolve_preview(tmp_path, loaded, grid)
        here = LocalWorker(sampler, Scorer(by.verifiers), preview=preview).run(batch)
        grids = {grid.id: {"steps": None, "levels": []}}
    answer = Station(told_to_it.message, "cpu").answer(encode({"search": 0, "grids": grids, "batch": batch}))
    there = decode(answer, batch.rows.recipes)
    for key, values in here.scores.items():
        np.testing.assert_allclose(there.scores[key], values, atol=1e-6)
        np.testing.assert_allclose(there.compared[key], here.compared[key], atol=1e-6)
        assert abs(values[0] - here.compared[key][0]) > 1e-3  # two decoders, and the small one is untrained


def test_a_comparison_is_made_with_it():
    made = noise_search.compare(
        ["a prompt"], model=CountingSampler(), algorithms={"race": RACE}, candidates=(8,), verifier=brightness,
        seeds=[0], preview=half_size, diagnosed=0, progress=False,
    )  # fmt: skip
    assert made.settings["preview"]["name"] == "half_size"
    alone = toy_search(preview=half_size, prompt="a prompt", **SEARCH)
    [record] = [one for one in made.records if one.algorithm == "race"]
    assert record.nfe == alone.ledger.nfe


def test_commands_take_it(tmp_path):
    commands = [["generate", "a red circle"], ["compare", "--prompts", "a red circle"]]
    for code, _, said in run_many([[*one, "--preview", "./none/here"] for one in commands], tmp_path):
        assert code == 2
        assert "preview='./none/here': no such directory" in said


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_the_embedded_one_decodes_as_the_autoencoder_does(name):
    loaded = load_model(name)
    with loaded.sampler as sampler:
        condition, grid = sampler.condition(PROMPT), sampler.space()
        preview = resolve_preview("taesd", loaded, grid)
        states = sampler.run(grid.fresh(range(4), condition), 10).final
        small, full = preview(states.x0), sampler.decode(states)
        assert small.shape == full.shape == (4, 3, 64, 64)
        assert float((small - full).abs().mean()) < 0.02
        # FLOPs of both on meta tensors, over those of one guided evaluation.
        assert preview.price < sampler.look_price / 4


def test_the_embedded_weights_are_small():
    files = [*(WEIGHTS / TINY).iterdir()]
    assert sum(file.stat().st_size for file in files) < 300_000
