"""Requests in, messages out."""

from __future__ import annotations

import math
from typing import Any

import pytest
from trenza.images.v1 import images_pb2 as pb
from trenza_images import engine, translate
from trenza_images.uploads import MAX_SOURCES, Upload
from trenza_runtime.errors import RpcFault


def options(**fields: Any) -> pb.DrawingOptions:
    return pb.DrawingOptions(**fields)


def test_what_is_not_said_is_left_to_the_model() -> None:
    request = translate.draw_request("generate", "a star", options())
    assert (request.count, request.size, request.steps, request.guidance_scale) == (1, None, None, None)
    assert (request.quality, request.encoding, request.sketches) == ("auto", engine.Encoding("png", 100), 0)
    assert 0 <= request.seed < 2**31
    assert request.seed != translate.draw_request("generate", "a star", options()).seed


def test_what_is_said_arrives() -> None:
    said = options(
        count=3, width=64, height=32, steps=4, guidance_scale=0.0, negative_prompt="no", seed=-5, strength=0.3,
        quality=pb.QUALITY_HIGH, background=pb.BACKGROUND_TRANSPARENT, format=pb.IMAGE_FORMAT_WEBP, compression=0,
        partial_images=3,
    )  # fmt: skip
    assert translate.draw_request("edit", "a star", said, (b"x",), b"y") == engine.DrawRequest(
        task="edit", prompt="a star", seed=-5, count=3, size=(64, 32), negative_prompt="no", steps=4, guidance_scale=0.0,
        strength=0.3, quality="high", encoding=engine.Encoding("webp", 0), sketches=3, transparent=True,
        sources=(b"x",), mask=b"y",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"count": 11}, "n"),
        ({"count": 2**32 - 1}, "n"),
        ({"width": 64}, "size"),
        ({"height": 64}, "size"),
        ({"steps": 0}, "steps"),
        ({"steps": 201}, "steps"),
        ({"guidance_scale": -0.1}, "guidance_scale"),
        ({"guidance_scale": math.nan}, "guidance_scale"),
        ({"guidance_scale": math.inf}, "guidance_scale"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.1}, "strength"),
        ({"compression": 101}, "output_compression"),
        ({"partial_images": 4}, "partial_images"),
        ({"format": 99}, "output_format"),
        ({"quality": 99}, "quality"),
    ],
)
def test_what_cannot_be_honoured_is_named_as_openai_names_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RpcFault) as caught:
        translate.draw_request("generate", "a star", options(**fields))
    assert caught.value.details["param"] == param
    assert caught.value.code.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("prompt", ["", " \n", "x" * (engine.MAX_PROMPT_CHARS + 1)])
def test_a_prompt_is_needed_and_has_an_end(prompt: str) -> None:
    for task in ("generate", "edit"):
        with pytest.raises(RpcFault) as caught:
            translate.draw_request(task, prompt, options())
        assert caught.value.details["param"] == "prompt"


def test_a_large_picture_travels_in_pieces() -> None:
    data = bytes(range(256)) * 10_000
    answer = translate.Answer(engine.Encoding("jpeg"))
    messages = [message.image for message in answer.messages(engine.Picture(2, data, 77), 0.0)]
    assert b"".join(message.data for message in messages) == data
    assert all(len(message.data) <= translate.CHUNK_BYTES for message in messages)
    assert [(message.last, message.seed) for message in messages] == [(False, 0), (False, 0), (True, 77)]
    assert {(message.index, message.format) for message in messages} == {(2, pb.IMAGE_FORMAT_JPEG)}


def test_a_sketch_says_which_it_is() -> None:
    (message,) = translate.Answer(engine.Encoding("png")).messages(engine.Sketch(1, 2, b"x"), 0.0)
    chunk = message.partial
    assert (chunk.index, chunk.partial_index, chunk.data, chunk.last) == (1, 2, b"x", True)


def test_the_summary_adds_up_the_waits() -> None:
    drawn = engine.Drawn(2, (64, 32), 4, "medium", 5, "left out", queue_s=1.0, first_step_s=2.0, draw_s=3.0)
    answer = translate.Answer(engine.Encoding("png"))
    (message,) = answer.messages(drawn, 0.5)
    summary = message.summary
    assert answer.drawn is drawn
    assert (summary.images, summary.width, summary.height, summary.steps) == (2, 64, 32, 4)
    assert (summary.usage.prompt_tokens, summary.truncated_prompt) == (5, "left out")
    assert (summary.timings.queue_s, summary.timings.prefill_s, summary.timings.decode_s) == (1.5, 2.0, 3.0)
    assert (summary.quality, summary.background) == (pb.QUALITY_MEDIUM, pb.BACKGROUND_OPAQUE)


def chunk(index: int, data: bytes, role: pb.ImageRole.ValueType = pb.IMAGE_ROLE_UNSPECIFIED) -> pb.UploadChunk:
    return pb.UploadChunk(index=index, data=data, role=role)


def test_pictures_are_put_together_from_their_pieces() -> None:
    upload = Upload(100)
    for piece in (chunk(0, b"ab"), chunk(0, b"cd"), chunk(1, b"m", pb.IMAGE_ROLE_MASK), chunk(2, b"e")):
        upload.take(piece)
    uploaded = upload.finish()
    assert (uploaded.sources, uploaded.mask) == ((b"abcd", b"e"), b"m")


@pytest.mark.parametrize(
    ("pieces", "param"),
    [
        ([], "image"),
        ([chunk(0, b"")], "image"),
        ([chunk(1, b"x")], "image"),
        ([chunk(0, b"x"), chunk(2, b"x")], "image"),
        ([chunk(0, b"x"), chunk(1, b"x"), chunk(0, b"x")], "image"),
        ([chunk(0, b"x" * 60), chunk(0, b"x" * 60)], "image"),
        ([chunk(0, b"m", pb.IMAGE_ROLE_MASK)], "image"),
        ([chunk(0, b"m", pb.IMAGE_ROLE_MASK), chunk(1, b"m", pb.IMAGE_ROLE_MASK)], "mask"),
        ([chunk(0, b"x", 9)], "image"),  # type: ignore[arg-type]  # a role that a later client may know
        ([chunk(number, b"x") for number in range(MAX_SOURCES + 1)], "image"),
    ],
)
def test_uploads_that_are_none(pieces: list[pb.UploadChunk], param: str) -> None:
    def send() -> None:
        upload = Upload(100)
        for piece in pieces:
            upload.take(piece)
        upload.finish()

    with pytest.raises(RpcFault) as caught:
        send()
    assert caught.value.details["param"] == param


def test_a_piece_has_a_largest_size() -> None:
    with pytest.raises(RpcFault):
        Upload(2**30).take(chunk(0, bytes(translate.CHUNK_BYTES + 1)))
