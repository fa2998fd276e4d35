"""What /docs says about the images endpoints."""

from __future__ import annotations

from typing import Any

from trenza_gateway.openai.images_requests import EditBody, GenerationBody, VariationBody

REF_TEMPLATE = "#/components/schemas/{model}"

_GENERATION_EXAMPLES = {
    "picture": {"summary": "A picture", "value": {"model": "starter-draw", "prompt": "A red circle"}},
    "again": {
        "summary": "Two pictures that can be drawn again",
        "value": {"model": "starter-draw", "prompt": "un cuadrado azul", "n": 2, "seed": 7, "size": "256x256"},
    },
    "link": {
        "summary": "A link to a WebP",
        "value": {
            "model": "starter-draw",
            "prompt": "I would like a blue star",
            "response_format": "url",
            "output_format": "webp",
            "output_compression": 80,
        },
    },
    "stream": {
        "summary": "Streamed, with two unfinished pictures on the way",
        "value": {
            "model": "starter-draw",
            "prompt": "A green triangle",
            "steps": 4,
            "stream": True,
            "partial_images": 2,
        },
    },
}
_EDIT_EXAMPLES = {
    "edit": {"summary": "Redraw a picture", "value": {"model": "starter-draw", "prompt": "A red circle"}},
    "little": {
        "summary": "Redraw little of it",
        "value": {"model": "starter-draw", "prompt": "A red circle", "strength": 0.4, "steps": 4, "seed": 7},
    },
}
_VARIATION_EXAMPLES = {
    "variation": {"summary": "Two like it", "value": {"model": "starter-draw", "n": 2, "size": "256x256"}},
}

_USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "total_tokens": 5,
}
_ANSWER = {
    "data": [{"b64_json": "iVBORw0KGgo…", "seed": 7}],
    "created": 1_800_000_000,
    "background": "opaque",
    "output_format": "png",
    "quality": "medium",
    "size": "256x256",
    "usage": _USAGE,
}


def _body(media_type: str, name: str, examples: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": REF_TEMPLATE.format(model=name)}, "examples": examples}
    return {"requestBody": {"required": True, "content": {media_type: content}}}


def _answers(kind: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}, "example": _ANSWER}}
    if kind:
        stream = f'event: {kind}.completed\ndata: {{"b64_json":"iVBORw0KGgo…","type":"{kind}.completed"}}\n\n'
        content["text/event-stream"] = {"schema": {"type": "string"}, "example": stream}
    description = "The pictures; links to them work for a while and need no key"
    return {"responses": {"200": {"description": description, "content": content}}}


GENERATION_DOCUMENTATION = {
    **_body("application/json", "GenerationBody", _GENERATION_EXAMPLES),
    **_answers("image_generation"),
}
EDIT_DOCUMENTATION = {**_body("multipart/form-data", "EditBody", _EDIT_EXAMPLES), **_answers("image_edit")}
VARIATION_DOCUMENTATION = {**_body("multipart/form-data", "VariationBody", _VARIATION_EXAMPLES), **_answers("")}

_PICTURE = {"type": "string", "format": "binary"}
_FILES: dict[str, dict[str, Any]] = {
    "EditBody": {
        "image": {
            "type": "array",
            "items": _PICTURE,
            "description": "The picture to redraw: png, jpeg, webp … Models that can take several.",
        },
        "mask": {
            **_PICTURE,
            "description": "As large as the picture: transparent, or white where it has no transparency, is redrawn.",
        },
    },
    "VariationBody": {"image": {**_PICTURE, "description": "The picture to vary."}},
}


def images_schemas() -> dict[str, Any]:
    """The schemas that the documentation refers to, by name."""
    schemas: dict[str, Any] = {}
    for body in (GenerationBody, EditBody, VariationBody):
        schema = body.model_json_schema(ref_template=REF_TEMPLATE)
        schemas.update(schema.pop("$defs", {}))
        if files := _FILES.get(body.__name__):
            schema["properties"] = {**files, **schema["properties"]}
            schema["required"] = ["image", *schema.get("required", ())]
        schemas[body.__name__] = schema
    return schemas
