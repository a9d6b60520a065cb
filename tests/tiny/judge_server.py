"""A real HTTP server on loopback that speaks both judges' protocols and grades images by their pixels."""

import base64
import hashlib
import io
import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

ASPECTS = ("accuracy_to_prompt", "originality", "visual_quality", "internal_consistency", "emotional_resonance")


@dataclass(frozen=True)
class Received:
    """One request as it arrived: `index` of all, `nth` for the same image and prompt, both from 0.

    `content` is what it shows and tells, in order: `png` the last image, the prompt in the last text.
    """

    index: int
    nth: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    content: list[bytes | str]
    png: bytes
    prompt: str
    seed: int | None


@dataclass(frozen=True)
class Turn:
    """How the server behaves once; the default grades the image."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None  # the model's words
    raw: bytes | None = None  # the whole HTTP body
    usage: tuple[int, int] | None = (1000, 100)
    extra: dict[str, Any] = field(default_factory=dict)  # merged into the choice or candidate
    then: Callable[[], object] = lambda: None  # called before the answer
    reset: bool = False
    cut: bool = False  # promise more bytes than are sent
    hang: bool = False


def grades(png: bytes, prompt: str) -> dict[str, float]:
    """What the server thinks of an image: `overall` and all but the first aspect depend on its pixels only."""
    pixels = np.asarray(Image.open(io.BytesIO(png)), dtype=np.float64) / 255
    assert pixels.ndim == 3 and pixels.shape[2] == 3
    red, green, blue = (10 * float(pixels[..., channel].mean()) for channel in range(3))
    by_prompt = hashlib.sha256(prompt.encode()).digest()[0] / 25.5
    values = (by_prompt, red, green, blue, (red + blue) / 2, (red + 2 * green + 4 * blue) / 7)
    return dict(zip((*ASPECTS, "overall"), values, strict=True))


def answer_text(png: bytes, prompt: str) -> str:
    return json.dumps(
        {key: {"explanation": f"{key} seen", "score": value} for key, value in grades(png, prompt).items()}
    )


class JudgeServer:
    """Serves until `close`; `script` decides how each request is met."""

    def __init__(self) -> None:
        self.script: Callable[[Received], Turn] = lambda received: Turn()
        self.received: list[Received] = []
        self.closing = threading.Event()
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.judge = self
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def options(self, provider: str) -> dict[str, str]:
        path = {"openai": "/v1", "gemini": "/"}[provider]
        return {"base_url": self.address + path, "api_key": "sk-very-secret"}

    def turns(self, *turns: Turn) -> None:
        """The nth request for an image and prompt meets the nth turn, later ones are graded."""
        self.script = lambda received: turns[received.nth] if received.nth < len(turns) else Turn()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def note(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Received:
        openai = path.endswith("/chat/completions")
        body = body if openai else _lower_camel(body)
        content, seed = _openai_parts(body) if openai else _gemini_parts(body)
        png = [part for part in content if isinstance(part, bytes)][-1]
        text = [part for part in content if isinstance(part, str)][-1]
        prompt = json.loads(re.findall(r'instruction to you: (".*")$', text, re.MULTILINE)[0])
        with self._lock:
            key = hashlib.sha256(png).hexdigest() + prompt
            received = Received(len(self.received), self._seen[key], path, headers, body, content, png, prompt, seed)
            self._seen[key] += 1
            self.received.append(received)
        return received


class _Server(ThreadingHTTPServer):
    judge: JudgeServer
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(
            sys.exception(), OSError | ValueError
        ):  # the client gave up, or this side reset the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and the second would wait 40 ms for the first

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        judge = self.server.judge
        received = judge.note(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        turn = judge.script(received)
        turn.then()
        if turn.hang:
            judge.closing.wait(60)
            self.close_connection = True
        elif turn.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self._send(turn, received)

    def _send(self, turn: Turn, received: Received) -> None:
        body = turn.raw if turn.raw is not None else json.dumps(self._body(turn, received)).encode()
        self.send_response(turn.status)
        for name, value in {"content-type": "application/json", **turn.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body) + (100 if turn.cut else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = turn.cut

    def _body(self, turn: Turn, received: Received) -> dict[str, Any]:
        text = turn.text if turn.text is not None else answer_text(received.png, received.prompt)
        if received.path.endswith("/chat/completions"):
            said = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            choice = {"index": 0, **said, **turn.extra}
            names = ("prompt_tokens", "completion_tokens")
            usage = None if turn.usage is None else dict(zip(names, turn.usage, strict=True))
            return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", **turn.extra}
        names = ("promptTokenCount", "candidatesTokenCount")
        usage = {} if turn.usage is None else {"usageMetadata": dict(zip(names, turn.usage, strict=True))}
        return {"candidates": [candidate], **usage}

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _openai_parts(body: dict[str, Any]) -> tuple[list[bytes | str], int | None]:
    [message] = body["messages"]
    return [_openai_part(part) for part in message["content"]], body.get("seed")


def _openai_part(part: dict[str, Any]) -> bytes | str:
    if part["type"] == "text":
        return part["text"]
    head, data = part["image_url"]["url"].split(",", 1)
    assert head == "data:image/png;base64"
    return base64.b64decode(data)


def _lower_camel(message: Any) -> Any:
    """Gemini's fields in one spelling: its JSON may have `mimeType` or `mime_type` (protobuf.dev, ProtoJSON format)."""
    if isinstance(message, list):
        return [_lower_camel(item) for item in message]
    if not isinstance(message, dict):
        return message
    camel = {re.sub("_(.)", lambda letter: letter[1].upper(), key): _lower_camel(message[key]) for key in message}
    if "properties" in message:  # a map, whose keys are the aspects
        camel["properties"] = {key: _lower_camel(value) for key, value in message["properties"].items()}
    return camel


def _gemini_parts(body: dict[str, Any]) -> tuple[list[bytes | str], int | None]:
    [message] = body["contents"]
    return [_gemini_part(part) for part in message["parts"]], body["generationConfig"].get("seed")


def _gemini_part(part: dict[str, Any]) -> bytes | str:
    if "text" in part:
        return part["text"]
    assert part["inlineData"]["mimeType"] == "image/png"
    return base64.urlsafe_b64decode(part["inlineData"]["data"])
