"""Asks a gateway over HTTP, for the commands that need one."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from trenza.cli.errors import CommandError

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_S = 5.0
ANSWER_S = 600.0


def add_gateway_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--url`; the key comes from TRENZA_API_KEY only, since arguments are seen by every user of a machine."""
    url = os.environ.get("TRENZA_URL", DEFAULT_URL)
    parser.add_argument("--url", default=url, help=f"the gateway (default: $TRENZA_URL or {DEFAULT_URL})")


class GatewayApi:
    """The gateway at a URL. Every method raises CommandError."""

    def __init__(self, url: str) -> None:
        key = os.environ.get("TRENZA_API_KEY")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    def readiness(self) -> dict[str, Any]:
        """What /readyz says, whether it is ready or not."""
        with self._explained():
            return dict(self._http.get("/readyz").json())

    def models(self) -> list[dict[str, Any]]:
        """The models of the fleet."""
        with self._explained():
            response = self._http.get("/v1/models")
            self._require_success(response)
            return list(response.json()["data"])

    def chat(self, model: str, messages: list[dict[str, str]]) -> Generator[str, None, None]:
        """The pieces of an answer as they arrive."""
        body = {"model": model, "messages": messages, "stream": True}
        with self._explained(), self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if not response.is_success:
                response.read()
            self._require_success(response)
            yield from _pieces(response)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise CommandError(f"no gateway answers at {self._url}; is it running? (`trenza up` starts one)") from error
        except httpx.HTTPError as error:
            raise CommandError(f"{self._url}: {error or type(error).__name__}") from error
        except (ValueError, KeyError) as error:
            raise CommandError(f"what answers at {self._url} is no Trenza gateway") from error

    def _require_success(self, response: httpx.Response) -> None:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise CommandError("the gateway asks for an API key: set TRENZA_API_KEY")
        if not response.is_success:
            raise CommandError(_message_of(response.json()))


def _pieces(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise CommandError(_message_of(chunk))
            for choice in chunk["choices"]:
                yield choice["delta"].get("content") or ""
    raise CommandError("the gateway broke off the answer")


def _message_of(body: dict[str, Any]) -> str:
    return str(body["error"]["message"])
