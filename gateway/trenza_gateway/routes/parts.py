"""What the routes work with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from trenza.common.v1 import common_pb2

from trenza_gateway.dispatch.dispatcher import Dispatcher
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.dispatch.intake.intake import Intake
from trenza_gateway.edge import Caller
from trenza_gateway.limits import Answers, Bodies, RequestCounter
from trenza_gateway.media.links import Links
from trenza_gateway.media.store import MediaStore
from trenza_gateway.openai.answers import Identity
from trenza_gateway.openai.bodies import ModelBody
from trenza_gateway.openai.fields import ignored_header
from trenza_gateway.openai.options import priority_class
from trenza_gateway.pictures.gathering import Pictures
from trenza_gateway.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the gateway that answer requests. `wall_clock` tells seconds since the Unix epoch,
    `audio_limit_bytes` is the size of the largest sound that is heard, `image_limit_bytes` of all pictures of one edit."""

    fleet: Fleet
    intake: Intake
    dispatcher: Dispatcher
    bodies: Bodies
    uploads: Uploads
    answers: Answers
    counter: RequestCounter
    scheduler_up: Callable[[], bool]
    wall_clock: Callable[[], float]
    silence_s: float
    audio_limit_bytes: int
    image_limit_bytes: int
    media: MediaStore
    links: Links
    pictures: Pictures

    def identity(self, prefix: str, model: str) -> Identity:
        """The identity of a new answer; its id begins with `prefix`."""
        return Identity(f"{prefix}-{uuid.uuid4().hex}", int(self.wall_clock()), model)


def caller_of(request: Request) -> Caller:
    """Who a request is from, as the edge found out."""
    caller = request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


def request_context(request: Request, body: ModelBody, session_id: str | None = None) -> common_pb2.RequestContext:
    """What goes with the call to a model. Raises ApiError for a bad X-Priority."""
    caller = caller_of(request)
    return common_pb2.RequestContext(
        request_id=caller.ticket_id,
        model=body.model,
        priority=priority_class(body, request.headers.get("x-priority")),
        tenant=caller.tenant,
        session_id=session_id or body.session_id or "",
    )


def answer_headers(ignored: list[str]) -> dict[str, str]:
    """Headers of an answer beside those that every response has."""
    return {"x-trenza-ignored-fields": ignored_header(ignored)} if ignored else {}
