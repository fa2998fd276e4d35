"""Links to stored pictures, as whoever asked for them can follow them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import Request

PATH = "/media/"

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,64}\](:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Links:
    """Makes links. They begin with `public_url`, where it is set, else with the address that the request was sent to.

    `trust_forwarded`: that address is what X-Forwarded-Host and X-Forwarded-Proto say, which only a proxy in front makes true.
    """

    public_url: str
    trust_forwarded: bool

    def to(self, token: str, request: Request) -> str:
        """The link to a picture."""
        return f"{self.public_url.rstrip('/') or self._origin(request)}{PATH}{token}"

    def _origin(self, request: Request) -> str:
        scheme, host = request.scope["scheme"], request.headers.get("host", "")
        if self.trust_forwarded:
            host = _first(request.headers.get("x-forwarded-host")) or host
            said = _first(request.headers.get("x-forwarded-proto")).lower()
            scheme = said if said in ("http", "https") else scheme
        if not _HOST.fullmatch(host):
            address, port = request.scope["server"]
            host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return f"{scheme}://{host}"


def _first(said: str | None) -> str:
    return (said or "").partition(",")[0].strip()
