"""Verifiers of edits: cosines by hand from open_clip, and edits of the embedded world whose direction is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contracts.verifier import VerifierContract, refused
from noise_search.shapes import WEIGHTS
from noise_search.shapes.render import render
from noise_search.shapes.scenes import COLOURS, SHAPES, Scenes
from tiny.clip import CONTEXT, SIDE
from verifiers import CLIPDirection, CLIPImage, CLIPScore, FunctionVerifier, load

WORLD = WEIGHTS / "clip"


class TestCLIPImage(VerifierContract):
    @pytest.fixture
    def verifier(self, clip_directory):
        return CLIPImage(clip_directory)

    @pytest.fixture
    def in_bfloat16(self, clip_directory):
        return CLIPImage(clip_directory, precision="bf16")


class TestCLIPDirection(VerifierContract):
    longest = (" ".join(f"word{i}" for i in range(CONTEXT - 2)), CONTEXT)

    @pytest.fixture
    def verifier(self, clip_directory):
        return CLIPDirection(clip_directory, source_prompt="photo of a yellow star")

    @pytest.fixture
    def in_bfloat16(self, clip_directory):
        return CLIPDirection(clip_directory, source_prompt="photo of a yellow star", precision="bf16")


class TestFunctionOfTheSource(VerifierContract):
    @pytest.fixture
    def verifier(self):
        return FunctionVerifier(lambda images, prompts, source: (images.mean((1, 2, 3)) - source.mean()).square())


class TestFunctionOfSources(VerifierContract):
    @pytest.fixture
    def verifier(self):
        def between(images, prompts, *, sources):
            return sum((images.mean((1, 2, 3)) - source.mean()).square() for source in sources)

        return FunctionVerifier(between)


def drawn(*things: str) -> torch.Tensor:
    """A large object each, such as "red circle", in the middle of a light picture."""
    words = [thing.split() for thing in things]
    one, slots = np.ones(len(words), int), np.zeros((len(words), 3), int)
    kinds = [[table.index(word[at]) for word in words] for at, table in ((1, SHAPES), (0, list(COLOURS)))]
    shape, colour = (np.column_stack([kind, slots]) for kind in kinds)
    place = np.full(shape.shape, 32)
    return render(Scenes(shape, colour, place > 0, place, place, one, one - 1, one - 1, one - 1))


def test_the_source_itself_keeps_all_and_goes_nowhere():
    source = drawn("red circle")
    torch.testing.assert_close(CLIPImage(WORLD)(source, [""], source=source), torch.ones(1), atol=1e-6, rtol=0)
    direction = CLIPDirection(WORLD, source_prompt="a red circle")
    assert direction(source, ["a blue circle"], source=source).item() == 0


def test_an_edit_along_the_captions_scores_above_others_and_one_against_them_below_0():
    asked, turned = ["a blue circle"], CLIPDirection(WORLD, source_prompt="a red circle")
    source = drawn("red circle")
    edits = drawn("blue circle", "green circle", "red star", "blue star")
    along, *others = turned(edits, asked * 4, source=source).tolist()
    assert along > 0.5 and along == max(along, *others)
    back = CLIPDirection(WORLD, source_prompt="a blue circle", target_prompt="a red circle")
    against = back(edits[:1], asked, source=source).item()
    assert against == pytest.approx(-along, abs=1e-6), "the captions the other way round turn the sign"
    kept = CLIPImage(WORLD)(edits, asked * 4, source=source)
    assert kept[3] < kept[0] < 1, "colour and shape changed leave less than colour alone"


def test_scores_are_the_cosines_of_open_clips_embeddings(clip_directory):
    import open_clip
    from PIL import Image

    name = f"local-dir:{clip_directory}"
    model, transform = open_clip.create_model_from_pretrained(name)
    pixels = torch.randint(0, 256, (4, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
    inputs = torch.stack([transform(Image.fromarray(image.to(torch.uint8).numpy())) for image in pixels])
    texts = open_clip.get_tokenizer(name)(["a red circle", "a blue square", "the star on the left", "a photo"])
    with torch.no_grad():
        image, text, _ = model.eval()(inputs, texts)
    image, text = image.double(), text.double()
    given = pixels.permute(0, 3, 1, 2) / 255
    images, source, prompts = given[:3], given[3:], ["a red circle", "a blue square", "the star on the left"]
    kept = CLIPImage(clip_directory)(images, prompts, source=source)
    torch.testing.assert_close(kept.double(), image[:3] @ image[3], atol=1e-6, rtol=0)
    turned = CLIPDirection(clip_directory, source_prompt="a photo")(images, prompts, source=source)
    expected = F.cosine_similarity(image[:3] - image[3], text[:3] - text[3])
    torch.testing.assert_close(turned.double(), expected, atol=1e-5, rtol=0)


def test_captions_of_the_edited_image_stand_in_for_instructions():
    source, edit = drawn("red circle"), drawn("blue circle")
    captioned = CLIPDirection(WORLD, source_prompt="a red circle")(edit, ["a blue circle"], source=source)
    for target in ("a blue circle", {"make it blue": "a blue circle"}):
        told = CLIPDirection(WORLD, source_prompt="a red circle", target_prompt=target)
        assert torch.equal(told(edit, ["make it blue"], source=source), captioned)
    with pytest.raises(ValueError, match="no target_prompt for 'make it red': add what it should show"):
        told.check(["make it blue", "make it red"])


def test_a_tower_encodes_images_once_for_clip_and_both_verifiers_of_edits(clip_directory, images):
    prompts, source = ["a star"] * 5, torch.rand(1, 3, 30, 50)
    clip = CLIPScore(clip_directory)
    tower = clip.source.tower()
    before = tower.images_encoded
    clip(images, prompts)
    CLIPDirection(clip_directory, source_prompt="a circle")(images, prompts, source=source)
    CLIPImage(clip_directory)(images, prompts, source=source)
    assert tower.images_encoded - before == 5 + 2, "the five images once, the source by each"


def test_captions_that_say_nothing_are_refused_before_anything_is_scored():
    with refused("'clip-direction' needs a caption of the source image: give it source_prompt=", ValueError):
        load("clip-direction").check(["a blue circle"])
    with refused("one caption of source and edited image, 'a red circle': give it target_prompt=", ValueError):
        load("clip-direction", source_prompt="a red circle").check(["a blue circle", "a red circle"])
    keys = {
        CLIPDirection(source_prompt=source, target_prompt=target).key
        for source in (None, "a red circle")
        for target in (None, "a blue circle", {"a": "b"})
    }
    assert len(keys) == 6


SOURCE = torch.rand(1, 3, 8, 8)
WRONG = {
    "a source missing": ({}, ValueError, r"'clip-image' needs \['source'\], which were not given"),
    "another need": ({"source": SOURCE, "sources": [SOURCE]}, TypeError, r"takes no \['sources'\]"),
    "8 bits": ({"source": (SOURCE * 255).to(torch.uint8)}, TypeError, "source: images has dtype torch.uint8"),
    "another range": ({"source": SOURCE * 2 - 1}, ValueError, r"source: images spans .*\(images \+ 1\) / 2"),
    "latents": ({"source": torch.rand(1, 4, 8, 8)}, ValueError, "source: images has 4 channels"),
    "two images": ({"source": SOURCE.expand(2, 3, 8, 8)}, ValueError, "source holds 2 images; expected one"),
    "NaN": ({"source": SOURCE * torch.nan}, ValueError, "source holds values that aren't finite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_source_is_refused_in_one_line(case, clip_directory, images):
    needs, kind, message = WRONG[case]
    with refused(message, kind):
        CLIPImage(clip_directory)(images, ["a"] * 5, **needs)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "an empty list"),
        (SOURCE, "a Tensor; expected a list"),
        ([SOURCE, SOURCE[0]], r"sources\[1\]: .* has shape"),
    ],
    ids=["none", "a tensor", "a row"],
)
def test_what_are_no_sources_are_refused_in_one_line(sources, message, images):
    one = FunctionVerifier(lambda images, prompts, sources: images.mean((1, 2, 3)))
    with refused(message, (TypeError, ValueError)):  # type: ignore[arg-type]
        one(images, ["a"] * 5, sources=sources)


def test_a_function_names_its_source_and_may_change_its_copy(images, prompts):
    def spoils(images, prompts, source):
        return source.mul_(0).sum() + images.mean((1, 2, 3))

    source = SOURCE.clone()
    FunctionVerifier(spoils)(images, prompts, source=source)
    assert torch.equal(source, SOURCE)
    assert FunctionVerifier(spoils).describe()["needs"] == ["source"]
    bound = FunctionVerifier(
        lambda images, prompts, source=SOURCE: images.mean((1, 2, 3)) - source.mean(), name="bound"
    )
    assert bound.needs == frozenset(), "what has a default is the function's own"
    assert bound(images, prompts).isfinite().all()
