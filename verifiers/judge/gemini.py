"""Google's Gemini models as judges, through the Gemini API."""

import importlib
import os
import re
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

DEFAULT_MODEL = "gemini-3.8-flash"
"""The paper's grader is Gemini 1.5 Flash, which is retired; this is the family's stable flash model."""


_OFFICIAL = "generativelanguage.googleapis.com"


class GeminiEndpoint(Endpoint):
    """Google's Gemini API; needs the package `google-genai`."""

    provider = "gemini"

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | int | None = 0.0,
        max_tokens: int | None = 4096,
        thinking: str | None = None,
        timeout: float | int = 120.0,
    ) -> None:
        """Name the model; nothing is contacted.

        Args:
            model: its name; default `gemini-3.8-flash`.
            base_url: the server; default GOOGLE_GEMINI_BASE_URL, else Google's.
            api_key: default GEMINI_API_KEY, else GOOGLE_API_KEY.
            temperature: None leaves it to the server.
            max_tokens: most tokens of an answer, hidden reasoning included; None leaves it to the server.
            thinking: the level of hidden reasoning, such as "low"; None leaves it to the server.
            timeout: seconds without a word from the server before a request counts as failed.

        Raises:
            ValueError: a base_url that is no address, or a number outside its range.
            TypeError: an argument of another type.
        """
        self.model = as_string("model", model or DEFAULT_MODEL)
        self.base_url = checked_address(base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or f"https://{_OFFICIAL}/")
        self.temperature = None if temperature is None else as_number("temperature", temperature)
        self.max_tokens = None if max_tokens is None else as_whole("max_tokens", max_tokens, 1)
        self.thinking = None if thinking is None else as_string("thinking", thinking)
        self.timeout = as_number("timeout", timeout, positive=True)
        self._api_key = None if api_key is None else as_string("api_key", api_key, secret=True)

    @property
    def label(self) -> str:
        """Provider and model; the host where it isn't Google's."""
        host = host_of(self.base_url)
        return f"{self.provider}/{self.model}" if host == _OFFICIAL else f"{self.provider}/{host}/{self.model}"

    def settings(self) -> dict[str, Any]:
        """Temperature, limit of the answer, and level of reasoning."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens, "thinking": self.thinking}

    def ready(self, device: torch.device | str | None = None) -> None:
        """Make the client; `device` doesn't matter."""
        self._client  # noqa: B018 (made on first use)

    def ask(self, png: bytes, text: str, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request with the image inline and a response schema."""
        from google.genai import errors, types

        contents = [types.Part.from_bytes(data=png, mime_type="image/png"), text]
        config = self._config(schema, seed)
        try:
            response = self._client.models.generate_content(model=self.model, contents=contents, config=config)
        except errors.APIError as error:
            raise self._refused(error) from None  # its message may repeat the key
        except _transport_errors("TimeoutException"):
            raise RequestFailed(f"no answer within {self.timeout:g} s", again=True, answered=False) from None
        except _transport_errors("RequestError", OSError) as error:
            reason = f"no connection: {cleaned(error, self._key)}"
            raise RequestFailed(reason, again=True, answered=False) from None
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # Neither JSON nor what the client expects of it, which it takes for granted in places.
            reason = f"the server's answer can't be read: {cleaned(error, self._key)}"
            raise RequestFailed(reason, again=True, answered=False) from None
        return self._read(response)

    @cached_property
    def _key(self) -> str:
        return find_key(self._api_key, ("GEMINI_API_KEY", "GOOGLE_API_KEY"), self.base_url)

    @cached_property
    def _client(self) -> Any:
        try:
            from google import genai
            from google.genai import types
        except ImportError as error:
            raise missing("google-genai") from error
        options = types.HttpOptions(
            base_url=self.base_url,
            timeout=max(1, round(self.timeout * 1000)),
            client_args={"follow_redirects": False},  # the requests that follow them would not be counted
        )
        return genai.Client(api_key=self._key, vertexai=False, http_options=options)  # without options it never retries

    def _config(self, schema: Mapping[str, Any], seed: int | None) -> Any:
        from google.genai import types

        return types.GenerateContentConfig(
            temperature=self.temperature,
            seed=seed,
            max_output_tokens=self.max_tokens,
            response_mime_type="application/json",
            response_schema=_plain(schema),
            thinking_config=types.ThinkingConfig(thinking_level=self.thinking) if self.thinking else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

    def _refused(self, error: Any) -> Exception:
        details = _details(error.details)
        headers = getattr(error.response, "headers", None) or {}
        invalid = any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
        # An invalid key is a bad request (400) here.
        hopeless = "check the key" if invalid else ""
        wait = retry_after(headers)
        wait = _asked_wait(details) if wait is None else wait
        said = redirect(error.code, headers, self._key) or cleaned(error.message or error.status or "", self._key)
        return refusal(error.code, said, wait, hopeless)

    def _read(self, response: Any) -> Answer:
        usage = response.usage_metadata
        blocked = getattr(response.prompt_feedback, "block_reason", None)
        candidate = (response.candidates or [None])[0]
        if candidate is None and not blocked:
            raise RequestFailed("the server's answer holds no candidate", again=True, answered=False)
        finish = _name(getattr(candidate, "finish_reason", None))
        refused = _name(blocked) or (finish if finish not in ("", "STOP", "MAX_TOKENS", "OTHER") else "")
        parts = (candidate.content.parts if candidate is not None and candidate.content else None) or []
        asked, written, thoughts = (
            getattr(usage, f"{name}_token_count", None) for name in ("prompt", "candidates", "thoughts")
        )
        return Answer(
            "".join(part.text for part in parts if part.text and not part.thought),
            asked,
            None if asked is None else (written or 0) + (thoughts or 0),  # counts of zero are left out
            refused=refused,
            note=f"cut at max_tokens={self.max_tokens}; pass more" if finish == "MAX_TOKENS" else "",
        )


def _transport_errors(name: str, *others: type[Exception]) -> tuple[type[Exception], ...]:
    """The class with this name in whichever HTTP packages are here, as the client takes one or the other."""
    found = list(others)
    for package in ("httpx2", "httpx"):
        try:
            found.append(getattr(importlib.import_module(package), name))
        except ImportError:
            continue
    return tuple(found)


def _plain(schema: Any) -> Any:
    """The schema in Gemini's dialect: it keeps the order of properties, and knows no `additionalProperties`."""
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key not in ("additionalProperties", "properties")}
    if "properties" in schema:
        plain["properties"] = {key: _plain(value) for key, value in schema["properties"].items()}
        plain["property_ordering"] = list(schema["properties"])
    return plain


def _details(body: Any) -> list[dict[str, Any]]:
    error = body.get("error", body) if isinstance(body, dict) else {}
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _asked_wait(details: list[dict[str, Any]]) -> float | None:
    """Seconds in a RetryInfo, written like "34s"."""
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?s", delay):
            return float(delay[:-1])
    return None


def _name(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
