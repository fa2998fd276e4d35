"""Sends an answer of many pieces without ever putting them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import Response
from starlette.types import Receive, Scope, Send

from trenza_gateway.limits import ClientGone
from trenza_gateway.routes.answering import while_client_listens


class PiecesResponse(Response):
    """A body in pieces, each sent when the client has taken the ones before; stops when the client goes away."""

    media_type = "application/json"

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "content-length": str(sum(map(len, pieces)))})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_client_listens(receive, self._send_all(send))
        except ClientGone:
            return

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
