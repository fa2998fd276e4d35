"""The HTTP application: the routes, what errors look like, and the documentation."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from trenza_gateway import __version__
from trenza_gateway.auth.access import Access
from trenza_gateway.edge import Edge
from trenza_gateway.limits import ClientGone
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import CLIENT_GONE_STATUS, SERVER, ApiError, bad_request
from trenza_gateway.routes.audio import hearing_router
from trenza_gateway.routes.audio_documentation import audio_schemas
from trenza_gateway.routes.audio_speech import speech_router
from trenza_gateway.routes.chat import chat_router
from trenza_gateway.routes.completions import completions_router
from trenza_gateway.routes.documentation import body_schemas, documentation_router
from trenza_gateway.routes.images import images_router
from trenza_gateway.routes.images_documentation import images_schemas
from trenza_gateway.routes.media import media_router
from trenza_gateway.routes.models import models_router
from trenza_gateway.routes.ops import ops_router
from trenza_gateway.routes.original_vision import original_vision_router
from trenza_gateway.routes.parts import Parts
from trenza_gateway.routes.vision_documentation import vision_schemas

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "OpenAI's API on hardware of your own. Every error is an OpenAI error object, every response carries "
    "`x-request-id`; fields that are not known are ignored and named in `x-trenza-ignored-fields`."
)


def create_app(parts: Parts, access: Access) -> ASGIApp:
    """The application, edge included."""
    app = FastAPI(
        title="Trenza",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (
        models_router(parts),
        chat_router(parts),
        original_vision_router(parts),
        completions_router(parts),
        hearing_router(parts),
        speech_router(parts),
        images_router(parts),
        media_router(parts),
        ops_router(parts),
        documentation_router(),
    ):
        app.include_router(router)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(Exception, _on_unexpected)
    _document(app)
    return Edge(app, access, parts.counter, parts.bodies, parts.uploads, parts.answers)


def _document(app: FastAPI) -> None:
    """Adds to the generated documentation the bodies that the routes read by themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(
            {**body_schemas(), **audio_schemas(), **images_schemas(), **vision_schemas()}
        )
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI itself documents


def _response(error: ApiError) -> Response:
    return Response(json_bytes(error.body()), error.status, error.headers(), "application/json")


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    message = {404: f"Unknown request URL: {where}.", 405: f"Not allowed: {where}."}.get(
        error.status_code, str(error.detail)
    )
    code = HTTPStatus(error.status_code).name.lower()
    return _response(ApiError(error.status_code, message, code=code, headers=error.headers))


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    return _response(bad_request(str(error)))


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE_STATUS)


async def _on_unexpected(_request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    return _response(
        ApiError(500, "The gateway made a mistake; its log says more.", kind=SERVER, code="internal_error")
    )
