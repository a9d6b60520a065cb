"""Google's Gemini models as judges, through the Gemini API."""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import Any

from verifiers.arguments import as_string
from verifiers.judge.endpoint import Answer, Content, ServedEndpoint


class GeminiEndpoint(ServedEndpoint):
    """Google's Gemini API; needs the package `google-genai`.

    The paper's grader is Gemini 1.5 Flash, which is retired; the default is the family's stable flash model.
    """

    provider, package = "gemini", "google-genai"
    default_model = "gemini-3.8-flash"
    official = "https://generativelanguage.googleapis.com/"
    address_variable = "GOOGLE_GEMINI_BASE_URL"
    key_variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")

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
            model, base_url, api_key, temperature, max_tokens, timeout: as of every `ServedEndpoint`.
            thinking: the level of hidden reasoning, such as "low"; None leaves it to the server.

        Raises:
            ValueError: a base_url that is no address, or a number outside its range.
            TypeError: an argument of another type.
        """
        super().__init__(model, base_url, api_key, temperature, max_tokens, timeout)
        self.thinking = None if thinking is None else as_string("thinking", thinking)

    def settings(self) -> dict[str, Any]:
        """Temperature, limit of the answer, and level of reasoning."""
        return {**super().settings(), "thinking": self.thinking}

    def connect(self) -> Any:
        """Google's own client; without options it never retries."""
        from google import genai
        from google.genai import types

        options = types.HttpOptions(
            base_url=self.base_url,
            timeout=max(1, round(self.timeout * 1000)),
            client_args={"follow_redirects": False},
        )
        return genai.Client(api_key=self.key, vertexai=False, http_options=options)

    def ask(self, content: Content, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request with the images inline and a response schema."""
        from google.genai import errors, types

        contents = [
            types.Part.from_bytes(data=one, mime_type="image/png") if isinstance(one, bytes) else one for one in content
        ]
        config = types.GenerateContentConfig(
            temperature=self.temperature,
            seed=seed,
            max_output_tokens=self.max_tokens,
            response_mime_type="application/json",
            response_schema=_plain(schema),
            thinking_config=types.ThinkingConfig(thinking_level=self.thinking) if self.thinking else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        try:
            response = self.client.models.generate_content(model=self.model, contents=contents, config=config)
        except errors.APIError as error:
            raise self._refusal(error) from None  # its message may repeat the key
        except _transport_errors("TimeoutException"):
            raise self.silent(f"no answer within {self.timeout:g} s") from None
        except _transport_errors("RequestError", OSError) as error:
            raise self.silent("no connection", error) from None
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # Neither JSON nor what the client expects of it, which it takes for granted in places.
            raise self.silent("the server's answer can't be read", error) from None
        return self._read(response)

    def _refusal(self, error: Any) -> Exception:
        body = error.details if isinstance(error.details, dict) else {}
        inner = body.get("error", body)
        listed = inner.get("details") if isinstance(inner, dict) else None
        details = [detail for detail in listed if isinstance(detail, dict)] if isinstance(listed, list) else []
        # An invalid key is a bad request (400) here.
        invalid = any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
        return self.refused(
            error.code,
            getattr(error.response, "headers", None) or {},
            error.message or error.status or "",
            next((wait for detail in details if (wait := _retry_delay(detail)) is not None), None),
            "check the key" if invalid else "",
        )

    def _read(self, response: Any) -> Answer:
        usage = response.usage_metadata
        blocked = getattr(response.prompt_feedback, "block_reason", None)
        candidate = (response.candidates or [None])[0]
        if candidate is None and not blocked:
            raise self.silent("the server's answer holds no candidate")
        finish = _name(getattr(candidate, "finish_reason", None))
        parts = (candidate.content.parts if candidate is not None and candidate.content else None) or []
        asked, written, thoughts = (
            getattr(usage, f"{name}_token_count", None) for name in ("prompt", "candidates", "thoughts")
        )
        return Answer(
            "".join(part.text for part in parts if part.text and not part.thought),
            asked,
            None if asked is None else (written or 0) + (thoughts or 0),  # counts of zero are left out
            refused=_name(blocked) or (finish if finish not in ("", "STOP", "MAX_TOKENS", "OTHER") else ""),
            note=self.cut if finish == "MAX_TOKENS" else "",
        )


def _transport_errors(name: str, *others: type[Exception]) -> tuple[type[Exception], ...]:
    """The class with this name in whichever HTTP packages are here, as the client takes one or the other."""
    here = [package for package in ("httpx2", "httpx") if importlib.util.find_spec(package)]
    return (*others, *(getattr(importlib.import_module(package), name) for package in here))


def _plain(schema: Any) -> Any:
    """The schema in Gemini's dialect: it keeps the order of properties, and knows no `additionalProperties`."""
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key not in ("additionalProperties", "properties")}
    if "properties" in schema:
        plain["properties"] = {key: _plain(value) for key, value in schema["properties"].items()}
        plain["property_ordering"] = list(schema["properties"])
    return plain


def _retry_delay(detail: Mapping[str, Any]) -> float | None:
    """Seconds in a RetryInfo, written like "34s"."""
    delay = detail.get("retryDelay")
    found = isinstance(delay, str) and re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", delay)
    return float(found[1]) if found else None


def _name(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
