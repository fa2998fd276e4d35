"""The outermost layer of every HTTP request: its id, who sends it, whether it is let in, what is counted and logged."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from trenza_runtime.telemetry.logs import bind_request_id

from trenza_gateway import metrics
from trenza_gateway.auth.access import Access
from trenza_gateway.limits import Answers, Bodies, RequestCounter
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import AUTHENTICATION, CLIENT_GONE_STATUS, ApiError
from trenza_gateway.uploads import Uploads

logger = logging.getLogger("trenza_gateway.access")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"})
"""What needs no key: probes, figures without anybody's data, and the documentation."""

MAX_REQUEST_ID_LENGTH = 64

OPEN_PREFIX = "/media/"
"""Links to pictures need no key either: they cannot be guessed, and browsers send none."""

_MODEL_PATH = "/v1/models/"
_KNOWN_PATHS = OPEN_PATHS | {
    "/v1/models",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
    "/v1/audio/voices",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/vision",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from. The client knows it by `request_id`; `ticket_id` is the gateway's own, unique name for it."""

    request_id: str
    ticket_id: str
    tenant: str


class Edge:
    """ASGI middleware. Puts a `Caller` into `scope["caller"]`."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        counter: RequestCounter,
        bodies: Bodies,
        uploads: Uploads,
        answers: Answers,
    ) -> None:
        self._app = app
        self._access = access
        self._counter = counter
        self._bodies = bodies
        self._uploads = uploads
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id, ticket_id = request_ids(headers.get("x-request-id"))
        exchange = _Exchange(scope, receive, send, request_id, self._counter)
        with bind_request_id(request_id):
            try:
                if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIX):
                    await self._app(scope, exchange.receive, exchange.send)
                else:
                    await self._admit(scope, headers, Caller(request_id, ticket_id, ""), exchange)
            except ApiError as error:
                await send_error(error, exchange.send)
            finally:
                exchange.end()

    async def _admit(self, scope: Scope, headers: Headers, caller: Caller, exchange: _Exchange) -> None:
        tenant = self._access.tenant(headers.get("authorization"))
        if tenant is None:
            raise ApiError(
                401,
                "Incorrect or missing API key.",
                kind=AUTHENTICATION,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        scope["caller"] = Caller(caller.request_id, caller.ticket_id, tenant)
        self._counter.enter()
        try:
            with metrics.IN_FLIGHT.labels("http").track_inprogress():
                await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._counter.leave()
            self._bodies.forget(scope)
            self._uploads.forget(scope)
            self._answers.forget(scope)


class _Exchange:
    """One request and its response as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, counter: RequestCounter) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._counter = counter
        self._began_at = time.perf_counter()
        self._status = 0
        self._complete = False
        self._client_gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._client_gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            if self._counter.leaving:
                headers["connection"] = "close"
        elif not message.get("more_body", False):
            self._complete = True
        await self._send(message)

    def end(self) -> None:
        """Counts and logs what became of it."""
        took_s = time.perf_counter() - self._began_at
        route = route_of(self._scope["path"])
        status = CLIENT_GONE_STATUS if self._client_gone else self._status or 500
        metrics.REQUESTS.labels(route, str(status)).inc()
        metrics.REQUEST_S.labels(route).observe(took_s)
        level = logging.DEBUG if route in OPEN_PATHS else logging.INFO
        logger.log(
            level,
            "request",
            extra={"method": self._scope["method"], "route": route, "status": status, "took_s": round(took_s, 4)},
        )


def request_ids(said: str | None) -> tuple[str, str]:
    """The id that the client knows the request by, and a unique one that begins with it.

    A client's id is used as far as it consists of harmless characters; two requests may well carry the same.
    """
    kept = re.sub(r"[^A-Za-z0-9._-]", "", said or "")[:MAX_REQUEST_ID_LENGTH]
    if kept:
        return kept, f"{kept}.{uuid.uuid4().hex[:12]}"
    made = f"req-{uuid.uuid4().hex}"
    return made, made


def route_of(path: str) -> str:
    """A path's name for metrics and logs: one of a fixed set."""
    if path.startswith(_MODEL_PATH):
        return "/v1/models/{model}"
    if path.startswith(OPEN_PREFIX):
        return "/media/{token}"
    return path if path in _KNOWN_PATHS else "other"


async def send_error(error: ApiError, send: Send) -> None:
    """Sends an error object as the whole response."""
    body = json_bytes(error.body())
    fields = {"content-type": "application/json", "content-length": str(len(body)), **error.headers()}
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
