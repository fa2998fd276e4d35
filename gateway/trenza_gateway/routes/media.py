"""GET /media/{token}: pictures that were asked for as links."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from trenza_gateway.limits import ClientGone
from trenza_gateway.media.links import PATH
from trenza_gateway.media.store import Media, MediaError
from trenza_gateway.openai.errors import SERVER, ApiError
from trenza_gateway.routes.answering import while_client_listens
from trenza_gateway.routes.parts import Parts

CHUNK_BYTES = 256 * 1024


def media_router(parts: Parts) -> APIRouter:
    """The route of stored pictures. It needs no key: whoever has the link may see the picture."""
    router = APIRouter(include_in_schema=False)

    @router.api_route(f"{PATH}{{token}}", methods=["GET", "HEAD"])
    async def media(token: str, request: Request) -> Response:
        try:
            found = await parts.media.get(token)
        except MediaError as error:
            raise media_unavailable(error) from error
        if found is None:
            raise ApiError(404, "There is no such picture, or not any more.", code="not_found")
        headers = _headers(found, parts.wall_clock())
        if request.method == "HEAD":
            await asyncio.to_thread(found.content.close)
            return Response(headers=headers)
        return _MediaResponse(found, headers)

    return router


def media_unavailable(error: MediaError) -> ApiError:
    """The 503 for a store that cannot take or give a picture now."""
    return ApiError(503, str(error), kind=SERVER, code="media_unavailable", retry_after_s=5)


def _headers(media: Media, now_unix_s: float) -> dict[str, str]:
    """Browsers may keep the picture for as long as its link works, and must take it for nothing else."""
    left_s = max(0, int(media.expires_unix_s - now_unix_s))
    return {
        "content-type": media.media_type,
        "content-length": str(media.size_bytes),
        "cache-control": f"private, max-age={left_s}, immutable",
        "content-security-policy": "default-src 'none'",
        "content-disposition": "inline",
        "x-content-type-options": "nosniff",
    }


class _MediaResponse(Response):
    """Sends a picture while it is read, and closes it."""

    def __init__(self, media: Media, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self._content = media.content
        self._left_bytes = media.size_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_client_listens(receive, self._send_all(send))
        except ClientGone:
            return
        finally:
            await asyncio.to_thread(self._content.close)

    async def _send_all(self, send: Send) -> None:
        chunk = await self._read()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while True:
            self._left_bytes -= len(chunk)
            more = self._left_bytes > 0
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
            if not more:
                return
            chunk = await self._read()

    async def _read(self) -> bytes:
        """The next piece; whoever is cancelled meanwhile waits for the thread, which must not read what is closed."""
        reading = asyncio.ensure_future(asyncio.to_thread(self._content.read, min(CHUNK_BYTES, self._left_bytes)))
        try:
            chunk = await asyncio.shield(reading)
        finally:
            await asyncio.wait({reading})
        if not chunk:
            raise OSError("a stored picture is shorter than it should be")
        return chunk
