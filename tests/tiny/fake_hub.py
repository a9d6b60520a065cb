"""The Hugging Face hub in small: its cache, filled by a test instead of the network, and a server of its files."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class FakeHub:
    """Repositories in a cache directory; the hub itself is offline."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def add(self, repository: str, files: Mapping[str, Path], commit: str = "main") -> None:
        """Put files into a repository at a commit; "main" makes it what that branch points to."""
        folder = self.cache / f"models--{repository.replace('/', '--')}"
        snapshot = commit if commit != "main" else hashlib.sha1(repository.encode()).hexdigest()
        if commit == "main":
            (folder / "refs").mkdir(parents=True, exist_ok=True)
            (folder / "refs" / "main").write_text(snapshot)
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "snapshots" / snapshot).mkdir(parents=True, exist_ok=True)
        for name, source in files.items():
            blob = folder / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
            shutil.copyfile(source, blob)
            link = folder / "snapshots" / snapshot / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(blob)

    def lacks(self, repository: str, names: Iterable[str], commit: str) -> None:
        """Remember, as huggingface_hub does after the hub's answer, that a commit has no such files."""
        folder = self.cache / f"models--{repository.replace('/', '--')}" / ".no_exist" / commit
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).touch()

    def blobs(self, repository: str) -> list[Path]:
        """The contents that a repository's files link to."""
        return sorted((self.cache / f"models--{repository.replace('/', '--')}" / "blobs").iterdir())


class HubServer:
    """A hub on this machine that answers as the real one does, by status and error code; used as a context.

    `served` lists what was downloaded: (repository, commit, file); `cards` holds what cards of models say.
    """

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        self._main: dict[str, str] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.broken: set[str] = set()
        self.cards: dict[str, dict[str, str]] = {}
        self.served: list[tuple[str, str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repository: str, files: Mapping[str, Path], commit: str) -> None:
        """Put files into a repository at a commit, which "main" then points to."""
        self._files[repository, commit] = {name: path.read_bytes() for name, path in files.items()}
        self._main[repository] = commit

    def _commit(self, repository: str, revision: str) -> str:
        return self._main.get(repository, "") if revision == "main" else revision

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        file = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path)
        about = re.fullmatch(r"/api/models/(.+)/(?:revision|tree)/([^/]+)", path)
        found = file or about
        repository, revision = (found[1], found[2]) if found else ("", "")
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repository in self.private:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        commit = self._commit(repository, revision)
        files = self._files.get((repository, commit))
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if file is None:
            siblings = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
            tree = [{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in files.items()]
            card = self.cards.get(repository, {})
            info = {"id": repository, "sha": commit, "siblings": siblings, "cardData": card}
            shown = tree if "/tree/" in path else info
            return 200, {"Content-Type": "application/json"}, json.dumps(shown).encode()
        if file[3] in self.broken:
            return 403, {}, b""  # as a proxy may; a 5xx would be tried again for half a minute
        if file[3] not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = files[file[3]]
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._send(body=False)

            def do_GET(self) -> None:
                self._send(body=True)

            def _send(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                status, headers, contents = hub._answer(path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(contents)))
                self.end_headers()
                if body:
                    # Noted first: whoever has the file asks at once what was served.
                    if status == 200 and (file := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path)):
                        hub.served.append((file[1], hub._commit(file[1], file[2]), file[3]))
                    self.wfile.write(contents)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
