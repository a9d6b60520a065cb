"""Short names."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from verifiers import CLIPScore, available, load


def test_names_load_with_options(clip_directory: Path) -> None:
    assert " ".join(available()) == (
        "clip aesthetic image-reward pickscore hps hpsv3 vlm judge class consistency jpeg sharpness saturation "
        "brightness safety"
    )
    clip = load("clip", model=clip_directory, output="cosine")
    assert isinstance(clip, CLIPScore) and clip.output == "cosine"
    assert load("aesthetic").name == "aesthetic"
    with pytest.raises(TypeError, match="modle"):
        load("clip", modle="ViT-B-32")


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'asthetic'.*did you mean 'aesthetic'\?"):
        load("asthetic")
    with pytest.raises(ValueError, match=r"expected one of \['aesthetic', 'brightness', .*'vlm'\].*function"):
        load("zzz")


def test_every_verifier_is_made_by_its_name_without_loading_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a connection was opened"))
    for name, card in available().items():
        verifier = load(name)
        assert verifier.name == name
        assert verifier.kind == ("constraint" if name == "safety" else "score")
        assert (card.size == "none") == (card.weights.startswith("none"))
        assert isinstance(verifier.version, str) or card.needs


def test_cards_are_one_line_and_complete() -> None:
    for name, card in available().items():
        assert "\n" not in card.measures + card.details and card.direction == "higher is better"
        for field, value in asdict(card).items():
            assert value != "", f"{name} has no {field}"
        assert card.weights_licence != "no weights" or card.size == "none", name


def test_importing_verifiers_does_not_import_open_clip() -> None:
    slow = {"open_clip", "transformers", "torchvision"}
    check = f"import sys, verifiers; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
