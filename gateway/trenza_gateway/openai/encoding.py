"""JSON and SSE as bytes."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
"""A comment: clients skip it, proxies and time-outs see that the stream lives."""


def json_bytes(value: Any) -> bytes:
    """Compact JSON. Floats must be finite."""
    return to_json(value)


def event(payload: Any) -> bytes:
    """One server-sent event. JSON escapes line ends inside strings, so the payload is one line."""
    return b"data: " + to_json(payload) + b"\n\n"
