"""What a judge asks: a model behind an address, or a local one, that answers a request about one image with text."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import torch

from verifiers.arguments import as_string
from verifiers.base import VerifierUnusable

_AGAIN = frozenset({408, 409, 429})


_NEVER = {
    401: "check the key",
    402: "the account has no credit left",
    403: "check what the key, the project and the region may use",
    404: "check the model's name and the address",
}


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
        """Take what is known of the failure."""
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
        concurrent: whether several requests may be under way at once.
        repeatable: whether an unreadable answer may be followed by a readable one.
    """

    provider: str
    model: str
    concurrent: bool = True
    repeatable: bool = True

    @property
    def label(self) -> str:
        """What identifies the model in a version."""
        return f"{self.provider}/{self.model}"

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
    def ask(self, png: bytes, text: str, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """One request; safe to call from several threads where `concurrent`.

        Args:
            png: the image as a PNG file.
            text: the request.
            schema: the JSON schema of the answer.
            seed: for providers that take one.

        Raises:
            RequestFailed: no answer this time.
            JudgeError: there won't be any.
        """


def refusal(status: int, said: str, wait: float | None, hopeless: str = "") -> Exception:
    """What an HTTP error means: worth another try, final for this image, or final for all (`hopeless` says the fix)."""
    reason = f"HTTP {status}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        hopeless = hopeless or "redirects are not followed: pass the right address as base_url"
    if hopeless or status in _NEVER:
        return JudgeError(f"the judge's endpoint refuses every request ({reason}); {hopeless or _NEVER[status]}")
    return RequestFailed(reason, again=status in _AGAIN or status >= 500, wait=wait)


def find_key(given: str | None, variables: Sequence[str], address: str | None) -> str:
    """The key: the argument, else the environment's; servers on this machine need none.

    Raises:
        JudgeError: there is none, or one that no header can carry.
    """
    for key in (given, *(os.environ.get(name) for name in variables)):
        if key and (key := key.strip()):
            if not (key.isascii() and key.isprintable()):  # the client's own error would quote it
                raise JudgeError("the API key holds characters that no key has; copy it again")
            return key
    if host_of(address) in _LOOPBACK:
        return "none"
    raise JudgeError(f"no API key was found; set {' or '.join(variables)}, or pass api_key=...")


def checked_address(address: str) -> str:
    """The address, if it is one.

    Raises:
        TypeError: it is no string.
        ValueError: it is another one.
    """
    if urlsplit(as_string("base_url", address)).scheme not in ("http", "https") or not host_of(address):
        raise ValueError(f"base_url is {address!r}; expected an address such as 'http://localhost:8000/v1'")
    return address


def missing(package: str) -> ImportError:
    """What to say where an endpoint's package isn't installed."""
    return ImportError(f'this judge needs the package {package}: pip install "noise-search[api]"')


def host_of(address: str | None) -> str | None:
    """The host of an address, without port, user or password."""
    return urlsplit(address).hostname if address else None


def cleaned(text: Any, key: str) -> str:
    """A server's words in one line of at most 300 characters, without the key, which some of them repeat."""
    line = " ".join(str(text).split())
    if key:
        line = line.replace(key, "***")
    return line if len(line) <= 300 else f"{line[:300]}..."


def redirect(status: int, headers: Mapping[str, str], key: str) -> str:
    """Where an answer sends the request instead, in words; "" where it is no redirect.

    Redirects are not followed: a cap couldn't count the requests, and image and key would go to an address that nobody
    named.
    """
    if not 300 <= status < 400:
        return ""
    return f"a redirect to {cleaned(headers.get('location') or 'nowhere', key)}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the headers of an answer: a number, or a date as RFC 9110 has it."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
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
