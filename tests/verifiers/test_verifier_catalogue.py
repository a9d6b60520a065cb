"""Short names."""

import subprocess
import sys
from pathlib import Path

import pytest

from verifiers import CLIPScore, available, load


def test_names_load_with_options(clip_directory: Path) -> None:
    assert set(available()) == {"clip", "aesthetic"}
    clip = load("clip", model=clip_directory, output="cosine")
    assert isinstance(clip, CLIPScore) and clip.output == "cosine"
    assert load("aesthetic").name == "aesthetic"
    with pytest.raises(TypeError, match="modle"):
        load("clip", modle="ViT-B-32")


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'asthetic'.*did you mean 'aesthetic'\?"):
        load("asthetic")
    with pytest.raises(ValueError, match=r"expected one of \['aesthetic', 'clip'\].*function"):
        load("zzz")


def test_cards_are_one_line() -> None:
    for card in available().values():
        assert "\n" not in str(card) and "higher is better" in str(card)


def test_importing_verifiers_does_not_import_open_clip() -> None:
    slow = {"open_clip", "transformers", "torchvision"}
    check = f"import sys, verifiers; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
