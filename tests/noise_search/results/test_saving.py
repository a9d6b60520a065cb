"""What a result writes and shows: files, PNGs that carry their recipe and parameters, pages of notebooks."""

import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from noise_search import replay, search
from noise_search.disk.png import parameters_text
from noise_search.replays.reading import read
from noise_search.results.html import data_url
from noise_search.results.saving import files_of
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.version import __version__
from samplers import Recipe
from tiny.command import PROMPT
from tiny.search import CountingSampler, brightness, contrast, toy_search

MODELS = sorted(EMBEDDED_MODELS)


def test_results_are_saved_whole(tmp_path):
    result = search(PROMPT, candidates=3, steps=2, judges=["oracle"], progress=False, algorithm="random")
    paths = result.save(tmp_path / "run")
    content = json.loads(paths["result"].read_text())
    wanted = {"prompt", "model", "algorithm", "verifier", "seed", "score", "first_score", "nfe", "ledger"}
    assert wanted | {"candidates", "best", "judges"} <= content.keys()
    assert content["nfe"] == {"budget": 6, "spent": 6} and len(content["candidates"]) == 3
    assert content["best"]["image"] == "best.png"
    saved = Image.open(paths["best"])
    assert np.array_equal(np.asarray(saved), result.best.pixels)
    assert json.loads(saved.text["noise_search"])["recipe"] == content["best"]["recipe"]
    assert f"Seed: {result.best.seed}" in saved.text["parameters"]
    assert all(Image.open(paths[stem]).size[0] > 100 for stem in ("top", "curve"))


def test_a_prompt_with_a_broken_formula_is_saved(tmp_path):
    result = search(r"costs $\frac$ now", candidates=1, steps=2, progress=False)
    assert (result.save(tmp_path)["result"]).exists()
    result.plot()._repr_png_()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    result = search(PROMPT, candidates=1, steps=2, progress=False)
    with pytest.raises(ValueError, match="can't be written"):
        result.save(blocked / "run")


def test_the_seed_in_the_parameters_gives_the_picture_in_plain_diffusers(tmp_path):
    for model in MODELS:
        options = {"steps": 4, "guidance": 3.0, "negative_prompt": "a green star", "progress": False}
        paths = search(PROMPT, model=model, candidates=3, seed=11, **options).save(tmp_path / model)
        text = Image.open(paths["best"]).text["parameters"]
        lines = text.split("\n")
        entries = dict(entry.split(": ") for entry in lines[-1].split(", "))
        assert lines[:2] == [PROMPT, "Negative prompt: a green star"] and len(lines) == 3
        assert entries["Model"] == model and entries["Version"] == f"noise-search {__version__}"
        assert entries["Sampler"] == {"shapes-ddim": "DDIM", "shapes-flow": "Euler"}[model]
        pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS[model])
        pipe.set_progress_bar_config(disable=True)
        width, height = (int(v) for v in entries["Size"].split("x"))
        more = {"guidance_scale": 3.0} if model == "shapes-ddim" else {"true_cfg_scale": 3.0, "max_sequence_length": 16}
        image = pipe(
            PROMPT, generator=torch.Generator().manual_seed(int(entries["Seed"])), width=width, height=height,
            num_inference_steps=int(entries["Steps"]), negative_prompt="a green star", **more,
        ).images[0]  # fmt: skip
        apart = np.abs(np.asarray(image).astype(int) - np.asarray(Image.open(paths["best"])).astype(int)).max()
        assert apart <= 1 and float(entries["CFG scale"]) == 3


def test_a_seed_that_would_give_another_picture_is_left_out():
    start = Recipe.start("fresh", seed=3)
    known = {"model": {"name": "m", "steps": 8, "rule": "DDIM()", "grid": "g"}, "grids": {"d": {"steps": 4}}}
    known["grids"]["l"] = {"steps": None, "levels": [0.1]}

    def text(recipe):
        return parameters_text("a", recipe, known, (8, 8), "1")

    assert "Seed: 3" in text(start.then_run(0, 8, "g", 1.0))
    assert "Seed: 3" in text(start.then_run(0, 4, "d", 1.0)) and "Steps: 4" in text(start.then_run(0, 4, "d", 1.0))
    moved = start.then("neighbour", seed=1, cosine=0.9).then_run(0, 8, "g", 1.0)
    mixed, of_eta = start.then_run(0, 8, "g", 0.5), start.then_run(0, 8, "g", None, 0.5)
    unfinished, other_grid = start.then_run(0, 7, "g", 1.0), start.then_run(0, 8, "l", 1.0)
    for recipe in (moved, mixed, of_eta, unfinished, other_grid, start):
        assert "Seed" not in text(recipe)


@pytest.mark.parametrize(
    "prompt", ["🦊 fox", "nul \0 inside", "x" * 10_000, "a\nNegative prompt: b\r\nSteps: 3", "lone \ud800", "a, b: c"]
)
def test_awkward_prompts_survive_a_png(prompt, tmp_path):
    result = toy_search(prompt=prompt, candidates=1)
    paths = result.save(tmp_path)
    with Image.open(paths["best"]) as image:
        assert json.loads(image.text["noise_search"])["prompt"] == prompt
        assert len(image.text["parameters"].split("\n")) == 3
        assert all(len(text.encode()) < 2**16 for text in image.text.values())
    again = replay(paths["best"], model=CountingSampler(), progress=False)
    assert again.prompt == prompt and again.difference <= 1.001 / 255
    result._repr_html_().encode()
    again._repr_html_().encode()


def test_only_what_a_search_wrote_is_ever_replaced(tmp_path, monkeypatch):
    many, few = toy_search(candidates=5), toy_search(candidates=2)
    paths = many.save(tmp_path)
    assert {"best", "top", "curve", "result", "top/01", "top/05"} <= paths.keys()
    written = {str(path.relative_to(tmp_path)) for path in paths.values()}
    assert written == set(json.loads(paths["result"].read_text())["files"]) == files_of(tmp_path)
    ranks = [read(paths[f"top/{rank:02d}"]).candidate for rank in range(1, 6)]
    assert ranks == [c.id for c in many.top(5)]
    mine = [tmp_path / "top" / name for name in ("2024-holiday.png", "10_cats.png", "a.png")] + [tmp_path / "notes.txt"]
    for file in mine:
        file.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds a search: give a new one, or overwrite=True"):
        few.save(tmp_path)
    few.save(tmp_path, overwrite=True)
    assert all(file.read_bytes() == b"mine" for file in mine)
    assert sorted(p.name for p in (tmp_path / "top").glob("0*.png")) == ["01.png", "02.png"]
    before = (tmp_path / "best.png").read_bytes()
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        many.save(tmp_path, overwrite=True)
    assert (tmp_path / "best.png").read_bytes() == before and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_through_a_link_to_a_directory(overwrite, tmp_path):
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir(), run.mkdir()
    (pictures / "01.png").write_bytes(b"mine")
    (run / "top").symlink_to(pictures)
    with pytest.raises(ValueError, match=r"'top', which no search wrote|was written by no search"):
        toy_search(candidates=2).save(run, overwrite=overwrite)
    assert [one.read_bytes() for one in pictures.iterdir()] == [b"mine"] and len(list(run.iterdir())) == 1


def test_what_a_link_leads_to_is_nobodys_but_its_owners(tmp_path):
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    found = toy_search(candidates=2, run=run)
    found.save(run)
    ours = files_of(run)
    pictures = {name for name in ours if name.startswith("images")}
    (run / "images").rename(elsewhere)
    (run / "images").symlink_to(elsewhere)
    (run / "top.png").unlink()
    (run / "top.png").symlink_to(elsewhere / Path(min(pictures)).name)
    assert pictures and files_of(run) == ours - pictures - {"top.png"}
    (tmp_path / "alias").symlink_to(run)
    assert files_of(tmp_path / "alias") == files_of(run)

    listed = [str(elsewhere / one.name) for one in elsewhere.iterdir()]
    (run / "result.json").write_text(json.dumps({"files": [*listed, "images/../best.png"]}))
    assert not files_of(run) & {*listed, "images/../best.png"}
    toy_search(candidates=2, seed=9, run=run, overwrite=True)
    assert all(Path(one).exists() for one in listed)


def test_all_files_are_written_or_none(tmp_path, monkeypatch):
    before, after = toy_search(candidates=5, seed=50), toy_search(candidates=5, seed=99)
    before.save(tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*png'"):
        after.save(tmp_path, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files


def test_a_drawing_that_fails_is_left_out_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("noise_search.results.saving.score_curve", lambda result: 1 / 0)
    paths = toy_search(candidates=2).save(tmp_path)
    assert "curve" not in paths and paths["top"].exists() and "a drawing is left out (ZeroDivisionError" in caplog.text
    assert {str(path.relative_to(tmp_path)) for path in paths.values()} == files_of(tmp_path)


@pytest.mark.parametrize("listed", [5, None, "abc", [1, None, {}], {"a": 1}])
def test_an_edited_list_of_files_names_nothing(listed, tmp_path):
    result = toy_search(candidates=2)
    content = json.loads(result.save(tmp_path)["result"].read_text())
    (tmp_path / "result.json").write_text(json.dumps(content | {"files": listed}))
    assert files_of(tmp_path) == set()
    with pytest.raises(ValueError, match="which no search wrote"):
        result.save(tmp_path)


@pytest.mark.parametrize("name", ["best.png", "top/01.png", "result.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_the_users_is_refused_whatever_is_asked(name, overwrite, tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"which no search wrote|was written by no search"):
        toy_search(candidates=2).save(tmp_path, overwrite=overwrite)
    assert [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()] == [b"mine"]


def test_a_directory_of_the_version_before_is_known_and_an_edited_list_removes_nothing_outside(tmp_path):
    before = Path(__file__).parents[2] / "data" / "version-0.1.0" / "search"
    folder, outside = tmp_path / "run", tmp_path / "mine.txt"
    shutil.copytree(before, folder)
    assert files_of(folder) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    outside.write_text("mine")
    content = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(content | {"files": ["result.json", "../mine.txt", str(outside)]}))
    assert files_of(folder) == {"result.json"}


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o077)
    try:
        paths = toy_search(candidates=1).save(tmp_path / "private")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o600}


def test_candidates_are_a_table_by_candidate():
    first = toy_search(candidates=4, judges=[contrast], top_k=1, algorithm="zero-order")
    second = toy_search(prompt="another", candidates=3, verifier=[brightness, contrast])
    table = first.to_pandas()
    assert list(table.columns) == [
        *("prompt", "id", "seed", "step", "finished", "draft", "nfe", "score"),
        *("score:brightness", "judge:contrast", "failure"),
    ]
    assert table["score"].tolist() == [c.score for c in first.candidates]
    assert [None if value is pandas.NA else value for value in table["seed"]] == [c.seed for c in first.candidates]
    judged = [c.judges.get(next(iter(first.best.judges)), np.nan) for c in first.candidates]
    assert np.array_equal(table["judge:contrast"], judged, equal_nan=True) and np.isnan(judged).any()
    both = pandas.concat([table, second.to_pandas()])
    assert both.groupby("prompt")["nfe"].max().to_dict() == {"a prompt": 32, "another": 24}
    assert {"score:brightness", "score:contrast"} <= set(both.columns)


def test_notebooks_show_escaped_texts_and_small_pictures():
    options = {"judges": [contrast], "candidates": 5, "top_k": 3}
    dark = toy_search(verifier=lambda images, prompts: -images.mean((1, 2, 3)), **options)
    assert dark.best.id != dark.first.id, "or there is nothing to set side by side"
    shown = dark._repr_html_()
    assert shown.count("<img ") == shown.count('alt="') == 2 + sum(c.pixels is not None for c in dark.top(8))
    assert len(shown) < 200_000 and set(re.findall(r"<img [^>]*width:(\d+)px", shown)) == {"320", "256"}
    assert shown.count("image-rendering:pixelated") == shown.count("<img ")
    assert all(word in shown for word in ("one sample", "winner", "40 of 40 NFE", "judge contrast", "seed 0"))
    assert "winner, the plain sample" in toy_search(candidates=1)._repr_html_()
    wicked = toy_search(prompt="<script>x</script>\"'", candidates=2)
    for page in (wicked._repr_html_(), replay(wicked, model=CountingSampler(), progress=False)._repr_html_()):
        assert "<script>" not in page and "&lt;script&gt;" in page and 'alt=""' not in page
    noisy = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    assert data_url(noisy, 384).startswith("data:image/jpeg") and len(data_url(noisy, 384)) < 200_000
