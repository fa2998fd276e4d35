"""Decides from a request's Authorization whose it is."""

from __future__ import annotations

import ipaddress

from trenza_gateway.auth.keys import KeyFile

ANONYMOUS = "anonymous"
"""The tenant of every request where no keys are asked for."""


class Access:
    """Whose requests are let in: those of the keys' owners, or everybody's where there is no file of keys."""

    def __init__(self, keys: KeyFile | None) -> None:
        self._keys = keys

    def tenant(self, authorization: str | None) -> str | None:
        """The name of the key in `Bearer <key>`; None when the request is not to be let in."""
        if self._keys is None:
            return ANONYMOUS
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        return self._keys.owner(key.strip())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there. Names other than localhost are taken for not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
