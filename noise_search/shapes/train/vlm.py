"""Stage "vlm": a LLaVA of 1.7 million weights that answers yes or no to questions about an image of the world.

Its vision tower starts from the embedded CLIP. Two things make it learn in under an hour on a CPU: a linear head that
must tell from each patch's feature which object is centred there (it is dropped afterwards), and several questions per
image that share its tokens, each of which sees the image and itself only.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from noise_search.shapes.captions import NUMBERS, PHRASES, near_miss, parse, plural
from noise_search.shapes.configs import WIDTH
from noise_search.shapes.oracle import _facts
from noise_search.shapes.reading import Found
from noise_search.shapes.render import CANVAS, render
from noise_search.shapes.scenes import COLOURS, LATTICE, SHAPES, Scenes, sample_scenes
from noise_search.shapes.train.clip import corrupt
from noise_search.shapes.train.loop import Plan, fit

BATCH = 64
PATCH = 8
TOKENS = (CANVAS // PATCH) ** 2
CHAT = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
TEMPLATES = (
    'Does this image show "{}"? Answer yes or no.',
    "Does this image show {}? Answer yes or no.",
    'Does this figure show "{}"? Please answer yes or no.',
    'Does this image show "{}"?',
)
"""Ways to ask whether the image shows what a caption says and nothing else."""
PRESENCE = "Is there {} in this image? Answer yes or no."
"""Whether the image shows an object, whatever else it shows."""
PER_SCENE = 6

_COLOURS = tuple(COLOURS)


def _muon(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and "layers" in name


PLAN = Plan("vlm", steps=2000, rate=1.5e-3, weight_decay=0.01, average=0.995, decay_from=0.6, muon=_muon)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the world's captions and of the questions; other words are `<unk>`, case is ignored."""
    words = {word for phrases in PHRASES.values() for phrase in phrases for word in phrase.split()}
    words |= {"a", "an", "and", "small", "large", "yes", "no", *NUMBERS, *COLOURS, *SHAPES, *map(plural, SHAPES)}
    words |= set(" ".join([PRESENCE, *TEMPLATES]).lower().replace("?", " ").replace(".", " ").split()) - {'"{}"', "{}"}
    special = ["<pad>", "<unk>", "<eos>", "<image>", "<answer>"]
    names = [*special, *'.,?!"', *sorted(words)]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        extra_special_tokens=["<image>", "<answer>"],
        padding_side="left",
    )


def processor() -> LlavaProcessor:
    """Images to 64 pixels as the CLIP's are, `<image>` to one token per patch, and the chat template."""
    images = CLIPImageProcessor(
        size={"shortest_edge": CANVAS},
        crop_size={"height": CANVAS, "width": CANVAS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        images,
        tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        num_additional_image_tokens=1,
    )


def model(words: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """The untrained model."""
    pad, eos, image = words.convert_tokens_to_ids(["<pad>", "<eos>", "<image>"])
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=CANVAS,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, vision_feature_layer=-1)
    )


def tower_weights(clip: dict[str, Tensor]) -> dict[str, Tensor]:
    """An open_clip model's image tower under the names of transformers' `CLIPVisionModel`, projection left out."""
    named = {
        "embeddings.class_embedding": clip["visual.class_embedding"],
        "embeddings.position_embedding.weight": clip["visual.positional_embedding"],
        "embeddings.patch_embedding.weight": clip["visual.conv1.weight"],
    }
    inside = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    inside |= {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    for name, value in clip.items():
        head, _, end = name.removeprefix("visual.").rpartition(".")
        if head in ("ln_pre", "ln_post") and name.startswith("visual."):
            named[f"{'pre_layrnorm' if head == 'ln_pre' else 'post_layernorm'}.{end}"] = value
        if not name.startswith("visual.transformer.resblocks."):
            continue
        layer, _, part = name.removeprefix("visual.transformer.resblocks.").partition(".")
        where = f"encoder.layers.{layer}"
        if part.startswith("attn.in_proj_"):
            for projection, third in zip("qkv", value.chunk(3), strict=True):
                named[f"{where}.self_attn.{projection}_proj.{part.removeprefix('attn.in_proj_')}"] = third
        else:
            module, _, end = part.rpartition(".")
            named[f"{where}.{inside[module]}.{end}"] = value
    return {name: value.float() for name, value in named.items()}


class Trainee(nn.Module):
    """The model, and the head that reads objects off single patches while it is trained."""

    def __init__(self, clip: Path) -> None:
        """Start the vision tower from the CLIP in the directory."""
        super().__init__()
        self.words = tokenizer()
        self.vlm = model(self.words)
        tower: CLIPVisionModel = self.vlm.model.vision_tower
        tower.load_state_dict(tower_weights(load_file(clip / "open_clip_model.safetensors")))
        self.objects = nn.Linear(WIDTH, len(SHAPES) + 1 + len(COLOURS) + 2)

    def forward(self, images: Tensor, asked: list[list[str]]) -> tuple[Tensor, Tensor]:
        """Logits of the first answer token `[scene, question, word]` and of each patch's object `[scene, patch, _]`."""
        features = self.vlm.model.vision_tower(images * 2 - 1, output_hidden_states=True).hidden_states[-1][:, 1:]
        seen = self.vlm.model.multi_modal_projector(features)
        texts = [f"{question}<answer>" for each in asked for question in each]
        made = self.words(texts, padding=True, padding_side="right", return_tensors="pt")
        count, length = len(asked[0]), made.input_ids.shape[1]
        ids = made.input_ids.view(len(asked), count * length).to(images.device)
        told = self.vlm.model.language_model.embed_tokens(ids)
        place = torch.cat([torch.arange(TOKENS), TOKENS + torch.arange(length).repeat(count)])
        hidden = self.vlm.model.language_model(
            inputs_embeds=torch.cat([seen, told.to(seen.dtype)], 1),
            attention_mask=_mask(count, length).to(images.device, seen.dtype).expand(len(asked), 1, -1, -1),
            position_ids=place.to(images.device)[None],
            use_cache=False,
        ).last_hidden_state
        last = made.attention_mask.sum(1).view(len(asked), count) - 1
        last = (last + TOKENS + length * torch.arange(count)).to(images.device)
        answer = hidden.gather(1, last[..., None].expand(-1, -1, WIDTH))
        return self.vlm.lm_head(answer), self.objects(features)


def _mask(count: int, length: int) -> Tensor:
    """Additive mask: the image is causal, a question sees the image and what comes before in itself."""
    block = torch.cat([torch.zeros(TOKENS), 1 + torch.arange(count).repeat_interleave(length)])
    order = torch.arange(len(block))
    seen = (order[:, None] >= order) & ((block[:, None] == block) | (block == 0))
    return torch.zeros(len(block), len(block)).masked_fill(~seen, -1e9)


def _targets(scenes: Scenes) -> Tensor:
    """Shape, colour and size at each patch, `[scene, patch, 3]`; shape `len(SHAPES)`, the rest -1, at no object."""
    side = CANVAS // PATCH
    found = np.full((len(scenes), side, side, 3), -1)
    found[..., 0] = len(SHAPES)
    for slot in range(scenes.shape.shape[1]):
        rows = np.flatnonzero(scenes.count > slot)
        where = (rows, scenes.y[rows, slot] // LATTICE, scenes.x[rows, slot] // LATTICE)
        found[where] = np.stack([scenes.shape[rows, slot], scenes.colour[rows, slot], scenes.large[rows, slot]], 1)
    return torch.from_numpy(found).flatten(1, 2)


def train(directory: Path, seed: int, device: torch.device, plan: Plan = PLAN) -> None:
    """Train the model and save it under `vlm/` in the form that transformers' automatic classes read."""
    torch.manual_seed(seed + 6)
    trainee = Trainee(directory / "clip").to(device)
    yes, no = trainee.words.convert_tokens_to_ids(["yes", "no"])

    def loss(step: int, generator: torch.Generator) -> Tensor:
        scenes = sample_scenes(BATCH, seed=(seed + 7) * 200_003 + step)
        asked, answers = questions(scenes, seed=(seed + 7) * 300_007 + step)
        images = corrupt(render(scenes), generator).to(device)
        logits, patches = trainee(images, asked)
        wanted = torch.where(torch.from_numpy(answers), yes, no).to(device)
        answered = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())
        shape, colour, size = patches.float().flatten(0, 1).split([len(SHAPES) + 1, len(COLOURS), 2], -1)
        target = _targets(scenes).flatten(0, 1).to(device)
        seen = target[:, 1] >= 0
        read = F.cross_entropy(shape, target[:, 0], weight=_rarity(device))
        read = read + F.cross_entropy(colour[seen], target[seen, 1]) + F.cross_entropy(size[seen], target[seen, 2])
        return answered + 0.2 * read

    fit(plan, trainee, loss, directory / "checkpoints", seed + 6)
    finish(trainee.vlm, directory / "vlm")


def _rarity(device: torch.device) -> Tensor:
    """Most patches are the centre of nothing."""
    return torch.tensor([1.0] * len(SHAPES) + [0.1], device=device)


@torch.no_grad()
def finish(trained: LlavaForConditionalGeneration, folder: Path) -> None:
    """Save the model in float16 (it loads into float32), its processor and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    processor().save_pretrained(folder)
    trained.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = [type(trained).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: value.detach().half().contiguous() for name, value in trained.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def questions(scenes: Scenes, seed: int) -> tuple[list[list[str]], np.ndarray]:
    """`PER_SCENE` questions about each scene, and whether the answer is yes, bool `[scene, question]`."""
    rng = np.random.default_rng(seed)
    asked, answers = [], []
    for row in range(len(scenes)):
        texts, truths = _about(contents(scenes, row), rng)
        asked.append(texts)
        answers.append(truths)
    return asked, np.asarray(answers)


def contents(scenes: Scenes, row: int) -> tuple[Found, ...]:
    """A scene's objects as the oracle would read them."""
    return tuple(
        Found(
            SHAPES[scenes.shape[row, slot]],
            _COLOURS[scenes.colour[row, slot]],
            "large" if scenes.large[row, slot] else "small",
            float(scenes.x[row, slot]),
            float(scenes.y[row, slot]),
            1.0,
        )
        for slot in range(scenes.count[row])
    )


def _about(objects: tuple[Found, ...], rng: np.random.Generator) -> tuple[list[str], list[bool]]:
    true = [_caption(objects, rng), _caption(objects, rng)]
    wrong = [near_miss(true[0], int(rng.integers(1 << 31))), near_miss(true[1], int(rng.integers(1 << 31)))]
    captions = [*true, *wrong, _other_number(objects, rng)]
    texts, truths = [], []
    for caption in captions:
        request = parse(caption)
        assert request is not None
        texts.append(TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(caption))
        truths.append(all(_facts(request, objects)))
    thing, there = _presence(objects, rng)
    return [*texts, PRESENCE.format(thing)], [*truths, there]


def _caption(objects: tuple[Found, ...], rng: np.random.Generator) -> str:
    """One of the captions that hold of a whole scene."""
    first = objects[0]
    if len(objects) > 1 and all((o.shape, o.colour) == (first.shape, first.colour) for o in objects):
        return f"{NUMBERS[len(objects)]} {first.colour} {plural(first.shape)}"
    chosen = [objects[i] for i in rng.permutation(len(objects))]
    if len(chosen) == 2 and rng.random() < 0.6 and (relation := _relation(*chosen)):
        phrases = PHRASES[relation]
        return f"{_noun(chosen[0])} {phrases[int(rng.integers(len(phrases)))]} {_noun(chosen[1])}"
    sized = len(chosen) < 3 and rng.random() < 0.4
    nouns = [_noun(o, sized) for o in chosen]
    return nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + " and " + nouns[-1]


def _other_number(objects: tuple[Found, ...], rng: np.random.Generator) -> str:
    """A caption of fewer or more objects than there are, or of equal ones where they differ."""
    kept = list(objects)
    choice = rng.random()
    if choice < 0.4 and len(kept) > 1:
        kept.pop(int(rng.integers(len(kept))))
    elif choice < 0.7 and len(kept) < 4:
        kept.append(_changed(kept[0], rng) if rng.random() < 0.5 else _random(rng))
    elif len(kept) > 1:
        return f"{NUMBERS[len(kept)]} {kept[0].colour} {plural(kept[0].shape)}"
    return _caption(tuple(kept[:3]) if len({(o.shape, o.colour) for o in kept}) > 1 else tuple(kept), rng)


def _presence(objects: tuple[Found, ...], rng: np.random.Generator) -> tuple[str, bool]:
    shown = objects[int(rng.integers(len(objects)))]
    asked = shown if rng.random() < 0.5 else (_changed(shown, rng) if rng.random() < 0.7 else _random(rng))
    return _noun(asked), any((o.shape, o.colour) == (asked.shape, asked.colour) for o in objects)


def _changed(found: Found, rng: np.random.Generator) -> Found:
    """Another shape or another colour, at another place."""
    other = _random(rng)
    if rng.random() < 0.5:
        return Found(found.shape, other.colour, other.size, other.x, other.y, 1.0)
    return Found(other.shape, found.colour, other.size, other.x, other.y, 1.0)


def _random(rng: np.random.Generator) -> Found:
    shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], _COLOURS[int(rng.integers(len(_COLOURS)))]
    size = "large" if rng.random() < 0.5 else "small"
    return Found(shape, colour, size, 64 * rng.random(), 64 * rng.random(), 1.0)


def _noun(found: Found, sized: bool = False) -> str:
    name = f"{found.size} {found.colour} {found.shape}" if sized else f"{found.colour} {found.shape}"
    return ("an " if name[0] in "aeiou" else "a ") + name


def _relation(first: Found, second: Found) -> str | None:
    """How the first lies to the second where that is as plain as in the world's own scenes."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None
