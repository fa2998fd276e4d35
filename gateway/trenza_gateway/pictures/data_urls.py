"""Data URLs with pictures in base64, decoded piece by piece so that nothing else has to wait long."""

from __future__ import annotations

import asyncio
import binascii
import re

from trenza_gateway.pictures.picture import PIECE_BYTES, BadPicture, EncodedPicture, TooLarge

BASE64_PIECE_CHARS = PIECE_BYTES // 3 * 4
"""Base64 that decodes into a piece; a multiple of four, so that pieces can be decoded one by one."""
LONGEST_HEAD_CHARS = 256

_HEAD = re.compile(r"data:(?P<type>[a-z]+/[a-z0-9.+-]+)?(;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_TYPES = re.compile(r"image/.+|application/octet-stream", re.IGNORECASE)
_SPACE = str.maketrans("", "", " \t\r\n")


async def picture_of_data_url(url: str, limit_bytes: int) -> EncodedPicture:
    """The picture in a data URL. Raises BadPicture."""
    head = _HEAD.match(url, 0, LONGEST_HEAD_CHARS)
    if head is None:
        raise BadPicture("A data URL must begin like 'data:image/png;base64,'.", "invalid_image_url")
    media_type = (head["type"] or "").lower()
    if media_type and not _TYPES.fullmatch(media_type):
        raise BadPicture(f"The data URL holds '{media_type}', which is no picture.", "invalid_image_url")
    return await picture_of_base64(url, limit_bytes, head.end(), media_type)


async def picture_of_base64(text: str, limit_bytes: int, start: int = 0, media_type: str = "") -> EncodedPicture:
    """The picture in the base64 that begins at `start`; line breaks in it do no harm. Raises BadPicture."""
    pieces: list[bytes] = []
    left, size_bytes = "", 0
    for position in range(start, len(text), BASE64_PIECE_CHARS):
        left += text[position : position + BASE64_PIECE_CHARS].translate(_SPACE)
        ready = len(left) // 4 * 4
        piece, left = _decoded(left[:ready]), left[ready:]
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            raise TooLarge(limit_bytes)
        if piece and pieces and len(pieces[-1]) % 3:
            raise _not_base64()  # what came before ended with padding
        if piece:
            pieces.append(piece)
        await asyncio.sleep(0)
    if left:
        raise _not_base64()
    if not pieces:
        raise BadPicture("The picture is empty.", "invalid_image")
    return EncodedPicture.of(pieces, media_type)


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # also what is not ASCII
        raise _not_base64() from None


def _not_base64() -> BadPicture:
    return BadPicture("The picture is not valid base64.", "invalid_base64")
