"""Every candidate of every algorithm, made again alone: the noise to the bit, the picture to 1e-4."""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noise_search import BFS, RandomSearch, Replay, SearchOverPaths, ZeroOrderSearch, replay, search
from noise_search.algorithms.base import Job
from noise_search.replays.reading import read
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import in_words
from samplers import DenoiserSampler, PipelineSampler, Recipe
from tiny.command import PROMPT
from tiny.search import STUBS, CountingSampler, CrossingSearch, brightness, contrast, toy_search

MODELS = sorted(EMBEDDED_MODELS)


@dataclass(frozen=True)
class Chains:
    """A stub: chains of depth 5 of both moves, one noise after another."""

    name = "stub-chains"
    whole_calls = True

    def plan(self, problem):
        states, end = problem.fresh(2), problem.space.end
        yield Job(states, end)
        for depth in range(5):
            seeds = problem.seeds(2)
            if depth % 2:
                states = problem.space.pcn(states, seeds, beta=0.3)
            else:
                states = problem.space.neighbour(states, seeds, cosine=0.9)
            yield Job(states, end)


@pytest.fixture
def had(monkeypatch):
    """What searches had: by recipe key, the row as decoded, and the noises at step 0 by their recipe."""
    rows, noises = {}, {}

    def remember(kind):
        run, decode = kind.run, kind.decode

        def watched(self, states, stop, **options):
            if states.step == 0:
                noises.update((r.key, x.clone()) for r, x in zip(states.recipes, states.x, strict=True))
            return run(self, states, stop, **options)

        def seen(self, states):
            images = decode(self, states)
            rows.update((r.key, image.clone()) for r, image in zip(states.recipes, images, strict=True))
            return images

        monkeypatch.setattr(kind, "run", watched)
        monkeypatch.setattr(kind, "decode", seen)

    remember(DenoiserSampler)
    remember(PipelineSampler)
    return rows, noises


def noise_key(recipe):
    """Of the recipe up to its first run."""
    first = next((i for i, op in enumerate(recipe.operations) if op["op"] == "run"), None)
    return Recipe(recipe.operations[:first]).key


def sha256(noise):
    return hashlib.sha256(noise.numpy().tobytes()).hexdigest()


def check_all(result, had, model):
    """Replay every candidate; the largest difference between its picture and what the search had."""
    rows, noises = (dict(kept) for kept in had)
    apart = 0.0
    assert result.candidates
    for candidate in result.candidates:
        again = replay(result, candidate=candidate.id, model=model, progress=False)
        assert (again.noise, again.environment, again.notes) == ("bit for bit", (), ())
        assert again.noise_sha256 == sha256(noises[noise_key(candidate.recipe)])
        assert again.recipe == candidate.recipe and again.candidate == candidate.id
        apart = max(apart, float((again.tensor - rows[candidate.recipe.key]).abs().max()))
        if candidate.pixels is not None:
            assert again.difference <= 1.001 / 255
    return apart


PATHS = SearchOverPaths(paths=2, branches=2)
ALGORITHMS = [RandomSearch(), BFS(), ZeroOrderSearch(neighbours=2, patience=1, chains=2), PATHS, Chains(), *STUBS]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: repr(a)[:40])
def test_every_candidate_of_every_algorithm_on_a_closed_form(algorithm, had):
    sampler = CountingSampler()
    result = toy_search(sampler, algorithm=algorithm, nfe=150, batch_size=5)
    assert check_all(result, had, CountingSampler()) <= 1e-5
    before, chosen = sampler.rows, result.candidates[-1]
    again = replay(result, candidate=chosen.id, model=sampler, progress=False)
    assert again.nfe == sampler.rows - before > 0
    unfinished = any(not c.finished for c in result.candidates)
    assert unfinished or algorithm not in (PATHS, STUBS[0], STUBS[1])


def test_noises_of_several_parents_are_saved_and_made_again_bit_for_bit(had, tmp_path):
    result = toy_search(CountingSampler(2), algorithm=CrossingSearch(), candidates=40, top_k=2)
    result.save(tmp_path)
    rows, noises = (dict(kept) for kept in had)
    deepest = result.candidates[-1]
    made = {op["op"]: c for c in result.candidates for op in c.recipe.noise.operations[-1:]}
    assert made.keys() == {"fresh", "mean", "crossover"} and len(deepest.recipe) > 20
    for candidate in (*made.values(), result.best, deepest):
        again = replay(tmp_path, candidate=candidate.id, model=CountingSampler(2), progress=False)
        assert again.recipe == candidate.recipe and again.noise == "bit for bit" and not again.copies
        assert again.noise_sha256 == sha256(noises[candidate.recipe.noise.key])
        assert torch.equal(again.tensor, rows[candidate.recipe.key])
    picture = replay(again.save(tmp_path / "again.png"), model=CountingSampler(2), progress=False)
    assert picture.recipe == deepest.recipe and picture.difference == 0 and " 2 noises (from seeds " in str(picture)


def test_recipes_of_several_parents_in_words():
    one, other, third = (Recipe.start("fresh", seed=seed) for seed in (3, 4, 5))
    mean = Recipe.join([one, other], "mean", weights=(1.0, 1.0))
    told = in_words(mean.then("neighbour", seed=1, cosine=0.9).then_run(0, 8, "g", 1.0))
    assert told == "the mean of 2 noises (seeds 3, 4), then a neighbour at cosine 0.9 (seed 1), then steps 0 to 8"
    crossed = Recipe.join([mean.then("pcn", seed=2, beta=0.1), third], "crossover", seed=7, by="band", share=0.25)
    words = "a crossover of 2 noises (from seeds 3, 4, 5 by 2 moves) by band, share 0.25 (seed 7)"
    assert in_words(crossed) == words
    uneven = Recipe.join([one, other, third], "mean", weights=(2.0, 1.0, 1.0))
    assert in_words(uneven) == "the mean of 3 noises (seeds 3, 4, 5), weights 2, 1, 1"


def test_the_published_paths_are_replayed_on_their_own_grid(had):
    algorithm = SearchOverPaths(literal=True, branches=2)
    result = toy_search(algorithm=algorithm, verifier=contrast, nfe=180)
    assert check_all(result, had, CountingSampler()) <= 1e-5
    (grid,) = result.settings["grids"].values()
    assert grid["levels"] == list(algorithm.levels) and len(result.candidates) > 8


def test_drafts_and_their_renders_are_replayed_each_on_its_grid(had):
    options = {"steps": 6, "draft_steps": 3, "nfe": 40, "batch_size": 3, "progress": False}
    result = search(PROMPT, algorithm=ZeroOrderSearch(neighbours=2), **options)
    assert check_all(result, had, None) <= 1e-4
    assert {c.recipe.operations[-1]["to"] for c in result.candidates} == {3, 6}
    assert sorted(g["steps"] or 0 for g in result.settings["grids"].values()) == [0, 3]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("algorithm", [PATHS, Chains(), STUBS[0]], ids=lambda a: repr(a)[:40])
def test_every_candidate_on_the_embedded_pipelines(model, algorithm, had):
    options = {"verifier": brightness, "steps": 4, "nfe": 28, "batch_size": 5, "progress": False}
    result = search(PROMPT, model=model, algorithm=algorithm, **options)
    assert check_all(result, had, None) <= 1e-4


def test_whole_runs_of_the_users_scheduler_and_steps_of_eta(had):
    options = {"model": "shapes-ddim", "steps": 3, "candidates": 3, "batch_size": 3, "progress": False}
    for setting in ({"scheduler": "keep"}, {"eta": 0.8}):
        result = search(PROMPT, algorithm=ZeroOrderSearch(neighbours=2), **options, **setting)
        assert check_all(result, had, None) <= 1e-4, setting


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved search with settings of all kinds, and its folder."""
    folder = tmp_path_factory.mktemp("saved")
    result = search(
        PROMPT, model="shapes-ddim", candidates=4, steps=3, guidance=3.0, negative_prompt="a green star", width=48,
        height=64, top_k=2, progress=False, algorithm="random",
    )  # fmt: skip
    result.save(folder)
    return result, folder


def test_a_png_gives_its_own_picture_and_so_does_the_replay_of_the_replay(saved, tmp_path):
    result, folder = saved
    with Image.open(folder / "best.png") as opened:
        for source in (folder / "best.png", str(folder / "top" / "02.png"), folder / "result.json", folder, opened):
            again = replay(source, progress=False)
            assert again.difference <= 1.001 / 255 and again.nfe == 3 and again.prompt == PROMPT
            assert again.image.size == (48, 64)
    second = replay(again.save(tmp_path / "again.png"), progress=False)
    assert second.difference == 0 and second.recipe == result.recipe and second.candidate == result.best.id
    content = json.loads(Image.open(tmp_path / "again.png").text["noise_search"])
    assert content["settings"]["seed"] == 0 and content["settings"]["environment"] == result.settings["environment"]


def test_a_picture_that_was_scaled_since_is_replayed_without_comparing(saved, tmp_path):
    with Image.open(saved[1] / "best.png") as image:
        info = PngInfo()
        info.add_itxt("noise_search", image.text["noise_search"])
        image.resize((24, 32)).save(tmp_path / "small.png", pnginfo=info)
    again = replay(tmp_path / "small.png", progress=False)
    assert again.difference is None and again.image.size == (48, 64)
    assert again.notes == ("the picture given has another size, and isn't compared",) and not again.broken


def test_a_bare_recipe_needs_model_and_prompt_and_noise_alone_is_run_to_the_end():
    result = search(PROMPT, model="shapes-ddim", candidates=2, steps=3, verifier=brightness, progress=False)
    wanted = result.best
    operations = [dict(op) for op in wanted.recipe.operations]
    options = {"model": "shapes-ddim", "prompt": PROMPT, "steps": 3, "progress": False}
    for source in (wanted.recipe, operations, wanted.recipe.to_json(), Recipe.start("fresh", seed=wanted.seed)):
        again = replay(source, **options, verifier=brightness)
        assert np.abs(again.pixels.astype(int) - wanted.pixels).max() <= 1 and again.difference is None
        assert list(again.scores.values()) == pytest.approx([wanted.score], abs=1e-4) and again.recipe == wanted.recipe
        assert again.noise == "within 1e-5" and again.environment == ("the environment was not recorded",)
    for wrong in ({"steps": 0}, {"height": -8}, {"eta": 5.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            replay(wanted.recipe, **options | wrong)
    with pytest.raises(ValueError, match="recipe alone says nothing of the prompt"):
        replay(wanted.recipe, model="shapes-ddim", progress=False)
    with pytest.raises(ValueError, match="recipe alone says nothing of the model"):
        replay(wanted.recipe, prompt=PROMPT, progress=False)
    with pytest.raises(ValueError, match=r"grid .* there is only"):
        replay(wanted.recipe, **options | {"steps": 4})
    with pytest.raises(TypeError, match=r"a Candidate can't be replayed alone.*candidate=ID"):
        replay(wanted)


def test_another_prompt_keeps_the_noise():
    result = toy_search(candidates=1)
    same, other = (replay(result, model=CountingSampler(), prompt=p, progress=False) for p in (None, "longer"))
    assert same.noise_sha256 == other.noise_sha256 and same.difference is not None and other.difference is None
    assert not torch.equal(same.tensor, other.tensor)


def test_everything_there_is_to_say_is_said(saved):
    again = replay(saved[1], verifier="clip", progress=False)
    assert isinstance(again, Replay)
    for word in (PROMPT, "noise of seed", "steps 0 to 3", "3 NFE", "bit for bit", "best.png", "clip@"):
        assert word in str(again), word
    assert json.loads(json.dumps(again.to_json()))["nfe"] == 3 and "\n" not in repr(again)
    recipe = Recipe.start("fresh", seed=1)
    for seed in range(6):
        recipe = recipe.then("neighbour", seed=seed, cosine=0.95)
    told = in_words(recipe.then("branch", seed=9).then_run(0, 8, "g", None, 0.5))
    assert told == (
        "noise of seed 1, then 6 neighbours in turn at cosine 0.95 (seeds 0, 1, 2, 3, ... 5), "
        "then a new random stream (seed 9), then steps 0 to 8, eta 0.5"
    )
    glass = Recipe.start("fresh", seed=1).then_run(0, 8, "g", 0.4, inner=4)
    assert in_words(glass) == "noise of seed 1, then steps 0 to 8, rho 0.4 by 4 evaluations over 4"


def edited(file, folder, **changes):
    """A copy of a PNG or result.json whose record has other settings."""

    def change(content):
        for path, value in changes.items():
            *above, last = path.split("__")
            place = content["settings"]
            for name in above:
                place = place[name]
            place[last] = value
        return json.dumps(content)

    copy = folder / file.name
    if file.suffix == ".json":
        copy.write_text(change(json.loads(file.read_text())))
        return copy
    with Image.open(file) as image:
        info = PngInfo()
        info.add_itxt("noise_search", change(json.loads(image.text["noise_search"])))
        image.save(copy, pnginfo=info)
    return copy


def test_another_environment_is_said_and_the_noise_is_then_close_only(saved, tmp_path):
    for name in ("best.png", "result.json"):
        other = edited(saved[1] / name, tmp_path, environment__torch="2.9.0", environment__cpu_capability="DEFAULT")
        again = replay(other, progress=False)
        assert again.noise == "within 1e-5" and len(again.environment) == 2
        assert again.environment[0].startswith("torch 2.9.0 recorded, ") and "DEFAULT recorded" in str(again)
    other = edited(saved[1] / "best.png", tmp_path, environment__python="3.9.0", environment__numpy="1.0")
    again = replay(other, progress=False)
    assert again.noise == "bit for bit" and len(again.environment) == 2, "a plain draw depends on torch alone"
    unknown = replay(edited(saved[1] / "best.png", tmp_path, environment={}), progress=False)
    assert unknown.noise == "within 1e-5" and unknown.environment == ("the environment was not recorded",)


def test_another_dtype_is_said_and_allowed(saved):
    again = replay(saved[1] / "best.png", dtype=torch.bfloat16, progress=False)
    assert again.noise == "bit for bit" and "bfloat16, recorded in float32" in again.notes[0]
    assert 1 / 255 < again.difference < 0.5


def refused(source, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        replay(source, progress=False, **options)
    assert "\n" not in str(caught.value)


def test_another_model_is_refused_and_what_differs_is_named(saved, tmp_path):
    file = saved[1] / "best.png"
    refused(file, "another model: the pipeline is FluxPipeline here, StableDiffusionPipeline rec", model="shapes-flow")
    refused(file, "another model: the sampler is a CountingSampler here, Pipe", model=CountingSampler())
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS["shapes-ddim"])
    with torch.no_grad():
        next(pipe.unet.parameters()).add_(0.01)
    refused(file, "another model: the weights of unet differ", model=pipe)
    refused(edited(file, tmp_path, model__grid="abc"), "grid is .* here, abc recorded")
    refused(edited(file, tmp_path, model__scheduler="PNDMScheduler"), "scheduler is DDIMScheduler here, PNDM")
    config = saved[0].settings["model"]["scheduler_config"] | {"beta_start": 0.5}
    refused(edited(file, tmp_path, model__scheduler_config=config), "the scheduler's beta_start is .* 0.5 recorded")
    refused(edited(file, tmp_path, model__name="MyPipeline"), "made with 'MyPipeline', which is no model.*model=")
    for stranger in ("somebody/something", str(tmp_path)):
        refused(edited(file, tmp_path, model__name=stranger), "only embedded models are opened because a file names")
    known = saved[0].settings["model"]
    trimmed = {k: v for k, v in known["scheduler_config"].items() if k != "beta_start"}
    later = {"name": "MyPipeline", "versions": {}, "device": "cuda", "scheduler_config": trimmed}
    model = {k: v for k, v in known.items() if k != "step_cache"} | later | {"of_a_later_version": 1}
    copy = edited(file, tmp_path, model=model)
    again = replay(copy, model="shapes-ddim", progress=False)
    assert again.difference <= 1.001 / 255 and "recorded on cuda" in again.notes[0]
    other = toy_search(candidates=1)
    refused(other, "made with a CountingSampler object .*pass it as model=")
    refused(other, "grid is .*; steps is 4 here, 8 recorded", model=CountingSampler(4))
    refused(file, "steps: .* records its own settings", steps=9)


def test_what_holds_no_recipe_is_refused(saved, tmp_path):
    plain, viewers = tmp_path / "plain.png", tmp_path / "viewers.png"
    Image.new("RGB", (8, 8)).save(plain)
    info = PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20, Seed: 3")
    Image.new("RGB", (8, 8)).save(viewers, pnginfo=info)
    refused(plain, "plain.png' carries no recipe.*best.png")
    refused(viewers, "viewers.png' .*only an AUTOMATIC1111 'parameters' text")
    refused(Image.new("RGB", (8, 8)), "the image carries no recipe")
    refused(tmp_path / "none.png", "none.png' can't be read: No such file")
    refused(tmp_path, "result.json' can't be read")
    whole = (saved[1] / "best.png").read_bytes()
    for length in (len(whole) // 8, len(whole) - 40):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        refused(tmp_path / "cut.png", "cut.png' is damaged")
    for written, told in [
        (b"{", "a.json' is not valid JSON"),
        (b"[" * 100_000, "a.json' is not valid JSON"),
        (b"{}", "has no settings of a search"),
        (b"\xff\xfe\x00", "neither a PNG nor a result.json"),
    ]:
        (tmp_path / "a.json").write_bytes(written)
        refused(tmp_path / "a.json", told)
    refused(saved[1] / "result.json", r"no candidate 9; it has 0, 1, 2, 3", candidate=9)
    refused(saved[1] / "best.png", "holds one candidate", candidate=9)
    refused(saved[0], "the result has no candidate 9", candidate=9)
    refused(
        edited(saved[1] / "best.png", tmp_path, record_version=99), "version 99, and this noise-search reads up to 1"
    )
    refused("[1, 2]", "a recipe is a list of operations, each an object, got int", model="shapes-ddim", prompt="a")


def test_large_pictures_and_inflated_texts_are_refused(monkeypatch, tmp_path, saved):
    info = PngInfo()
    info.add_itxt("noise_search", "[" + " " * (2**20 + 1), zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "bomb.png", pnginfo=info)
    refused(tmp_path / "bomb.png", "bomb.png' is damaged: Decompressed data too large")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(saved[1] / "best.png", "too large")


NESTED = json.loads("[" * 600 + "]" * 600)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__options__height": 10**6}, "has 1000000 for height; expected at most 16384"),
        ({"model__options__width": 1e9}, "has 1000000000.0 for width"),
        ({"model__options__num_inference_steps": 5 * 10**7}, "has 50000000 for num_inference_steps"),
        ({"model__options__num_images": 10**400}, "has 1000000+ for num_images"),
        ({"model__options__sigmas": [0.5] * 10**5}, "has 100000 for the length of sigmas"),
        ({"model__options__negative_prompt": "a" * 2**21}, "has 2097152 for the length of negative_prompt"),
        ({"model__options__extra": NESTED}, "settings of more than 32 levels"),
        ({"environment__torch": NESTED}, "settings of more than 32 levels"),
        ({"grids": {"abc": {"steps": 5 * 10**7, "levels": []}}}, "has 50000000 for steps"),
        ({"grids": {"abc": {"steps": None, "levels": [0.5] * 10**6}}}, "for the length of levels"),
        ({"grids": {"abc": {"steps": None, "levels": [], "points": "0,4"}}}, "points '0,4' for grid abc"),
        ({"model__eta": float("nan")}, r"eta must be in \[0, 1\]"),
        ({"model__eta": 7.0}, r"eta must be in \[0, 1\]"),
        ({"model__eta": "all"}, "has settings that its model can't run"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)  # fmt: skip
def test_sizes_that_no_search_writes_are_refused_before_anything_is_made(saved, tmp_path, changes, words):
    for name in ("best.png", "result.json"):
        if len(str(changes)) > 2**20 and name == "best.png":
            continue  # a text of a PNG has less
        refused(edited(saved[1] / name, tmp_path, **changes), words)


def test_recipes_and_files_without_end_are_refused(saved, tmp_path, monkeypatch):
    first = {"op": "fresh", "v": 1, "seed": 1}
    chain = [first, *({"op": "pcn", "v": 1, "parent": i, "seed": i, "beta": 0.1} for i in range(10_000))]
    refused(json.dumps(chain), "a recipe of 10001 operations; expected at most 10000", model="shapes-ddim", prompt="a")
    cut = json.dumps([first, {"op": "run", "v": 1, "parent": 0}])
    refused(cut, r"operation 1 of the recipe \(run\) has nothing", model="shapes-ddim", prompt="a")
    for count in (3, 599):
        deep = json.dumps([first]).replace('"seed": 1', f'"seed": {"[" * count + "]" * count}')
        refused(deep, "a list as 'seed'", model="shapes-ddim", prompt="a")
    monkeypatch.setattr("noise_search.replays.reading._MOST_BYTES", 2**20)
    (tmp_path / "large.json").write_bytes(b"[" + b" " * 2**20 + b"]")
    refused(tmp_path / "large.json", "large.json' has more than 1 MiB")
    content = json.loads((saved[1] / "result.json").read_text()) | {"prompt": "a" * (2**20 + 1)}
    monkeypatch.undo()
    (tmp_path / "result.json").write_text(json.dumps(content))
    refused(tmp_path, "a prompt of 1048577 characters")


def test_a_picture_outside_the_results_folder_is_not_read(saved, tmp_path):
    folder = tmp_path / "inner"
    shutil.copytree(saved[1], folder)
    shutil.copy(folder / "best.png", tmp_path / "best.png")
    content = json.loads((folder / "result.json").read_text())
    for row in content["candidates"]:
        row["image"] = "../best.png"
    (folder / "result.json").write_text(json.dumps(content))
    assert read(folder).pixels is None
    shutil.copy(folder / "top" / "02.png", folder / "best.png")
    content["candidates"][content["best"]["id"]]["image"] = "best.png"
    (folder / "result.json").write_text(json.dumps(content))
    assert read(folder).pixels is None, "the file holds another candidate now"


def test_options_that_json_cannot_hold_are_asked_for_again(tmp_path):
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS["shapes-ddim"])
    embeds = torch.randn(1, 16, pipe.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(0))
    options = {"negative_prompt_embeds": embeds, "cross_attention_kwargs": {"scale": 0.5}}
    result = search(
        PROMPT, model="shapes-ddim", model_options={"guidance_rescale": 0.2}, candidates=1, steps=2,
        verifier=brightness, progress=False,
    )  # fmt: skip
    file = result.save(tmp_path)["best"]
    assert replay(file, progress=False).difference <= 1.001 / 255, "the option is set again as recorded"
    refused(file, "'guidance_rescale' is not what .* got 0.1, recorded 0.2", model_options={"guidance_rescale": 0.1})
    refused(file, "model_options has clip_skip, and .* made without", model_options={"clip_skip": 1})
    from samplers.contents import recorded

    made = edited(file, tmp_path, model__options=result.settings["model"]["options"] | recorded(options))
    refused(made, "option 'negative_prompt_embeds' \\(Tensor of shape \\(1, 16, .*pass it again as model_options")
    other = {"negative_prompt_embeds": embeds + 1}
    refused(made, "'negative_prompt_embeds' is not what .*got Tensor of shape", model_options=other)


def test_a_replay_is_saved_as_png_only(saved, tmp_path):
    again = replay(saved[1], progress=False)
    for name in ("x.jpg", "x.gif", "x"):
        with pytest.raises(ValueError, match=r"must end in \.png"):
            again.save(tmp_path / name)
    stream = io.BytesIO((again.save(tmp_path / "new" / "x.png")).read_bytes())
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"mine.png' is there already: give another name, or overwrite=True"):
        again.save(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    assert again.save(tmp_path / "mine.png", overwrite=True).read_bytes() == stream.getvalue()
    assert np.array_equal(np.asarray(Image.open(stream)), again.pixels)


def places(node, at=()):
    """Every place in a JSON document, of lists the first."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node[:1]):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def test_a_record_that_was_tampered_with_is_replayed_or_refused_in_one_line(tmp_path):
    toy_search(candidates=1).save(tmp_path)
    file = tmp_path / "result.json"
    text = file.read_text()
    model, refusals = CountingSampler(), 0
    read_parts = {"prompt", "settings", "best", "candidates"}
    for place in (place for place in places(json.loads(text)) if place[0] in read_parts):
        for bad in (None, "x", [1], {"type": "Tensor"}):
            content = json.loads(text)
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = bad
            file.write_text(json.dumps(content))
            try:
                replay(file, model=model, progress=False)
            except ValueError as refusal:
                refusals += 1
                assert "\n" not in str(refusal), (place, bad)
    assert refusals > 50
