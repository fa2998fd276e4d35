"""Translates the images API into requests of the engine and the engine's events back; pure, both ways."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TypeVar

from grpc import StatusCode
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2 as pb
from trenza_runtime.errors import Reason, RpcFault

from trenza_images import engine

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

CHUNK_BYTES = 2**20
"""The most of a picture that one message carries."""

_FORMATS: Mapping[pb.ImageFormat.ValueType, engine.PictureFormat] = {
    pb.IMAGE_FORMAT_UNSPECIFIED: "png",
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_JPEG: "jpeg",
    pb.IMAGE_FORMAT_WEBP: "webp",
}
_FORMAT_VALUES: Mapping[engine.PictureFormat, pb.ImageFormat.ValueType] = {
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
}
_QUALITIES: Mapping[pb.Quality.ValueType, engine.Quality] = {
    pb.QUALITY_UNSPECIFIED: "auto",
    pb.QUALITY_AUTO: "auto",
    pb.QUALITY_LOW: "low",
    pb.QUALITY_MEDIUM: "medium",
    pb.QUALITY_HIGH: "high",
}
_QUALITY_VALUES: Mapping[engine.Quality, pb.Quality.ValueType] = {
    "low": pb.QUALITY_LOW,
    "medium": pb.QUALITY_MEDIUM,
    "high": pb.QUALITY_HIGH,
}


def invalid(param: str, message: str, reason: str = Reason.INVALID_ARGUMENT) -> RpcFault:
    """The fault for a field whose value cannot be honoured; `details["param"]` names the field as OpenAI's API does."""
    return RpcFault(StatusCode.INVALID_ARGUMENT, reason, message, {"param": param})


def draw_request(
    task: engine.Task,
    prompt: str,
    options: pb.DrawingOptions,
    sources: tuple[bytes, ...] = (),
    mask: bytes | None = None,
) -> engine.DrawRequest:
    """The engine request for one call. Raises `RpcFault` INVALID_ARGUMENT naming the field that cannot be honoured."""
    if task != "vary":
        _check_prompt(prompt)
    return engine.DrawRequest(
        task=task,
        prompt=prompt,
        seed=options.seed if options.HasField("seed") else secrets.randbits(31),
        count=_within("n", options.count or 1, 1, engine.MAX_COUNT),
        size=_size(options),
        negative_prompt=options.negative_prompt,
        steps=_within("steps", options.steps, 1, engine.MAX_STEPS) if options.HasField("steps") else None,
        guidance_scale=_optional(options, "guidance_scale", 0, engine.MAX_GUIDANCE),
        strength=_optional(options, "strength", engine.MIN_STRENGTH, 1),
        quality=_known("quality", options.quality, _QUALITIES),
        encoding=engine.Encoding(
            _known("output_format", options.format, _FORMATS),
            _within("output_compression", options.compression, 0, 100) if options.HasField("compression") else 100,
        ),
        sketches=_within("partial_images", options.partial_images, 0, engine.MAX_SKETCHES),
        transparent=options.background == pb.BACKGROUND_TRANSPARENT,
        sources=sources,
        mask=mask,
    )


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise invalid("prompt", "A prompt is needed.")
    if len(prompt) > engine.MAX_PROMPT_CHARS:
        raise invalid("prompt", f"A prompt has at most {engine.MAX_PROMPT_CHARS} characters.")


def _size(options: pb.DrawingOptions) -> tuple[int, int] | None:
    if bool(options.width) != bool(options.height):
        raise invalid("size", "Width and height must be given together.")
    return (options.width, options.height) if options.width else None


def _within(param: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise invalid(param, f"{param} must be between {low} and {high}.")
    return value


def _optional(options: pb.DrawingOptions, name: str, low: float, high: float) -> float | None:
    if not options.HasField(name):  # type: ignore[arg-type]  # the stubs want a literal here
        return None
    value = round(float(getattr(options, name)), 6)  # what was 0.3 before it became a float of four bytes
    if not low <= value <= high:  # neither is what is no number
        raise invalid(name, f"{name} must be between {low:g} and {high:g}.")
    return value


def _known(param: str, value: KeyT, known: Mapping[KeyT, ValueT]) -> ValueT:
    if value not in known:
        raise invalid(param, f"There is no such {param}.")
    return known[value]


class Answer:
    """Turns the events of one request into messages, and keeps what it used."""

    def __init__(self, encoding: engine.Encoding) -> None:
        self._format = _FORMAT_VALUES[encoding.format]
        self.drawn: engine.Drawn | None = None
        """The end, once it has come."""

    def messages(self, event: engine.DrawEvent, queue_s: float) -> Iterator[pb.DrawingEvent]:
        """The messages of one event; `queue_s` is the wait for a place in front of the engine."""
        match event:
            case engine.Advanced(fraction, step, steps):
                yield pb.DrawingEvent(progress=common_pb2.Progress(fraction=fraction, step=step, steps=steps))
            case engine.Sketch(index, number, data):
                for chunk in self._chunks(index, data):
                    chunk.partial_index = number
                    yield pb.DrawingEvent(partial=chunk)
            case engine.Picture(index, data, seed):
                for chunk in self._chunks(index, data):
                    chunk.seed = seed if chunk.last else 0
                    yield pb.DrawingEvent(image=chunk)
            case engine.Drawn():
                self.drawn = event
                yield pb.DrawingEvent(summary=_summary(event, queue_s))

    def _chunks(self, index: int, data: bytes) -> Iterator[pb.ImageChunk]:
        for start in range(0, len(data), CHUNK_BYTES):
            end = start + CHUNK_BYTES
            yield pb.ImageChunk(index=index, format=self._format, data=data[start:end], last=end >= len(data))


def _summary(drawn: engine.Drawn, queue_s: float) -> pb.DrawingSummary:
    return pb.DrawingSummary(
        images=drawn.count,
        width=drawn.size[0],
        height=drawn.size[1],
        steps=drawn.steps,
        usage=common_pb2.TokenUsage(prompt_tokens=drawn.prompt_tokens),
        timings=common_pb2.Timings(
            queue_s=queue_s + drawn.queue_s, prefill_s=drawn.first_step_s, decode_s=drawn.draw_s
        ),
        truncated_prompt=drawn.truncated_prompt,
        background=pb.BACKGROUND_OPAQUE,
        quality=_QUALITY_VALUES[drawn.quality],
    )
