"""Prompt sets from files as they are published, from the hub's cache, from a server, and from a seed."""

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search.prompt_sets import (
    PUBLISHED,
    PromptSet,
    PromptsUnavailable,
    SetPrompt,
    as_prompt_set,
    embedded,
    load,
    names,
)
from noise_search.prompt_sets import published as published_module
from noise_search.shapes.captions import evaluation_prompts, meaning, parse, validation_prompts
from noise_search.shapes.scenes import FAMILIES


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# The first lines of each published file in its format; texts are other ones.
DRAWBENCH = 'Prompts,Category\r\nA red pear.,Colors\r\n"A pear, and a plum.",Counting\r\nA pear.,Colors\r\n'
PARTI = (
    "Prompt\tCategory\tChallenge\tNote\npear\tAbstract\tBasic\tFruit\n"
    'the word "PEAR" on a wall\tArts\tWriting & Symbols\t\n"PEAR" and more"\tArts\tBasic\t\n'
    '"so ""it"" is"\tArts\tBasic\n'  # a last column left out
)
GENEVAL = (
    '{"tag": "single_object", "include": [{"class": "pear"}], "prompt": "a photo of a pear"}\n'
    '{"tag": "counting", "include": [], "exclude": [{"count": 3}], "prompt": "a photo of two pears"}\n'
)
PICK = '{"id": 0, "caption": "a pear", "are_different": true}\n"a plum"\n'  # JSON lines under the other ending
FILES = [
    (
        "DrawBench Prompts - Sheet1.csv",
        DRAWBENCH,
        [("A red pear.", "Colors"), ("A pear, and a plum.", "Counting"), ("A pear.", "Colors")],
    ),
    (
        "PartiPrompts.tsv",
        PARTI,
        [
            ("pear", "Abstract", {"Challenge": "Basic", "Note": "Fruit"}),
            ('the word "PEAR" on a wall', "Arts", {"Challenge": "Writing & Symbols", "Note": ""}),
            ('"PEAR" and more"', "Arts", {"Challenge": "Basic", "Note": ""}),
            ('so "it" is', "Arts", {"Challenge": "Basic", "Note": ""}),
        ],
    ),
    (
        "evaluation_metadata.jsonl",
        GENEVAL,
        [
            ("a photo of a pear", "single_object", {"include": '[{"class": "pear"}]'}),
            ("a photo of two pears", "counting", {"include": "[]", "exclude": '[{"count": 3}]'}),
        ],
    ),
    ("pick.json", PICK, [("a pear", "", {"id": "0", "are_different": "true"}), ("a plum",)]),
    # T2I-CompBench and HPDv2 have their family in the name of the file, a file by family in its lists.
    ("3d_spatial_val.txt", "a pear\n", [("a pear", "3d_spatial")]),
    ("concept-art.json", '["a", "b"]', [("a", "concept-art"), ("b", "concept-art")]),
    ("by.json", '{"anime": ["a"], "photo": ["b", {"prompt": "c"}]}', [("a", "anime"), ("b", "photo"), ("c", "photo")]),
    # Plain text passes over blank lines and comments only.
    (
        "p.txt",
        "\ufeff# it\n\n  a \r\n#1 dad mug\n#\nb\u2028und mehr\n",
        [("a",), ("#1 dad mug",), ("b\u2028und mehr",)],
    ),
]


@pytest.mark.parametrize(("name", "content", "expected"), FILES, ids=[name for name, *_ in FILES])
def test_files_as_they_are_published(tmp_path, name, content, expected):
    found = load(put(tmp_path / name, content))
    assert found.prompts == tuple(SetPrompt(*one) for one in expected)
    assert found.name == Path(name).stem and found.notes == ()
    assert found.counts == Counter(found.families)


def test_columns_and_families_by_name(tmp_path):
    file = put(tmp_path / "p.csv", "prompt,long_prompt,kind,tag\na,a long one,x,t\n")
    chosen = load(file, column="Long_Prompt", family_column="Kind")
    assert chosen.prompts == (SetPrompt("a long one", "x", {"prompt_": "a", "tag": "t"}),)
    assert load(put(tmp_path / "own.json", '["a pear"]'), family="fruit").families == ("fruit",)
    with pytest.raises(ValueError, match=r"unknown column of p\.csv 'long_promt'; did you mean 'long_prompt'"):
        load(file, column="long_promt")
    with pytest.raises(ValueError, match="its entries are plain texts without columns"):
        load(put(tmp_path / "p.txt", "a"), column="prompt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path, encoding, separator):
    rows = (("Prompt", "Style"), ("ein grüner Apfel", "フォト"), ('"two\nlines"', ""))
    text = "\n".join(separator.join(row) for row in rows)
    found = load(put(tmp_path / "p.csv", text.encode(encoding)))
    assert found.texts == ("ein grüner Apfel", "two\nlines") and found.families == ("フォト", "")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", 'prompt,tag\na,b\n"two\nlines",c\n ,d\n', r"p\.csv: line 5 has an empty prompt; correct it"),
        ("p.csv", "prompt\na pear, ripe\n", r"line 2 has 2 cells where the header has 1; put cells that hold the sep"),
        ("p.csv", 'prompt,tag\na,b\n"open,c\nd,e\n', "line 3 opens a quote that is never closed"),
        ("p.csv", 'prompt,tag\n"a"b,c\nd,e\n', "line 2 has quotes out of place"),
        ("p.csv", "name,tag\na,b\n", "no column of prompts among 'name', 'tag'; expected one of prompt, prompts"),
        ("p.csv", "prompt,tag,prompt\na,b,c\n", "the header has 'prompt' twice"),
        ("p.tsv", "prompt\ttag\n\tb\n\tc\n", r"line 2 has an empty prompt \(1 more like this\)"),
        ("p.txt", b"a pear\nein gr\xfcner Apfel\n", r"line 2 is not UTF-8 \(byte 0xfc\); save the file as UTF-8"),
        ("p.txt", "\n# nothing\n", r"p\.txt: no prompts in it"),
        ("p.json", '["a", "b"', "line 1, column 10: not JSON"),
        ("p.json", '{"a": 1}', "expected a list of texts or objects"),
        ("p.json", '["a", 3]', "item 2 is 3; expected a text, or an object with a prompt"),
        ("p.json", '[{"prompt": "a"}, {"tag": "b"}]', "item 2 has no 'prompt'; it has 'tag'"),
        ("p.json", '[{"prompt": ["a"]}]', r"item 1 has \['a'\] as 'prompt'; expected a text"),
        ("p.jsonl", '"a"\n\n{"prompt": "b"\n', "line 3 is not JSON"),
        ("p.jsonl", '"a"\n"\\ud83d"\n', r"line 2 holds half a character \(\\ud83d\)"),
        ("p.xlsx", b"PK", r"can't read \.xlsx files; expected one of \.txt, \.csv"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, problem):
    with pytest.raises(ValueError, match=problem):
        load(put(tmp_path / name, content))


def test_skipping_says_how_many_and_which_first(tmp_path, caplog):
    file = put(tmp_path / "p.csv", b'prompt,tag\na,b\n,c\nd\xff,e\n"x"y,f\ng,h\n')
    found = load(file, on_error="skip")
    assert found.texts == ("a", "g")
    assert found.notes == ("p.csv: left out 3 of 5 rows; line 3 has an empty prompt",)
    assert found.notes[0] in caplog.text
    with pytest.raises(ValueError, match=r"no prompts in it; p\.csv: left out 1 of 1 row;"):
        load(put(tmp_path / "p.csv", "prompt,tag\n,c\n"), on_error="skip")
    with pytest.raises(ValueError, match="on_error='ignore' must be"):
        load(file, on_error="ignore")


def test_a_quote_out_of_place_loses_its_own_row_alone(tmp_path):
    rows = "".join(f"prompt {i},y\n" for i in range(50))
    for odd, what in [('"a dog,x', "opens a quote that is never closed"), ('"a "dog",x', "has quotes out of place")]:
        for last in ('"b, c",z', '"b, c","z"', '"",z\n"b, c",z'):
            file = put(tmp_path / "p.csv", f"prompt,category\na cat,x\n{odd}\n{rows}{last}\n")
            found = load(file, on_error="skip")
            assert found.texts == ("a cat", *(f"prompt {i}" for i in range(50)), "b, c")
            empty = last.startswith('""')
            assert found.notes[0].startswith(f"p.csv: left out {1 + empty} of {53 + empty} rows; line 3 {what}")


def test_quoted_names_of_columns_hold_separators_and_cells_any_length(tmp_path):
    long = "a pear " * 40_000
    file = put(tmp_path / "p.csv", f'"Prompt; long, or short",tag\n"{long}, ripe",x\na fig,y\n')
    before = csv.field_size_limit()
    found = load(file, column="Prompt; long, or short")
    assert [len(text) for text in found.texts] == [len(long) + len(", ripe"), 5] and found.families == ("x", "y")
    assert csv.field_size_limit() == before
    rows = "a red; a blue; a green one\na fig\n"  # separators of other files are none of this header's
    assert load(put(tmp_path / "p.csv", f'"prompt"\n{rows}"a, b"\n')).texts == (
        "a red; a blue; a green one",
        "a fig",
        "a, b",
    )


def test_repeated_prompts_are_kept_and_said(tmp_path, caplog):
    found = load(["a", "b", "a", "a"])
    assert found.texts == ("a", "b", "a", "a") and found.distinct().texts == ("a", "b")
    assert found.notes == (
        "prompts: 2 of 4 prompts repeat an earlier one, such as 'a', 3 times; search() takes each of them, "
        "compare() each text once",
    )
    assert found.notes[0] in caplog.text
    caplog.clear()
    assert as_prompt_set(found).notes == found.notes and not caplog.text  # once is enough
    [note] = load(["a", "a"]).notes
    assert note.startswith("prompts: 1 of 2 prompts repeats an earlier one")


def test_parquet_without_pyarrow_is_one_clear_line(tmp_path):
    file = tmp_path / "p.parquet"
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        with pytest.raises(ImportError, match="reading parquet needs pyarrow, which isn't installed: `pip install pya"):
            load(put(file, b"PAR1"))
        return
    columns = {"caption": ["a pear", None], "jpg_0": [b"\xff", b"\xff"], "label": [1.0, 0.5]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    assert load(file, on_error="skip").prompts == (SetPrompt("a pear", "", {"label": "1.0"}),)
    with pytest.raises(ValueError, match="row 2 has an empty prompt"):
        load(file)
    with pytest.raises(ValueError, match="not a readable parquet file"):
        load(put(file, b"PAR1"))


characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, min_size=1).filter(str.strip)
columns = st.text(characters).filter(lambda name: name not in ("prompt", "family"))
sets = st.lists(st.builds(SetPrompt, texts, st.text(characters), st.dictionaries(columns, st.text(characters))))


@settings(deadline=None, max_examples=50)
@given(prompts=sets.filter(bool))
def test_jsonl_round_trip(tmp_path_factory, prompts):
    written = PromptSet("mine", tuple(prompts))
    file = written.to_jsonl(tmp_path_factory.mktemp("round") / "mine.jsonl")
    assert load(file) == written


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 2**40), st.data())
def test_samples_are_balanced_nested_and_in_order(families, seed, data):
    whole = load([{"prompt": f"{at}", "family": family} for at, family in enumerate(families)])
    n = data.draw(st.integers(1, len(whole)))
    some = whole.sample(n, seed)
    assert len(some) == n and some == whole.sample(n, seed)
    assert [int(text) for text in some.texts] == sorted(int(text) for text in some.texts)
    counts = Counter(some.families)
    for family, size in whole.counts.items():
        assert counts[family] == size or counts[family] >= max(counts.values()) - 1
    if n < len(whole):
        assert set(some.texts) < set(whole.sample(n + 1, seed).texts)


def test_limits():
    whole = load([{"prompt": f"{family}{at}", "tag": family} for family in "ab" for at in range(5)])
    assert load(whole, limit=3).texts == ("a0", "a1", "a2")
    assert load(whole, limit=4, seed=1).counts == {"a": 2, "b": 2}
    assert load(whole, per_family=2).texts == ("a0", "a1", "b0", "b1")
    drawn = {load(whole, per_family=2, seed=seed).texts for seed in range(8)}
    assert len(drawn) > 1 and all(len(texts) == 4 for texts in drawn)
    assert load(whole, limit=99) == whole
    for wrong in ({"limit": 0}, {"per_family": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            load(whole, **wrong)
    with pytest.raises(ValueError, match="n=11 is out of reach; expected 1 to 10"):
        whole.sample(11, seed=0)
    for wrong in ({"limit": 1.5}, {"per_family": 1.5}):
        with pytest.raises(TypeError, match=r"=1\.5 must be a whole number"):
            load(whole, **wrong)
    with pytest.raises(TypeError, match=r"n=1\.5 must be a whole number"):
        whole.sample(1.5, seed=0)


def test_prompts_refuse_what_no_file_could_hold():
    with pytest.raises(ValueError, match="is empty"):
        SetPrompt(" ")
    with pytest.raises(ValueError, match="name of a field"):
        SetPrompt("a", extra={"family": "b"})


def test_embedded_sets():
    assert load("shapes").texts == tuple(one.text for one in evaluation_prompts())
    assert load("Shapes-Validation").counts == dict.fromkeys(FAMILIES, 10)
    one = load("shapes:7:62")
    assert one == load("shapes:7:62") and len(one) == 62
    assert load("shapes:7:40").texts == one.texts[:40] != load("shapes:8:40").texts
    assert sorted(one.counts.values()) == [10, 10, 10, 10, 11, 11]
    assert all(parse(prompt.text).family == prompt.family for prompt in one)
    fixed = {meaning(prompt.text) for prompt in (*evaluation_prompts(), *validation_prompts())}
    meanings = {meaning(text) for text in one.texts}
    assert len(meanings) == 62 and not meanings & fixed


def test_hard_prompts_are_others_that_the_oracle_reads():
    hard, tuning = load("shapes-hard", split="evaluation"), load("shapes-hard", split="validation")
    assert hard == load("shapes-hard") and tuning == load("shapes-hard-validation")
    assert (len(hard), len(tuning)) == (60, 24)
    assert (
        len(set(hard.counts.values())) == len(set(tuning.counts.values())) == 1
        and hard.counts.keys() == tuning.counts.keys()
    )
    known = {meaning(prompt.text) for prompt in (*evaluation_prompts(), *validation_prompts())}
    meanings = {meaning(text) for text in (*hard.texts, *tuning.texts)}  # which the grammar can read
    assert len(meanings) == 84 and not meanings & known


def test_splits():
    assert load("shapes", split="validation") == load("shapes-validation")
    for source, split, told in (
        ("shapes", "test", "split='test' must be 'evaluation' or 'validation'"),
        ("drawbench", "validation", "belongs to 'shapes' and 'shapes-hard'; 'drawbench' has no splits"),
        ("shapes-validation", "validation", "'shapes-validation' has no splits"),
        (["a cat"], "validation", "has no splits"),
    ):
        with pytest.raises(ValueError, match=told):
            load(source, split=split)


def test_more_than_the_embedded_world_has_is_refused(monkeypatch):
    monkeypatch.setattr(embedded, "_DRY", 1)  # gives a family up at the first chunk without a new caption: in seconds
    with pytest.raises(ValueError, match=r"count=973 .* family 'single' has \d+ captions .* ask for at most \d+"):
        load("shapes:0:973")
    for wrong in ("shapes:7", "shapes:a:5", "shapes:7:0", "shapes:-1:5"):
        with pytest.raises(ValueError, match="must be shapes:SEED:COUNT"):
            load(wrong)


def test_names_and_texts_are_told_apart(tmp_path):
    file = put(tmp_path / "prompts.txt", "a pear\n")
    for prompt in ("a red circle", "a photo of 3/4 of a cake", "two\nlines"):
        assert as_prompt_set(prompt).texts == (prompt,)
    assert as_prompt_set("shapes:1:6") == load("shapes:1:6")
    assert as_prompt_set(str(file)).texts == ("a pear",)
    assert as_prompt_set(["drawbnch", "a fig"], limit=1).texts == ("drawbnch",)
    refused = [
        (as_prompt_set, "drawbnch", {}, ValueError, "unknown prompt set 'drawbnch'; did you mean 'drawbench'"),
        (load, "a red circle", {}, ValueError, r"unknown prompt set 'a red circle'.*load\(\['a red circle'\]\)"),
        (as_prompt_set, str(file.with_name("prompt.txt")), {}, FileNotFoundError, r"did you mean '.*prompts\.txt'"),
        (load, tmp_path, {}, ValueError, "is a directory"),
        (as_prompt_set, str(tmp_path), {}, ValueError, "is a directory"),
        (as_prompt_set, os.path.relpath(tmp_path), {}, ValueError, "is a directory"),
        (as_prompt_set, str(tmp_path / "my prompts"), {}, FileNotFoundError, "no file of prompts at '.*my prompts'"),
        (as_prompt_set, "prompts.lst", {}, FileNotFoundError, "no file of prompts at 'prompts.lst'"),
        (load, 3, {}, TypeError, "must be a file, a name, or a list"),
        (load, "shapes", {"path": file}, ValueError, "path= belongs to a published set"),
        (load, "shapes", {"revision": "0" * 40}, ValueError, "revision= belongs to a published set"),
    ]
    for read, source, options, error, words in refused:
        with pytest.raises(error, match=words):
            read(source, **options)


def cached(monkeypatch, tmp_path, name, contents):
    """Put the files of a set where the hub's client would have put them."""
    one = PUBLISHED[name]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / f"datasets--{one.repository.replace('/', '--')}" / "snapshots" / one.revision
    for path, content in zip(one.files, contents, strict=True):
        put(folder / path, content)


def test_a_published_set_from_the_cache_of_the_hub(monkeypatch, tmp_path):
    cached(monkeypatch, tmp_path, "drawbench", [DRAWBENCH])
    found = load("DrawBench")
    assert found.texts == ("A red pear.", "A pear, and a plum.", "A pear.")
    assert found.name == "drawbench"
    assert found.notes == ("drawbench: 3 prompts where the published set has 200",)
    cached(monkeypatch, tmp_path, "hpdv2", [json.dumps([f"{style} {at}" for at in range(800)]) for style in "acpf"])
    complete = load("HPDv2")
    assert complete.counts == dict.fromkeys(("anime", "concept-art", "paintings", "photo"), 800)
    assert complete.notes == ()


@pytest.fixture
def github(monkeypatch, tmp_path):
    """A folder that stands for GitHub, with the files of T2I-CompBench."""
    one = PUBLISHED["t2i-compbench"]
    for path in one.files:
        put(tmp_path / "github" / one.repository / one.revision / path, "a pear\na plum\n")
    monkeypatch.setattr(published_module, "GITHUB", (tmp_path / "github").as_uri())
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "github"


def test_a_published_set_from_github_is_fetched_once(github, monkeypatch):
    found, one = load("t2i_compbench"), PUBLISHED["t2i-compbench"]
    assert found.counts == dict.fromkeys(one.files.values(), 2)
    shutil.rmtree(github)
    assert load("t2i-compbench") == found == load("t2i-compbench", revision=one.revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load("t2i-compbench") == found
    with pytest.raises(PromptsUnavailable, match="HF_HUB_OFFLINE is set"):
        load("t2i-compbench", revision="0" * 40)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "t2i-compbench"])
def test_a_published_set_that_cannot_be_had_says_what_to_download(github, monkeypatch, tmp_path, name):
    one = PUBLISHED[name]
    if one.host == "hub":
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    where = f"{one.repository} at {one.revision[:8]} for {one.title} "
    with pytest.raises(PromptsUnavailable, match=rf"{where}\(.*; check the network, or download ") as e:
        load(name)
    assert "\n" not in str(e.value) and f"load({name!r}, path=...)" in str(e.value)
    assert one.address(next(iter(one.files))) in str(e.value)


def test_a_copy_of_ones_own(tmp_path):
    for style in ("anime", "concept-art", "paintings", "photo"):
        put(tmp_path / "benchmark" / f"{style}.json", json.dumps([f"a {style}"]))
    for folder in (tmp_path, tmp_path / "benchmark"):
        found = load("hpdv2", path=folder)
        assert found.families == ("anime", "concept-art", "paintings", "photo")
        assert found.notes == ("hpdv2: 4 prompts where the published set has 3200",)
    assert load("hpdv2", path=tmp_path / "benchmark" / "photo.json").families == ("photo",)
    (tmp_path / "benchmark" / "photo.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"has no 'photo\.json', a file of HPDv2; get it from https://huggingface"
    ):
        load("hpdv2", path=tmp_path)


def test_the_table_of_published_sets():
    assert names() == (
        "shapes",
        "shapes-validation",
        "shapes-hard",
        "shapes-hard-validation",
        "shapes:SEED:COUNT",
        *PUBLISHED,
    )
    for one in PUBLISHED.values():
        assert len(one.revision) == 40 and one.revision in one.address(next(iter(one.files)))
        assert one.count % len(one.files) == 0
    address = PUBLISHED["drawbench"].address("DrawBench Prompts - Sheet1.csv")
    assert address.endswith("/DrawBench%20Prompts%20-%20Sheet1.csv")
