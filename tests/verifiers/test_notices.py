"""What is said when weights load: once, with its size, and what their licence forbids."""

import logging
import subprocess
import sys

import pytest

from verifiers.loading import notices


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(notices, "_said", set())


def test_loading_is_said_once_with_its_size(caplog):
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        for _ in range(2):
            notices.loading("big.pt of org/big@main", 1_786_880_927, download=True)
        notices.loading("small", 3_000_000)
        notices.loading("large", 300_000_000)
    assert caplog.messages == ["downloading big.pt of org/big@main, 1.8 GB", "loading large, 300 MB"]


@pytest.mark.parametrize("setup", ["", "import logging; logging.basicConfig(level=logging.WARNING)\n"])
def test_a_download_is_said_where_logging_does_not_show_it(setup):
    code = "from verifiers.loading import notices; notices.loading('x', 4_266_648_961, download=True)"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=True)
    assert done.stderr == "downloading x, 4.3 GB\n" and done.stdout == ""


def test_a_notice_goes_to_logging_where_that_shows_it(caplog, capsys, monkeypatch):
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        notices.loading("x", download=True)
    assert "downloading x" in caplog.text and capsys.readouterr().err == ""
    monkeypatch.setattr(notices.log, "propagate", False)
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        notices.loading("y", download=True)  # enabled, and no handler gets it
    assert capsys.readouterr().err == "downloading y\n"


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("ViT-H-14-quickgelu dfn5b", "research only, no commercial use"),
        ("ViT-H-14-quickgelu metaclip_fullcc", "no commercial use"),
        ("visheratin/nllb-clip-large-siglip", "no commercial use"),
        ("nllb-clip-base-siglip v1", "no commercial use"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "research only"),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "sets terms for commercial use"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "whom its terms leave out"),
        ("google/paligemma2-3b-pt-224", "Gemma terms of use"),
        ("google/gemma-3-4b-it", "Gemma terms of use"),
        ("facebook/dinov3-vitb16", "gated"),
        ("CompVis/stable-diffusion-safety-checker", "OpenRAIL-M"),
        ("inception_v3_google-0cc3c7bd.pth", "no licence is stated"),
        ("yuvalkirstain/PickScore_v1", "no licence is stated"),
        ("trl-lib/ddpo-aesthetic-predictor", "no licence file"),
    ],
)
def test_licences_with_terms_are_flagged_once(weights, words, caplog):
    notices.flag(weights)
    notices.flag(weights)
    (told,) = caplog.records
    assert words in told.getMessage() and told.levelno == logging.WARNING


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("creativeml-openrail-m", "sets terms of use; read it on the model card"),
        ("flux-1-dev-non-commercial-license", "forbids commercial use"),
        ("cc-by-nc-4.0", "forbids commercial use"),
        ("stabilityai-ai-community", "sets terms of use"),
        ("other", "sets terms of use"),
    ],
)
def test_a_licence_that_restricts_use_is_said_once(licence, words, caplog):
    notices.licensed("org/model", licence)
    notices.licensed("org/model", licence)
    (told,) = caplog.messages
    assert told.startswith(f"org/model: its licence, {licence}, ") and words in told


@pytest.mark.parametrize("licence", [None, "apache-2.0", "mit", "MIT", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"])
def test_other_licences_are_not_said(licence, caplog):
    notices.licensed("org/model", licence)
    assert not caplog.messages


@pytest.mark.parametrize(
    "weights",
    [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen3-VL-2B-Instruct",
        "ViT-L-14-quickgelu openai",
        "facebook/dinov2-base",
        "meta-llama/Llama-3.2-1B",
        "xswu/HPSv2",
    ],
)
def test_free_licences_are_not_flagged(weights, caplog):
    notices.flag(weights)
    assert not caplog.records
