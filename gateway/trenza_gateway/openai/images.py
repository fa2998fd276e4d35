"""Pictures: a replica's messages gathered into one answer, or turned into events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trenza.images.v1 import images_pb2

from trenza_gateway.openai.answers import AnswerError
from trenza_gateway.openai.images_pieces import Base64, Raw, with_data, with_picture
from trenza_gateway.openai.images_requests import MAX_PARTIAL_PICTURES, DrawingBody, StreamableBody

Drawn = images_pb2.GenerateResponse | images_pb2.EditResponse | images_pb2.VaryResponse
"""A message of any of the three calls."""

Hold = Callable[[int], None]
"""Counts bytes of pictures that are kept in memory, negative ones that are no more; raises ApiError where it is too much."""

_BACKGROUNDS = {
    images_pb2.BACKGROUND_OPAQUE: "opaque",
    images_pb2.BACKGROUND_TRANSPARENT: "transparent",
}
_QUALITIES = {
    images_pb2.QUALITY_LOW: "low",
    images_pb2.QUALITY_MEDIUM: "medium",
    images_pb2.QUALITY_HIGH: "high",
}
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_EncodingT = TypeVar("_EncodingT", Raw, Base64)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of `size_bytes`, in pieces, perhaps in base64; `seed` draws it again."""

    content: Sequence[bytes]
    size_bytes: int
    seed: int


class _Gathering(Generic[_EncodingT]):
    """Pictures whose pieces are still arriving, by number."""

    def __init__(self, encoding: type[_EncodingT], hold: Hold) -> None:
        self._encoding: type[_EncodingT] = encoding
        self._hold = hold
        self._open: dict[tuple[int, ...], _EncodingT] = {}
        self._sizes_bytes: dict[tuple[int, ...], int] = {}

    def add(self, key: tuple[int, ...], chunk: images_pb2.ImageChunk) -> Picture | None:
        """The picture, where this piece is its last one."""
        self._hold(len(chunk.data))
        self._sizes_bytes[key] = self._sizes_bytes.get(key, 0) + len(chunk.data)
        picture = self._open.setdefault(key, self._encoding())
        picture.add(chunk.data)
        if not chunk.last:
            return None
        del self._open[key]
        return Picture(picture.end(), self._sizes_bytes.pop(key), chunk.seed)


class WholePictures(Generic[_EncodingT]):
    """Gathers the finished pictures of one request, each in `encoding`; `clock` tells Unix seconds."""

    def __init__(self, body: DrawingBody, clock: Callable[[], float], encoding: type[_EncodingT], hold: Hold) -> None:
        self._body = body
        self._clock = clock
        self._gathering: _Gathering[_EncodingT] = _Gathering(encoding, hold)
        self._pictures: dict[int, Picture] = {}
        self._summary: images_pb2.DrawingSummary | None = None

    def add(self, message: Drawn) -> None:
        """Takes the next message. Raises AnswerError where it breaks the contract, ApiError where it is too much to keep."""
        event = message.event
        match event.WhichOneof("event"):
            case "image":
                _require_wanted(event.image, self._body.pictures, self._pictures)
                if picture := self._gathering.add((event.image.index,), event.image):
                    self._pictures[event.image.index] = picture
            case "summary":
                self._summary = event.summary

    def pictures(self) -> list[Picture]:
        """The pictures in their order. Raises AnswerError when one or the summary is missing."""
        if self._summary is None or len(self._pictures) != self._body.pictures:
            raise AnswerError("the replica ended the answer before all pictures were finished")
        return [picture for _, picture in sorted(self._pictures.items())]

    def json(self, items: Sequence[Sequence[bytes]]) -> list[bytes]:
        """OpenAI's response object around the items of its `data`, as pieces. For after `pictures`."""
        assert self._summary is not None
        fields = {"created": int(self._clock()), **_description(self._body, self._summary)}
        fields["usage"] = usage_object(self._summary)
        if self._summary.truncated_prompt:
            fields["truncated_prompt"] = self._summary.truncated_prompt
        return with_data(items, fields)


class PictureEvents:
    """Turns a replica's messages into events: unfinished pictures, then each finished one.

    What was used is known at the end only, so the last finished picture waits for it; the usage of any earlier one says 0, and
    the sum is right. `index` and `seed` are beyond OpenAI, as is `truncated_prompt` in the last event.
    """

    def __init__(self, kind: str, body: StreamableBody, clock: Callable[[], float], hold: Hold) -> None:
        """`kind` is what the types of the events begin with, such as `image_generation`; `clock` tells Unix seconds."""
        self._kind = kind
        self._body = body
        self._clock = clock
        self._hold = hold
        self._gathering = _Gathering(Base64, hold)
        self._waiting: tuple[int, Picture] | None = None
        self._finished: set[int] = set()
        self._summary: images_pb2.DrawingSummary | None = None

    def frames(self, message: Drawn, part: int = 0) -> bytes:
        """The events of the next message, often none. Raises AnswerError or ApiError as `WholePictures.add` does."""
        event = message.event
        match event.WhichOneof("event"):
            case "partial":
                return self._partial(event.partial)
            case "image":
                return self._image(event.image)
            case "summary":
                self._summary = event.summary
        return b""

    def end(self) -> bytes:
        """The last event. Raises AnswerError when a picture or the summary is missing."""
        if self._summary is None or self._waiting is None or len(self._finished) != self._body.pictures:
            raise AnswerError("the replica ended the answer before all pictures were finished")
        return self._completed(self._waiting, self._summary)

    def _partial(self, chunk: images_pb2.ImageChunk) -> bytes:
        _require_wanted(chunk, self._body.pictures, self._finished)
        if chunk.partial_index >= MAX_PARTIAL_PICTURES:
            raise AnswerError("the replica sent an unfinished picture that nobody asked for")
        picture = self._gathering.add((chunk.index, chunk.partial_index), chunk)
        if picture is None:
            return b""
        fields = {
            "partial_image_index": chunk.partial_index,
            "index": chunk.index,
            **_description(self._body, None),
        }
        return self._event("partial_image", picture, fields)

    def _image(self, chunk: images_pb2.ImageChunk) -> bytes:
        _require_wanted(chunk, self._body.pictures, self._finished)
        picture = self._gathering.add((chunk.index,), chunk)
        if picture is None:
            return b""
        before, self._waiting = self._waiting, (chunk.index, picture)
        self._finished.add(chunk.index)
        return self._completed(before, None) if before else b""

    def _completed(self, finished: tuple[int, Picture], summary: images_pb2.DrawingSummary | None) -> bytes:
        index, picture = finished
        fields = {
            "index": index,
            "seed": picture.seed,
            **_description(self._body, summary),
            "usage": usage_object(summary or images_pb2.DrawingSummary()),
        }
        if summary is not None and summary.truncated_prompt:
            fields["truncated_prompt"] = summary.truncated_prompt
        return self._event("completed", picture, fields)

    def _event(self, name: str, picture: Picture, fields: Mapping[str, Any]) -> bytes:
        kind = f"{self._kind}.{name}"
        payload = with_picture(picture.content, {"type": kind, "created_at": int(self._clock()), **fields})
        self._hold(-picture.size_bytes)
        return b"".join([b"event: ", kind.encode(), b"\ndata: ", *payload, b"\n\n"])


def usage_object(summary: images_pb2.DrawingSummary) -> dict[str, Any]:
    """OpenAI's usage object; tokens of pictures are 0 where the model does not count any."""
    usage = summary.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens, "image_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": usage.completion_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _description(body: DrawingBody, summary: images_pb2.DrawingSummary | None) -> dict[str, Any]:
    """What was drawn as the summary says, or what was asked for where there is none yet."""
    said = summary or images_pb2.DrawingSummary()
    size = f"{said.width}x{said.height}" if said.width and said.height else body.size or "auto"
    quality = {"standard": "medium", "hd": "high"}.get(body.quality or "auto", body.quality or "auto")
    return {
        "background": _BACKGROUNDS.get(said.background, body.background or "auto"),
        "output_format": body.format,
        "quality": _QUALITIES.get(said.quality, quality),
        "size": size,
    }


def _require_wanted(chunk: images_pb2.ImageChunk, wanted: int, finished: Mapping[int, Picture] | set[int]) -> None:
    if chunk.index >= wanted or chunk.index in finished:
        raise AnswerError("the replica sent a picture that nobody asked for")
