"""Translates the vision API: which pictures a conversation shows, and the engine's events as messages; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import grpc
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2 as pb
from trenza_llama import engine as llama
from trenza_llama.api.answers import Answer
from trenza_llama.api.requests import invalid
from trenza_runtime.errors import Reason, RpcFault

MAX_PIXEL_BYTES = 192 * 2**20
"""The most that one request's pictures may take as pixels, counted once for each choice: each goes to the engine by itself."""
LOW_DETAIL_SIDE = 512
"""Longest side, in pixels, of a picture that is to be looked at roughly."""
_RETRY_S = 2.0

_DETAILS = (
    chat_pb2.IMAGE_DETAIL_UNSPECIFIED,
    chat_pb2.IMAGE_DETAIL_AUTO,
    chat_pb2.IMAGE_DETAIL_LOW,
    chat_pb2.IMAGE_DETAIL_HIGH,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that a conversation shows: the field that shows it, the file's bytes, and the longest side to be seen."""

    param: str
    data: bytes
    longest_side: int


def shown_pictures(
    messages: Iterable[chat_pb2.Message], uploads: Sequence[bytes], longest_side: int, most: int
) -> list[Shown]:
    """What each image part of a conversation shows, in their order. Raises RpcFault INVALID_ARGUMENT naming the part."""
    found = [_shown(param, part, uploads, longest_side) for param, part in _image_parts(messages)]
    if len(found) > most:
        raise invalid(found[most].param, f"A conversation can have {most} pictures at most.")
    return found


def _image_parts(messages: Iterable[chat_pb2.Message]) -> Iterator[tuple[str, chat_pb2.ImagePart]]:
    for index, message in enumerate(messages):
        for position, part in enumerate(message.content):
            if part.WhichOneof("part") == "image":
                yield f"messages[{index}].content[{position}]", part.image


def _shown(param: str, part: chat_pb2.ImagePart, uploads: Sequence[bytes], longest_side: int) -> Shown:
    if part.detail not in _DETAILS:
        raise invalid(param, "There is no such detail.")
    low = part.detail == chat_pb2.IMAGE_DETAIL_LOW
    side = min(longest_side, LOW_DETAIL_SIDE) if low else longest_side
    match part.WhichOneof("source"):
        case "data":
            return Shown(param, part.data, side)
        case "upload_index" if part.upload_index < len(uploads):
            return Shown(param, uploads[part.upload_index], side)
        case "upload_index":
            raise invalid(param, f"It shows the upload {part.upload_index}, and there are {len(uploads)} (from 0).")
        case _:
            raise invalid(param, "The picture is missing.")


def check_pixels(pictures: Iterable[llama.Picture], choices: int) -> None:
    """Raises RpcFault INVALID_ARGUMENT where the pictures of one request are too many or too large together."""
    size_bytes = sum(len(picture.pixels) for picture in {id(picture): picture for picture in pictures}.values())
    if size_bytes * choices > MAX_PIXEL_BYTES:
        raise invalid("messages", "The pictures of the request are too large together for so many choices.")


def without_files(conversation: chat_pb2.ChatRequest) -> chat_pb2.ChatRequest:
    """The conversation itself, relieved of the files in it."""
    for message in conversation.messages:
        for part in message.content:
            if part.WhichOneof("part") == "image":
                part.image.ClearField("source")
    return conversation


def bad_picture(param: str, sentence: str) -> RpcFault:
    """The fault for a file that cannot be opened; `sentence` says why, with "It" for the picture."""
    message = f"The picture cannot be used. {sentence}"
    return invalid(param, message, Reason.PICTURE_INVALID)


def no_room(limit_bytes: int) -> RpcFault:
    """The fault where the pictures of other requests take all the memory that there is for them."""
    message = f"The pictures of all requests together take the {limit_bytes} bytes that they may."
    return RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, message, retry_after_s=_RETRY_S)


def too_slow(limit_s: float) -> RpcFault:
    """The fault for an upload that does not come to its end."""
    message = f"The pictures were not uploaded within {limit_s:g} seconds."
    return RpcFault(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message)


class Look:
    """Turns the events of one request into messages. Its choices look at the same pictures, so progress counts once."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._encoded = -1

    def responses(self, events: Sequence[tuple[int, object]]) -> Iterator[pb.DescribeResponse]:
        """The messages for what happened since the last look."""
        for _, event in events:
            if isinstance(event, llama.Encoding) and event.done > self._encoded:
                self._encoded = event.done
                fraction = event.done / event.total if event.total else 1.0
                progress = common_pb2.Progress(fraction=fraction, step=event.done, steps=event.total)
                yield pb.DescribeResponse(encoding=progress)
        answer = self._answer.chat_response(events)
        if answer is not None:
            yield pb.DescribeResponse(answer=answer)
