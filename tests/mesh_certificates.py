"""Authorities and certificates for tests, and folders of them that change as Kubernetes changes a mounted Secret."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
ALL_ROLES = ("gateway", "scheduler", "chat", "audio", "vision", "images")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key in PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority that lives as long as the test; `pem` is its own certificate."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(self._name, self._key, -DAY, DAY).subject_name(self._name)
        usage = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, expired: bool = False, key: Key | None = None, password: bytes = b"") -> Leaf:
        """A certificate for DNS names, valid today or until yesterday."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        begin, end = (-2 * DAY, -DAY) if expired else (-DAY, DAY)
        wanted = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        made = _builder(self._name, key, begin, end).subject_name(x509.Name([])).add_extension(wanted, critical=True)
        hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return Leaf(
            made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden),
        )

    def roles(self, *roles: str, expired: bool = False) -> Leaf:
        """A certificate for components of the mesh."""
        return self.issue(*(f"{role}.trenza.mesh" for role in roles), expired=expired)


def _builder(
    issuer: x509.Name, key: Key, begin: datetime.timedelta, end: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(issuer_name=issuer, public_key=key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now + begin).not_valid_after(now + end)


class SecretMount:
    """A mounted Secret: `tls.crt` and so on are links into `..data`, a link to a folder that is swapped for another at once."""

    def __init__(self, folder: Path, leaf: Leaf, authorities: bytes = b"") -> None:
        self.folder = folder
        self._versions = itertools.count(1)
        folder.mkdir(parents=True)
        self.put(leaf, authorities)

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def authorities(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process of the mesh that has this mounted."""
        return {
            "TRENZA_TLS_CERT_FILE": str(self.certificate),
            "TRENZA_TLS_KEY_FILE": str(self.key),
            "TRENZA_TLS_CA_FILE": str(self.authorities),
        }

    def put(self, leaf: Leaf, authorities: bytes = b"") -> None:
        """Swaps in another certificate, all files at one time."""
        self.put_files({"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authorities})

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Swaps in other files, whatever they are."""
        version = self.folder / f"..{next(self._versions)}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        draft = self.folder / "..data_tmp"
        draft.symlink_to(version.name)
        os.replace(draft, self.folder / "..data")
