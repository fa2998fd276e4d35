"""Which URLs of pictures are fetched at all, judged before anything is asked of anybody."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from trenza_gateway.pictures.picture import BadPicture

MAX_URL_CHARS = 4096

_PORTS = {"http": 80, "https": 443}
_HARMLESS = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a picture is. `target` is what the request line asks for, `host` has no brackets."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The location as a URL."""
        return f"http{'s' if self.secure else ''}://{self.authority}{self.target}"


def location_of(url: str, ports: Collection[int]) -> Location:
    """Where a URL points. Raises BadPicture unless it is http or https, without credentials, and at one of these ports."""
    if len(url) > MAX_URL_CHARS:
        raise _bad(f"The URL must be at most {MAX_URL_CHARS} characters long.")
    if not _HARMLESS.fullmatch(url) or "\\" in url:
        raise _bad("The URL has characters that must be percent-encoded.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad("This is no URL.") from None
    if parts.scheme not in _PORTS:
        raise _bad("The URL must begin with https:// or http://, or be a data URL ('data:image/png;base64,…').")
    if "@" in parts.netloc:
        raise _bad("The URL must not have a user name or password in it.")
    host = (parts.hostname or "").rstrip(".")
    if not _HOST.fullmatch(host):
        raise _bad("The URL has no proper host name.")
    if port is None:
        port = _PORTS[parts.scheme]
    if port not in ports:
        raise _bad(f"Pictures are not fetched from port {port}.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Location(parts.scheme == "https", host, port, target)


def redirected(location: Location, said: str, ports: Collection[int]) -> Location:
    """Where a redirect from a location leads. Raises BadPicture as `location_of` does, and for one from https to http."""
    try:
        url = urljoin(location.url, said)
    except ValueError:
        raise _bad("The URL leads to one that makes no sense.") from None
    found = location_of(url, ports)
    if location.secure and not found.secure:
        raise _bad("The URL leads from https to http.")
    return found


def _bad(message: str) -> BadPicture:
    return BadPicture(message, "invalid_image_url")
