"""Tells by a file's bytes what it is and how large a picture it claims to hold; decodes nothing."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal, TypeAlias

PictureFormat: TypeAlias = Literal["PNG", "JPEG", "WEBP", "GIF"]
Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

_SCAN = b"\xff\xda"
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F

_STRANGERS: Mapping[bytes, str] = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"%PDF": "a PDF document",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"\0\0\x01\0": "an icon",
    b"8BPS": "a Photoshop document",
    b"\x1f\x8b": "a gzip archive",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
_BRANDS: Mapping[bytes, str] = {
    b"avif": "an AVIF picture",
    b"avis": "an AVIF picture",
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIF picture",
}


def picture_format(data: bytes) -> PictureFormat | None:
    """The format that the file's content has, whatever its name; None for all others."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return None


def stranger(data: bytes) -> str:
    """What a file is that is none of those formats, for people: "a PDF document"; "" where that is not known."""
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return _BRANDS[data[8:12]]
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((name for magic, name in _STRANGERS.items() if start.startswith(magic)), "")


def stated_size(data: bytes, form: PictureFormat) -> Size | None:
    """Width and height that the header states; None where it is broken off or makes no sense."""
    try:
        match form:
            case "PNG":
                return struct.unpack(">II", data[16:24]) if data[12:16] == b"IHDR" else None
            case "GIF":
                return struct.unpack("<HH", data[6:10])
            case "WEBP":
                return _webp_size(data)
            case "JPEG":
                return _jpeg_size(data)
    except (struct.error, IndexError):
        return None


def jpeg_scans(data: bytes) -> int:
    """At least as many passes over its pixels as the JPEG file asks for; inside a scan's data this marker cannot occur."""
    return data.count(_SCAN)


def _webp_size(data: bytes) -> Size | None:
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L" if data[20] == _VP8L_START:
            (bits,) = struct.unpack("<I", data[21:25])
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 " if data[23:26] == _VP8_START:
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None


def _jpeg_size(data: bytes) -> Size | None:
    """Walks from segment to segment up to the frame's header; every turn goes at least one byte on."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _MARKERS_WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            (length,) = struct.unpack(">H", data[at + 2 : at + 4])
            at += 2 + length
    return None
