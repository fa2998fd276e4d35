"""Structured logs with request ids, as JSON lines or for people. What a request says is never logged."""

from __future__ import annotations

import contextvars
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("trenza_request_id", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


@contextmanager
def bind_request_id(request_id: str) -> Iterator[None]:
    """Puts the request's id on every log line of this task inside the block."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def current_request_id() -> str:
    """The id bound by `bind_request_id`, empty outside."""
    return _request_id.get()


def configure(component: str) -> None:
    """Sends all logs of the process to standard error; TRENZA_LOG_LEVEL and TRENZA_LOG_FORMAT (human, json) say how.

    Raises ValueError for a level or format that there is not.
    """
    level, style = os.environ.get("TRENZA_LOG_LEVEL", "info").upper(), os.environ.get("TRENZA_LOG_FORMAT", "human")
    if style not in ("human", "json"):
        raise ValueError(f"TRENZA_LOG_FORMAT is {style!r}; it can be human or json")
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"TRENZA_LOG_LEVEL is {level.lower()!r}; it can be debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component) if style == "json" else HumanFormatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if request_id := _request_id.get():
        fields.setdefault("request_id", request_id)
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, logger, event, and whatever fields the call gave."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """Time, level, component, event and fields, in one line for people."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        head = f"{_timestamp(record.created)} {record.levelname:<7} {self._component}"
        line = f"{head} {record.getMessage()}{fields}".replace("\n", "\\n")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _timestamp(created_s: float) -> str:
    milliseconds = int(created_s * 1000) % 1000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s)) + f".{milliseconds:03d}Z"
