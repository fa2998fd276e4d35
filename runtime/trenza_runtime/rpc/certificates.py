"""A certificate, its key and the authorities to trust, read from files and read again when these change."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""How often the files are looked at, at most."""
_MAX_FILE_BYTES = 2**20
_HANDSHAKE_TURNS = 16
"""A handshake takes four; one that takes more does not end."""

_EXPIRES_AT = Gauge(
    "trenza_tls_certificate_expires_timestamp_seconds", "When the certificate in use ends, as Unix time.", ["use"]
)

Fingerprint = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """The files cannot be used; the message is one sentence that says which and why."""


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """Where the PEM files are. Without `authorities` the certificate is shown, and none is asked of the other side."""

    certificate: Path
    key: Path
    authorities: Path | None = None

    def all(self) -> tuple[Path, ...]:
        """Every file that there is."""
        return (
            (self.certificate, self.key) if self.authorities is None else (self.certificate, self.key, self.authorities)
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the files held at one time: PEM texts, the certificate's DNS names, its end as Unix time; `generation` counts
    from 1, one more whenever the files have changed. `context` serves the certificate with Python's own TLS."""

    certificate: bytes
    key: bytes
    authorities: bytes
    names: frozenset[str]
    expires_at_s: float
    context: ssl.SSLContext
    generation: int


class CertificateFiles:
    """The certificate in the files as it is now. A change that cannot be used keeps what was before, and is logged.

    `use` names it in logs and metrics. With authorities, the certificate has to be one that a peer with the same files would
    accept, as a server's and as a client's; otherwise it has to be valid today. Any thread may ask.
    """

    def __init__(
        self,
        paths: CertificatePaths,
        use: str,
        required_name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the files. Raises CertificateError where they cannot be used, or lack `required_name` if one is given."""
        self._paths = paths
        self._use = use
        self._required_name = required_name
        self._clock = clock
        self._lock = threading.Lock()
        self._complaint = ""
        self._seen = self._fingerprint()
        self._current = self._read(1)
        self._checked_at_s = clock()

    def current(self) -> Certificate:
        """The certificate to use from now on."""
        with self._lock:
            if self._clock() - self._checked_at_s >= CHECK_EVERY_S:
                self._refresh()
                self._checked_at_s = self._clock()
            return self._current

    def _refresh(self) -> None:
        try:
            seen = self._fingerprint()
            if seen == self._seen:
                self._complaint = ""
                return
            self._current = self._read(self._current.generation + 1)
            self._seen, self._complaint = seen, ""
            extra = {"use": self._use, "expires": _day(self._current.expires_at_s)}
            log.info("the certificate was renewed", extra=extra)
        except CertificateError as error:
            if str(error) != self._complaint:  # it is tried again every time, and told once
                self._complaint = str(error)
                log.error(
                    "the changed certificate cannot be used, the old one stays in use",
                    extra={"use": self._use, "why": str(error)},
                )

    def _fingerprint(self) -> Fingerprint:
        return tuple(_identity_of(path) for path in self._paths.all())

    def _read(self, generation: int) -> Certificate:
        before = self._fingerprint()
        texts = [_text_of(path) for path in self._paths.all()]
        context = _server_context(self._paths)
        shown = _as_peers_see_it(self._paths, texts[0])
        names = frozenset(value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS")
        if self._required_name and self._required_name not in names:
            listed = ", ".join(sorted(names)) or "no name at all"
            raise CertificateError(
                f"{self._paths.certificate} is a certificate for {listed}; here it has to be for {self._required_name}"
            )
        if self._fingerprint() != before:  # Python's TLS reads files by itself, perhaps others than were read above
            raise CertificateError(f"{self._paths.certificate} or what belongs to it changed while it was read")
        expires_at_s = float(ssl.cert_time_to_seconds(str(shown["notAfter"])))
        _EXPIRES_AT.labels(self._use).set(expires_at_s)
        authorities = texts[2] if self._paths.authorities else b""
        return Certificate(texts[0], texts[1], authorities, names, expires_at_s, context, generation)


def _identity_of(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _text_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from error
    if len(text) > _MAX_FILE_BYTES:
        raise CertificateError(f"{path} is larger than {_MAX_FILE_BYTES} bytes, which no certificate is")
    return text


def _server_context(paths: CertificatePaths) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, paths)
    return context


def _load_chain(context: ssl.SSLContext, paths: CertificatePaths) -> None:
    try:
        context.load_cert_chain(
            paths.certificate, paths.key, password=lambda: ""
        )  # nobody is there to be asked for one
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(
                f"the key {paths.key} does not belong to the certificate {paths.certificate}"
            ) from error
        raise CertificateError(
            f"{paths.certificate} and {paths.key} are no certificate and unencrypted key in PEM"
        ) from error
    except OSError as error:
        raise CertificateError(f"{paths.certificate} or {paths.key}: {error.strerror}") from error


def _as_peers_see_it(paths: CertificatePaths, certificate: bytes) -> dict[str, Any]:
    """The certificate's fields, from a handshake with itself in memory: whatever a peer would mind shows here."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), _server_context(paths)
    client.check_hostname = False
    if paths.authorities is None:
        client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(cadata=_first_certificate(certificate))
    else:
        _load_chain(client, paths)
        server.verify_mode = ssl.CERT_REQUIRED
        for context in (client, server):
            _trust(context, paths.authorities)
    try:
        return _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"{paths.certificate} would be refused by others: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise CertificateError(f"{paths.certificate} cannot be used: {error.reason or error}") from error


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:
        raise CertificateError(f"{authorities} holds no certificate in PEM") from error
    except OSError as error:
        raise CertificateError(f"{authorities}: {error.strerror}") from error


def _first_certificate(chain: bytes) -> str:
    end = "-----END CERTIFICATE-----"
    first, found, _ = chain.decode("ascii", errors="replace").partition(end)
    begin = first.rfind("-----BEGIN CERTIFICATE-----")
    return first[begin:] + found + "\n"


def _shake_hands(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> dict[str, Any]:
    """What the client gets to see of the server. Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(_HANDSHAKE_TURNS):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            return dict(client.getpeercert() or {})
    raise ssl.SSLError("the handshake does not end")


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
