"""What the jobs of all that generates text have in common: does the prompt fit, how many choices, how large it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import grpc
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch.core.affinity import prefix_hashes, size_estimate
from trenza_gateway.dispatch.core.context import cannot_fit, least_tokens
from trenza_gateway.dispatch.intake.intake import Effort, Intake
from trenza_gateway.dispatch.job import Job

MAX_CHOICES = 16
PICTURE_BYTES = 2304
"""What a picture counts as in a prompt's size: as much text as has the tokens of a usual picture, 576."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The beginnings of a prompt that others may share, and how many pictures are in it."""

    pieces: Sequence[bytes]
    pictures: int = 0

    @property
    def text_bytes(self) -> int:
        """The length of its texts."""
        return sum(len(piece) for piece in self.pieces)


def generation_job(
    intake: Intake,
    model: common_pb2.Model,
    context: common_pb2.RequestContext,
    prompt: Prompt,
    options: chat_pb2.GenerationOptions,
    time_limit_s: float | None,
) -> Job:
    """The job of continuing a prompt. Raises RpcFault for too many choices, or for a prompt that cannot fit."""
    most = min(MAX_CHOICES, intake.most_slots(context.model) or MAX_CHOICES)
    if options.choices > most:
        message = f"At most {most} choices can be made at once."
        raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": "n"})
    _require_fit(prompt.text_bytes, model.context_length)
    max_tokens = options.max_tokens if options.HasField("max_tokens") else None
    size_bytes = prompt.text_bytes + prompt.pictures * PICTURE_BYTES
    effort = Effort(
        slots=options.choices,
        size_estimate=size_estimate(size_bytes, max_tokens, options.choices),
        prefix_hashes=prefix_hashes(prompt.pieces),
    )
    return intake.job(context, model.modality, effort, time_limit_s)


def conversation(messages: Iterable[chat_pb2.Message], uploads: Sequence[bytes] = ()) -> list[bytes]:
    """A conversation's turns. `uploads` are the digests of the pictures that its parts show by number."""
    return [_turn(message, uploads) for message in messages]


def pictured_params(messages: Iterable[chat_pb2.Message]) -> Iterator[str]:
    """The fields of a conversation that show pictures, as OpenAI writes them: `messages[0].content[1]`."""
    for index, message in enumerate(messages):
        for position, part in enumerate(message.content):
            if part.HasField("image"):
                yield f"messages[{index}].content[{position}]"


def _require_fit(prompt_bytes: int, context_length: int) -> None:
    if cannot_fit(prompt_bytes, context_length):
        least = least_tokens(prompt_bytes)
        raise RpcFault(
            grpc.StatusCode.INVALID_ARGUMENT,
            Reason.CONTEXT_LENGTH_EXCEEDED,
            f"This model's context is {context_length} tokens; the prompt has at least {least}.",
            {"limit": str(context_length), "prompt_tokens": str(least)},
        )


def _turn(message: chat_pb2.Message, uploads: Sequence[bytes]) -> bytes:
    """A turn's bytes: texts as they are, so that their length says something about tokens; the rest as a short sign."""
    return b"%d" % message.role + b"".join(_sign(part, uploads) for part in message.content)


def _sign(part: chat_pb2.ContentPart, uploads: Sequence[bytes]) -> bytes:
    if not part.HasField("image"):
        return part.text.encode()
    if part.image.HasField("data"):
        return blake2b(part.image.data, digest_size=16).digest()
    return uploads[part.image.upload_index] if part.image.upload_index < len(uploads) else b""
