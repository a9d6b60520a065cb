"""Verifiers at their published size, on random weights, against implementations that are not ours.

`PYTHONPATH=tests:tests/verifiers python tests/benchmarks/full_size.py [NAME...]`: clip, hps, pickscore, image-reward.
Each writes weights of the true architecture as the published ones are stored, loads them through the verifier, scores
two images of the tower's own size (so that nothing is resized), and prints the largest difference. About 5 GB of
memory, two minutes.
"""

import sys
import tempfile
from pathlib import Path

import torch
from full_size_weights import write_hps, write_image_reward, write_open_clip, write_pickscore

from verifiers import HPS, CLIPScore, ImageReward, PickScore

PROMPTS = ["a red circle to the left of a blue square", "star"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)) / 255


def normalised() -> torch.Tensor:
    return (images() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def open_clip_cosine(model: str, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The cosine by open_clip's own forward, the product in float64."""
    import open_clip

    tower = open_clip.create_model(model).eval()
    tower.load_state_dict(state)
    image, text, _ = tower(normalised(), open_clip.get_tokenizer(model)(PROMPTS))
    return (image.double() * text.double()).sum(-1)


def clip(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from safetensors.torch import load_file

    write_open_clip(folder, "ViT-L-14-quickgelu")
    file = folder / "model.safetensors"
    ours = CLIPScore("ViT-L-14-quickgelu", file, output="cosine")(images(), PROMPTS)
    return ours, open_clip_cosine("ViT-L-14-quickgelu", load_file(file))


def hps(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    write_hps(folder)
    state = torch.load(folder / "HPS.pt", weights_only=True)["state_dict"]
    ours = HPS(weights=folder / "HPS.pt")(images(), PROMPTS)
    return ours, open_clip_cosine("ViT-H-14", {name: value.float() for name, value in state.items()})


def pickscore(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers import AutoTokenizer, CLIPModel

    write_pickscore(folder)
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="pt")
    theirs = model(pixel_values=normalised(), input_ids=words.input_ids, attention_mask=words.attention_mask)
    return PickScore(folder)(images(), PROMPTS), theirs.logits_per_image.diagonal()


def image_reward(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Against a reading of the original's weights in plain torch."""
    from test_image_reward import plain
    from transformers import AutoTokenizer

    write_image_reward(folder)
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    words = AutoTokenizer.from_pretrained(folder / "tokenizer")(
        PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    )
    ours = ImageReward(folder / "ImageReward.pt", tokenizer=folder / "tokenizer")(images(), PROMPTS)
    return ours, plain(state, normalised(), words.input_ids, words.attention_mask)


CHECKS = {"clip": clip, "hps": hps, "pickscore": pickscore, "image-reward": image_reward}


@torch.no_grad()
def main(names: list[str]) -> None:
    for name in names or CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = CHECKS[name](Path(folder))
        print(f"{name}: {float((ours.double() - theirs.double()).abs().max()):.1e} of {float(theirs.abs().max()):.3g}")


if __name__ == "__main__":
    main(sys.argv[1:])
