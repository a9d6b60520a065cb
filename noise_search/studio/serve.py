"""Who may reach the page, and what it serves: itself, pictures and archives of runs, and nothing else."""

import base64
import hmac
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from noise_search.studio.board import Refused
from noise_search.studio.desk import Desk

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

LEAST = 8
"""Characters of a password."""
_UNUSED = "upload file proxy deep_link component_server mcp info openapi stream vibe"
_CLOSED = (*(f"/gradio_api/{one}" for one in _UNUSED.split()), "/docs", "/redoc", "/openapi.json")
"""What Gradio serves and the page has no use for: uploads, files of the machine, other servers, descriptions."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Nothing comes from elsewhere, whatever Gradio's page names."""
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_reach(host: str, password: str | None, models: Sequence[str] | None) -> None:
    """Refuse to be reached from other machines without a password and a fixed list of models.

    Raises:
        ValueError: one of them is missing, or too short.
    """
    if password is not None and len(password) < LEAST:
        raise ValueError(f"the password has {len(password)} characters; expected {LEAST} or more")
    if is_loopback(host):
        return
    if password is None:
        raise ValueError(f"--host {host} is reached by other machines: set NOISE_SEARCH_PASSWORD, which it asks for")
    if not models:
        raise ValueError(f"--host {host} is reached by other machines: name the models that they may use by --models")


class Guard:
    """An ASGI application in front of another: asks for the password, and turns away what comes from other pages.

    A page elsewhere in the reader's browser could send requests here, with the reader's password, or under a name of
    its own that it has made mean this machine: so Origin must be the host that was asked for, and where only this
    machine is served, that must be a name of this machine.
    """

    def __init__(self, app: Any, host: str, password: str | None) -> None:
        self._app, self._local, self._password = app, is_loopback(host), password

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        code, said = self._refusal(headers, scope["path"])
        if code and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif code:
            extra = (
                [(b"www-authenticate", b'Basic realm="noise-search studio", charset="UTF-8"')] if code == 401 else []
            )
            await send(
                {"type": "http.response.start", "status": code, "headers": [(b"content-type", b"text/plain"), *extra]}
            )
            await send({"type": "http.response.body", "body": said.encode()})
        else:
            await self._app(scope, receive, self._hardened(send))

    def _refusal(self, headers: dict[str, str], path: str) -> tuple[int, str]:
        """Status and words of what is turned away; (0, "") for what isn't."""
        host = headers.get("host", "")
        if self._local and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return 403, "this page is for its own machine: open it as 127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "another page may not ask for this"
        if self._password is not None and not self._known(headers.get("authorization", "")):
            return 401, "a password is needed"
        return (404, "not served here") if path.startswith(_CLOSED) else (0, "")

    def _known(self, authorization: str) -> bool:
        kind, _, given = authorization.partition(" ")
        try:
            password = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
        assert self._password is not None
        return kind.lower() == "basic" and hmac.compare_digest(password, self._password.encode())

    @staticmethod
    def _hardened(send: Any) -> Any:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        return sent


def application(desk: Desk, host: str = "127.0.0.1", password: str | None = None) -> Any:
    """The whole of it as an ASGI application.

    Raises:
        ImportError: Gradio isn't installed.
    """
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise ImportError(f"the studio needs Gradio: pip install 'noise-search[studio]' ({error})") from error
    from noise_search.studio.page import CSS, page, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _files(app, desk)
    gr.mount_gradio_app(
        app,
        page(desk).queue(default_concurrency_limit=8),
        path="/",
        theme=theme(),
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=True,
        max_file_size=0,
    )
    return Guard(app, host, password)


def _files(app: "FastAPI", desk: Desk) -> None:
    """Pictures and archives, by names that the desk knows."""
    from fastapi import Response

    def served(content: Any, kind: str, name: str = "", kept: str = "no-store") -> "Response":
        headers = {"cache-control": kept}
        if name:
            headers["content-disposition"] = f'attachment; filename="{name}"'
        try:
            return Response(content(), media_type=kind, headers=headers)
        except Refused as error:
            return Response(str(error), status_code=404, media_type="text/plain")

    def picture(run: str, number: str) -> Response:
        return served(lambda: desk.picture(f"{run}/{number}"), "image/png", kept="private, max-age=300")

    def question(board: str) -> Response:
        return served(lambda: desk.question(board), "image/png")

    def archive(run: str) -> Response:
        return served(lambda: desk.export(run), "application/zip", "".join(c for c in run if c.isalnum()) + ".zip")

    app.get("/picture/{run}/{number}.png")(picture)
    app.get("/question/{board}.png")(question)
    app.get("/export/{run}.zip")(archive)


def serve(
    runs: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    password: str | None = None,
    models: Sequence[str] | None = None,
) -> None:
    """Serve the page until it is interrupted; what runs then is ended with the best so far.

    Raises:
        ValueError: a host beyond this machine without a password or a list of models.
        ImportError: Gradio isn't installed.
        OSError: the port is taken.
    """
    check_reach(host, password, models)
    desk = Desk(runs, models or None)
    app = application(desk, host, password)
    import uvicorn

    try:
        uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning")).run()
    finally:
        desk.close()
