"""Asks the starter models of an installed mesh something in every modality and judges the answers; `helm test` runs it.

Standard library only, since it runs in the gateway's image. Its environment: EXAM_URL of the gateway, EXAM_KEY, EXAM_MODELS (names,
separated by commas), EXAM_SECONDS for all of it. Exits 0 when every answer is right, 1 when one is wrong or missing, 2 when
there was nothing to ask.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import struct
import sys
import time
import unicodedata
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

SUMS = ((7, 5), (3, 9), (12, 6))
SENTENCES = (("en", "three blue squares and one green star"), ("en", "today is Monday"), ("es", "hoy es lunes"))
DRAWN = ("a blue star on a yellow background", "blue", "star")
RED, WHITE, BLUE = (230, 25, 25), (255, 255, 255), (30, 60, 230)
RETRIED = (429, 502, 503, 504)
RETRY_WAIT_S = 3.0
Picture = list[list[tuple[int, int, int]]]


class Wrong(Exception):
    """An answer is wrong, or there is none; the message says how."""


class Gateway:
    """The gateway of the mesh, asked over HTTP until it answers or the time is up."""

    def __init__(self, url: str, key: str, ends_at_s: float) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._ends_at_s = ends_at_s
        # The certificate is made for the name that clients use, and this is asked under the Service's.
        self._tls = ssl._create_unverified_context() if url.startswith("https:") else None

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """What is answered to a JSON body. Raises Wrong."""
        return self._ask(path, json.dumps(body).encode(), "application/json")

    def upload(self, path: str, fields: dict[str, str], file: bytes) -> bytes:
        """What is answered to a form with a file. Raises Wrong."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
            for k, v in fields.items()
        ]
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="sound.wav"\r\n\r\n'
        body = b"".join([*parts, head.encode(), file, f"\r\n--{boundary}--\r\n".encode()])
        return self._ask(path, body, f"multipart/form-data; boundary={boundary}")

    def _ask(self, path: str, body: bytes, content_type: str) -> bytes:
        headers = {"authorization": f"Bearer {self._key}", "content-type": content_type}
        request = urllib.request.Request(self._url + path, body, headers)
        while True:
            left_s = self._ends_at_s - time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=max(1.0, left_s), context=self._tls) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                said = f"{error.code} {error.read(2000).decode(errors='replace')}"
                if error.code not in RETRIED or left_s < RETRY_WAIT_S:
                    raise Wrong(f"{path}: {said}") from None
            except OSError as error:
                said = str(error)
                if left_s < RETRY_WAIT_S:
                    raise Wrong(f"{path}: {said}") from None
            print(f"  {said.strip()[:200]}; once more in {RETRY_WAIT_S:.0f} s", flush=True)
            time.sleep(RETRY_WAIT_S)

    def chat(self, model: str, content: str | list[dict[str, Any]]) -> str:
        """The text that a model answers to one turn."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        return str(json.loads(self.post("/v1/chat/completions", body))["choices"][0]["message"]["content"])

    def streamed(self, model: str, content: str) -> str:
        """The same, streamed. Raises Wrong where the stream does not end as it should."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, "stream": True}
        lines = self.post("/v1/chat/completions", body).decode().splitlines()
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if not events or events[-1] != "[DONE]":
            raise Wrong(f"the stream broke off: {events[-1:]}")
        return "".join(
            (choice["delta"].get("content") or "") for event in events[:-1] for choice in json.loads(event)["choices"]
        )


def words(text: str) -> list[str]:
    """The words of a text, without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return re.findall(r"[a-z0-9]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))


def expect(right: bool, asked: str, answer: str) -> None:
    """Says what was asked and answered. Raises Wrong."""
    print(f"  {asked!r} -> {answer!r}", flush=True)
    if not right:
        raise Wrong(f"{asked!r} was answered by {answer!r}")


def examine_chat(gateway: Gateway) -> None:
    """Sums, whole and streamed."""
    for ask in (gateway.chat, gateway.streamed):
        for one, other in SUMS:
            question = f"What is {one} + {other}?"
            answer = ask("starter-chat", question)
            expect(re.findall(r"\d+", answer)[-1:] == [str(one + other)], question, answer)


def examine_audio(gateway: Gateway) -> None:
    """What is spoken is heard."""
    for language, sentence in SENTENCES:
        speech = {
            "model": "starter-voice",
            "input": sentence,
            "voice": "alloy",
            "response_format": "wav",
            "language": language,
        }
        sound = gateway.post("/v1/audio/speech", speech)
        heard = json.loads(gateway.upload("/v1/audio/transcriptions", {"model": "starter-whisper"}, sound))["text"]
        expect(words(heard) == words(sentence), f"(spoken) {sentence}", heard)


def draw(gateway: Gateway) -> bytes:
    """A PNG file of what DRAWN describes."""
    body = {
        "model": "starter-draw",
        "prompt": DRAWN[0],
        "seed": 1,
        "output_format": "png",
        "response_format": "b64_json",
    }
    return base64.b64decode(json.loads(gateway.post("/v1/images/generations", body))["data"][0]["b64_json"])


def examine_images(gateway: Gateway) -> None:
    """The corners are yellow, the middle is blue."""
    picture = decoded_png(draw(gateway))
    height, width = len(picture), len(picture[0])
    corners = [picture[y][x] for y in (2, height - 3) for x in (2, width - 3)]
    middle = picture[height // 2][width // 2]
    yellow = all(red > 150 and green > 120 and blue < 120 for red, green, blue in corners)
    expect(
        yellow and middle[2] > 120 and middle[2] > max(middle[:2]) + 40, DRAWN[0], f"middle {middle}, corners {corners}"
    )


def examine_vision(gateway: Gateway) -> None:
    """Squares of two colours are told apart."""
    for colour, name in ((RED, "red"), (BLUE, "blue")):
        answer = describe(gateway, encoded_png(square(colour)))
        expect({name, "square"} <= set(words(answer)), f"(shown) a {name} square", answer)


def examine_draw_and_describe(gateway: Gateway) -> None:
    """What is drawn is seen."""
    answer = describe(gateway, draw(gateway))
    expect(set(DRAWN[1:]) <= set(words(answer)), f"(drawn) {DRAWN[0]}", answer)


def describe(gateway: Gateway, png: bytes) -> str:
    """What starter-vision sees in a PNG file."""
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}
    return gateway.chat("starter-vision", [{"type": "text", "text": "What is in this picture?"}, shown])


def square(colour: tuple[int, int, int], side: int = 128) -> Picture:
    """A square in the middle of a white picture."""
    inside = range(side * 3 // 10, side * 7 // 10)
    return [[colour if x in inside and y in inside else WHITE for x in range(side)] for y in range(side)]


def encoded_png(picture: Picture) -> bytes:
    """A picture as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in picture)
    head = struct.pack(">IIBBBBB", len(picture[0]), len(picture), 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded_png(file: bytes) -> Picture:
    """The picture of a PNG file of 8 bits a channel, as pictures that are drawn are. Raises Wrong."""
    chunks = list(png_chunks(file))
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    if depth != 8 or colours not in (2, 6) or interlaced:
        raise Wrong(f"a PNG file of {depth} bits, colours {colours}, interlaced {interlaced}")
    step = 3 if colours == 2 else 4
    data = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    above, picture = bytes(width * step), []
    for start in range(0, height * (width * step + 1), width * step + 1):
        above = unfiltered(data[start], data[start + 1 : start + 1 + width * step], above, step)
        picture.append([(above[at], above[at + 1], above[at + 2]) for at in range(0, len(above), step)])
    return picture


def png_chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG file. Raises Wrong."""
    if not file.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Wrong("the picture is no PNG file")
    at = 8
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        yield file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        at += length + 12


def unfiltered(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """A row of a PNG file as it was before it was filtered."""
    done = bytearray(row)
    for at in range(len(row)):
        left = done[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        done[at] = (row[at] + (0, left, above[at], (left + above[at]) // 2, paeth(left, above[at], corner))[kind]) & 255
    return bytes(done)


def paeth(left: int, above: int, corner: int) -> int:
    """Whichever of the three is nearest to left + above - corner."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


EXAMS: tuple[tuple[str, tuple[str, ...], Callable[[Gateway], None]], ...] = (
    ("chat", ("starter-chat",), examine_chat),
    ("audio", ("starter-voice", "starter-whisper"), examine_audio),
    ("images", ("starter-draw",), examine_images),
    ("vision", ("starter-vision",), examine_vision),
    ("images and vision", ("starter-draw", "starter-vision"), examine_draw_and_describe),
)


def main() -> int:
    """Holds every exam whose models are there."""
    models = {name for name in os.environ["EXAM_MODELS"].split(",") if name}
    ends_at_s = time.monotonic() + float(os.environ["EXAM_SECONDS"])
    if not os.environ.get("EXAM_KEY"):
        print("there is no key to ask with: set tests.apiKeySecret")
        return 1
    gateway = Gateway(os.environ["EXAM_URL"], os.environ["EXAM_KEY"], ends_at_s)
    held, failed = 0, []
    for name, wanted, examine in EXAMS:
        if not models.issuperset(wanted):
            print(f"{name}: SKIPPED, since {' and '.join(sorted(set(wanted) - models))} is not served here", flush=True)
            continue
        print(f"{name}:", flush=True)
        held += 1
        try:
            examine(gateway)
        except (Wrong, KeyError, IndexError, ValueError) as error:
            failed.append(name)
            print(f"{name}: WRONG: {error or type(error).__name__}", flush=True)
    print(f"{held - len(failed)} of {held} right" + (f"; wrong: {', '.join(failed)}" if failed else ""))
    return 2 if not held else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
