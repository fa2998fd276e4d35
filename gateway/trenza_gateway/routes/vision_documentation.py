"""What /docs says about pictures in conversations."""

from __future__ import annotations

from typing import Any

from trenza_gateway.openai.original_vision import OriginalVisionBody

REF_TEMPLATE = "#/components/schemas/{model}"
MODEL = "starter-vision"

RED_CIRCLE = (
    "iVBORw0KGgoAAAANSUhEUgAAAGAAAABgAQMAAADYVuV7AAAABlBMVEX////cHh7/Hx2WAAAAsklEQVR42u3SMVbDMBAE0G/JBR3cgBzFuUmOxl"
    "F0FJcpU1C4MIjCK5P37MKENlPs02hmR/sk8cTjeJ1ABlPflSbkWsdfV60TJHijX8klejMUdGVROhjCluAUiz5Clt2GhBdRUjj0e7aT+9h7ZRAn"
    "b5R9kmNounK0598kt5tx/lNAgbqnjPC9p9xgDjKJsrHNwpsiyBiktnddfsjAuTW+1zqvg94iJMEn15V88bH5b08cxg+JlyUIux/72AAAAABJRU"
    "5ErkJggg=="
)
"""A small picture, as PNG in base64."""


def _showing(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": list(parts)}], **fields}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(**fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_CIRCLE}", **fields}}


CHAT_EXAMPLES = {
    "picture": {
        "summary": "A question about a picture",
        "value": _showing(_text("What is in this picture?"), _picture()),
    },
    "pictures": {
        "summary": "Two pictures, looked at roughly, streamed",
        "value": _showing(
            _picture(detail="low"), _picture(detail="low"), _text("Which colours are there?"), stream=True
        ),
    },
}

_ORIGINAL_EXAMPLES = {
    "picture": {
        "summary": "A question about a picture in base64",
        "value": {
            "model": MODEL,
            "messages": [{"role": "user", "content": "What is in this picture?"}],
            "image": RED_CIRCLE,
            "mime_type": "png",
            "max_tokens": 60,
        },
    }
}

ORIGINAL_VISION_DOCUMENTATION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": REF_TEMPLATE.format(model=OriginalVisionBody.__name__)},
                "examples": _ORIGINAL_EXAMPLES,
            }
        },
    },
    "responses": {
        "200": {
            "description": "The model's turn",
            "content": {"application/json": {"example": {"role": "assistant", "content": "A red circle."}}},
        },
        "400": {
            "description": "What is wrong, in plain text",
            "content": {"text/plain": {"example": "No messages sent"}},
        },
    },
}


def vision_schemas() -> dict[str, Any]:
    """The schemas that the documentation refers to, by name."""
    schema = OriginalVisionBody.model_json_schema(ref_template=REF_TEMPLATE)
    return {**schema.pop("$defs", {}), OriginalVisionBody.__name__: schema}
