"""A vision-language model as a verifier: the log-odds with which it answers yes to a question about the image."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from verifiers.base import Verifier, WeightsError
from verifiers.card import Card
from verifiers.code import version_of
from verifiers.inputs.preprocess import Pixels, straight_through
from verifiers.inputs.tokens import control_tokens
from verifiers.inputs.vlm import is_resized, least_area, resized
from verifiers.loading.pretrained import Pretrained

CARD = Card(
    measures="whether a vision-language model says that the image shows the prompt (any of transformers)",
    range="log-odds, unbounded, usually -15 to 15; probabilities in [0, 1] with questions or VQAScore",
    reference="after VQAScore, Lin et al. 2024, arXiv 2404.01291; Soft-TIFA, arXiv 2512.16853",
    size="4.3 GB",
    weights_licence="Apache-2.0",
    prompt_limit="the model's context, 256 thousand tokens",
    weights="Qwen/Qwen3-VL-2B-Instruct",
)

MODEL = "Qwen/Qwen3-VL-2B-Instruct"
QUESTION = 'Does this image show "{}"? Answer yes or no.'

PRESETS = {
    "vqascore": 'Does this image show "{}"?',
    "vqascore-3.1": 'Does this figure show "{}"? Please answer Yes or No.',
}
"""Question templates of VQAScore for decoder models, in releases 3.0 and 3.1 of its authors' library.

Sources: `qwen2vl_model.py` and `qwen3vl_model.py` of linzhiqiu/t2v_metrics. CLIP-FlanT5's own ends in "yes or no."
"""

COMBINATIONS = ("mean", "product")
BATCH = 4
_LANCZOS = 1  # PIL's number
Questions = Callable[[str], Sequence[str]] | Mapping[str, Sequence[str]] | Sequence[str]


class VLM(Verifier):
    """Log-odds of yes against no as the first token of a vision-language model's answer.

    log(P(Yes) + P(yes)) - log(P(No) + P(no)): unlike P(Yes) it doesn't saturate, so it tells good images apart. Any
    model of `AutoModelForImageTextToText`, by hub id or directory. With `questions`, the mean or product of P(yes)
    against no over several questions about each prompt (Soft-TIFA). With a preset, VQAScore: P("Yes") among all
    tokens. Only this form, of decoders, is built: encoder-decoders such as CLIP-FlanT5, whose VQAScore is the
    geometric mean of P("Yes") and P("</s>"), are refused. Weights load at the first call, which raises WeightsError
    where they are missing or do not fit.

    Images are resized as PIL does where the processor only resizes or crops; a processor that tiles or pads gets the
    8-bit original, with gradients straight through. In bfloat16 an image's score moves a little with the batch it is
    in: by 0.004 on a spread of 1.27 in a tiny model, by 5e-7 in float32.

    One forward pass per image and question, about 2 x weights x tokens FLOP; `pixels` shrinks images.

    Example:
        >>> VLM()(images, ["a red circle"] * len(images))
        tensor([4.2519, -7.0312])
    """

    name = "vlm"
    family = "vlm"

    def __init__(
        self,
        model: str | Path = MODEL,
        *,
        question: str | None = None,
        questions: Questions | None = None,
        combine: str = "mean",
        preset: str | None = None,
        pixels: int | None = None,
        batch: int = BATCH,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
        revision: str | None = None,
    ) -> None:
        """Name the model; nothing is loaded yet.

        Args:
            model: hub id or directory. The default is 4.3 GB in bfloat16 and twice that in float32, Apache-2.0.
            question: template with "{}" where the prompt goes; default `QUESTION`.
            questions: several, instead: templates, or a mapping or a function from the prompt to its questions.
            combine: "mean" or "product" of P(yes) over the questions.
            preset: one of `PRESETS`, instead of a question of one's own.
            pixels: area to which larger images are shrunk; default the processor's own limit. Where the processor pads
                or tiles it happens before, and may be enlarged again. An area below the least of the processor, or its
                only one, is a ValueError when it loads.
            batch: images, or image-question pairs, per forward pass.
            dtype: of the network; scores are float32 always, but half precision makes close ones equal.
            device: where it runs; default where the images are.
            revision: commit, tag or branch of the hub repository; default a pinned commit where one is known.

        Raises:
            ValueError: a template without a place for the prompt, two ways of asking at once, an unknown combination
                or preset, an area or a batch below one.
        """
        if sum(way is not None for way in (question, questions, preset)) > 1:
            raise ValueError("got several of question, questions and preset; expected one of them: drop the others")
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; expected one of {sorted(PRESETS)}")
        if combine not in COMBINATIONS:
            raise ValueError(f"combine is {combine!r}; expected one of {COMBINATIONS}")
        if batch < 1 or (pixels is not None and pixels < 1):
            raise ValueError(f"batch is {batch} and pixels is {pixels}; expected at least 1 of each")
        self.question = PRESETS[preset] if preset else (QUESTION if question is None else question)
        check_template(self.question)
        self.questions = None if questions is None else Asked(questions)
        self.combine, self.preset, self.pixels, self.batch = combine, preset, pixels, batch
        self.source = Pretrained(model, "AutoModelForImageTextToText", revision=revision, dtype=dtype, device=device)

    @classmethod
    def vqascore(cls, model: str | Path = MODEL, **options: Any) -> "VLM":
        """VQAScore of Lin et al. (2404.01291) on a decoder model: P("Yes") of the first answer token."""
        return cls(model, preset="vqascore", **options)

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing a local model must not burden construction
        """Weights, dtype, questions, their combination, and area; reads a local model's files once to hash them."""
        parts = [self.source.label]
        parts += [f"{self.combine}:{self.questions.label}"] if self.questions else [self.question]
        parts += [self.preset] if self.preset else []
        return "/".join(parts + ([f"{self.pixels}px"] if self.pixels else []))

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the processor and the network now, and find the tokens of the answers."""
        assert self._answers  # small files first: what is wrong with them is known before gigabytes load
        self._network(torch.device(device or "cpu"))

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Log-odds, P("Yes") or the combined probabilities of each image."""
        questions = self.questions or Asked([self.question])
        asked = [questions.about(prompt) for prompt in prompts]
        counts = [len(each) for each in asked]
        rows = torch.arange(len(images)).repeat_interleave(torch.tensor(counts)).to(images.device)
        texts = [text for each in asked for text in each]
        pixels = resized(images, self._processor.image_processor, self.pixels)
        parts = [slice(start, start + self.batch) for start in range(0, len(texts), self.batch)]
        scores = torch.cat([self._read(self._logits(pixels[rows[part]], texts[part])) for part in parts])
        if self.questions is None:
            return scores
        return torch.stack([combine(each, self.combine) for each in torch.split(scores, counts)])

    def _read(self, logits: Float[Tensor, "batch word"]) -> Float[Tensor, " batch"]:
        chances = logits.log_softmax(-1)
        yes, no = self._answers
        if self.preset:
            return chances[:, yes[0]].exp()
        return chances[:, yes].logsumexp(-1) - chances[:, no].logsumexp(-1)

    def _logits(self, pixels: Pixels, texts: Sequence[str]) -> Float[Tensor, "batch word"]:
        """Logits of the first token of the answer, float32."""
        network = self._network(pixels.device)
        inputs = self._inputs(pixels, texts, network)
        logits: Tensor = network(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float()
        return logits

    def _inputs(self, pixels: Pixels, texts: Sequence[str], network: Any) -> Mapping[str, Any]:
        where = next(network.parameters())
        images = self._processor.image_processor
        turns, pixels = [self._turn(text) for text in texts], pixels.to(where.device)
        if is_resized(images):
            made = self._processed(turns, pixels, do_rescale=False, do_resize=False)
        else:
            # on the CPU only; elsewhere transformers takes bicubic instead
            lanczos = getattr(images, "resample", None) == _LANCZOS
            made = self._processed_whole(turns, pixels.cpu() if lanczos else pixels)
        differentiable = any(isinstance(value, Tensor) and value.requires_grad for value in made.values())
        if torch.is_grad_enabled() and pixels.requires_grad and not differentiable:
            kind = type(images).__name__
            raise ValueError(f"{kind} of {self.source.model_id} lets no gradient through: call it without grad=True")
        inputs: Mapping[str, Any] = made.to(where.device, where.dtype)
        return inputs

    def _processed(self, turns: Sequence[str], images: Tensor, **options: bool) -> Any:
        return self._processor(
            text=list(turns), images=list(images), padding=True, return_tensors="pt", images_kwargs=options
        )

    def _processed_whole(self, turns: Sequence[str], pixels: Pixels) -> Any:
        """What the processor makes of 8-bit images by its own settings; only so is the colour it pads with right."""
        scaled = pixels * 255
        with torch.inference_mode(False):  # the processor keeps mean and std of its first call, for gradients too
            made = self._processed(turns, scaled.detach().round().to(torch.uint8))
        if torch.is_grad_enabled() and pixels.requires_grad:
            for name, value in self._processed(turns, scaled).items():
                if isinstance(value, Tensor) and value.requires_grad:
                    made[name] = straight_through(value, made[name])
        return made

    def _turn(self, text: str) -> str:
        """The conversation up to where the answer begins."""
        for token in self._control:
            if token in text:
                raise ValueError(f"question {text!r} holds {token!r}, a control token of the model: remove it")
        content = [{"type": "image"}, {"type": "text", "text": text}]
        # transformers warns of variables that a template doesn't have
        knob = {"enable_thinking": False} if "enable_thinking" in str(self._processor.chat_template) else {}
        made: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **knob
        )
        if made.rstrip().endswith("<think>"):
            raise self._unfit(
                "thinks before it answers, and the answer must be its first token: choose an Instruct variant"
            )
        return made

    def _network(self, device: torch.device) -> Any:
        network = self.source.model(device)
        if network.config.is_encoder_decoder:
            raise self._unfit(
                f"is an encoder-decoder, and VQAScore of those is not built; expected a decoder such as {MODEL}"
            )
        return network

    def _unfit(self, why: str) -> WeightsError:
        return WeightsError(f"{self.source.model_id} {why}")

    @cached_property
    def _processor(self) -> Any:
        processor = self.source.part("AutoProcessor")
        if getattr(processor, "image_processor", None) is None or not getattr(processor, "chat_template", None):
            raise self._unfit("has no image processor with a chat template; expected a chat model that sees")
        least = least_area(processor.image_processor)
        if self.pixels is not None and self.pixels < least:
            raise ValueError(f"pixels is {self.pixels}; {self.source.model_id} makes no image smaller than {least}")
        processor.tokenizer.padding_side = "left"  # the answer follows the last position of every row
        return processor

    @cached_property
    def _control(self) -> tuple[str, ...]:
        return control_tokens(self._processor)

    @cached_property
    def _answers(self) -> tuple[list[int], list[int]]:
        """Ids of "Yes", "yes" and of "No", "no", where they are single tokens."""
        return self._forms("Yes"), self._forms("No")

    def _forms(self, word: str) -> list[int]:
        found = [self._single(form) for form in (word, word.lower())]
        if found[0] is None:
            raise WeightsError(
                f"{word!r} is not one token of {self.source.model_id}; its first token alone says nothing: "
                "choose another model"
            )
        return list(dict.fromkeys(i for i in found if i is not None))

    def _single(self, word: str) -> int | None:
        """The word's id where it begins an answer, None where it takes several tokens or is unknown."""
        tokenizer, before = self._processor.tokenizer, self._turn("?")
        # After a line end or a control token an answer begins at once, after "ASSISTANT:" with a space.
        glued = before[-1:].isspace() or before.endswith(tuple(tokenizer.get_added_vocab()))
        text = before + ("" if glued else " ") + word
        first, whole = (tokenizer(one, add_special_tokens=False).input_ids for one in (before, text))
        return int(whole[-1]) if whole[:-1] == first and whole[-1] != tokenizer.unk_token_id else None


class Asked:
    """What is asked about a prompt: the prompt in templates, or questions made for it.

    Attributes:
        label: what identifies the questions in a version.
    """

    def __init__(self, questions: Questions) -> None:
        """Take the questions.

        Args:
            questions: templates with "{}" where the prompt goes; or a mapping or a function from the prompt to its
                questions. A function is identified by its `version`, where it has one, else by its name, its code
                and the values that it closes over.

        Raises:
            TypeError: a single string.
            ValueError: no templates, or one without "{}".
        """
        if isinstance(questions, str):
            raise TypeError(f"questions is the single string {questions!r}; expected several: pass [{questions!r}]")
        self._questions = questions
        if callable(questions):
            name = getattr(questions, "__qualname__", type(questions).__name__)
            self.label = str(getattr(questions, "version", None) or f"{name}-{version_of(questions)}")
            return
        if not isinstance(questions, Mapping):
            for template in questions:
                check_template(template)
            if not questions:
                raise ValueError("questions is empty; expected at least one template such as 'Is there {}?'")
        plain = {k: list(v) for k, v in questions.items()} if isinstance(questions, Mapping) else list(questions)
        self.label = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]

    def about(self, prompt: str) -> list[str]:
        """The questions about one prompt.

        Raises:
            KeyError: a mapping without that prompt.
            ValueError: no questions about it.
        """
        if callable(self._questions):
            found = self._questions(prompt)
        elif isinstance(self._questions, Mapping):
            if prompt not in self._questions:
                raise KeyError(f"no questions about prompt {prompt!r}; expected them in the mapping: add an entry")
            found = self._questions[prompt]
        else:
            return [fill(template, prompt) for template in self._questions]
        if isinstance(found, str) or not found:
            raise ValueError(f"questions about prompt {prompt!r} are {found!r}; expected a list of at least one")
        return list(found)


def combine(log_odds: Float[Tensor, " question"], how: str) -> Float[Tensor, ""]:
    """Mean or product of P(yes) = sigmoid(log-odds) over the questions about one image, in [0, 1].

    The mean is Soft-TIFA's arithmetic one (2512.16853); the product asks for all of them at once.
    """
    return logsigmoid(log_odds).sum().exp() if how == "product" else log_odds.sigmoid().mean()


def check_template(template: str) -> None:
    """Raise ValueError unless the prompt has exactly one place in the template."""
    if template.count("{}") != 1:
        raise ValueError(f"question {template!r} has {template.count('{}')} places '{{}}' for the prompt; expected one")


def fill(template: str, prompt: str) -> str:
    """The template with the prompt in its place; braces in the prompt stay as they are."""
    return template.replace("{}", prompt)
