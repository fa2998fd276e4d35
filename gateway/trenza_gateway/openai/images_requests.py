"""What requests of `/v1/images/…` may say, and the protos that they become."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from trenza.images.v1 import images_pb2

from trenza_gateway.openai.bodies import ModelBody, Seed, parse_form, parse_json
from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.fields import HONOURED, Rule

MAX_PROMPT_CHARS = 262_144
MAX_PICTURES = 10
MAX_PARTIAL_PICTURES = 3
MAX_SIDE_PIXELS = 16_384
"""No model draws larger pictures; what a model can draw below that is for it to say."""
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0

FORMATS = {
    "png": images_pb2.IMAGE_FORMAT_PNG,
    "jpeg": images_pb2.IMAGE_FORMAT_JPEG,
    "webp": images_pb2.IMAGE_FORMAT_WEBP,
}
BACKGROUNDS = {
    "auto": images_pb2.BACKGROUND_AUTO,
    "opaque": images_pb2.BACKGROUND_OPAQUE,
    "transparent": images_pb2.BACKGROUND_TRANSPARENT,
}
QUALITIES = {
    "auto": images_pb2.QUALITY_AUTO,
    "low": images_pb2.QUALITY_LOW,
    "medium": images_pb2.QUALITY_MEDIUM,
    "high": images_pb2.QUALITY_HIGH,
    "standard": images_pb2.QUALITY_MEDIUM,
    "hd": images_pb2.QUALITY_HIGH,
}

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})", re.ASCII)


def _nothing_said(said: Any) -> Any:
    return "" if said is None else said


def _size(said: str) -> str:
    if said == "auto":
        return said
    found = _SIZE.fullmatch(said)
    if found is None:
        raise ValueError('it must be "auto" or width and height in pixels such as "512x512"')
    if not all(1 <= int(side) <= MAX_SIDE_PIXELS for side in found.groups()):
        raise ValueError(f"width and height must be between 1 and {MAX_SIDE_PIXELS} pixels")
    return f"{int(found[1])}x{int(found[2])}"


class DrawingBody(ModelBody):
    """The fields that all three endpoints share."""

    model: Annotated[str, BeforeValidator(_nothing_said)] = Field(
        default="", description="Where it is not given: the first model, by name, that can do this."
    )
    n: int | None = Field(
        default=None, ge=1, le=MAX_PICTURES, description="How many pictures; 1 where it is not given."
    )
    size: Annotated[str, AfterValidator(_size)] | None = Field(
        default=None, description='"auto", the model\'s own, or width and height in pixels such as "512x512".'
    )
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = Field(
        default=None, description="How many steps, where `steps` is not given; standard is medium, hd is high."
    )
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = Field(default=None, description="png where it is not given.")
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of jpeg and webp; 100 where it is not given."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default=None, description="b64_json where it is not given; url: links that work for a while."
    )
    seed: Seed | None = Field(
        default=None, description="Beyond OpenAI: the same seed gives the same picture; picture i has seed + i."
    )
    negative_prompt: str | None = Field(
        default=None, max_length=MAX_PROMPT_CHARS, description="Beyond OpenAI: what not to draw."
    )
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="Beyond OpenAI: denoising steps.")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=MAX_GUIDANCE, description="Beyond OpenAI: how closely to follow the text."
    )

    @property
    def pictures(self) -> int:
        """How many pictures are wanted."""
        return self.n or 1

    @property
    def format(self) -> Literal["png", "jpeg", "webp"]:
        """How the pictures are encoded."""
        return self.output_format or "png"


class StreamableBody(DrawingBody):
    """The fields of the endpoints that draw after a text, whole or as a stream."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_CHARS)
    stream: bool | None = None
    partial_images: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PARTIAL_PICTURES,
        description="Only with `stream`: how many unfinished pictures to show on the way.",
    )

    @property
    def partial_pictures(self) -> int:
        """How many unfinished pictures are shown of each; outside streams there is nowhere to show them."""
        return self.partial_images or 0 if self.stream else 0


class GenerationBody(StreamableBody):
    """The body of `POST /v1/images/generations`."""


_Strength = Annotated[
    float | None, Field(ge=0, le=1, description="Beyond OpenAI: how much of the given picture to redraw.")
]


class EditBody(StreamableBody):
    """The fields of `POST /v1/images/edits`, beside the pictures."""

    strength: _Strength = None


class VariationBody(DrawingBody):
    """The fields of `POST /v1/images/variations`, beside the picture."""

    strength: _Strength = None


def _anything(_value: Any) -> bool:
    return True


def _unset(value: Any) -> bool:
    return value in (None, "", False, 0, "0", "false", [], {})


_BOOKKEEPING = Rule(_anything, "concerns the caller's bookkeeping, not the picture")
_PNG_AND_ITS_LIKE = Rule(_unset, "the models served here draw still pictures of pixels only")

_ALL_FIELDS: Mapping[str, Rule] = {
    "user": _BOOKKEEPING,
    "safety_identifier": _BOOKKEEPING,
    "moderation": Rule(_anything, "nothing is moderated here"),
    "style": Rule(lambda value: value in (None, "", "vivid"), "say the style in the prompt"),
    "complexity": Rule(
        _unset, "no model served here plans its pictures; `quality` and `steps` say how much work to do"
    ),
    "svg": _PNG_AND_ITS_LIKE,
    "frame_count": _PNG_AND_ITS_LIKE,
    "frame_duration_ms": _PNG_AND_ITS_LIKE,
    "input_fidelity": Rule(lambda value: value in (None, "", "low"), "`strength` says how much is redrawn"),
    "markup": Rule(_unset, "no model served here reads marks on a picture; use `mask`"),
}

GENERATION_FIELDS: Mapping[str, Rule] = {**_ALL_FIELDS, **dict.fromkeys(GenerationBody.model_fields, HONOURED)}
EDIT_FIELDS: Mapping[str, Rule] = {**_ALL_FIELDS, **dict.fromkeys((*EditBody.model_fields, "image", "mask"), HONOURED)}
VARIATION_FIELDS: Mapping[str, Rule] = {
    **_ALL_FIELDS,
    **dict.fromkeys((*VariationBody.model_fields, "image"), HONOURED),
    "stream": Rule(_unset, "variations are not streamed"),
}

_BodyT = TypeVar("_BodyT", bound=DrawingBody)


def generation_body(body: bytes) -> GenerationBody:
    """Reads a JSON body. Raises a 400 ApiError that names the field that is wrong."""
    return _consistent(parse_json(GenerationBody, body))


def edit_body(fields: Mapping[str, Sequence[str]]) -> EditBody:
    """Reads the fields of a form. Raises a 400 ApiError that names the field that is wrong."""
    return _consistent(parse_form(EditBody, fields))


def variation_body(fields: Mapping[str, Sequence[str]]) -> VariationBody:
    """Reads the fields of a form. Raises a 400 ApiError that names the field that is wrong."""
    return _consistent(parse_form(VariationBody, fields))


def without_effect(body: DrawingBody) -> list[str]:
    """Fields that the request sets and that mean nothing in it."""
    pointless = isinstance(body, StreamableBody) and body.partial_images and not body.stream
    return ["partial_images"] if pointless else []


def drawing_options(body: DrawingBody) -> images_pb2.DrawingOptions:
    """How to draw, as the proto says it."""
    width, height = (0, 0) if body.size in (None, "auto") else map(int, str(body.size).split("x"))
    return images_pb2.DrawingOptions(
        count=body.pictures,
        width=width,
        height=height,
        steps=body.steps,
        guidance_scale=body.guidance_scale,
        negative_prompt=body.negative_prompt or "",
        seed=body.seed,
        strength=body.strength if isinstance(body, EditBody | VariationBody) else None,
        quality=QUALITIES[body.quality or "auto"],
        background=BACKGROUNDS[body.background or "auto"],
        format=FORMATS[body.format],
        compression=body.output_compression if body.format != "png" else None,
        partial_images=body.partial_pictures if isinstance(body, StreamableBody) else 0,
    )


def _consistent(body: _BodyT) -> _BodyT:
    """The body. Raises a 400 ApiError where its fields contradict one another."""
    if isinstance(body, StreamableBody) and not body.prompt.strip():
        raise bad_request("Invalid value for 'prompt': it says nothing.", param="prompt", code="invalid_value")
    if isinstance(body, StreamableBody) and body.stream and body.response_format == "url":
        message = "A stream carries its pictures: its 'response_format' is b64_json."
        raise bad_request(message, param="response_format", code="unsupported_value")
    if body.background == "transparent" and body.format == "jpeg":
        message = "JPEG has no transparency: choose the 'output_format' png or webp."
        raise bad_request(message, param="background", code="unsupported_value")
    if body.format == "png" and body.output_compression not in (None, 100):
        message = "PNG loses nothing: 'output_compression' needs the 'output_format' jpeg or webp."
        raise bad_request(message, param="output_compression", code="unsupported_value")
    return body
