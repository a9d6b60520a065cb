"""What is given away says nothing of the machine it was made on, and loses nothing else."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noise_search.disk.export import export, portable
from noise_search.disk.journal import Journal, unsealed
from noise_search.disk.png import CHUNK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/ann/models/flux", "flux"),
        ("/data/ann/models/flux/", "flux"),
        ("/data/ann/my models/ink.safetensors:0.8", "ink.safetensors:0.8"),
        (r"C:\Users\Ann\models\flux", "flux"),
        (r"\\server\share\models\flux", "flux"),
        ("clip failed: [Errno 2] No such file: '/data/ann/x.bin'", "clip failed: [Errno 2] No such file: 'x.bin'"),
        ("two:\n/data/ann/a.py line 3\nand C:\\Users\\Ann\\b.py", "two:\na.py line 3\nand b.py"),
        # no paths of a machine
        ("models/flux", "models/flux"),
        ("stabilityai/sdxl-turbo", "stabilityai/sdxl-turbo"),
        ("clip@clip/9f317bb7/2.5", "clip@clip/9f317bb7/2.5"),
        ("see https://host.org/a/b/c", "see https://host.org/a/b/c"),
        ("mean of 3/4 and 1/2/3, and/or", "mean of 3/4 and 1/2/3, and/or"),
        ("/", "/"),
        ("", ""),
        (3.5, 3.5),
        (None, None),
        (True, True),
        # texts of the user's stay as they are
        ({"prompt": "/imagine a/b", "prompts": ["/x/y"]}, {"prompt": "/imagine a/b", "prompts": ["/x/y"]}),
        ({"options": {"negative_prompt": "/a/b"}}, {"options": {"negative_prompt": "/a/b"}}),
        ({"lora": ["/a/b:1", {"deep": "/a/c"}], "n": 1}, {"lora": ["b:1", {"deep": "c"}], "n": 1}),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(value, expected):
    assert portable(value) == expected and portable(expected) == expected


def picture(file, texts):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    info = PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text)
    Image.fromarray(pixels).save(file, pnginfo=info)
    return pixels


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "0007"
    (folder / "images").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"model": str(tmp_path / "flux"), "prompts": ["é /a/b"]}))
    found = Journal(folder, "evaluations.jsonl")
    found.append([{"why": f"no {tmp_path}/w.bin"}, {"score": 0.1, "x": "NaN"}])
    with found.file.open("ab") as stream:
        stream.write(b'{"half": "' + str(tmp_path).encode())
    (folder / "images" / "a.safetensors").write_bytes(b"\0\1\2")
    return folder


def members(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_only_what_was_named_goes_in_below_the_name_of_the_run(folder, tmp_path):
    (folder / "diary.txt").write_text("of the user")
    export(folder, {"run.json", "evaluations.jsonl", "images/a.safetensors"}, tmp_path / "a.zip")
    found = members(tmp_path / "a.zip")
    assert [*found] == ["0007/evaluations.jsonl", "0007/images/a.safetensors", "0007/run.json"]
    assert found["0007/images/a.safetensors"] == b"\0\1\2"
    assert json.loads(found["0007/run.json"]) == {"model": "flux", "prompts": ["é /a/b"]}


def test_lines_stay_whole_by_their_checksums_and_half_a_line_stays_behind(folder, tmp_path, caplog):
    before = (folder / "evaluations.jsonl").read_bytes()
    export(folder, {"evaluations.jsonl"}, tmp_path / "a.zip")
    lines = members(tmp_path / "a.zip")["0007/evaluations.jsonl"].splitlines()
    assert [unsealed(one) for one in lines] == [{"why": "no w.bin"}, {"score": 0.1, "x": "NaN"}]
    assert all(b'"crc": ' in one for one in lines)
    assert (folder / "evaluations.jsonl").read_bytes() == before


def test_pictures_keep_their_pixels_and_their_texts_but_paths(folder, tmp_path):
    record = {"prompt": "/x/y é", "settings": {"model": {"name": str(tmp_path / "flux")}, "calibration": "/c/d.json"}}
    pixels = picture(folder / "a.png", {CHUNK: json.dumps(record), "parameters": "é\nSteps: 3"})
    export(folder, {"a.png"}, tmp_path / "a.zip")
    content = members(tmp_path / "a.zip")["0007/a.png"]
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), pixels)
        cut = {"prompt": "/x/y é", "settings": {"model": {"name": "flux"}, "calibration": "d.json"}}
        assert json.loads(image.text[CHUNK]) == cut and image.text["parameters"] == "é\nSteps: 3"


@pytest.mark.parametrize("texts", [{}, {CHUNK: json.dumps({"prompt": "a", "settings": {}})}, {"Title": "/not/ours"}])
def test_pictures_without_paths_are_the_same_bytes(folder, tmp_path, texts):
    picture(folder / "a.png", texts)
    export(folder, {"a.png"}, tmp_path / "a.zip")
    assert members(tmp_path / "a.zip")["0007/a.png"] == (folder / "a.png").read_bytes()


def test_an_archive_that_is_there_is_never_replaced(folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match=r"a\.zip' is there already: give another name"):
        export(folder, {"run.json"}, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"somebody's"


def test_an_archive_that_is_called_otherwise_or_can_not_be_written_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"a\.tar' must end in \.zip"):
        export(folder, {"run.json"}, tmp_path / "a.tar")
    with pytest.raises(ValueError, match="is a file; expected a directory"):
        export(folder, {"run.json"}, folder / "run.json" / "a.zip")
    assert not list(tmp_path.glob("*.tar"))


def test_an_archive_of_a_directory_as_dot_has_its_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    export(folder.relative_to(folder), {"run.json"}, tmp_path / "a.zip")
    assert [*members(tmp_path / "a.zip")] == ["0007/run.json"]
