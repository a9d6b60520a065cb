"""Class scores against open_clip's zero-shot classifier, transformers' linear head and torchvision's own Inception."""

from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contracts.verifier import VerifierContract
from tiny.classes import LABELS, save_torchvision, torchvision_model, write_linear_head
from tiny.clip import write_tiny_clip
from verifiers import CLIPScore, WeightsError
from verifiers.classes import clip as classes_clip
from verifiers.classes.classifier import Classifier
from verifiers.classes.names import ClassNames, with_wordnet
from verifiers.classes.score import CARD, ClassScore, _listed
from verifiers.classes.torchvision import TorchvisionClassifier, fetch
from verifiers.inputs.classifier import ClassifierInput
from verifiers.loading.weights import file_sha256

OWN = ["red circle", "blue square", "star", "photo", "yellow circle above the square"]
TEMPLATES = ["{}", "a {} .", "a photo of the {}"]
SMALL = "shufflenet_v2_x0_5"
TEN = [f"word{number}" for number in range(10)]


@pytest.fixture(scope="module")
def head_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_head(tmp_path_factory.mktemp("models") / "head")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_torchvision(torchvision_model(SMALL, 10), tmp_path_factory.mktemp("models") / "small.pth")


def zero_shot(folder: Path, **options: Any) -> ClassScore:
    return ClassScore("clip", model=folder, **{"classes": OWN, "templates": TEMPLATES, **options})


def small(file: Path, **options: Any) -> ClassScore:
    return ClassScore("inception", model=SMALL, pretrained=file, **{"classes": TEN, **options})


def as_pil(images: Tensor) -> list[Any]:
    from PIL import Image

    return [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]


class TestZeroShot(VerifierContract):
    options: ClassVar[dict[str, Any]] = {"label": "star"}

    @pytest.fixture
    def verifier(self, clip_directory):
        return zero_shot(clip_directory, **self.options)

    @pytest.fixture
    def in_bfloat16(self, clip_directory):
        return zero_shot(clip_directory, **self.options, precision="bf16")


class TestZeroShotProbability(TestZeroShot):
    options: ClassVar[dict[str, Any]] = {"label": 1, "output": "log-probability"}


class TestLinearHead(VerifierContract):
    @pytest.fixture
    def verifier(self, head_folder):
        return ClassScore("dinov2", model=head_folder, label="disc")

    @pytest.fixture
    def in_bfloat16(self, head_folder):
        return ClassScore("dinov2", model=head_folder, label="disc", precision="bf16")


class TestTorchvision(VerifierContract):
    half_tolerance = 0.08

    @pytest.fixture
    def verifier(self, small_file):
        return small(small_file, label=2, output="log-probability")

    @pytest.fixture
    def in_bfloat16(self, small_file):
        return small(small_file, label=2, output="log-probability", precision="bf16")


class Made(Classifier):
    """Logits that a test states."""

    label = "made"

    def __init__(self, logits: Sequence[Sequence[float]]) -> None:
        self.given = torch.tensor(logits)
        self.names = ClassNames((f"class {number}",) for number in range(self.given.shape[1]))

    def load(self, device: Any) -> None:
        pass

    def logits(self, images: Tensor, among: Sequence[int] | None = None) -> Tensor:
        return self.given if among is None else self.given[:, list(among)]


def made(logits: Sequence[Sequence[float]], **options: Any) -> ClassScore:
    verifier = ClassScore("clip", **options)
    verifier.classifier = Made(logits)
    return verifier


def test_each_row_gets_the_score_of_its_own_class():
    images = torch.zeros(3, 3, 2, 2)
    logits = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    prompts = ["class 2", "Class  0", "1"]
    assert made(logits)(images, prompts).tolist() == [3.0, 4.0, 8.0]
    expected = [logits[row][column] - log(sum(exp(x) for x in logits[row])) for row, column in enumerate((2, 0, 1))]
    found = made(logits, output="log-probability")(images, prompts)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)
    found = made(logits, output="probability")(images, prompts)
    torch.testing.assert_close(found, torch.tensor(expected).exp(), atol=1e-6, rtol=0)
    assert made(logits, label=1)(images, prompts).tolist() == [2.0, 5.0, 8.0]


def test_logits_and_probabilities_rank_differently():
    # The second image looks more like every class; the first is clearer about the one asked for.
    logits, images, prompts = [[3.0, 0.0, 0.0], [5.0, 5.0, 4.0]], torch.zeros(2, 3, 2, 2), ["class 0"] * 2
    assert made(logits)(images, prompts).tolist() == [3.0, 5.0]
    found = made(logits, output="log-probability")(images, prompts).tolist()
    assert found == pytest.approx([-log(1 + 2 * exp(-3)), -log(2 + exp(-1))], abs=1e-6)
    assert found[0] > found[1]


def test_sure_images_tie_in_probability_alone():
    logits, images = [[30.0, 0.0], [40.0, 0.0]], torch.zeros(2, 3, 2, 2)
    scores = [made(logits, output=output)(images, ["0"] * 2) for output in ("probability", "log-probability", "logit")]
    assert [len(score.unique()) for score in scores] == [1, 1, 2]  # both saturate; only logits go on
    mild = made([[10.0, 0.0], [12.0, 0.0]], output="log-probability")(images, ["0"] * 2)
    assert mild[0] < mild[1] < 0


def test_the_papers_outputs_are_the_defaults():
    outputs = {backend: ClassScore(backend).output for backend in ("clip", "dinov2", "inception")}
    assert outputs == {"clip": "logit", "dinov2": "logit", "inception": "probability"}


def test_labels_are_names_synonyms_or_numbers(head_folder, images):
    score = ClassScore("dinov2", model=head_folder)
    same = ["tench", "Tinca Tinca", "tench, tinca tinca", "0", " TENCH "]
    alike = images[:1].expand(5, -1, -1, -1)
    assert len(score(alike, same).unique()) == 1
    assert score(alike, ["disc"] * 5)[0] == ClassScore("dinov2", model=head_folder, label=2)(alike, ["?"] * 5)[0]
    assert score(alike, ["disc"] * 5)[0] != score(alike, same)[0]


def test_wrong_labels_are_told_with_the_nearest(head_folder, images):
    score = ClassScore("dinov2", model=head_folder)
    for label, message in [
        ("golden retreiver", r"none of the 5 classes; the nearest are 4 \('golden retriever'\)"),
        ("crane", r"names 2 classes: 1 \('crane'\), 3 \('crane'\); give the number"),
        ("5", "label is 5; expected a class number from 0 to 4"),
        ("", "label '' is none of the 5 classes"),
        ("-1", "label '-1' is none of"),
        ("a very long caption " * 20, "none of the 5 classes"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            score(images[:1], [label])
        assert "\n" not in str(error.value) and len(str(error.value)) < 400
    with pytest.raises(ValueError, match="label is 9; expected a class number from 0 to 4"):
        ClassScore("dinov2", model=head_folder, label=9).load()


def test_names_of_ones_own_are_whole_and_come_before_numbers():
    names = ClassNames([("7",), ("a cat, a dog",), ("a cat",)])
    assert names.find("7") == 0
    assert names.find("a cat") == 2
    assert names.find("2") == 2
    assert names.find(1) == 1


def test_imagenets_classes_answer_to_wordnets_synonyms():
    from open_clip import IMAGENET_CLASSNAMES
    from torchvision.models import Inception_V3_Weights

    known = {"golden retriever": 207, "white shark": 2, "Carcharodon carcharias": 2, "tench, Tinca tinca": 0}
    known |= {"toilet paper": 999, "388": 388}
    theirs = Inception_V3_Weights.IMAGENET1K_V1.meta["categories"]
    for published in (IMAGENET_CLASSNAMES, theirs):
        names = with_wordnet(published)
        assert len(names) == 1000
        assert {label: names.find(label) for label in known} == known
        with pytest.raises(ValueError, match=r"'crane' names 2 classes: 134 .*517"):
            names.find("crane")
        # Every name in use means its own class, or is refused because another class has it too.
        refused = 0
        for number, name in enumerate(published):
            try:
                assert names.find(name) == number
            except ValueError:
                refused += 1
        assert refused <= 11
    assert with_wordnet(theirs).find("hammerhead") == with_wordnet(IMAGENET_CLASSNAMES).find("hammerhead shark") == 4


@pytest.mark.parametrize("published", [False, True])
def test_zero_shot_equals_open_clips(clip_directory, images, published):
    import open_clip

    name = f"local-dir:{clip_directory}"
    model, transform = open_clip.create_model_from_pretrained(name)
    templates: Any = open_clip.OPENAI_IMAGENET_TEMPLATES if published else TEMPLATES
    tokenizer = open_clip.get_tokenizer(name)
    expected = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, OWN, templates, num_classes_per_batch=2)
    score = zero_shot(clip_directory, templates=None if published else TEMPLATES)
    columns = score.classifier.columns(score.classifier.source.tower())  # type: ignore[attr-defined]
    torch.testing.assert_close(columns, expected.T, atol=1e-6, rtol=0)
    torch.testing.assert_close(columns.norm(dim=1), torch.ones(len(OWN)), atol=1e-6, rtol=0)
    exact = torch.nn.functional.interpolate(images, (32, 32))
    with torch.no_grad():
        features = model.encode_image(torch.stack([transform(image) for image in as_pil(exact)]), normalize=True)
        logits = model.logit_scale.exp() * features @ expected
    for number in range(len(OWN)):
        torch.testing.assert_close(score(exact, OWN[number : number + 1] * 5), logits[:, number], atol=1e-5, rtol=0)
    found = zero_shot(clip_directory, templates=score.classifier.templates, output="log-probability")  # type: ignore[attr-defined]
    torch.testing.assert_close(found(exact, OWN), logits.log_softmax(1).diagonal(), atol=1e-5, rtol=0)


def test_one_class_and_template_is_the_logit_of_clip(clip_directory, images):
    score = zero_shot(clip_directory, templates=["{}"])
    assert not score.prompt_agnostic  # prompts are the classes
    prompts = [OWN[row % 2] for row in range(5)]
    torch.testing.assert_close(
        score(images, prompts), CLIPScore(clip_directory, output="logit")(images, prompts), atol=1e-5, rtol=0
    )


def test_templates_may_be_functions(clip_directory, images):
    functions = [lambda name: name, lambda name: f"a {name} .", lambda name: f"a photo of the {name}"]
    score, same = zero_shot(clip_directory), zero_shot(clip_directory, templates=functions)
    assert torch.equal(score(images, OWN), same(images, OWN))
    assert score.version == same.version


def test_texts_are_encoded_when_needed_and_once(clip_directory, images):
    classes = [f"word{number}" for number in range(60)]
    score = zero_shot(clip_directory, classes=classes)  # 3 templates: blocks of 21 classes
    tower = score.classifier.source.tower()  # type: ignore[attr-defined]
    before, kept = tower.texts_encoded, len(tower.texts.kept)
    score(images, ["word25"] * 5)
    assert tower.texts_encoded - before == 63
    score(images.flip(0), ["word30"] * 5)
    assert tower.texts_encoded - before == 63
    everything = zero_shot(clip_directory, classes=classes, output="probability")
    everything(images, ["word0"] * 5)
    everything(images, ["word59"] * 5)
    assert tower.texts_encoded - before == 63 + 180
    assert len(tower.texts.kept) == kept  # prompts that other verifiers keep there are not pushed out
    columns = everything.classifier.columns(tower)  # type: ignore[attr-defined]
    assert torch.equal(score.classifier.columns(tower, [30]), columns[30:31])  # type: ignore[attr-defined]


def test_a_long_wait_for_texts_is_said(clip_directory, images, monkeypatch, caplog):
    monkeypatch.setattr(classes_clip, "SAID_FROM", 14)
    caplog.set_level("INFO", "verifiers.loading")
    zero_shot(clip_directory)(images, OWN)
    assert "encoding 15 texts" in caplog.text


def test_the_image_encoding_is_shared_with_clip(clip_directory, images):
    clip, images = CLIPScore(clip_directory), images.flip(3)  # others have not encoded these
    before = clip.source.tower().images_encoded
    clip(images, OWN)
    zero_shot(clip_directory)(images, OWN)
    assert clip.source.tower().images_encoded - before == 5


def test_siglips_bias_is_in_the_logit(tmp_path, images):
    folder = write_tiny_clip(tmp_path / "siglip", init_logit_bias=-10.0, custom_text=True)
    prompts = ["star"] * 5
    logits = CLIPScore(folder, output="logit")(images, prompts)
    torch.testing.assert_close(zero_shot(folder, templates=["{}"])(images, prompts), logits, atol=1e-4, rtol=0)


def test_the_linear_head_equals_transformers(head_folder):
    from transformers import AutoModelForImageClassification, BitImageProcessorPil

    model: Any = AutoModelForImageClassification.from_pretrained(head_folder, dtype=torch.float32).eval()
    processor = BitImageProcessorPil.from_pretrained(head_folder)
    # 32 rows or columns stay as they are; of 37 and 28, 9 are too many: 4 go before, 5 after.
    for shape in [(32, 37), (37, 32), (32, 32)]:
        images = torch.rand(4, 3, *shape, generator=torch.Generator().manual_seed(2))
        pixels = processor(as_pil(images), return_tensors="pt").pixel_values
        with torch.no_grad():
            logits = model(pixel_values=pixels).logits
            tokens = model.dinov2(pixels).last_hidden_state
        by_hand = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1) @ model.classifier.weight.T
        torch.testing.assert_close(logits, by_hand + model.classifier.bias, atol=1e-5, rtol=0)
        score = ClassScore("dinov2", model=head_folder)
        for number in range(len(LABELS)):
            torch.testing.assert_close(score(images, [str(number)] * 4), logits[:, number], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(512, 512), (96, 130), (333, 250)])
def test_its_input_is_that_of_pil(head_folder, shape):
    from transformers import BitImageProcessorPil

    processor = BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    images = smooth(2, shape)
    _compare(ClassifierInput.of_transformers(processor)(images), processor(as_pil(images), return_tensors="pt"), 2)


def smooth(count: int, shape: tuple[int, int]) -> Tensor:
    coarse = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic").clamp(0, 1)


def _compare(found: Tensor, theirs: Any, levels: int) -> None:
    """Equal to whole levels of 8 bits, nearly everywhere exactly."""
    expected = theirs if isinstance(theirs, Tensor) else theirs.pixel_values
    scale = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255
    off = ((found - expected) * scale).abs()
    assert found.shape == expected.shape
    assert off.max() < levels + 0.01
    assert (off > 0.01).float().mean() < 0.01


def test_other_processors_are_refused(tmp_path):
    from transformers import BitImageProcessor, ConvNextImageProcessor, DeiTImageProcessor, ViTImageProcessor

    imagenet = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    squash = ClassifierInput.of_transformers(ViTImageProcessor(size={"height": 20, "width": 30}, **imagenet))
    assert (squash.resize, squash.crop, squash.interpolation) == ((20, 30), (20, 30), "bilinear")
    margin = ClassifierInput.of_transformers(DeiTImageProcessor(**imagenet))
    assert (margin.resize, margin.crop, margin.interpolation) == ((256, 256), (224, 224), "bicubic")
    for wrong in (
        ConvNextImageProcessor(),
        BitImageProcessor(size={"shortest_edge": 200}),  # the crop would need a border
        BitImageProcessor(do_center_crop=False),
        BitImageProcessor(do_normalize=False),
        BitImageProcessor(rescale_factor=1 / 127.5),
        ViTImageProcessor(resample=0),
    ):
        with pytest.raises(WeightsError, match="expected a bilinear or bicubic resize, a crop within it") as error:
            ClassifierInput.of_transformers(wrong)
        assert "\n" not in str(error.value)
    folder = write_linear_head(tmp_path / "odd", do_normalize=False)
    with pytest.raises(WeightsError, match="expected a bilinear or bicubic"):
        ClassScore("dinov2", model=folder).load()


def test_inception_equals_torchvision(tmp_path):
    from torchvision.models import Inception_V3_Weights

    model = torchvision_model("inception_v3", 1000, transform_input=True, aux_logits=True, init_weights=False)
    model.fc.weight.data *= 20  # else all images look alike to random weights
    file = save_torchvision(model, tmp_path / "inception.pth")
    score = ClassScore("inception", pretrained=file)
    transform = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    images = smooth(3, (342, 345))  # no resize, so pixels are exact; margins 21.5 (22 to even) and 23
    with torch.no_grad():
        logits = model(torch.stack([transform(image) for image in as_pil(images)]))
    assert (logits[0] - logits[1]).abs().max() > 0.1
    expected = logits.softmax(1)
    prompts = ["golden retriever", "0", "toilet tissue"]
    found = score(images, prompts)
    torch.testing.assert_close(found, expected[[0, 1, 2], [207, 0, 999]], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(score.classifier.logits(images), logits, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("shape", [(512, 512), (400, 640), (300, 224)])
def test_its_input_is_that_of_torchvision_on_pil(shape):
    preset = TorchvisionClassifier()._published.transforms()
    images = smooth(2, shape)
    expected = torch.stack([preset(image) for image in as_pil(images)])
    _compare(ClassifierInput.of_torchvision(preset)(images), expected, 2)


def test_other_classifiers_of_torchvision(small_file, images):
    score = small(small_file, output="logit")
    model = torchvision_model(SMALL, 10)
    model.load_state_dict(torch.load(small_file, weights_only=True))
    with torch.no_grad():
        logits = model(ClassifierInput.of_torchvision(TorchvisionClassifier(SMALL)._published.transforms())(images))
    torch.testing.assert_close(score(images, TEN[:5]), logits.diagonal(), atol=1e-5, rtol=1e-5)


def test_published_files_are_checked_by_the_digits_in_their_name(tmp_path, monkeypatch, small_file):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    published = TorchvisionClassifier()._published
    (cache / "inception_v3_google-0cc3c7bd.pth").write_bytes(small_file.read_bytes())
    with pytest.raises(WeightsError, match=r"has sha256 .*, expected 0cc3c7bd\.\.\.: the file is damaged"):
        fetch(published)
    name = f"small-{file_sha256(small_file)[:8]}.pth"
    (cache / name).write_bytes(small_file.read_bytes())
    assert fetch(SimpleNamespace(url=f"https://example.org/{name}", meta={})) == cache / name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / name.replace("small", "other")).write_bytes(small_file.read_bytes())
    address = f"file://{elsewhere / name.replace('small', 'other')}"
    assert fetch(SimpleNamespace(url=address, meta={})).read_bytes() == small_file.read_bytes()
    with pytest.raises(WeightsError, match=r"could not get .*download the file elsewhere and pass its path") as error:
        fetch(SimpleNamespace(url=f"file://{tmp_path}/gone-01234567.pth", meta={}))
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match=r"plain\.pth has no hash in its name"):
        fetch(SimpleNamespace(url="https://example.org/plain.pth", meta={}))
    assert ClassScore("inception").version == "inception/inception_v3/IMAGENET1K_V1@0cc3c7bd/probability"


def test_half_models_without_a_last_linear_layer_give_what_they_give(tmp_path, images):
    file = save_torchvision(torchvision_model("squeezenet1_1", 10), tmp_path / "squeeze.pth")
    options: Any = {"model": "squeezenet1_1", "pretrained": file, "classes": TEN, "output": "logit"}
    scores = ClassScore("inception", precision="bf16", **options)(images, TEN[:5])
    assert torch.equal(scores, scores.bfloat16().float())
    full = ClassScore("inception", **options)(images, TEN[:5])
    torch.testing.assert_close(scores, full, atol=0.05, rtol=0.05)


def test_versions_tell_what_changes_scores(clip_directory, head_folder, small_file):
    changes: list[dict[str, Any]] = [{}, *({"output": output} for output in ("probability", "log-probability"))]
    changes += [{"label": 1}, {"label": "star"}, {"templates": ["{}"]}, {"templates": None}, {"precision": "bf16"}]
    versions = [
        zero_shot(clip_directory, **o).version for o in (*changes, {"classes": OWN[:4]}, {"classes": OWN[::-1]})
    ]
    versions += [ClassScore("dinov2", model=head_folder, **o).version for o in ({}, {"classes": OWN})]
    versions += [small(small_file, **options).version for options in ({}, {"classes": TEN[::-1]})]
    versions += [ClassScore("dinov2").version, ClassScore("dinov2", revision="0123456789").version]
    assert len(set(versions)) == len(versions)
    assert ClassScore("dinov2").version == "dinov2/facebook/dinov2-base-imagenet1k-1-layer@main/logit"
    assert ClassScore().version.startswith("clip/ViT-L-14-quickgelu/openai/1000x80/")
    assert ClassScore().version.endswith("/logit")
    assert "Apache-2.0" in CARD.weights_licence and "not stated" in CARD.weights_licence


def test_options_of_other_backends_and_wrong_lists_are_refused():
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"backend": "resnet"}, ValueError, r"backend is 'resnet'; expected one of \('clip', 'dinov2', 'inception'\)"),
        ({"output": "softmax"}, ValueError, r"output is 'softmax'; expected one of \('logit', 'log-probability'"),
        ({"backend": "dinov2", "pretrained": "x"}, ValueError, "pretrained='x' does nothing with backend 'dinov2'"),
        ({"backend": "dinov2", "templates": ["{}"]}, ValueError, "templates=.* does nothing"),
        ({"backend": "inception", "revision": "main"}, ValueError, "revision='main' does nothing"),
        ({"classes": "a cat"}, TypeError, "classes is 'a cat'; expected a list of texts"),
        ({"classes": ["a cat"]}, ValueError, "expected at least 2"),
        ({"templates": ["a photo"]}, ValueError, "template 'a photo' has no '{}' for the class"),
        ({"templates": []}, ValueError, "expected at least 1"),
        ({"model": "ViT-L-14", "pretrained": "openai"}, ValueError, "use model 'ViT-L-14-quickgelu'"),
        ({"label": True}, TypeError, "label is True; expected a class's name or number"),
        ({"backend": "dinov2", "precision": "int8"}, ValueError, "precision is 'int8'; expected one of float32, bfloa"),
        ({"backend": "inception", "precision": "int8"}, ValueError, "precision is 'int8'; expected one of float32, "),
    ]
    for options, kind, message in wrong:
        with pytest.raises(kind, match=message):
            ClassScore(**options)
    with pytest.raises(TypeError, match="classes holds 3 of type int"):
        _listed("classes", ["a cat", 3], least=2)


def test_missing_and_wrong_weights_are_one_line(head_folder, small_file, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    incomplete = write_linear_head(tmp_path / "incomplete")
    tensors = load_file(incomplete / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, incomplete / "model.safetensors", metadata={"format": "pt"})
    for wrong, message in [
        (ClassScore("clip"), "openai"),
        (ClassScore("clip", model=tmp_path / "nowhere"), "does not exist"),
        (ClassScore("dinov2"), "facebook/dinov2-base-imagenet1k-1-layer"),
        (ClassScore("dinov2", model=tmp_path / "nowhere"), "does not exist"),
        (ClassScore("dinov2", model=incomplete), "1 missing keys .*classifier.weight"),
        (ClassScore("dinov2", model=head_folder, classes=["a", "b"]), "has 5 classes but 2 names were given"),
        (ClassScore("inception", model="resnet5"), "torchvision has no classifier 'resnet5'; expected e.g. .*resnet50"),
        (ClassScore("inception", pretrained="V9"), "'V9' is neither weights of 'inception_v3' nor a file; .*IMAGENET"),
        (ClassScore("inception", pretrained=tmp_path / "no.pth"), "is no file"),
        (small(small_file, classes=TEN[:9]), "does not fit shufflenet_v2_x0_5 with 9 classes: size mismatch for fc"),
        (ClassScore("inception", model="resnet18", pretrained=small_file), "does not fit resnet18 with 1000 classes"),
    ]:
        with pytest.raises(WeightsError, match=message) as error:
            wrong.load()
        assert "\n" not in str(error.value)
