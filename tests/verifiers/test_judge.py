"""The judge against a real server on loopback that is late, unordered, broken, rude or silent."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from contracts.verifier import VerifierContract
from tiny.chat_model import write_chat_model
from tiny.judge_server import ASPECTS, JudgeServer, Received, Turn, answer_text, grades
from verifiers.base import VerifierUnusable
from verifiers.catalogue import load
from verifiers.judge.endpoint import Answer, JudgeError, retry_after
from verifiers.judge.judge import EditJudge, RubricJudge, encode_png
from verifiers.judge.openai import OpenAIEndpoint
from verifiers.judge.pairs import PairJudge, PairQuestion
from verifiers.judge.requests import Backoff, run_all
from verifiers.judge.rubric import EDIT_RUBRIC, OVERALL, RUBRIC, Rubric, UnreadableAnswer
from verifiers.judge.spending import Spending

PROVIDERS = ["openai", "gemini"]
BLOCKED = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with one certificate: the server speaks plain HTTP, and every client would read some 140 for 50 ms."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(first + end)
    return str(file)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, one_authority: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", one_authority)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


def make(server: JudgeServer, provider: str = "openai", **options: Any) -> Any:
    """A judge of this server that notes in `waits` how long it would wait instead of waiting."""
    waits: list[float] = []
    options = {"backoff": Backoff(jitter=lambda: 0.0, sleep=waits.append), **options}
    judge: Any = RubricJudge(provider, "eye-1", **{**server.options(provider), **options})
    judge.waits = waits
    return judge


def assert_graded(judge: RubricJudge, images: Tensor, prompts: list[str] | None = None) -> None:
    """Every image has the server's grade for it and its prompt, "a" where none is given."""
    prompts = prompts or ["a"] * len(images)
    assert judge(images, prompts).tolist() == pytest.approx(expected(images, prompts))


def expected(images: Tensor, prompts: list[str], key: str = "overall") -> list[float]:
    return [grades(encode_png(image), prompt)[key] for image, prompt in zip(images, prompts, strict=True)]


def by_image(server: JudgeServer) -> list[int]:
    return sorted(Counter((received.png, received.prompt) for received in server.received).values())


class TestOpenAIContract(VerifierContract):
    differentiable = False
    asked = "openai"

    @pytest.fixture
    def verifier(self, server):
        return make(server, self.asked, score="mean")


class TestGeminiContract(TestOpenAIContract):
    asked = "gemini"


def test_a_judge_is_paid_unless_it_runs_here_or_its_prices_say_otherwise(server, tmp_path):
    assert not make(server).paid  # on this machine
    assert make(server, prices=(0.3, 2.5)).paid
    assert RubricJudge("gemini").paid and RubricJudge("openai", base_url="https://far.example/v1").paid
    assert not RubricJudge("openai", base_url="https://far.example/v1", prices=(0, 0)).paid
    assert not RubricJudge("local", tmp_path).paid


def test_scores_are_those_of_the_pixels_and_the_prompt(server, provider, images, prompts):
    judge = make(server, provider)
    assert_graded(judge, images, prompts)
    for key in ASPECTS:
        judge = make(server, provider, score=key)
        assert judge(images, prompts).tolist() == pytest.approx(expected(images, prompts, key))
    means = [sum(expected(images, prompts, key)[i] for key in ASPECTS) / 5 for i in range(5)]
    assert make(server, provider, score="mean")(images, prompts).tolist() == pytest.approx(means)


def test_answers_in_reverse_order_stay_with_their_image(server, provider, images, prompts):
    turnstile = threading.Condition()
    answered: list[int] = []

    def reverse(received: Received) -> Turn:
        with turnstile:  # all five are held until the last has come, then leave last first
            turnstile.notify_all()
            assert turnstile.wait_for(lambda: len(server.received) == 5 and received.index == 4 - len(answered), 20)
            answered.append(received.index)
            turnstile.notify_all()
        return Turn()

    server.script = reverse
    judge = make(server, provider, concurrency=5)
    assert_graded(judge, images, prompts)
    assert answered == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "turn",
    [
        Turn(408),
        Turn(409),
        Turn(429),
        Turn(500),
        Turn(503, raw=b"<html>busy</html>", headers={"content-type": "text/html"}),
        Turn(529),
        Turn(reset=True),
        Turn(cut=True),
        Turn(raw=b'{"choices": [', usage=None),
        Turn(raw=b"not json at all"),
        Turn(raw=b"{}"),
        Turn(raw=b"[]"),
        Turn(raw=b'{"a":' * 100_000),
        Turn(raw=b"no gzip", headers={"content-encoding": "gzip"}),
        Turn(text=""),
        Turn(text="I like it."),
        Turn(text='{"overall": 7, "originality": '),
        Turn(text=json.dumps(dict.fromkeys(ASPECTS, 5))),
        Turn(text=json.dumps(dict.fromkeys((*ASPECTS, "overall"), 11))),
        Turn(text=json.dumps(dict.fromkeys((*ASPECTS, "overall"), "great"))),
        Turn(text=json.dumps(dict.fromkeys((*ASPECTS, "overall"), float("nan")))),
    ],
    ids=lambda turn: f"{turn.status}-{'reset' if turn.reset else 'cut' if turn.cut else turn.raw or turn.text}"[:40],
)
def test_what_may_pass_is_asked_again(server, provider, turn, images):
    server.turns(turn, turn)
    judge = make(server, provider)
    prompts = ["a red circle"] * 2
    assert_graded(judge, images[:2], prompts)
    assert by_image(server) == [3, 3]
    assert judge.spending.calls == len(server.received) == 6
    assert sorted(judge.waits) == [1, 1, 2, 2]


def test_silence_is_a_failure_after_the_timeout(server, provider, images):
    server.turns(Turn(hang=True))
    judge = make(server, provider, timeout=3)
    assert_graded(judge, images[:2])
    assert by_image(server) == [2, 2]


def test_after_all_retries_nan_and_the_reason(server, provider, images, prompts, caplog):
    bad = encode_png(images[2])
    error = json.dumps({"error": {"message": "engine on fire", "code": 503, "status": "UNAVAILABLE"}}).encode()
    server.script = lambda received: Turn(503, raw=error) if received.png == bad else Turn()
    judge = make(server, provider, retries=3)
    scores = judge(images, prompts)
    assert scores.isnan().tolist() == [False, False, True, False, False]
    assert scores[[0, 1, 3, 4]].tolist() == pytest.approx(
        [value for i, value in enumerate(expected(images, prompts)) if i != 2]
    )
    assert judge.waits == [1, 2, 4]
    assert judge.spending.calls == 4 + 4
    [record] = caplog.records
    assert "1 of 5 images got no grade (NaN): HTTP 503: engine on fire; gave up after 4 requests" in record.message
    server.turns()  # a failure isn't remembered: it is asked again, and alone
    assert_graded(judge, images, prompts)
    assert judge.spending.calls == 9


def test_a_bad_request_is_not_repeated(server, provider, images, caplog):
    server.script = lambda received: Turn(400, raw=b'{"error": {"message": "image too odd"}}')
    assert make(server, provider)(images, ["a"] * 5).isnan().all()
    assert len(server.received) == 5
    assert "5 of 5 images got no grade (NaN): HTTP 400: image too odd" in caplog.text


def test_a_server_that_fails_in_its_own_words_is_quoted(server, images, caplog):
    server.script = lambda received: Turn(422, raw=b'{"detail": "no eyes\\nsk-very-secret"}')
    make(server)(images[:1], ["a"])
    assert 'HTTP 422: {"detail": "no eyes' in caplog.text and "sk-very-secret" not in caplog.text


@pytest.mark.parametrize(("status", "fix"), [(401, "key"), (402, "credit"), (403, "region"), (404, "model's name")])
def test_what_fails_for_all_raises(server, provider, status, fix, images, caplog):
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"error": {"message": "wrong key\nsk-very-secret"}}).encode()
    server.script = lambda received: Turn(status, raw=body)
    judge = make(server, provider, concurrency=2)
    told = rf"refuses every request \(HTTP {status}: wrong key \*\*\*\).*{fix}"
    with pytest.raises(JudgeError, match=told) as caught:
        judge(images, ["a"] * 5)
    assert len(server.received) <= 2  # no new ones once it is known
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert "sk-very-secret" not in caplog.text + str(caught.value) + json.dumps(judge.describe()) + repr(judge)


@pytest.mark.parametrize(
    ("provider", "status", "error", "fix"),
    [
        ("gemini", 400, {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}, r"HTTP 400: no\); check the key"),
        ("openai", 429, {"code": "insufficient_quota"}, "no credit"),
        ("openai", 400, {"code": "unsupported_value", "param": "temperature"}, "temperature=None"),
    ],
)
def test_other_hopeless_errors_raise(server, provider, status, error, fix, images):
    server.script = lambda received: Turn(status, raw=json.dumps({"error": {"message": "no", **error}}).encode())
    with pytest.raises(JudgeError, match=fix):
        make(server, provider)(images[:1], ["a"])
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_named(server, provider, status, images):
    # Followed, this loop would cost a hundred requests of which one is counted.
    server.script = lambda received: Turn(status, headers={"location": f"{received.path}?key=sk-very-secret"})
    judge = make(server, provider, max_calls=5)
    with pytest.raises(JudgeError, match=rf"HTTP {status}: a redirect to /v1.*key=\*\*\*\); .* as base_url$") as caught:
        judge(images[:1], ["a"])
    assert judge.spending.calls == len(server.received) == 1
    assert "\n" not in str(caught.value)


def test_grades_from_before_a_hopeless_error_go_with_it(server, provider, images):
    server.script = lambda received: Turn() if received.index < 3 else Turn(402)
    judge = make(server, provider, concurrency=1)
    images[1] = torch.nan
    with pytest.raises(VerifierUnusable, match="no credit left") as caught:
        judge(images, ["a"] * 5)
    assert caught.value.scores is not None
    assert caught.value.scores.isnan().tolist() == [False, True, False, False, True]
    sent = images[[0, 2, 3]]
    assert caught.value.scores[[0, 2, 3]].tolist() == pytest.approx(expected(sent, ["a"] * 3))


def test_a_judge_says_when_its_cap_is_why_images_have_no_grade(server, provider, images):
    judge = make(server, provider, max_calls=3, retries=0)
    judge(images[:3], ["a"] * 3)
    assert judge.exhausted == ""  # all were graded
    judge(images, ["a"] * 5)
    assert judge.exhausted == "the cap max_calls=3 is reached; raise it to grade more"
    judge(images[:3], ["a"] * 3)
    assert judge.exhausted == ""  # known ones are still free
    judge.spending.max_calls = None
    server.script = lambda received: Turn(400, raw=b"odd")
    assert judge(images, ["a"] * 5).isnan().sum() == 2 and judge.exhausted == ""
    costly = make(server, provider, max_cost=0.004, prices=(1.0, 10.0), concurrency=1)
    server.script = lambda received: Turn()
    costly(images, ["a"] * 5)
    assert costly.exhausted == "the cap max_cost=0.004 is reached; raise it to grade more"


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_answers_in_parts_are_joined(server, cut, images):
    def parts(received: Received) -> Turn:
        answer = answer_text(received.png, received.prompt)
        thought = {"type": "thinking", "thinking": '{"overall": 1}'}
        content = [thought, {"type": "text", "text": answer[:cut]}, {"type": "text", "text": answer[cut:]}]
        return Turn(extra={"message": {"role": "assistant", "content": content}})

    server.script = parts
    assert_graded(make(server), images)
    assert len(server.received) == 5


@pytest.mark.parametrize("content", [None, [], 5, [{"type": "audio", "id": "x"}], [{"type": "text", "text": None}]])
def test_an_answer_without_text_is_shown(server, content, images, caplog):
    message = {"role": "assistant", "content": content, "reasoning_content": "hm"}
    server.script = lambda received: Turn(extra={"message": message})
    assert make(server, retries=0)(images[:1], ["a"]).isnan().all()
    assert f"it has no text: {json.dumps(message)}" in caplog.records[-1].message


@pytest.mark.parametrize(
    ("provider", "turn", "cost", "word"),
    [
        ("openai", Turn(extra={"message": {"role": "assistant", "content": None, "refusal": "no"}}), 0.002, "no"),
        ("openai", Turn(extra={"finish_reason": "content_filter"}), 0.002, "content_filter"),
        ("gemini", Turn(extra={"finishReason": "SAFETY"}), 0.002, "SAFETY"),
        ("gemini", Turn(raw=json.dumps(BLOCKED).encode()), 0, "PROHIBITED_CONTENT"),
        # nothing was written, and zeros are left out
        ("gemini", Turn(raw=json.dumps({**BLOCKED, "usageMetadata": {"promptTokenCount": 1000}}).encode()), 0.001, ""),
    ],
)
def test_a_refusal_is_final_for_its_image_and_counted(server, provider, turn, cost, word, images, caplog):
    server.script = lambda received: turn
    judge = make(server, provider, prices=(1.0, 10.0))
    assert judge(images[:1], ["a"]).isnan().all()
    assert (judge.spending.calls, judge.spending.cost) == (1, pytest.approx(cost))
    assert f"declined to grade it: {word}" in caplog.records[-1].message


@pytest.mark.parametrize("end", [("openai", {"finish_reason": "length"}), ("gemini", {"finishReason": "MAX_TOKENS"})])
def test_a_cut_answer_says_how_to_get_the_rest(server, end, images, caplog):
    provider, extra = end
    server.script = lambda received: Turn(text='{"overall": 7', extra=extra)
    assert make(server, provider, retries=1, max_tokens=20)(images[:1], ["a"]).isnan().all()
    assert "cut at max_tokens=20; pass more" in caplog.records[-1].message


RETRY_INFO = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]


@pytest.mark.parametrize(
    ("provider", "turns", "expected_waits"),
    [
        # the third is its own
        ("openai", [(429, {"retry-after": "7"}, b""), (503, {"retry-after": "2.5"}, b""), (500, {}, b"")], [7, 2.5, 4]),
        ("gemini", [(429, {}, json.dumps({"error": {"code": 429, "details": RETRY_INFO}}).encode())], [34]),
        ("openai", [(429, {"retry-after": "86400"}, b"")], []),
    ],
)
def test_servers_say_when_to_come_back(server, provider, turns, expected_waits, images, caplog):
    server.turns(*(Turn(status, headers, raw=raw or None) for status, headers, raw in turns))
    judge = make(server, provider)
    assert bool(judge(images[:1], ["a"]).isnan()) == (not expected_waits)
    assert judge.waits == expected_waits
    assert ("asks to wait 86400 s, longer than patience=300" in caplog.text) == (not expected_waits)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        *(({"retry-after": wrong}, None) for wrong in ("soon", "-3", "nan", "inf", "")),
        ({}, None),
    ],
)
def test_retry_after_forms(headers, seconds):
    assert retry_after(headers) == seconds
    assert retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}) > 1e9


def test_waits_double_up_to_a_limit_less_jitter():
    assert [Backoff(jitter=lambda: 0.0).wait(n) for n in (1, 2, 3, 7, 999)] == [1, 2, 4, 60, 60]
    assert Backoff(first=2, jitter=lambda: 0.5).wait(2) == 3
    waits = {Backoff().wait(3) for _ in range(20)}
    assert len(waits) > 10 and all(wait is not None and 2 <= wait <= 4 for wait in waits)


@pytest.mark.parametrize("cap", [0, 1, 3, 4])
def test_calls_never_pass_their_cap(server, provider, cap, images, prompts, caplog):
    judge = make(server, provider, max_calls=cap)
    scores = judge(images, prompts)
    assert judge.spending.calls == len(server.received) == cap
    graded = ~scores.isnan()
    assert int(graded.sum()) == cap
    assert scores[graded].tolist() == pytest.approx(torch.tensor(expected(images, prompts))[graded].tolist())
    assert f"{5 - cap} of 5 images got no grade (NaN): the cap max_calls={cap} is reached" in caplog.text
    assert judge(images, prompts).isnan().sum() == 5 - cap  # what is known stays known, nothing more is asked
    assert len(server.received) == cap


def test_retries_count_as_calls(server, images, caplog):
    server.script = lambda received: Turn(500, raw=b"oh no")
    judge = make(server, max_calls=7, concurrency=4)
    assert judge(images, ["a"] * 5).isnan().all()
    assert judge.spending.calls == len(server.received) == 7
    assert "got no grade (NaN): HTTP 500: oh no; the cap max_calls=7 is reached" in caplog.text
    server.received.clear()
    judge = make(server, max_calls=2)
    judge(images[:1], ["a"])
    assert (len(server.received), judge.waits) == (2, [1])  # no wait for a request that may not be made


def test_cost_never_passes_its_cap(server, provider, images, caplog):
    many = torch.cat([images, 1 - images])
    judge = make(server, provider, max_cost=0.0105, prices=(1.0, 10.0), concurrency=8)  # each costs 0.002
    scores = judge(many, ["a"] * 10)
    assert (~scores.isnan()).sum() == len(server.received) == 5
    assert judge.spending.cost == pytest.approx(0.01)
    assert (judge.spending.input_tokens, judge.spending.output_tokens) == (5000, 500)
    assert "5 of 10 images got no grade (NaN): the cap max_cost=0.0105 is reached" in caplog.text


def test_cost_without_reported_usage_raises(server, images):
    server.script = lambda received: Turn(usage=None)
    with pytest.raises(JudgeError, match="max_cost can't be kept"):
        make(server, max_cost=1.0, prices=(1.0, 1.0))(images, ["a"] * 5)
    assert len(server.received) == 1
    assert make(server)(images, ["a"] * 5).isfinite().all()


def test_one_answer_without_usage_is_taken_for_the_dearest(server, images):
    server.script = lambda received: Turn(usage=None if received.index == 1 else (1000, 100))
    judge = make(server, max_cost=1, prices=[1, 10])
    assert judge(images[:3], ["a"] * 3).isfinite().all()
    assert judge.spending.cost == pytest.approx(0.006)


def test_hidden_reasoning_is_paid_for(server, images):
    body = {
        "candidates": [{"content": {"parts": [{"text": "{hm", "thought": True}, {"text": "{}"}]}}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 20, "thoughtsTokenCount": 300},
    }
    server.script = lambda received: Turn(raw=json.dumps(body).encode())
    judge = make(server, "gemini", retries=0)
    judge(images[:1], ["a"])
    assert (judge.spending.input_tokens, judge.spending.output_tokens) == (10, 320)


def test_requests_without_a_word_are_taken_for_billed():
    spending = Spending(max_cost=1.0, prices=(1.0, 0.0))
    assert spending.blind and spending.begin() == ""
    spending.answered(Answer("", 400_000, 0))
    assert not spending.blind and spending.begin() == ""
    spending.failed(maybe_billed=True)
    assert spending.cost == pytest.approx(0.8)
    assert spending.begin() == "max_cost=1"
    assert spending.calls == 2
    spending = Spending(max_cost=1, prices=(1, 0))
    for _ in range(2):  # nothing is known yet: these are priced later
        assert spending.begin() == ""
        spending.failed(maybe_billed=True)
    assert spending.blind and spending.cost == 0 and spending.begin() == ""
    spending.answered(Answer("", 250_000, 0))
    assert spending.cost == pytest.approx(0.75)
    assert spending.begin() == "" and spending.begin() == "max_cost=1"


def test_equal_images_and_prompts_cost_one_call(server, provider, images):
    judge = make(server, provider)
    rows = images[[0, 1, 0, 0, 1]]
    prompts = ["a", "a", "a", "b", "a"]
    first = judge(rows, prompts)
    assert first.tolist() == pytest.approx(expected(rows, prompts))
    assert len(server.received) == 3
    assert judge.cache_hits == 0
    assert torch.equal(judge(rows, prompts), first)
    assert (len(server.received), judge.cache_hits) == (3, 5)


def test_the_cache_is_bounded_and_drops_the_oldest(server, images):
    judge = make(server, cache_size=2, concurrency=1)
    assert_graded(judge, images)
    assert len(judge._cache) == 2
    judge(images[[3, 4]], ["a"] * 2)
    assert (judge.cache_hits, len(server.received)) == (2, 5)
    judge(images[:1], ["a"])
    assert len(server.received) == 6
    nothing = make(server, cache_size=0)
    nothing(images[:1], ["a"])
    nothing(images[:1], ["a"])
    assert len(server.received) == 8


def test_explain_gives_all_grades_of_each_image_for_nothing(server, provider, images, prompts):
    judge = make(server, provider)
    judge(images, prompts)
    images[1, 0, 0, 0] = torch.nan
    told = judge.explain(images, prompts)
    assert len(server.received) == 5
    assert "not finite" in told[1].reason and not told[1].scores
    for index in (0, 2, 3, 4):
        assert told[index].scores == pytest.approx(grades(encode_png(images[index]), prompts[index]))
        assert told[index].explanations["originality"] == "originality seen"
        assert told[index].reason == ""


def test_images_that_are_not_finite_are_never_sent(server, images, caplog):
    images[0, 0, 0, 0] = torch.nan
    images[3] = torch.inf
    assert make(server)(images, ["a"] * 5).isnan().tolist() == [True, False, False, True, False]
    assert {received.png for received in server.received} == {encode_png(images[i]) for i in (1, 2, 4)}
    assert "2 of 5 images got no grade (NaN): the image is not finite" in caplog.text


def test_what_is_sent(server, provider, images):
    make(server, provider)(images[:1], ["a red circle"])
    make(server, provider, seed=None, temperature=None, max_tokens=None)(images[:1], ["a red circle"])
    first, bare = server.received
    picture = Image.open(io.BytesIO(first.png))
    assert picture.format == "PNG"
    np.testing.assert_array_equal(np.asarray(picture), (images[0] * 255).round().permute(1, 2, 0).numpy())
    assert first.prompt == "a red circle"
    if provider == "openai":
        assert first.path == "/v1/chat/completions"
        assert first.headers["authorization"] == "Bearer sk-very-secret"
        settings = {key: value for key, value in first.body.items() if key not in ("messages", "response_format")}
        assert settings == {"model": "eye-1", "temperature": 0.0, "seed": 0, "max_tokens": 4096}
        wanted = first.body["response_format"]["json_schema"]
        assert wanted["strict"] is True and wanted["schema"] == RUBRIC.schema()
        assert bare.body.keys() == {"model", "messages", "response_format"}
    else:
        assert first.path in ("/v1/models/eye-1:generateContent", "/v1beta/models/eye-1:generateContent")
        assert first.headers["x-goog-api-key"] == "sk-very-secret"
        config = first.body["generationConfig"]
        assert (config["temperature"], config["seed"], config["maxOutputTokens"]) == (0.0, 0, 4096)
        assert config["responseMimeType"] == "application/json"
        schema = config["responseSchema"]
        assert list(schema["properties"]) == schema["required"] == schema["propertyOrdering"] == list(RUBRIC.keys)
        assert "additionalProperties" not in json.dumps(schema)
        assert bare.body["generationConfig"].keys() == {"responseMimeType", "responseSchema"}
    assert "sk-very-secret" not in json.dumps(first.body) + first.path


def test_openai_itself_gets_the_name_it_wants_for_the_limit():
    request = OpenAIEndpoint(answer_format="text")._request([b"", ""], {}, 0)
    assert request["max_completion_tokens"] == 4096 and "max_tokens" not in request
    assert "response_format" not in request


def test_an_unreadable_answer_changes_the_seed_and_a_failure_does_not(server, provider, images):
    server.turns(Turn(500), Turn(text="hm"), Turn(429), Turn(text="hm"))
    make(server, provider, seed=40)(images[:1], ["a"])
    assert [received.seed for received in server.received] == [40, 40, 41, 41, 42]


def test_large_images_are_shrunk_when_asked(server):
    image = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(0))
    make(server, max_side=30)(image, ["a"])
    make(server, max_side=90)(image, ["a"])
    small, same = (Image.open(io.BytesIO(received.png)) for received in server.received)
    assert (small.size, same.size) == ((30, 20), (90, 60))
    theirs = same.resize((30, 20), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(small, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1
    assert Image.open(io.BytesIO(encode_png(torch.rand(3, 1, 500), 10))).size == (10, 1)


def test_gradients_are_refused_before_anything_is_spent(server, images):
    with pytest.raises(ValueError, match="not differentiable"):
        make(server)(images.requires_grad_(), ["a"] * 5, grad=True)
    assert server.received == []


def test_an_interrupt_stops_at_once(server, provider, images):
    interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    server.script = lambda received: Turn(then=interrupt if received.index == 1 else lambda: None, hang=True)
    judge = make(server, provider, concurrency=2)
    with pytest.raises(KeyboardInterrupt):
        judge(images, ["a"] * 5)
    assert not server.closing.is_set()  # the requests under way would have gone on
    assert len(server.received) == 2


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_ends_waits_too(server, images, concurrency):
    def busy(received: Received) -> Turn:
        if received.index == concurrency - 1:  # some time later, when all wait
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return Turn(503, headers={"retry-after": "200"})

    server.script = busy
    judge = make(server, concurrency=concurrency, backoff=Backoff())
    with pytest.raises(KeyboardInterrupt):
        judge(images, ["a"] * 5)
    for thread in [thread for thread in threading.enumerate() if thread.name == "judge"]:
        thread.join(20)
        assert not thread.is_alive()
    assert len(server.received) == concurrency


def test_workers_keep_order_and_raise_what_is_raised():
    assert run_all(lambda item, stop: item * 2, list(range(50)), 8) == [2 * i for i in range(50)]
    assert run_all(lambda item, stop: item, [], 8) == []

    def fail(item: int, stop: threading.Event) -> int:
        if item == 3:
            raise OSError("third")
        return item

    for concurrency in (1, 4):
        with pytest.raises(OSError, match="third"):
            run_all(fail, list(range(9)), concurrency)


def test_never_more_requests_under_way_than_allowed(server, images):
    inside: list[None] = []
    most: list[int] = []

    def late(received: Received) -> Turn:
        inside.append(None)
        most.append(len(inside))
        threading.Event().wait(0.02)
        return Turn(then=inside.pop)

    server.script = late
    assert_graded(make(server, concurrency=3), torch.cat([images, images.flip(3), 1 - images]))
    assert 1 < max(most) <= 3


def test_keys_come_from_the_environment_when_needed(server, provider, images, monkeypatch):
    names = {"openai": ["OPENAI_API_KEY"], "gemini": ["GEMINI_API_KEY", "GOOGLE_API_KEY"]}[provider]
    judge = RubricJudge(provider)
    with pytest.raises(JudgeError, match=rf"no API key was found; set {' or '.join(names)}, or pass api_key=\.\.\.$"):
        judge.load()
    for name in reversed(names):
        monkeypatch.setenv(name, f"from {name}")
        judge = RubricJudge(provider, base_url=server.options(provider)["base_url"])
        judge.load()
        judge(images[:1], ["a"])
        headers = server.received[-1].headers
        sent = {"openai": f"Bearer from {name}", "gemini": f"from {name}"}[provider]
        assert headers[{"openai": "authorization", "gemini": "x-goog-api-key"}[provider]] == sent
        assert f"from {name}" not in json.dumps(judge.describe())


@pytest.mark.parametrize("key", ["sk-\u00fcber-secret", "sk-secret\nX-More: 1"])
def test_keys_that_no_header_can_carry_are_not_repeated(server, provider, key):
    judge = make(server, provider, api_key=key)
    with pytest.raises(JudgeError, match="characters that no key has") as caught:
        judge.load()
    assert "secret" not in str(caught.value) and caught.value.__context__ is None


def test_servers_on_this_machine_need_no_key(server, images):
    judge = RubricJudge("openai", "llava", base_url=f"{server.address}/v1")
    judge.load()
    assert server.received == []
    assert_graded(judge, images)


@pytest.mark.parametrize(("provider_", "package"), [("openai", "openai"), ("gemini", "google.genai")])
def test_missing_package_is_one_line(provider_, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    judge = RubricJudge(provider_, api_key="x")
    with pytest.raises(ImportError, match=r'needs the package .*: pip install "noise-search\[api\]"$') as caught:
        judge.load()
    assert "\n" not in str(caught.value)


def test_construction_imports_and_contacts_nothing():
    code = (
        "import sys; from verifiers.judge.judge import RubricJudge\n"
        "for provider in ('openai', 'gemini', 'local'): RubricJudge(provider)\n"
        "assert RubricJudge().key and RubricJudge('openai').describe()\n"
        "heavy = {'openai', 'google.genai', 'transformers', 'PIL', 'httpx2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_version_follows_what_changes_scores(server):
    changes: list[dict[str, Any]] = [
        {},
        {"score": "mean"},
        {"rubric": Rubric(RUBRIC.aspects, scale=(0, 100))},
        {"rubric": Rubric(RUBRIC.aspects, explanations=False)},
        {"seed": 1},
        {"max_side": 512},
        {"temperature": 0.5},
        {"max_tokens": 100},
        {"answer_format": "text"},
    ]
    versions = [make(server, **change).version for change in changes] + [make(server, "gemini").version]
    versions.append(RubricJudge("openai", "eye-2", **server.options("openai")).version)
    assert len(set(versions)) == len(versions)
    assert versions[0].startswith("openai/127.0.0.1/eye-1/0-10/overall/")
    same: dict[str, Any] = {"temperature": 0, "rubric": Rubric(RUBRIC.aspects, scale=[0, 10])}
    assert make(server, concurrency=1, retries=0, max_calls=3, timeout=5, **same).version == versions[0]
    assert make(server, **same).describe() == make(server).describe()
    assert RubricJudge("gemini", "m").version.startswith("gemini/m/0-10/overall/")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"provider": "claude"}, ValueError, r"provider is 'claude'; expected one of \['gemini', 'local', 'openai'\]"),
        ({"score": "beauty"}, ValueError, "score is 'beauty'; expected one of"),
        ({"concurrency": 0}, ValueError, "concurrency is 0; expected at least 1"),
        ({"retries": -1}, ValueError, "retries is -1; expected at least 0"),
        ({"max_side": 0}, ValueError, "max_side is 0; expected at least 1"),
        ({"max_calls": -1}, ValueError, "max_calls is -1"),
        ({"max_cost": 1.0}, ValueError, "max_cost was given without prices"),
        ({"max_cost": float("nan"), "prices": (1, 1)}, ValueError, "max_cost is nan"),
        ({"prices": (1, -1)}, ValueError, r"prices\[1\] is -1"),
        ({"prices": (1, 2, 3)}, ValueError, r"prices is \(1, 2, 3\); expected two"),
        ({"base_url": "localhost:8000/v1"}, ValueError, ".*expected an address such as"),
        ({"provider": "gemini", "base_url": "http://"}, ValueError, ".*expected an address such as"),
        ({"answer_format": "xml"}, ValueError, "answer_format is 'xml'"),
        ({"temprature": 1}, TypeError, ".*temprature"),
        ({"timeout": -1}, ValueError, "timeout is -1; expected a finite number of more than 0"),
        ({"timeout": 0}, ValueError, "timeout is 0; expected a finite number of more than 0"),
        ({"timeout": float("inf")}, ValueError, "timeout is inf; expected a finite number"),
        ({"timeout": "x"}, TypeError, "timeout is 'x' of type str; expected a number"),
        ({"timeout": None}, TypeError, "timeout is None of type NoneType; expected a number"),
        ({"max_tokens": "x"}, TypeError, "max_tokens is 'x' of type str; expected a whole number"),
        ({"max_tokens": 0}, ValueError, "max_tokens is 0; expected at least 1"),
        ({"temperature": "hot"}, TypeError, "temperature is 'hot' of type str; expected a number"),
        ({"temperature": -1}, ValueError, "temperature is -1; expected a finite number of at least 0"),
        ({"model": 3}, TypeError, "model is 3 of type int; expected a string"),
        ({"base_url": 8000}, TypeError, "base_url is 8000 of type int; expected a string"),
        ({"api_key": 12345}, TypeError, "api_key is of type int; expected a string"),
        ({"provider": "gemini", "thinking": 3}, TypeError, "thinking is 3 of type int; expected a string"),
        ({"max_calls": 1.5}, TypeError, "max_calls is 1.5 of type float; expected a whole number"),
        ({"max_calls": True}, TypeError, "max_calls is True of type bool; expected a whole number"),
        ({"max_cost": "1", "prices": (1, 1)}, TypeError, "max_cost is '1' of type str; expected a number"),
        ({"prices": 3}, ValueError, "prices is 3; expected two"),
        ({"prices": ("a", 1)}, TypeError, r"prices\[0\] is 'a' of type str; expected a number"),
        ({"concurrency": "x"}, TypeError, "concurrency is 'x' of type str; expected a whole number"),
        ({"concurrency": None}, TypeError, "concurrency is None"),
        ({"retries": 1.0}, TypeError, "retries is 1.0 of type float; expected a whole number"),
        ({"cache_size": "big"}, TypeError, "cache_size is 'big'"),
        ({"max_side": 512.5}, TypeError, "max_side is 512.5"),
        ({"seed": "0"}, TypeError, "seed is '0'"),
        ({"rubric": "x"}, TypeError, "rubric is 'x'; expected a Rubric: pass"),
        ({"backoff": 3}, TypeError, "backoff is 3; expected a Backoff: pass"),
        ({"provider": ["openai"]}, ValueError, r"provider is \['openai'\]; expected one of"),
        ({"provider": "local", "device": "gpu"}, ValueError, "device is 'gpu'; expected a device such as cpu"),
        ({"provider": "local", "device": 1.5}, ValueError, "device is '1.5'; expected a device such as cpu"),
        ({"provider": "local", "model": 3}, TypeError, "model is 3 of type int; expected a string"),
        ({"provider": "local", "max_tokens": -5}, ValueError, "max_tokens is -5; expected at least 1"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_in_one_line(arguments, error, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks at run time
    with pytest.raises(error, match=f"^{message}") as caught:
        RubricJudge(**{"provider": "openai", **arguments})
    assert "\n" not in str(caught.value) and "12345" not in str(caught.value)


def test_numbers_of_numpy_are_welcome(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    judge = RubricJudge("openai", max_tokens=np.int64(100), seed=np.int32(3), temperature=np.float32(0.5))
    assert judge.version == RubricJudge("openai", max_tokens=100, seed=3, temperature=0.5).version


def test_waits_that_cannot_be_waited_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for name in ("first", "longest", "patience"):
        with pytest.raises(ValueError, match=f"{name} is -1; expected"):
            Backoff(**{name: -1})
        with pytest.raises(TypeError, match=f"{name} is 'x' of type str"):
            Backoff(**{name: "x"})
    assert Backoff(patience=float("inf")).wait(1, 1e6) == 1e6


def test_an_endpoint_object_is_taken_as_it_is(server, images):
    endpoint = OpenAIEndpoint("eye-1", **server.options("openai"))
    assert RubricJudge(endpoint)(images, ["a"] * 5).isfinite().all()
    with pytest.raises(TypeError, match=r"is an endpoint already.*'api_key', 'model'"):
        RubricJudge(endpoint, "m", api_key="x")


def test_a_local_model_that_answers(tmp_path, images, caplog):
    numbers = {key: {"score": index + 1.5} for index, key in enumerate(RUBRIC.keys)}
    answer = json.dumps(numbers).replace(" ", "")
    judge = RubricJudge("local", write_chat_model(tmp_path / "eye", answer), dtype=torch.float32)
    seen: list[Tensor] = []
    judge.load()
    tower = judge.endpoint.source.model().model.vision_tower  # type: ignore[attr-defined]
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append([*args, *kwargs.values()][0]),
        with_kwargs=True,
    )
    state = torch.get_rng_state()
    assert judge(images[:2], ["word1 word2", "word3"]).tolist() == [6.5, 6.5]
    assert torch.equal(torch.get_rng_state(), state)
    assert judge.explain(images[:1], ["word1 word2"])[0].scores["visual_quality"] == 3.5
    assert (judge.spending.calls, judge.cache_hits) == (2, 1)
    assert judge.version.startswith("local/eye/")
    processor = judge.endpoint._processor  # type: ignore[attr-defined]
    for pixels, image in zip(seen, images[:2], strict=True):
        theirs = processor.image_processor(Image.open(io.BytesIO(encode_png(image))), return_tensors="pt").pixel_values
        torch.testing.assert_close(pixels, theirs)
    assert not torch.equal(seen[0], seen[1])


def test_a_local_model_that_babbles(tmp_path, images, caplog):
    judge = RubricJudge("local", write_chat_model(tmp_path / "eye", None), max_tokens=5)
    assert judge(images[:2], ["word1", "word2"]).isnan().all()
    assert judge.spending.calls == 2  # greedy: asking again would change nothing
    assert "no JSON object with grades" in caplog.text


def test_a_local_model_without_chat_template_is_refused(tmp_path):
    judge = RubricJudge("local", write_chat_model(tmp_path / "eye", None, template=None))
    with pytest.raises(JudgeError, match="'eye' has no chat template"):
        judge.load()


def edit_judge(server: JudgeServer, provider: str, **options: Any) -> EditJudge:
    return EditJudge(provider, "eye-1", **{**server.options(provider), **options})


def graded(received: Received) -> Turn:
    """Grades of an edit: whether it was followed, how near the mean of the image is to that of the first source."""
    source, image = (
        np.asarray(Image.open(io.BytesIO(png))).mean() / 255
        for png in (received.content[1], received.png)
        if isinstance(png, bytes)
    )
    grades = (9.0, 10 - 10 * abs(source - image), float(len(received.prompt) % 10), 10 * image)
    return Turn(text=json.dumps(dict(zip(EDIT_RUBRIC.keys, grades, strict=True))))


class TestEditContract(VerifierContract):
    differentiable = False

    @pytest.fixture
    def verifier(self, server):
        server.script = graded
        return edit_judge(server, "openai", score="mean")


def test_a_judge_of_edits_is_shown_source_and_image_under_their_labels(server, provider, images):
    server.script = graded
    source = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(3))
    judge = edit_judge(server, provider, score="rest_preserved")
    expected = [10 - 10 * abs(levels(image) - levels(source)) for image in images[:2]]
    assert judge(images[:2], ["make it blue"] * 2, sources=[source]).tolist() == pytest.approx(expected, abs=1e-5)
    for received in server.received:
        first, shown, second, image, text = received.content
        assert (first, shown, second, image) == ("Source image:", encode_png(source[0]), "Edited image:", received.png)
        assert text == EDIT_RUBRIC.text("make it blue") and received.prompt == "make it blue"
        told = json.dumps(received.body)
        assert all(key in told for key in EDIT_RUBRIC.keys) and "originality" not in told
    assert {received.png for received in server.received} == {encode_png(image) for image in images[:2]}


def levels(image: Tensor) -> float:
    return float((image * 255).round().mean() / 255)


def test_several_sources_are_numbered_and_another_source_is_another_request(server, images):
    server.script = graded
    first, second = torch.rand(2, 1, 3, 9, 7, generator=torch.Generator().manual_seed(3))
    judge = edit_judge(server, "openai", max_side=8)
    for sources in ([first, second], [first, second], [second], [second, first]):
        judge(images[:1], ["a"], sources=sources)
    assert [received.content[0] for received in server.received] == [
        "Source image 1:",
        "Source image:",
        "Source image 1:",
    ]
    assert server.received[0].content[2] == "Source image 2:" and judge.cache_hits == 1
    shown = server.received[0].content[3]
    assert isinstance(shown, bytes) and Image.open(io.BytesIO(shown)).size == (6, 8)
    told = judge.explain(images[:1], ["a"], sources=[second])
    assert told[0].scores["instruction_followed"] == 9 and judge.cache_hits == 2
    with pytest.raises(ValueError, match=r"'judge-edit' needs \['sources'\]"):
        judge.explain(images[:1], ["a"])


def test_rubrics_of_edits_and_of_images_are_not_taken_for_each_other():
    with pytest.raises(ValueError, match="rubric asks of edits, and RubricJudge doesn't show them: use EditJudge"):
        RubricJudge("openai", rubric=EDIT_RUBRIC)
    with pytest.raises(ValueError, match=r"rubric asks of single images, and EditJudge doesn't.*: use RubricJudge"):
        EditJudge("openai", rubric=RUBRIC)
    own = Rubric({"likeness": "whether it is the same person as in the source"}, edits=True)
    judge = EditJudge("openai", rubric=own, score="likeness")
    assert judge.key != EditJudge("openai").key and judge.needs == {"sources"}
    assert "is the same person as in the source" in own.text("smile") and own.sha256 != EDIT_RUBRIC.sha256


def test_a_local_model_sees_the_source_too(tmp_path, images):
    answer = json.dumps({key: {"score": index + 1.5} for index, key in enumerate(EDIT_RUBRIC.keys)}).replace(" ", "")
    judge = EditJudge("local", write_chat_model(tmp_path / "eye", answer), dtype=torch.float32)
    seen: list[Tensor] = []
    judge.load()
    tower = judge.endpoint.source.model().model.vision_tower  # type: ignore[attr-defined]
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append([*args, *kwargs.values()][0]),
        with_kwargs=True,
    )
    assert judge(images[:1], ["word1"], sources=[images[3:4]]).tolist() == [4.5]
    processor = judge.endpoint._processor  # type: ignore[attr-defined]
    pictures = [Image.open(io.BytesIO(encode_png(images[index]))) for index in (3, 0)]
    torch.testing.assert_close(seen[0], processor.image_processor(pictures, return_tensors="pt").pixel_values)


RED, DARK = (Image.new("RGB", (8, 6), colour) for colour in ("red", "black"))


def brighter(received: Received) -> Turn:
    """Which of the two images is brighter, as a model would say it."""
    first, second = (np.asarray(Image.open(io.BytesIO(png))).mean() for png in received.content[1:4:2])
    said = "A" if first > second else "B" if second > first else "tie"
    return Turn(text=json.dumps({"explanation": "it is brighter", "better": said}))


def pair_judge(server: JudgeServer, provider: str, **options: Any) -> PairJudge:
    return PairJudge(make(server, provider, **options))


def test_a_pair_judge_shows_both_images_and_says_which_is_better(server, provider):
    server.script = brighter
    judge = pair_judge(server, provider)
    assert [judge(RED, DARK, "a"), judge(DARK, RED, "a"), judge(RED, RED, "a")] == [1.0, 0.0, 0.5]
    assert judge.explain(RED, DARK, "a").explanations == {OVERALL: "it is brighter"}
    assert (judge.judge.spending.calls, judge.judge.cache_hits) == (3, 1), "an answer is remembered"
    labels = [part for part in server.received[0].content if isinstance(part, str)]
    assert labels[:2] == ["Image A:", "Image B:"] and server.received[0].prompt == "a"
    shown = [part for part in server.received[0].content if isinstance(part, bytes)]
    assert [Image.open(io.BytesIO(png)).getpixel((0, 0)) for png in shown] == [(255, 0, 0), (0, 0, 0)]
    assert "enum" in json.dumps(server.received[0].body), "the form of the answer is asked for"


def test_a_pair_judge_keeps_the_caps_of_the_judge_that_it_is_made_of(server, provider, caplog):
    server.script = lambda received: brighter(received) if len(received.content) == 5 else Turn()
    grading = make(server, provider, max_calls=3)
    judge = PairJudge(grading)
    assert judge(RED, DARK, "a") == 1.0 and judge.exhausted == ""
    grading(torch.rand(2, 3, 8, 8), ["a", "a"])
    assert np.isnan(judge(DARK, RED, "a")) and "max_calls=3" in judge.exhausted
    assert judge(RED, DARK, "a") == 1.0, "what is known costs nothing"
    assert grading.spending.calls == len(server.received) == 3 and "max_calls=3" in caplog.text


def test_a_pair_judge_asks_again_where_it_could_not_read_the_answer(server, provider):
    server.turns(Turn(text="I like them both"), Turn(status=503), Turn(text='{"better": "Image B"}'))
    judge = pair_judge(server, provider)
    assert judge(RED, DARK, "a") == 0.0 and judge.judge.spending.calls == 3
    server.turns(*[Turn(text="no")] * 5)
    assert np.isnan(judge(RED, DARK, "b"))


def test_a_pair_judge_that_no_request_can_reach_says_so(server, provider):
    server.script = lambda received: Turn(status=401)
    with pytest.raises(JudgeError, match="check the key"):
        pair_judge(server, provider)(RED, DARK, "a")


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ('{"explanation": "x", "better": "A"}', 1.0),
        ('```json\n{"Better": "b"}\n```', 0.0),
        ('At first {"better": "A"}, but no: {"better": "tie"}', 0.5),
        ('{"better": "<A, B or tie>"} {"better": "image B"}', 0.0),
    ],
)
def test_which_is_better_is_read_from_whatever_a_model_says(answer, share):
    assert PairQuestion().parse(answer).scores == {OVERALL: share}


@pytest.mark.parametrize("answer", ["", "A", '{"better": 1}', '{"better": "C"}', '{"best": "A"}', '["A"]'])
def test_an_answer_that_says_nothing_is_unreadable(answer):
    with pytest.raises(UnreadableAnswer, match="A, B or tie"):
        PairQuestion().parse(answer)


def test_the_judge_by_name_compares_pairs_in_that_mode(server, provider):
    server.script = brighter
    given = {**server.options(provider), "provider": provider, "model": "eye-1", "max_calls": 2}
    judge = load("judge", mode="pairs", **given)
    assert isinstance(judge, PairJudge) and [judge(RED, DARK, "a"), judge(DARK, RED, "a")] == [1.0, 0.0]
    assert np.isnan(judge(RED, RED, "a")) and "max_calls=2" in judge.exhausted
    assert isinstance(load("judge", mode="scores", **given), RubricJudge)


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("clip", "pairs", "'pairs' for 'clip'"),
        ("judge", "pair", "expected 'scores'"),
        ("judge-edit", "pairs", "source"),
    ],
)
def test_a_mode_that_a_verifier_has_not_is_refused(name, mode, said):
    with pytest.raises(ValueError, match=said):
        load(name, mode=mode)


def test_a_local_model_compares_pairs(tmp_path):
    judge = PairJudge("local", write_chat_model(tmp_path / "eye", '{"better":"B"}'), dtype=torch.float32)
    assert judge(RED, DARK, "word1") == 0.0 and judge.judge.spending.calls == 1


def test_a_pair_judge_refuses_what_it_cannot_use(server):
    with pytest.raises(TypeError, match="max_calls"):
        PairJudge(make(server), max_calls=3)
    with pytest.raises(ValueError, match="source"):
        PairJudge(edit_judge(server, "openai"))
    with pytest.raises(ValueError, match="provider"):
        PairJudge("nobody")
