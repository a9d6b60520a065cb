"""What pipelines call the pictures that they take."""

import diffusers
import pytest

from samplers.pipelines.pictures import picture_argument, takes_list
from tiny.pipelines import tiny


@pytest.mark.parametrize(
    ("name", "image", "mask", "control"),
    [
        ("StableDiffusionPipeline", None, None, None),
        ("StableDiffusionImg2ImgPipeline", "image", None, None),
        ("StableDiffusionInpaintPipeline", "image", "mask_image", None),
        ("StableDiffusionControlNetPipeline", "image", None, "image"),
        ("StableDiffusionControlNetImg2ImgPipeline", "image", None, "control_image"),
        ("StableDiffusionAdapterPipeline", "image", None, "image"),
        ("FluxPipeline", None, None, None),
        ("FluxControlNetPipeline", None, None, "control_image"),
        ("Flux2Pipeline", "image", None, None),
        ("OmniGenPipeline", "input_images", None, None),
        ("BlipDiffusionPipeline", "reference_image", None, None),
        ("AnimateDiffVideoToVideoPipeline", "video", None, None),
        ("WanVACEPipeline", "video", "mask", None),
    ],
)
def test_pictures_go_by_the_names_that_a_pipeline_has(name, image, mask, control):
    kind = getattr(diffusers, name)
    found = [picture_argument(kind, what) for what in ("image", "mask", "control image")]
    assert found == [image, mask, control]


def test_some_arguments_are_lists_of_one_picture_too():
    assert takes_list("input_images") and takes_list("video") and not takes_list("image")


def test_an_object_answers_as_its_class():
    pipe = tiny("sd-image")
    assert picture_argument(type(pipe), "image") == "image"
