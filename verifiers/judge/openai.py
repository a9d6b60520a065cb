"""Chat completions with images, as OpenAI serves them and vLLM, ollama, llama.cpp and others imitate them."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from verifiers.judge.endpoint import Answer, Content, ServedEndpoint


class OpenAIEndpoint(ServedEndpoint):
    """Any server with OpenAI's `/chat/completions`; needs the package `openai`."""

    provider = package = "openai"
    default_model = "gpt-4.1-mini"  # takes images, temperature 0 and a seed; reasoning models refuse a temperature
    official = "https://api.openai.com/v1"
    address_variable = "OPENAI_BASE_URL"
    key_variables = ("OPENAI_API_KEY",)

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
            model, base_url, api_key, temperature, max_tokens, timeout: as of every `ServedEndpoint`.
            answer_format: "schema" has the server enforce the rubric's form; "object" and "text" are for servers that
                enforce just JSON, or nothing.

        Raises:
            ValueError: an unknown answer format, a base_url that is no address, or a number outside its range.
            TypeError: an argument of another type.
        """
        if answer_format not in ("schema", "object", "text"):
            raise ValueError(f"answer_format is {answer_format!r}; expected 'schema', 'object' or 'text'")
        super().__init__(model, base_url, api_key, temperature, max_tokens, timeout)
        self.answer_format = answer_format

    def settings(self) -> dict[str, Any]:
        """Temperature, limit of the answer, and its form."""
        return {**super().settings(), "answer_format": self.answer_format}

    def connect(self) -> Any:
        """OpenAI's own client, without its retries."""
        import openai

        http = openai.DefaultHttpxClient(follow_redirects=False)
        return openai.OpenAI(
            api_key=self.key, base_url=self.base_url, timeout=self.timeout, max_retries=0, http_client=http
        )

    def ask(self, content: Content, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request with the images inline, labelled as the PNG that they are."""
        import openai

        try:
            response = self.client.chat.completions.with_raw_response.create(**self._request(content, schema, seed))
        except openai.APIStatusError as error:
            raise self._refusal(error) from None  # its message may repeat the key
        except openai.APITimeoutError:
            raise self.silent(f"no answer within {self.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise self.silent("no connection", error.__cause__ or error) from None
        return self._read(response.http_response.text)

    def _request(self, content: Content, schema: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
        parts = [_image(one) if isinstance(one, bytes) else {"type": "text", "text": one} for one in content]
        strict = {"name": "grades", "strict": True, "schema": dict(schema)}
        formats: dict[str, Any] = {
            "schema": {"type": "json_schema", "json_schema": strict},
            "object": {"type": "json_object"},
        }
        optional = {
            "temperature": self.temperature,
            "seed": seed,
            # OpenAI has renamed the limit and refuses the old name, which is the one that others know.
            "max_completion_tokens" if self.is_official else "max_tokens": self.max_tokens,
            "response_format": formats.get(self.answer_format),
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"model": self.model, "messages": [{"role": "user", "content": parts}], **given}

    def _refusal(self, error: Any) -> Exception:
        body = error.body if isinstance(error.body, dict) else {}
        hopeless = ""
        if body.get("code") == "insufficient_quota":
            hopeless = "the account has no credit left"
        elif body.get("code") in ("unsupported_value", "unsupported_parameter"):
            hopeless = f"leave out what the model doesn't take, such as {body.get('param')}=None"
        said = body.get("message") or error.response.text
        return self.refused(error.status_code, error.response.headers, said, hopeless=hopeless)

    def _read(self, text: str) -> Answer:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            message = choice["message"]
            answer, refused = _text(message.get("content")), message.get("refusal")
            notes = [] if answer else [f"it has no text: {self.cleaned(json.dumps(message))}"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self.silent("the server's answer is no chat completion", text) from None
        finish = choice.get("finish_reason")
        if finish == "length":
            notes.append(self.cut)
        if not refused and finish == "content_filter":
            refused = finish
        return Answer(answer, *_usage(body), refused=self.cleaned(refused) if refused else "", note="; ".join(notes))


def _image(png: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}


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
