"""Short names."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from verifiers import CLIPScore, available, load
from verifiers.arguments import takes_text
from verifiers.catalogue import verifier_class
from verifiers.loading.devices import indexed


def test_names_load_with_options(clip_directory):
    assert " ".join(available()) == (
        "clip aesthetic image-reward pickscore hps hpsv3 vlm judge class consistency clip-direction clip-image "
        "judge-edit jpeg sharpness saturation brightness safety"
    )
    clip = load("clip", model=clip_directory, output="cosine")
    assert isinstance(clip, CLIPScore) and clip.output == "cosine"
    assert load("aesthetic").name == "aesthetic"


def test_every_verifier_is_made_by_its_name_without_loading_anything(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a connection was opened"))
    for name, card in available().items():
        verifier = load(name)
        assert verifier.name == name
        assert verifier.kind == ("constraint" if name == "safety" else "score")
        assert (card.size == "none") == (card.weights.startswith("none"))
        assert isinstance(verifier.version, str) or card.needs


def test_cards_are_one_line_and_complete():
    for name, card in available().items():
        assert "\n" not in card.measures + card.details and card.direction == "higher is better"
        for field, value in asdict(card).items():
            assert value != "", f"{name} has no {field}"
        assert card.weights_licence != "no weights" or card.size == "none", name


def test_importing_verifiers_does_not_import_open_clip():
    slow = {"open_clip", "transformers", "torchvision"}
    check = f"import sys, verifiers; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


WRONG = {
    "load('asthetic')": "ValueError: no verifier is called 'asthetic'; expected one of ['aesthetic', 'brightness', ",
    "load('asthetics')": ": did you mean 'aesthetic'?",
    "load('zzz')": "'vlm']: a function of (images, prompts) is accepted too",
    "load('clip', modle=1)": "'clip' has no option 'modle'; did you mean 'model'? expected one of: model, ",
    "load('jpeg', qualty=50)": "TypeError: verifier 'jpeg' has no option 'qualty'; did you mean 'quality'? ",
    "load('brightness', x=1)": "TypeError: verifier 'brightness' has no option 'x'; it takes none",
    "load('judge', timeot=3)": "TypeError: verifier 'judge' has no option 'timeot'; did you mean 'timeout'?",
    "load('judge', provider='openai', thinking='low')": "TypeError: verifier 'judge' has no option 'thinking'",
    "load(None)": "TypeError: name is None; expected one of ['aesthetic', ",
    "load('clip', revision=3)": "TypeError: option 'revision' of verifier 'clip' is 3 (int); expected text or none",
    "load('clip', device='foo')": "ValueError: device is 'foo'; expected a device such as cpu",
    "load('vlm', question=5)": "TypeError: option 'question' of verifier 'vlm' is 5 (int)",
    "load('vlm', dtype='float31')": "ValueError: dtype is 'float31'; expected one of",
    "load('hps', version=2.2)": "ValueError: version is '2.2'; expected one of ('2.1', '2.0')",
    "load('hpsv3', batch='many')": "TypeError: option 'batch' of verifier 'hpsv3' is 'many' (str); expected a whole",
    "CLIPScore(output='raw')": "ValueError: output is 'raw'; expected one of ('clipscore', 'cosine', 'logit')",
    "CLIPScore(precision='int8')": "ValueError: precision is 'int8'; expected one of ('fp32',",
    "CLIPScore('ViT-L-14', 'openai')": "use model 'ViT-L-14-quickgelu'",
    "PickScore(output='raw')": "ValueError: output is 'raw'; expected one of ('logit', 'cosine')",
    "ImageReward('a.pt', revision='main')": "THUDM/ImageReward, but weights is a local file",
    "HPS('2.2')": "ValueError: version is '2.2'; expected one of ('2.1', '2.0')",
    "HPS(precision='bfloat16')": "ValueError: precision is 'bfloat16'; expected one of",
    "HPS(model='none.json')": "ValueError: model 'none.json' is no file",
    "Aesthetic(version='v3')": "ValueError: version is 'v3'; expected",
    "Aesthetic(version='v1', model='ViT-H-14', pretrained='laion2b_s32b_b79k')": "no v1 head is published for tower "
    "'ViT-H-14'; expected one of ['ViT-B-16', 'ViT-B-32', 'ViT-L-14'], or pass weights",
    "JPEGSize(quality=96)": "ValueError: quality is 96",
    "JPEGSize(quality='abc')": "TypeError: quality is 'abc'; expected a whole number from 1 to 95",
    "JPEGSize(quality=None)": "TypeError: quality is None",
    "JPEGSize(quality=True)": "TypeError: quality is True",
    "JPEGSize(quality=50.5)": "TypeError: quality is 50.5",
    "Safety(threshold='high')": "TypeError: threshold is 'high'; expected a number",
    "Safety(threshold=True)": "TypeError: threshold is True",
    "Safety(strictness=None)": "TypeError: strictness is None",
    "Safety(strictness=float('nan'))": "ValueError: strictness is nan",
    "Safety(reject_black='no')": "TypeError: reject_black is 'no'; expected True or False",
    "Safety(labels=[1])": "ValueError: labels is [1]",
    "MeanZ('a', reference=3)": "TypeError: reference is 3; expected (mean, std) under each",
    "MeanZ(light, reference={light.key: 3})": "TypeError: reference['brightness@1'] is 3; expected (mean, std)",
    "MeanZ(light, reference={light.key: ('a', 1)})": "TypeError: reference['brightness@1'] is ('a', 1); expected two",
    "MeanZ(light, freeze_after=2.5)": "TypeError: freeze_after is 2.5; expected a whole number",
    "WeightedSum(light, weights=[1])": "TypeError: weights is [1]; expected one under each name",
    "WeightedSum(light, weights={'brightness': 'a'})": "TypeError: weights['brightness'] is 'a'; expected a number",
    "ClassScore(classes=['a', 'b', ' A'])": "ValueError: classes holds ' A' twice",
    "FunctionVerifier(Brightness)": "TypeError: fn is the class Brightness; expected a function: make an instance, Bri",
    "MeanRank(Safety())": "ValueError: safety only excludes images, and nothing ranks the rest; give a score",
}


@pytest.fixture(scope="module")
def refusals():
    """What users read, in a process without the type checks that only tests have."""
    code = f"""
import json
from verifiers import *
from verifiers import Brightness
from verifiers import JPEGSize
light, found = Brightness(), dict()
for made in {list(WRONG)!r}:
    try:
        found[made] = repr(eval(made))
    except Exception as error:
        found[made] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("made", WRONG)
def test_wrong_options_are_refused_in_one_line(made, refusals):
    assert WRONG[made] in refusals[made] and "\n" not in refusals[made]
    assert refusals[made].startswith(("TypeError: ", "ValueError: "))


@pytest.mark.parametrize(
    ("name", "option", "parsed", "kept"),
    [
        ("hps", "version", 2.0, False),
        ("clip", "revision", 1.23456e12, True),
        ("clip", "revision", None, False),
        ("clip", "output", None, True),
        ("clip", "chunks", True, False),
        ("vlm", "questions", ["Is it?"], False),
        ("class", "label", 7, False),
        ("judge", "base_url", 8000, True),
        ("judge", "max_tokens", 100, False),
        ("jpeg", "unknown", 1, False),
    ],
)
def test_what_is_text_stays_text(name, option, parsed, kept):
    assert takes_text(verifier_class(name), option, parsed) == kept


@pytest.mark.parametrize("version", ["2.0", 2.0, 2])
def test_a_version_may_be_a_number(version):
    assert load("hps", version=version).version == load("hps", version="2.0").version != load("hps").version


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device is 'foo'; expected a device such as cpu"):
        indexed("foo")
    with pytest.raises(ValueError, match=r"device 'xpu' can't be used here \(.*\); use cpu"):
        indexed("xpu")


def test_verifiers_read_any_prompt_unless_they_say_so():
    assert load("brightness").check(["x"]) is None
    scored = load("class", classes=["a cat", "a dog"])
    scored.check(["A  dog", "0"])
    with pytest.raises(ValueError, match="label 'yellow star' is none of the 2 classes; the nearest are "):
        scored.check(["a cat", "yellow star"])
    load("class", classes=["a cat", "a dog"], label=1).check(["yellow star"])
