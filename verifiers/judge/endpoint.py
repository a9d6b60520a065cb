"""What a judge asks: a model behind an address, or a local one, that answers a request about images with text."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import torch

from verifiers.arguments import as_number, as_string, as_whole
from verifiers.base import VerifierUnusable

_AGAIN = frozenset({408, 409, 429})
_NEVER = {
    401: "check the key",
    402: "the account has no credit left",
    403: "check what the key, the project and the region may use",
    404: "check the model's name and the address",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


Content = Sequence[bytes | str]
"""A request in its order: images as PNG files, and texts, such as the label of an image before it."""


class JudgeError(VerifierUnusable):
    """Nothing can be graded until something is put right; the message says what."""


class RequestFailed(Exception):
    """One request brought no answer.

    Attributes:
        reason: what happened, in one line.
        again: whether the same request may succeed later.
        wait: seconds that the server asks to wait, None where it doesn't say.
        answered: whether the server said that it refused or failed; a request without a word may have been billed.
    """

    def __init__(self, reason: str, *, again: bool, wait: float | None = None, answered: bool = True) -> None:
        """Take what is known."""
        super().__init__(reason)
        self.reason, self.again, self.wait, self.answered = reason, again, wait, answered


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: of the answer.
        input_tokens: what the request cost, None where the server doesn't say.
        output_tokens: what the answer cost, hidden reasoning included.
        refused: why the model won't grade this image, "" where it does.
        note: what a user should know if the text can't be read.
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    refused: str = ""
    note: str = ""


class Endpoint(ABC):
    """Answers requests about images.

    Attributes:
        provider: the protocol, a short name.
        model: the model's name there.
        max_tokens: most tokens of an answer, None for no limit of ours.
        concurrent: whether several requests may be under way at once.
        repeatable: whether an unreadable answer may be followed by a readable one.
        paid: whether a request costs money, as far as can be told.
    """

    provider: str
    model: str
    max_tokens: int | None
    concurrent: bool = True
    repeatable: bool = True
    paid: bool = True

    @property
    def label(self) -> str:
        """What identifies the model in a version."""
        return f"{self.provider}/{self.model}"

    @property
    def cut(self) -> str:
        """What to say of an answer that reached its limit."""
        return f"cut at max_tokens={self.max_tokens}; pass more"

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Whatever else changes answers, as plain JSON; never the key."""

    @abstractmethod
    def ready(self, device: torch.device | str | None = None) -> None:
        """Find package, key or weights now; nothing is asked.

        Raises:
            ImportError: a package is missing.
            JudgeError: the key is.
            WeightsError: a local model is, or doesn't load.
        """

    @abstractmethod
    def ask(self, content: Content, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request; safe to call from several threads where `concurrent`.

        Args:
            content: what the model is shown and told.
            schema: the JSON schema of the answer.
            seed: for providers that take one.

        Raises:
            RequestFailed: no answer this time.
            JudgeError: there won't be any.
        """


class ServedEndpoint(Endpoint):
    """A model behind an HTTP address; a concrete one puts requests and answers in the words of its provider's client.

    Attributes:
        package: of the client, as it is installed.
        default_model: the one that is asked where none is named.
        official: the provider's own address.
        address_variable: the environment's name for another one.
        key_variables: the environment's names for the key.
    """

    package: str
    default_model: str
    official: str
    address_variable: str
    key_variables: tuple[str, ...]

    def __init__(
        self,
        model: str | None,
        base_url: str | None,
        api_key: str | None,
        temperature: float | int | None,
        max_tokens: int | None,
        timeout: float | int,
    ) -> None:
        """Name the model; nothing is contacted.

        Args:
            model: its name at the server; None for `default_model`.
            base_url: the server, such as "http://localhost:8000/v1" for vLLM; None for the environment's, else the
                provider's own.
            api_key: None for the environment's; servers on this machine need none.
            temperature: None leaves it to the server, as reasoning models demand.
            max_tokens: most tokens of an answer, hidden reasoning included; None leaves it to the server.
            timeout: seconds without a word from the server before a request counts as failed.

        Raises:
            ValueError: a base_url that is no address, or a number outside its range.
            TypeError: an argument of another type.
        """
        self.model = as_string("model", model or self.default_model)
        self.base_url = as_string("base_url", base_url or os.environ.get(self.address_variable) or self.official)
        if urlsplit(self.base_url).scheme not in ("http", "https") or not self.host:
            raise ValueError(f"base_url is {self.base_url!r}; expected an address such as 'http://localhost:8000/v1'")
        self.temperature = None if temperature is None else as_number("temperature", temperature)
        self.max_tokens = None if max_tokens is None else as_whole("max_tokens", max_tokens, 1)
        self.timeout = as_number("timeout", timeout, positive=True)
        self._given_key = None if api_key is None else as_string("api_key", api_key, secret=True)

    @property
    def host(self) -> str | None:
        """The server's host, without port, user or password."""
        return urlsplit(self.base_url).hostname

    @property
    def paid(self) -> bool:  # type: ignore[override]
        """Whether the server is elsewhere than on this machine."""
        return self.host not in _LOOPBACK

    @property
    def is_official(self) -> bool:
        """Whether the provider itself is asked, by whatever path."""
        return self.host == urlsplit(self.official).hostname

    @property
    def label(self) -> str:
        """Provider and model; the host where it isn't the provider's."""
        return super().label if self.is_official else f"{self.provider}/{self.host}/{self.model}"

    def settings(self) -> dict[str, Any]:
        """Temperature and limit of the answer."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens}

    def ready(self, device: torch.device | str | None = None) -> None:
        """Make the client; `device` doesn't matter."""
        self.client  # noqa: B018

    @abstractmethod
    def connect(self) -> Any:
        """Make the client, which neither retries nor follows redirects: such requests would be spent uncounted."""

    @cached_property
    def client(self) -> Any:
        """The provider's client, made on first use."""
        try:
            return self.connect()
        except ImportError as error:
            told = f'this judge needs the package {self.package}: pip install "noise-search[api]"'
            raise ImportError(told) from error

    @cached_property
    def key(self) -> str:
        """The key: the argument, else the environment's; servers on this machine need none.

        Raises:
            JudgeError: there is none, or one that no header can carry.
        """
        for key in (self._given_key, *(os.environ.get(name) for name in self.key_variables)):
            if key and (key := key.strip()):
                if not (key.isascii() and key.isprintable()):  # the client's own error would quote it
                    raise JudgeError("the API key holds characters that no key has; copy it again")
                return key
        if self.host in _LOOPBACK:
            return "none"
        raise JudgeError(f"no API key was found; set {' or '.join(self.key_variables)}, or pass api_key=...")

    def cleaned(self, text: Any) -> str:
        """A server's words in one line of at most 300 characters, without the key, which some of them repeat."""
        line = " ".join(str(text).split()).replace(self.key, "***")
        return line if len(line) <= 300 else f"{line[:300]}..."

    def refused(
        self, status: int, headers: Mapping[str, str], said: Any, wait: float | None = None, hopeless: str = ""
    ) -> Exception:
        """What an HTTP error means: worth another try, final for this image, or final for all.

        `wait` counts where the headers don't say when to come back; `hopeless` is the fix of what no retry helps.
        """
        if 300 <= status < 400:
            # Followed, the requests would pass a cap, and image and key go to an address that nobody named.
            said = f"a redirect to {headers.get('location') or 'nowhere'}"
            hopeless = hopeless or "redirects are not followed: pass the right address as base_url"
        reason = f"HTTP {status}" + (f": {line}" if (line := self.cleaned(said)) else "")
        if hopeless := hopeless or _NEVER.get(status, ""):
            return JudgeError(f"the judge's endpoint refuses every request ({reason}); {hopeless}")
        asked = retry_after(headers)
        return RequestFailed(reason, again=status in _AGAIN or status >= 500, wait=wait if asked is None else asked)

    def silent(self, reason: str, cause: Any = "") -> RequestFailed:
        """A request without a word that can be read, which may have been billed."""
        reason = f"{reason}: {self.cleaned(cause)}" if cause else reason
        return RequestFailed(reason, again=True, answered=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the headers of an answer: a number, or a date as RFC 9110 has it."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _until(value)
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _until(date: str) -> float:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return float("nan")
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
