"""A language model that sees the image and grades it by a rubric, behind an endpoint or on this machine."""

import hashlib
import io
import json
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.arguments import as_whole
from verifiers.base import Verifier, check_images, check_prompts
from verifiers.card import Card
from verifiers.inputs.preprocess import pil_resize
from verifiers.judge.endpoint import Answer, Content, Endpoint, JudgeError, RequestFailed
from verifiers.judge.gemini import GeminiEndpoint
from verifiers.judge.local import LocalEndpoint
from verifiers.judge.openai import OpenAIEndpoint
from verifiers.judge.requests import Backoff, run_all
from verifiers.judge.rubric import EDIT_RUBRIC, OVERALL, RUBRIC, Grades, Question, Rubric, UnreadableAnswer
from verifiers.judge.spending import Spending

log = logging.getLogger(__name__)

CARD = Card(
    measures="grades of a vision language model by a rubric of five aspects, as the LLM grader of arXiv 2501.09732",
    range="0 to 10 in steps of about 0.1; ties are common",
    reference="arXiv 2501.09732; github.com/sayakpaul/tt-scale-flux",
    weights_licence="terms of the provider, or of the local model",
    differentiable=False,
    weights="none; asks a paid service unless provider='openai' with your own base_url, or provider='local'",
)

ENDPOINTS: dict[str, Callable[..., Endpoint]] = {
    "gemini": GeminiEndpoint,
    "openai": OpenAIEndpoint,
    "local": LocalEndpoint,
}


@dataclass(frozen=True)
class _Request:
    """What is shown and told, such as an image with its prompt, and what is asked; equal ones are asked once."""

    content: Content
    question: Question

    @cached_property
    def key(self) -> str:
        parts = (one if isinstance(one, bytes) else one.encode() for one in self.content)
        return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in parts)).hexdigest()


class RubricJudge(Verifier):
    """Grades images by a rubric through a vision language model.

    A grade always belongs to the image that it was asked for. What can't be graded is NaN, with the reason logged:
    after all retries, when the model declines, or when a cap on spending is reached, which ends a search. Where no
    request can succeed (a wrong key, no credit, no such model) the call raises. Graded images are remembered, so
    asking again is free. Not differentiable. Images that are not finite are never sent, and nor is one whose values
    are all exactly 0.5, which stands for such an image here and can't be made from 8-bit values.

    Source: the LLM grader of Ma et al. (arXiv 2501.09732), which the paper uses to judge, never to search.

    Example:
        >>> judge = RubricJudge("openai", "llava", base_url="http://localhost:11434/v1", max_calls=200)
        >>> judge(images, prompts)
        tensor([7.5, 4.0])
        >>> judge.explain(images, prompts)[0].scores["accuracy_to_prompt"]
        8.0
    """

    name = "judge"
    family = "vlm"
    default_rubric = RUBRIC

    def __init__(
        self,
        provider: str | Endpoint = "gemini",
        model: str | Path | None = None,
        *,
        score: str = OVERALL,
        rubric: Rubric | None = None,
        max_side: int | None = None,
        seed: int | None = 0,
        concurrency: int = 8,
        retries: int = 4,
        backoff: Backoff | None = None,
        max_calls: int | None = 1000,
        max_cost: float | int | None = None,
        prices: Sequence[float | int] | None = None,
        cache_size: int = 4096,
        **endpoint: Any,
    ) -> None:
        """Name the judge; nothing is contacted or loaded.

        Args:
            provider: "gemini", "openai" (every server of that protocol), "local" (a model of transformers), or an
                endpoint object.
            model: the model's name there, or the directory of a local one; default the endpoint's.
            score: which grade is the score: an aspect of the rubric, "overall", or "mean" of the aspects.
            rubric: what is asked; None for the five aspects of the paper, or what `EditJudge` asks of edits.
            max_side: pixels to which larger images are shrunk, ratio kept; None sends them as they are.
            seed: for providers that take one; an unreadable answer is followed by a request with the next seed.
            concurrency: most requests under way at once.
            retries: further requests for an image after one that failed.
            backoff: how long to wait between them.
            max_calls: most requests this object ever makes, retries included; None for no cap.
            max_cost: most money it spends, in the currency of `prices`.
            prices: per million input tokens, and per million output tokens.
            cache_size: grades that are remembered.
            endpoint: arguments of the endpoint: `base_url`, `api_key`, `temperature`, `max_tokens`, `timeout`, ...

        Raises:
            ValueError: an unknown provider or score, a cap on cost without prices, numbers below their least.
            TypeError: an argument that the endpoint doesn't have, or of another type than it takes.
        """
        rubric = self.default_rubric if rubric is None else rubric
        if not isinstance(rubric, Rubric):
            fix = "pass verifiers.judge.rubric.Rubric({key: question})"
            raise TypeError(f"rubric is {rubric!r}; expected a Rubric: {fix}")
        if rubric.edits != self.default_rubric.edits:
            kind, other = ("edits", "EditJudge") if rubric.edits else ("single images", "RubricJudge")
            raise ValueError(f"rubric asks of {kind}, and {type(self).__name__} doesn't show them: use {other}")
        if not isinstance(backoff, Backoff | None):
            fix = "pass verifiers.judge.requests.Backoff(first=1.0)"
            raise TypeError(f"backoff is {backoff!r}; expected a Backoff: {fix}")
        if score not in rubric.choices:
            raise ValueError(f"score is {score!r}; expected one of {rubric.choices}")
        self.endpoint = _endpoint(provider, model, endpoint)
        self.chosen = score
        self.rubric = rubric
        self.max_side = None if max_side is None else as_whole("max_side", max_side, 1)
        self.seed = None if seed is None else as_whole("seed", seed)
        self.concurrency = as_whole("concurrency", concurrency, 1)
        self.retries = as_whole("retries", retries, 0)
        self.backoff = backoff or Backoff()
        self.spending = Spending(max_calls, max_cost, prices)
        self.cache_size = as_whole("cache_size", cache_size, 0)
        self.cache_hits = 0
        self._cache: OrderedDict[str, Grades] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # a local model is hashed, which must not burden construction
        """Model, scale, score, and a hash of the rubric and all that changes answers."""
        low, high = self.rubric.scale
        settings = json.dumps([self.rubric.sha256, self.endpoint.settings(), self.seed, self.max_side], sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return f"{self.endpoint.label}/{low:g}-{high:g}/{self.chosen}/{digest}"

    @property
    def paid(self) -> bool:  # type: ignore[override]
        """Whether a request costs money: by the prices where they are given, else as the endpoint says."""
        return self.endpoint.paid if self.spending.prices is None else any(self.spending.prices)

    def load(self, device: torch.device | str | None = None) -> None:
        """Find package and key, or load the local model, as `Endpoint.ready` does; nothing is asked."""
        self.endpoint.ready(device)

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """The chosen grade of each image; NaN where there is none.

        Raises:
            JudgeError: no request can succeed; its `scores` are those of images graded before it was known.
        """
        if torch.is_grad_enabled() and images.requires_grad:  # found before it costs anything
            raise ValueError(f"verifier {self.name!r} is not differentiable in the images; call it without grad=True")
        return self._values(self._grades(images, prompts, **needs))

    def explain(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> list[Grades]:
        """All grades and explanations of each image, as in a call; those graded before cost nothing."""
        finite = check_images(images)
        check_prompts(prompts, len(images))
        self._check_needs(needs)
        with torch.no_grad():
            return self._grades(torch.where(finite[:, None, None, None], images, 0.5).float(), prompts, **needs)

    def ask(self, content: Content, question: Question) -> Grades:
        """Ask something else than the rubric, within the same caps, and as patiently; an answer is remembered.

        Raises:
            JudgeError: no request can succeed.
        """
        request = _Request(tuple(content), question)
        found = self._remembered(request.key)
        self.cache_hits += found is not None
        if found is None:
            self.endpoint.ready()
            [found] = self._ask_all([request])
        self._told([found])
        return found

    def describe(self) -> dict[str, Any]:
        """Everything that changes scores."""
        return {
            **super().describe(),
            "model": self.endpoint.label,
            "settings": self.endpoint.settings(),
            "seed": self.seed,
            "max_side": self.max_side,
            "score": self.chosen,
            "scale": list(self.rubric.scale),
            "rubric_sha256": self.rubric.sha256,
        }

    def _grades(self, images: Tensor, prompts: Sequence[str], sources: Sequence[Tensor] = ()) -> list[Grades]:
        self.exhausted = ""
        shown = self._shown(sources)
        wanted = [self._request(shown, image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        requests = {request.key: request for request in wanted if request is not None}
        known = {key: found for key in requests if (found := self._remembered(key)) is not None}
        self.cache_hits += sum(request is not None and request.key in known for request in wanted)
        asked = [request for key, request in requests.items() if key not in known]
        if asked:
            self.endpoint.ready(images.device)
            try:
                known |= zip((request.key for request in asked), self._ask_all(asked), strict=True)
            except JudgeError as error:  # grades that were paid for are not lost with it
                known |= {request.key: self._remembered(request.key) or Grades() for request in asked}
                error.scores = self._values(_in_order(wanted, known))
                raise
        given = _in_order(wanted, known)
        self._told(given)
        return given

    def _told(self, given: Sequence[Grades]) -> None:
        """Note why a further request would be refused, and log what got no grade."""
        cap = self.spending.cap() if any(grades.capped for grades in given) else ""  # no request is under way now
        self.exhausted = cap and f"the cap {cap} is reached; raise it to grade more"
        self._report(given)

    def _values(self, grades: Sequence[Grades]) -> Float[Tensor, " batch"]:
        return torch.tensor([given.value(self.chosen) for given in grades], dtype=torch.float32)

    def _shown(self, sources: Sequence[Tensor]) -> Content:
        """What comes before an image: its sources, each under its label, and the label of the image."""
        names = [f"Source image {number}:" for number in range(1, len(sources) + 1)]
        names = ["Source image:"] if len(names) == 1 else names
        pngs = (encode_png(source[0], self.max_side) for source in sources)
        labelled = [part for pair in zip(names, pngs, strict=True) for part in pair]
        return (*labelled, "Edited image:") if labelled else ()

    def _request(self, shown: Content, image: Tensor, prompt: str) -> _Request | None:
        if bool((image == 0.5).all()):
            return None
        # Model and rubric are this object's.
        return _Request((*shown, encode_png(image, self.max_side), self.rubric.text(prompt)), self.rubric)

    def _ask_all(self, requests: Sequence[_Request]) -> list[Grades]:
        first: list[Grades] = []
        while self.spending.blind and len(first) < len(requests):
            first.append(self._ask(requests[len(first)], threading.Event()))
        rest = requests[len(first) :]
        return first + run_all(self._ask, rest, self.concurrency if self.endpoint.concurrent else 1)

    def _ask(self, request: _Request, stop: threading.Event) -> Grades:
        """Ask until there are grades, the retries are used up, or a cap is reached; remember the grades."""
        reason, unreadable, asked_wait = "", 0, None
        for failures in range(self.retries + 1):
            capped = self.spending.cap()  # before the wait, which would be for nothing
            if failures and not capped and (given_up := self._pause(failures, asked_wait, stop)):
                return Grades(reason=f"{reason}; {given_up}")
            if capped := capped or self.spending.begin():
                reason = f"{reason and reason + '; '}the cap {capped} is reached; raise it to grade more"
                return Grades(reason=reason, capped=True)
            try:
                answer = self._answer(request, unreadable)
                if answer.refused:
                    return Grades(reason=f"the model declined to grade it: {answer.refused}")
                grades = request.question.parse(answer.text)
            except RequestFailed as error:
                reason, asked_wait = error.reason, error.wait
                if not error.again:
                    return Grades(reason=reason)
            except UnreadableAnswer as error:
                reason, asked_wait = f"{error}{answer.note and f' ({answer.note})'}", None
                unreadable += 1
                if not self.endpoint.repeatable:
                    return Grades(reason=reason)
            else:
                self._remember(request.key, grades)
                return grades
        return Grades(reason=f"{reason}; gave up after {self.retries + 1} requests")

    def _answer(self, request: _Request, unreadable: int) -> Answer:
        # At temperature 0 the same seed would give the same unreadable answer.
        seed = None if self.seed is None else self.seed + unreadable
        try:
            answer = self.endpoint.ask(request.content, request.question.schema(), seed)
        except BaseException as error:  # an interrupt, too, leaves a request that may be billed
            answered = error.answered if isinstance(error, RequestFailed) else isinstance(error, JudgeError)
            self.spending.failed(maybe_billed=not answered)
            raise
        self.spending.answered(answer)
        return answer

    def _pause(self, failures: int, asked: float | None, stop: threading.Event) -> str:
        """Wait before the next request; or say why there will be none."""
        seconds = self.backoff.wait(failures, asked)
        if seconds is None:
            return f"the server asks to wait {asked:.0f} s, longer than patience={self.backoff.patience:g}"
        (self.backoff.sleep or stop.wait)(seconds)
        return "interrupted" if stop.is_set() else ""

    def _remembered(self, key: str) -> Grades | None:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _remember(self, key: str, grades: Grades) -> None:
        with self._lock:
            self._cache[key] = grades
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)

    def _report(self, given: Sequence[Grades]) -> None:
        reasons = Counter(grades.reason for grades in given if grades.reason)
        for reason, count in reasons.items():
            log.warning(
                "judge %s: %d of %d images got no grade (NaN): %s", self.endpoint.label, count, len(given), reason
            )


class EditJudge(RubricJudge):
    """Grades edits: the model sees the source images, then the edited one, each under its label, and the prompt.

    By default it is asked whether the prompt was followed, whether the rest was preserved, and how good the image is;
    another rubric, with `edits=True`, may ask anything about them. The search hands in the sources, `image` among the
    options of the model's call; see `Verifier`. All else is as of `RubricJudge`.

    Example:
        >>> judge = EditJudge("openai", "llava", base_url="http://localhost:11434/v1", max_calls=200)
        >>> judge(images, ["make the circle blue"] * len(images), sources=[source])
        tensor([8.5, 2.0])
    """

    name = "judge-edit"
    needs = frozenset({"sources"})
    default_rubric = EDIT_RUBRIC
    card = Card(
        measures="grades of an edit by a vision language model that sees its source, too: prompt followed, the rest "
        "preserved, quality",
        range=CARD.range,
        reference="after VIEScore, Ku et al. 2024, arXiv 2312.14867",
        code_licence=CARD.code_licence,
        weights_licence=CARD.weights_licence,
        needs="images, prompts and the source images",
        differentiable=False,
        weights=CARD.weights,
    )


def encode_png(image: Float[Tensor, "3 height width"], max_side: int | None = None) -> bytes:
    """The PNG file of an image in [0, 1], shrunk as PIL's bicubic does where a side is longer than `max_side`."""
    from PIL import Image

    pixels = (image.detach().float().clamp(0, 1) * 255).round()[None]
    height, width = pixels.shape[-2:]
    if max_side is not None and max(height, width) > max_side:
        ratio = max_side / max(height, width)
        pixels = pil_resize(pixels, max(1, round(height * ratio)), max(1, round(width * ratio)))
    file = io.BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()).save(file, format="PNG")
    return file.getvalue()


_NOT_SENT = Grades(reason="the image is not finite (or 0.5 throughout, which stands for that)")


def _in_order(wanted: Sequence[_Request | None], known: Mapping[str, Grades]) -> list[Grades]:
    return [_NOT_SENT if request is None else known[request.key] for request in wanted]


def _endpoint(provider: str | Endpoint, model: str | Path | None, options: dict[str, Any]) -> Endpoint:
    if isinstance(provider, Endpoint):
        if model is not None or options:
            given = sorted(options) + (["model"] if model is not None else [])
            raise TypeError(f"provider is an endpoint already, so {given} can't be set here; give them to the endpoint")
        return provider
    if not isinstance(provider, str) or provider not in ENDPOINTS:
        raise ValueError(f"provider is {provider!r}; expected one of {sorted(ENDPOINTS)}, or an endpoint object")
    return ENDPOINTS[provider](model, **options)
