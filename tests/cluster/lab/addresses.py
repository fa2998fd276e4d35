"""Loopback addresses that one run of the laboratory has for itself, so that several may run on one machine."""

from __future__ import annotations

import socket

LOCK_PORT = 65000


class Loopback:
    """The network 127.n.0.0/16, n from 100 to 199; it is this run's as long as a socket in it is held."""

    def __init__(self) -> None:
        for self.number in range(100, 200):
            self._lock = socket.socket()
            try:
                self._lock.bind((f"127.{self.number}.255.254", LOCK_PORT))
            except OSError:
                self._lock.close()
            else:
                return
        raise OSError("every loopback network from 127.100 to 127.199 is taken")

    def pod(self, group: int, number: int) -> str:
        """The address that a pod's status says; where it really is says `local`."""
        return f"10.{self.number}.{group}.{number}"

    def service(self, group: int, number: int) -> str:
        """The address at which a Service is served."""
        return f"127.{self.number}.{128 + group}.{number}"

    def close(self) -> None:
        self._lock.close()


def local(address: str) -> str:
    """The loopback address that stands for a pod's address."""
    return address.replace("10.", "127.", 1)
