"""A small hub that speaks as much of Hugging Face's API as fetching a repository takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = 2
"""Entries of a page of a listing."""


class FakeHub:
    """Repositories by name; what they hold, how the hub fails, and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: set[str] = set()
        """Files that are stored by their SHA-256, as large ones are."""
        self.said_sha256: dict[str, str] = {}
        """What the hub says instead of the true one."""
        self.token = ""
        self.gated = False
        self.failures = 0
        """Requests that are answered 503 before any other is answered."""
        self.cuts: dict[str, int] = {}
        """How often the connection breaks in the middle of a file."""
        self.stalled: set[str] = set()
        """Files that are sent half, until `go_on` is set."""
        self.go_on = threading.Event()
        self.downloads: list[str] = []
        """Files whose contents were asked for, in order."""
        self.ranges: list[str] = []
        self.requests: list[str] = []
        self.revisions: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        if name in self.large:
            sha256 = self.said_sha256.get(name, hashlib.sha256(content).hexdigest())
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 130}
        return entry


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _answer(self, body: bool) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.requests.append(path)
        if self.hub.failures > 0:
            self.hub.failures -= 1
            return self._send(503, b"busy", {}, body)
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._refuse("GatedRepo" if self.hub.gated else "RepoNotFound", 403 if self.hub.gated else 401, body)
        parts = path.lstrip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._describe("/".join(parts[2:4]), parts[4], "/".join(parts[5:]), parse_qs(address.query))
        return self._file("/".join(parts[:2]), "/".join(parts[4:]), body)

    def _describe(self, name: str, what: str, revision: str, query: Mapping[str, list[str]]) -> None:
        files = self.hub.repositories.get(name)
        if files is None:
            return self._refuse("RepoNotFound", 404, True)
        if revision not in {"main", COMMIT, *self.hub.revisions}:
            return self._refuse("RevisionNotFound", 404, True)
        if what == "revision":
            return self._json({"id": name, "sha": COMMIT, "siblings": [], "tags": []}, {})
        start = int(query.get("cursor", ["0"])[0])
        entries = [self.hub.entry(path, content) for path, content in files.items()]
        more = f"{self.hub.url}/api/models/{name}/tree/{revision}?recursive=True&cursor={start + PAGE}"
        headers = {"Link": f'<{more}>; rel="next"'} if start + PAGE < len(entries) else {}
        return self._json(entries[start : start + PAGE], headers)

    def _file(self, name: str, path: str, body: bool) -> None:
        content = self.hub.repositories.get(name, {}).get(path)
        if content is None:
            return self._refuse("EntryNotFound", 404, body)
        entry = self.hub.entry(path, content)
        etag = entry.get("lfs", {}).get("sha256", entry["oid"])
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if not body:
            return self._send(200, content, headers, body)
        self.hub.downloads.append(path)
        status, start = 200, 0
        if asked := self.headers.get("Range"):
            self.hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send_slowly(path, status, content[start:], headers)

    def _send_slowly(self, path: str, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        """Sends a file, unless it is to stall or break in its middle."""
        self._head(status, len(content), headers)
        middle = len(content) // 2
        self.wfile.write(content[:middle])
        self.wfile.flush()
        if path in self.hub.stalled and not self.hub.go_on.is_set():
            self.hub.go_on.wait(60)
        if self.hub.cuts.get(path, 0) > 0:
            self.hub.cuts[path] -= 1
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content[middle:])

    def _refuse(self, code: str, status: int, body: bool) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code}, body)

    def _json(self, value: Any, headers: Mapping[str, str]) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **headers}, True)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], body: bool) -> None:
        self._head(status, len(content), headers)
        if body:
            self.wfile.write(content)

    def _head(self, status: int, size_bytes: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(size_bytes), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
