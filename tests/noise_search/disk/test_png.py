"""Other programs read our pictures: the rules of A1111's and ComfyUI's parsers, written anew, on files of ours."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from noise_search.disk.png import parameters_text, picture_png
from samplers.recipe import Recipe

PICTURE = np.zeros((16, 24, 3), dtype=np.uint8)
PLAIN = Recipe.start("fresh", seed=7).then_run(0, 4, "g", 1.0)
MOVED = Recipe.start("fresh", seed=7).then("neighbour", seed=1, cosine=0.9).then_run(0, 4, "g", 1.0)
PROMPTS = [
    "a red circle, to the left: of a blue square",
    "Negative prompt: none of that",
    "Steps: 3, Sampler: Euler, CFG scale: 7, Seed: 1",
    'a "quoted" word\nand Negative prompt: a line',
    "über die Brücke",
    "🦊 in the snow",
    "a <lora:ink:0.8> sketch \\ with (weights:1.2)",
]


def settings(name="mine/model", negative="", **model):
    options = {"guidance_scale": 5.5, **({"negative_prompt": negative} if negative else {})}
    told = {"name": name, "steps": 4, "rule": "FlowMatching()", "grid": "g", "weights": {"unet": "abc"}}
    return {"model": {**told, "options": options, **model}}


def chunks(png):
    """Texts by keyword, and the kind of chunk: PNG, third edition, 11.3.3."""
    found, at = {}, 8
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind in (b"tEXt", b"iTXt"):
            keyword, _, text = body.partition(b"\0")
            if kind == b"iTXt":
                assert text[:2] == b"\0\0", "not packed"
                _, _, rest = text[2:].partition(b"\0")
                text = rest.partition(b"\0")[2]
            found[keyword.decode()] = (kind.decode(), text.decode())
        at += 12 + length
    return found


def a1111(text):
    """By A1111's rules: the last line holds the settings if it has three or more; a line that says so begins the rest.

    A key has two characters at least, of words, blanks, dashes and slashes; a value is quoted, or ends at a comma.
    """
    entry = re.compile(r'\s*(\w[\w /-]+):\s*("(?:[^"\\]|\\.)+"|[^,]*)(?:,|$)')
    *above, last = text.strip().split("\n")
    found = entry.findall(last)
    if len(found) < 3:
        above, found = [*above, last], []
    prompt, negative, into = [], [], None
    for line in map(str.strip, above):
        if line.startswith("Negative prompt:"):
            into, line = negative, line.removeprefix("Negative prompt:").strip()
        (prompt if into is None else into).append(line)
    values = {}
    for key, value in found:
        assert value, "A1111 fails at what is empty"
        values[key] = eval(value) if value[0] == value[-1] == '"' else value
        if size := re.fullmatch(r"(\d+)x(\d+)", values[key]):
            values[f"{key}-1"], values[f"{key}-2"] = size.groups()
    return "\n".join(prompt), "\n".join(negative), values


def comfyui(text):
    """By ComfyUI's: the settings are behind the last line break and "Steps:", the prompt before the negative one.

    Without either nothing is read. Keys are taken in lower case.
    """
    steps = text.rfind("\nSteps:")
    negative = text.rfind("\nNegative prompt:", 0, steps + 1)
    assert steps >= 0 and negative >= 0, "ComfyUI makes no graph of it"
    line = text[steps + 1 :].split("\n")[0]
    parts = re.findall(r'\s*([^:]+):\s*("[^"]*"|[^",{][^,]*|\{[^}]*\})\s*(?:,|$)', line)
    values = {key.strip().lower(): value.strip() for key, value in parts}
    return text[:negative].strip(), text[negative + 18 : steps].strip(), values


def shown(prompt):
    """On one line, and without what would begin the negative prompt."""
    line = " ".join(prompt.split())
    return "n" + line[1:] if line.startswith("Negative prompt:") else line


@pytest.mark.parametrize("negative", ["", "blurry, dark: grey"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_both_read_what_was_asked_for(prompt, negative):
    png = picture_png(PICTURE, prompt, PLAIN, settings(negative=negative), {"candidate": 3})
    kind, text = chunks(png)["parameters"]
    assert kind == ("tEXt" if text.isascii() else "iTXt"), "some readers skip the second"
    asked, other, values = a1111(text)
    assert (asked, other) == (shown(prompt), negative)
    assert values["Steps"] == "4" and values["Sampler"] == "Euler" and values["CFG scale"] == "5.5"
    assert values["Seed"] == "7" and values["RNG"] == "CPU"
    assert (values["Size-1"], values["Size-2"]) == ("24", "16")
    assert values["Model"] == "mine/model" and values["Version"].startswith("noise-search ")
    asked, other, values = comfyui(text)
    assert (asked, other) == (shown(prompt), negative)
    expected = {"steps": "4", "sampler": "Euler", "cfg scale": "5.5", "seed": "7", "size": "24x16"}
    assert expected.items() <= values.items()


def test_pillow_reads_both_texts():
    png = picture_png(PICTURE, "a cup", PLAIN, settings(), {"candidate": 3})
    import io

    with Image.open(io.BytesIO(png)) as image:
        assert (
            image.info["parameters"] == chunks(png)["parameters"][1] and '"candidate": 3' in image.info["noise_search"]
        )


def test_a_model_with_marks_in_its_name_is_one_value():
    text = parameters_text("a cup", PLAIN, settings(name='odd, "name": v2'), (24, 16), "1")
    assert a1111(text)[2]["Model"] == 'odd, "name": v2' and a1111(text)[2]["Version"] == "noise-search 1"


def test_what_a_plain_pipeline_would_not_draw_has_no_seed():
    _, _, values = a1111(parameters_text("a cup", MOVED, settings(), (24, 16), "1"))
    assert "Seed" not in values and "RNG" not in values and len(values) >= 3


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        ({"rule": "kept", "scheduler": "DPMSolverMultistepScheduler"}, "DPM++ 2M"),
        ({"rule": "kept", "scheduler": "EulerAncestralDiscreteScheduler"}, "Euler a"),
        ({"rule": "kept", "scheduler": "FlowMatchEulerDiscreteScheduler"}, "Euler"),
        ({"rule": "kept", "scheduler": "DDIMScheduler"}, "DDIM"),
        ({"rule": "kept", "scheduler": "SomethingNewScheduler"}, "SomethingNew"),
        ({"rule": "DDIM()", "scheduler": "PNDMScheduler", "eta": 0.5}, "DDIM"),
    ],
)
def test_samplers_go_by_the_names_that_they_have_there(model, sampler):
    _, _, values = a1111(parameters_text("a cup", PLAIN, settings(**model), (24, 16), "1"))
    assert values["Sampler"] == sampler and values.get("Eta DDIM") == ("0.5" if "eta" in model else None)
