"""Sends answers: whole or as a stream of events, and stops the work at once when the client goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send
from trenza_runtime.errors import RpcFault

from trenza_gateway.limits import ClientGone
from trenza_gateway.openai.answers import AnswerError
from trenza_gateway.openai.encoding import KEEP_ALIVE, event
from trenza_gateway.openai.errors import SERVER, ApiError, error_of_fault
from trenza_gateway.routes.merging import merge

logger = logging.getLogger(__name__)

MessageT = TypeVar("MessageT")
MessageT_contra = TypeVar("MessageT_contra", contravariant=True)
_T = TypeVar("_T")


class WholeAnswer(Protocol[MessageT_contra]):
    """Gathers an answer (see `openai/`)."""

    def add(self, message: MessageT_contra, part: int) -> None: ...

    def body(self) -> bytes: ...


class StreamedAnswer(Protocol[MessageT_contra]):
    """Turns messages into events (see `openai/`)."""

    def frames(self, message: MessageT_contra, part: int) -> bytes: ...

    def end(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Work(Generic[MessageT]):
    """The dispatched requests that make up one answer, and what the HTTP side says about them."""

    parts: Sequence[AsyncGenerator[MessageT, None]]
    headers: Mapping[str, str]
    prompt_param: str
    silence_s: float


async def answer_whole(
    request: Request, work: Work[MessageT], answer: WholeAnswer[MessageT], media_type: str = "application/json"
) -> Response:
    """The whole answer. Raises ApiError, or ClientGone when the client leaves before it is ready."""

    async def gather() -> bytes:
        async with aclosing(merge(work.parts)) as messages:
            async for part, message in messages:
                answer.add(message, part)
        return answer.body()

    body = await carried_out(request, work, gather())
    return Response(body, media_type=media_type, headers=dict(work.headers))


async def carried_out(request: Request, work: Work[MessageT], gathering: Coroutine[Any, Any, _T]) -> _T:
    """What `gathering` makes of the work. Raises ApiError, or ClientGone when the client leaves before."""
    try:
        found: _T = await while_client_listens(request.receive, gathering)
    except (RpcFault, AnswerError) as error:
        raise as_api_error(error, work.prompt_param) from error
    return found


class EventStream(Response, Generic[MessageT]):
    """The answer as server-sent events.

    The status is sent with the first event, so that what fails before it fails with a true HTTP status. Wherever nothing
    is sent for `silence_s`, a comment keeps the stream alive; where a stream begins with one, an error can from then on
    only be an event. A stream that fails ends without [DONE].
    """

    media_type = "text/event-stream"

    def __init__(self, work: Work[MessageT], answer: StreamedAnswer[MessageT]) -> None:
        super().__init__(headers={**work.headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._work = work
        self._answer = answer
        self._started = False
        self._sending = asyncio.Lock()
        self._sent_at = asyncio.get_running_loop().time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_client_listens(receive, self._send_all(send))
        except (RpcFault, AnswerError, ApiError) as error:
            api_error = as_api_error(error, self._work.prompt_param)
            if not self._started:
                raise api_error from error
            logger.info("stream failed", extra={"error": api_error.message, "code": api_error.code})
            await send({"type": "http.response.body", "body": event(api_error.body()), "more_body": False})
        except ClientGone:
            if not self._started:
                raise

    async def _send_all(self, send: Send) -> None:
        keeping_alive = asyncio.ensure_future(self._keep_alive(send))
        try:
            async with aclosing(self._frames()) as frames:
                async for frame in frames:
                    await self._send(send, frame)
        finally:
            await _settle(keeping_alive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            silent_s = clock() - self._sent_at
            if silent_s >= self._work.silence_s:
                await self._send(send, KEEP_ALIVE)
            else:
                await asyncio.sleep(self._work.silence_s - silent_s)

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(merge(self._work.parts)) as messages:
            async for part, message in messages:
                frames = self._answer.frames(message, part)
                if frames:
                    yield frames
        yield self._answer.end()

    async def _send(self, send: Send, frame: bytes) -> None:
        async with self._sending:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            self._sent_at = asyncio.get_running_loop().time()


async def while_client_listens(receive: Callable[[], Awaitable[Any]], work: Any) -> Any:
    """What `work`, a coroutine, returns. Cancels it and raises ClientGone when the client disconnects before.

    Only the end of the drain cancels a request's task; its client is then told so, by an ApiError.
    """
    working: asyncio.Future[Any] = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    except asyncio.CancelledError:
        raise ApiError(503, "The gateway was shut down.", kind=SERVER, code="shutting_down", retry_after_s=1) from None
    finally:
        await _settle(working)
        await _settle(watching)


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _settle(task: asyncio.Future[Any]) -> None:
    """Cancels what still runs and waits until it has cleaned up."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def as_api_error(error: Exception, prompt_param: str) -> ApiError:
    """The OpenAI error that a fault, a broken answer or an API error becomes."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RpcFault):
        return error_of_fault(error, prompt_param)
    return ApiError(502, f"The answer was cut off: {error}.", kind=SERVER, code="bad_answer")
