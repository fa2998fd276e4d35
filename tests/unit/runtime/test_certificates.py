"""Certificates in files: which are refused and in which words, and what happens when the files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from mesh_certificates import Authority, Leaf, SecretMount
from trenza_runtime.rpc.certificates import CertificateError, CertificateFiles, CertificatePaths

CHAT = "chat.trenza.mesh"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def later(self) -> None:
        self.now_s += 2


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def mount(tmp_path: Path, authority: Authority) -> SecretMount:
    return SecretMount(tmp_path / "secret", authority.issue(CHAT, "other.example"), authority.pem)


def paths(mount: SecretMount) -> CertificatePaths:
    return CertificatePaths(mount.certificate, mount.key, mount.authorities)


def test_what_is_read(mount: SecretMount, authority: Authority) -> None:
    current = CertificateFiles(paths(mount), "mesh", CHAT).current()
    assert current.names == {CHAT, "other.example"}
    assert current.authorities == authority.pem
    assert current.certificate == mount.certificate.read_bytes()
    assert current.key == mount.key.read_bytes()
    assert current.generation == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a, m: m.key.unlink(), "No such file"),
        (
            lambda a, m: m.put_files({"tls.crt": b"", "tls.key": b"", "ca.crt": b""}),
            "no certificate and unencrypted key",
        ),
        (lambda a, m: m.put(Leaf(b"nonsense", a.issue(CHAT).key), a.pem), "no certificate and unencrypted key"),
        (lambda a, m: m.put(Leaf(a.issue(CHAT).certificate, a.issue(CHAT).key), a.pem), "does not belong to"),
        (lambda a, m: m.put(a.issue(CHAT, password=b"secret"), a.pem), "unencrypted key"),
        (lambda a, m: m.put(a.issue(CHAT, expired=True), a.pem), "expired"),
        (lambda a, m: m.put(a.issue(CHAT), Authority("another").pem), "local issuer"),
        (lambda a, m: m.put(a.issue(CHAT), b"nonsense"), "ca.crt holds no certificate"),
        (
            lambda a, m: m.put(a.issue("gateway.trenza.mesh"), a.pem),
            "for gateway.trenza.mesh; here it has to be for chat",
        ),
        (lambda a, m: m.put(a.issue(CHAT), b"#" * (2**20 + 1)), "larger than"),
    ],
)
def test_what_is_refused(
    mount: SecretMount, authority: Authority, spoil: Callable[[Authority, SecretMount], None], words: str
) -> None:
    spoil(authority, mount)
    with pytest.raises(CertificateError, match=words) as caught:
        CertificateFiles(paths(mount), "mesh", CHAT)
    assert "\n" not in str(caught.value)
    assert str(mount.folder) in str(caught.value)


def test_a_renewal_is_seen_but_not_looked_for_at_every_call(mount: SecretMount, authority: Authority) -> None:
    clock = Clock()
    files = CertificateFiles(paths(mount), "mesh", CHAT, clock)
    first = files.current()
    renewed = authority.issue(CHAT)
    mount.put(renewed, authority.pem)
    assert files.current() is first
    clock.later()
    assert files.current().certificate == renewed.certificate
    assert files.current().generation == 2
    clock.later()
    assert files.current().generation == 2


def test_a_renewal_that_cannot_be_used_changes_nothing_and_is_told_once(
    mount: SecretMount, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    files = CertificateFiles(paths(mount), "mesh", CHAT, clock)
    first = files.current()
    for spoilt in (Leaf(b"half", b"written"), authority.issue(CHAT, expired=True)):
        caplog.clear()
        mount.put(spoilt, authority.pem)
        for _ in range(3):
            clock.later()
            assert files.current() is first
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
    mount.put(authority.issue(CHAT), authority.pem)
    clock.later()
    assert files.current().generation == 2


def test_files_that_are_written_one_after_the_other_are_taken_once_they_fit(
    tmp_path: Path, authority: Authority
) -> None:
    clock = Clock()
    old, new = authority.issue(CHAT), authority.issue(CHAT)
    at = CertificatePaths(tmp_path / "c", tmp_path / "k", tmp_path / "a")
    for path, text in zip(at.all(), (old.certificate, old.key, authority.pem), strict=True):
        path.write_bytes(text)
    files = CertificateFiles(at, "mesh", CHAT, clock)
    at.certificate.write_bytes(new.certificate)
    clock.later()
    assert files.current().certificate == old.certificate
    at.key.write_bytes(new.key)
    clock.later()
    assert files.current().certificate == new.certificate


def test_without_authorities_any_certificate_that_is_valid_today_will_do(tmp_path: Path, authority: Authority) -> None:
    mount = SecretMount(tmp_path / "front", authority.issue("api.example"))
    files = CertificateFiles(CertificatePaths(mount.certificate, mount.key), "front_door")
    assert files.current().names == {"api.example"}
    mount.put(authority.issue("api.example", expired=True))
    with pytest.raises(CertificateError, match="expired"):
        CertificateFiles(CertificatePaths(mount.certificate, mount.key), "front_door")


async def test_the_context_serves_python_too_and_the_kind_of_key_may_change(
    tmp_path: Path, authority: Authority
) -> None:
    mount = SecretMount(tmp_path / "front", authority.issue("localhost"))
    clock = Clock()
    files = CertificateFiles(CertificatePaths(mount.certificate, mount.key), "front_door", clock=clock)
    mount.put(authority.issue("localhost", key=rsa.generate_private_key(65537, 2048)))
    clock.later()
    context = files.current().context
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
        assert await reader.read() == b""
        writer.close()
