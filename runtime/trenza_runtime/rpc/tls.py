"""The mesh's TLS: which files hold its material, and channels and servers that follow when these files change."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from pathlib import Path

import grpc
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trenza_runtime.lifecycle import StartError, read_settings
from trenza_runtime.rpc.certificates import (
    CHECK_EVERY_S,
    Certificate,
    CertificateError,
    CertificateFiles,
    CertificatePaths,
)
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.peers import identity

log = logging.getLogger(__name__)


class TlsSettings(BaseSettings):
    """Where the material of the mesh is; each field is the environment variable `TRENZA_TLS_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_TLS_", extra="ignore", env_ignore_empty=True)

    cert_file: Path | None = Field(
        None,
        description="PEM: this process's certificate, with the DNS name `<component>.trenza.mesh`, and its intermediates.",
    )
    key_file: Path | None = Field(None, description="PEM: its key, not encrypted.")
    ca_file: Path | None = Field(None, description="PEM: the authorities whose certificates other processes may show.")

    def paths(self) -> CertificatePaths | None:
        """The three files, None where none is named. Raises StartError where only some are."""
        if self.cert_file and self.key_file and self.ca_file:
            return CertificatePaths(self.cert_file, self.key_file, self.ca_file)
        if self.cert_file or self.key_file or self.ca_file:
            raise StartError(
                "TRENZA_TLS_CERT_FILE, TRENZA_TLS_KEY_FILE and TRENZA_TLS_CA_FILE are set all three or not at all."
            )
        return None


class Transport:
    """How a process reaches the others and is reached: in the clear, or with mutual TLS by the material in the files."""

    def __init__(self, files: CertificateFiles | None = None) -> None:
        self._files = files

    @property
    def secured(self) -> bool:
        """Whether both ends of every connection show a certificate."""
        return self._files is not None

    @property
    def generation(self) -> int:
        """Rises when the material has changed: what was opened before should be opened anew. 0 in the clear."""
        return 0 if self._files is None else self._files.current().generation

    async def renewal(self, generation: int) -> None:
        """Returns once the material is of another generation; in the clear, never."""
        if self._files is None:
            await asyncio.Event().wait()
        while self.generation == generation:  # noqa: ASYNC110  a file system tells of no change by itself
            await asyncio.sleep(CHECK_EVERY_S)

    def open_channel(self, address: str, role: str) -> grpc.aio.Channel:
        """A channel as `rpc.channel.open_channel`'s, to the component that has the role and no other."""
        if self._files is None:
            return open_channel(address)
        return open_channel(address, channel_credentials(self._files.current()), identity(role))

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """For an RpcServer; None in the clear."""
        return None if self._files is None else server_credentials(self._files, client_certificates=True)


def read_transport(role: str = "") -> Transport:
    """The transport that the environment asks for, for a process whose certificate has to name the role, if one is given.

    Raises StartError when the material cannot be used.
    """
    paths = read_settings(TlsSettings).paths()
    if paths is None:
        return Transport()
    try:
        return Transport(CertificateFiles(paths, "mesh", identity(role) if role else ""))
    except CertificateError as error:
        raise StartError(f"TRENZA_TLS_CERT_FILE, _KEY_FILE and _CA_FILE cannot be used: {error}.") from error


def start_transport(role: str, host: str) -> Transport:
    """As `read_transport`, for a process that is about to listen on `host`; logs whether connections will be secured."""
    transport = read_transport(role)
    if transport.secured:
        log.info("mTLS is ON: peers without a certificate of the mesh are refused", extra={"identity": identity(role)})
    elif _is_loopback(host):
        log.info("mTLS is OFF: connections between processes are in the clear, on this machine only")
    else:
        log.warning(
            "mTLS is OFF: whoever reaches this address can call this process; TRENZA_TLS_CERT_FILE turns it on",
            extra={"host": host},
        )
    return transport


def channel_credentials(certificate: Certificate) -> grpc.ChannelCredentials:
    """For a channel that shows the certificate and trusts its authorities."""
    return grpc.ssl_channel_credentials(certificate.authorities, certificate.key, certificate.certificate)


def server_credentials(files: CertificateFiles, client_certificates: bool) -> grpc.ServerCredentials:
    """For a server that shows what the files hold when a connection begins; whether it asks for a certificate in turn."""
    shown = files.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        current = files.current()
        if current is shown:
            return None
        shown = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        renewed,  # type: ignore[arg-type]  # None, which leaves all as it is, is missing from the stubs
        require_client_authentication=client_certificates,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.certificate)], root_certificates=certificate.authorities or None
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
