"""What /docs says about the bodies of requests: their schema and examples that work as they stand."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from trenza_gateway.openai.requests import ChatBody, CompletionBody
from trenza_gateway.routes.vision_documentation import CHAT_EXAMPLES

REF_TEMPLATE = "#/components/schemas/{model}"

_CHAT_EXAMPLES = {
    "question": {
        "summary": "A question",
        "value": {"model": "starter-chat", "messages": [{"role": "user", "content": "What is seven plus five?"}]},
    },
    "stream": {
        "summary": "Streamed, with usage at the end",
        "value": {
            "model": "starter-chat",
            "messages": [
                {"role": "system", "content": "You are a friendly assistant."},
                {"role": "user", "content": "Hello!"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
    "json": {
        "summary": "An answer in JSON, urgent",
        "value": {
            "model": "starter-chat",
            "messages": [{"role": "user", "content": "Answer in JSON: what colour is the sky?"}],
            "response_format": {"type": "json_object"},
            "temperature": 0,
            "priority": 0,
        },
    },
}

_COMPLETION_EXAMPLES = {
    "text": {"summary": "One text", "value": {"model": "starter-chat", "prompt": "Monday, Tuesday,", "max_tokens": 16}},
    "texts": {
        "summary": "Two texts, two continuations each",
        "value": {"model": "starter-chat", "prompt": ["one, two,", "red, green,"], "n": 2, "seed": 7},
    },
}


def _documentation(body: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": REF_TEMPLATE.format(model=body.__name__)}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    }


CHAT_DOCUMENTATION = _documentation(ChatBody, {**_CHAT_EXAMPLES, **CHAT_EXAMPLES})
COMPLETION_DOCUMENTATION = _documentation(CompletionBody, _COMPLETION_EXAMPLES)


def documentation_router() -> APIRouter:
    """The page at /docs: one file that loads nothing from elsewhere, so that it works on a network of one's own."""
    router = APIRouter(include_in_schema=False)
    page = files("trenza_gateway.routes").joinpath("docs.html").read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; media-src blob:; "
        "img-src 'self' data:"
    )

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    return router


def body_schemas() -> dict[str, Any]:
    """The schemas that the documentation refers to, by name."""
    schemas: dict[str, Any] = {}
    for body in (ChatBody, CompletionBody):
        schema = body.model_json_schema(ref_template=REF_TEMPLATE)
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
    return schemas
