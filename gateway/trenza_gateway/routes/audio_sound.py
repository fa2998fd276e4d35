"""Sends sound while it is made."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Response
from starlette.types import Receive, Scope, Send
from trenza.audio.v1 import audio_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway import metrics
from trenza_gateway.limits import ClientGone
from trenza_gateway.openai.answers import AnswerError
from trenza_gateway.openai.errors import ApiError
from trenza_gateway.openai.speech import Sound
from trenza_gateway.routes.answering import Work, as_api_error, while_client_listens
from trenza_gateway.routes.merging import merge

logger = logging.getLogger(__name__)


class SoundStream(Response):
    """The sound as a chunked body.

    The status is sent with the first bytes, so that what fails before them fails with a true HTTP status. Sound that
    breaks off afterwards ends with the connection and without the last chunk, so that no client takes it for complete.
    """

    def __init__(self, work: Work[audio_pb2.SpeakResponse], media_type: str) -> None:
        super().__init__(headers={**work.headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.headers["content-type"] = media_type
        self._work = work
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_client_listens(receive, self._send_all(send))
        except (RpcFault, AnswerError, ApiError) as error:
            api_error = as_api_error(error, self._work.prompt_param)
            if not self._started:
                raise api_error from error
            metrics.CONNECTIONS_CLOSED.labels("broken_sound").inc()
            logger.info("sound broke off", extra={"error": api_error.message, "code": api_error.code})
        except ClientGone:
            if not self._started:
                raise

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await self._begin(send)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        sound = Sound()
        async with aclosing(merge(self._work.parts)) as messages:
            async for _, message in messages:
                if chunk := sound.chunk(message):
                    yield chunk
        sound.end()

    async def _begin(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
