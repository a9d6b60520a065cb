"""Chat completions with images, as OpenAI serves them and vLLM, ollama, llama.cpp and others imitate them."""

import base64
import json
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from verifiers.arguments import as_number, as_string, as_whole
from verifiers.judge.endpoint import (
    Answer,
    Endpoint,
    RequestFailed,
    checked_address,
    cleaned,
    find_key,
    host_of,
    missing,
    redirect,
    refusal,
    retry_after,
)

DEFAULT_MODEL = "gpt-4.1-mini"
"""Takes images, temperature 0 and a seed; reasoning models refuse a temperature."""


_OFFICIAL = "api.openai.com"


class OpenAIEndpoint(Endpoint):
    """Any server with OpenAI's `/chat/completions`; needs the package `openai`."""

    provider = "openai"

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | int | None = 0.0,
        max_tokens: int | None = 4096,
        answer_format: str = "schema",
        timeout: float | int = 120.0,
    ) -> None:
        """Name the model; nothing is contacted.

        Args:
            model: its name at the server; default `gpt-4.1-mini`.
            base_url: the server, such as "http://localhost:8000/v1" for vLLM; default OPENAI_BASE_URL, else OpenAI.
            api_key: default OPENAI_API_KEY; servers on this machine need none.
            temperature: None leaves it to the server, as reasoning models demand.
            max_tokens: most tokens of an answer, hidden reasoning included; None leaves it to the server.
            answer_format: "schema" has the server enforce the rubric's form; "object" and "text" are for servers that
                enforce just JSON, or nothing.
            timeout: seconds without a word from the server before a request counts as failed.

        Raises:
            ValueError: an unknown answer format, a base_url that is no address, or a number outside its range.
            TypeError: an argument of another type.
        """
        if answer_format not in ("schema", "object", "text"):
            raise ValueError(f"answer_format is {answer_format!r}; expected 'schema', 'object' or 'text'")
        self.model = as_string("model", model or DEFAULT_MODEL)
        self.base_url = checked_address(base_url or os.environ.get("OPENAI_BASE_URL") or f"https://{_OFFICIAL}/v1")
        self.temperature = None if temperature is None else as_number("temperature", temperature)
        self.max_tokens = None if max_tokens is None else as_whole("max_tokens", max_tokens, 1)
        self.answer_format = answer_format
        self.timeout = as_number("timeout", timeout, positive=True)
        self._api_key = None if api_key is None else as_string("api_key", api_key, secret=True)

    @property
    def label(self) -> str:
        """Provider and model; the host where it isn't OpenAI's."""
        host = host_of(self.base_url)
        return f"{self.provider}/{self.model}" if host == _OFFICIAL else f"{self.provider}/{host}/{self.model}"

    def settings(self) -> dict[str, Any]:
        """Temperature, limit of the answer, and its form."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "answer_format": self.answer_format,
        }

    def ready(self, device: torch.device | str | None = None) -> None:
        """Make the client; `device` doesn't matter."""
        self._client  # noqa: B018 (made on first use)

    def ask(self, png: bytes, text: str, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request with the image inline, labelled as the PNG that it is."""
        import openai

        try:
            response = self._client.chat.completions.with_raw_response.create(**self._request(png, text, schema, seed))
        except openai.APIStatusError as error:
            raise self._refused(error) from None  # its message may repeat the key
        except openai.APITimeoutError:
            raise RequestFailed(f"no answer within {self.timeout:g} s", again=True, answered=False) from None
        except openai.APIConnectionError as error:
            reason = cleaned(error.__cause__ or error, self._key)
            raise RequestFailed(f"no connection: {reason}", again=True, answered=False) from None
        return self._read(response.http_response.text)

    @cached_property
    def _key(self) -> str:
        return find_key(self._api_key, ("OPENAI_API_KEY",), self.base_url)

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise missing("openai") from error
        # Its own retries would be spent without being counted, as would the requests that follow redirects.
        return openai.OpenAI(
            api_key=self._key,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def _request(self, png: bytes, text: str, schema: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        # OpenAI has renamed the limit and refuses the old name, which is the one that others know.
        limit = "max_completion_tokens" if host_of(self.base_url) == _OFFICIAL else "max_tokens"
        formats: dict[str, Any] = {
            "schema": {
                "type": "json_schema",
                "json_schema": {"name": "grades", "strict": True, "schema": dict(schema)},
            },
            "object": {"type": "json_object"},
        }
        optional = {
            "temperature": self.temperature,
            "seed": seed,
            limit: self.max_tokens,
            "response_format": formats.get(self.answer_format),
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"model": self.model, "messages": [{"role": "user", "content": content}], **given}

    def _refused(self, error: Any) -> Exception:
        body = error.body if isinstance(error.body, dict) else {}
        said = redirect(error.status_code, error.response.headers, self._key)
        said = said or cleaned(body.get("message") or error.response.text, self._key)
        hopeless = ""
        if body.get("code") == "insufficient_quota":
            hopeless = "the account has no credit left"
        elif body.get("code") in ("unsupported_value", "unsupported_parameter"):
            hopeless = f"leave out what the model doesn't take, such as {body.get('param')}=None"
        return refusal(error.status_code, said, retry_after(error.response.headers), hopeless)

    def _read(self, text: str) -> Answer:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            message = choice["message"]
            answer, refused = _text(message.get("content")), message.get("refusal")
            notes = [] if answer else [f"it has no text: {cleaned(json.dumps(message), self._key)}"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            reason = f"the server's answer is no chat completion: {cleaned(text, self._key)}"
            raise RequestFailed(reason, again=True, answered=False) from None
        finish = choice.get("finish_reason")
        if finish == "length":
            notes.append(f"cut at max_tokens={self.max_tokens}; pass more")
        return Answer(
            answer,
            *_usage(body),
            refused=cleaned(refused or finish, self._key) if refused or finish == "content_filter" else "",
            note="; ".join(notes),
        )


def _text(content: Any) -> str:
    """The words of a message, which some servers send in parts; parts that are no text, such as reasoning, left out."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _usage(body: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    given = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    first, second = (value if isinstance(value, int) and value >= 0 else None for value in given)
    return first, second
