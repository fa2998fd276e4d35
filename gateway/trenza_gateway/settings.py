"""The gateway's settings, from environment variables that begin with TRENZA_GATEWAY_."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trenza_gateway.auth.access import is_loopback
from trenza_gateway.pictures.addresses import Network

MIB = 2**20


class Settings(BaseSettings):
    """Each field is a variable: `http_port` is TRENZA_GATEWAY_HTTP_PORT. Names end in their unit."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_GATEWAY_", extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on. Any that is not loopback needs API keys.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="0 takes any free port.")
    grpc_port: int = Field(default=9090, ge=0, le=65535, description="0 takes any free port.")
    metrics_port: int = Field(
        default=-1, ge=-1, le=65535, description="A port of its own for /metrics; 0 takes any free one, -1 has none."
    )
    health_port: int = Field(
        default=-1,
        ge=-1,
        le=65535,
        description="Port of grpc.health.v1 in the clear, for probes; 0 takes any free one, -1 serves none.",
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM: certificate that clients are shown, over HTTP and gRPC; in the clear if unset."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM: its key, not encrypted.")
    scheduler_address: str = Field(default="127.0.0.1:9091", description="host:port of the scheduler.")
    gateway_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="Unique among the gateways of one scheduler.",
    )
    api_keys_file: Path | None = Field(default=None, description="Lines `name:sha256`, as `trenza keys` writes them.")

    body_limit_bytes: int = Field(default=16 * MIB, ge=1024, description="Largest request body; more is 413.")
    bodies_limit_bytes: int = Field(
        default=256 * MIB, ge=1024, description="Bodies of all running requests together; more is 503."
    )
    body_read_s: float = Field(default=60, gt=0, description="Until a request's body must have arrived; later is 408.")
    audio_limit_bytes: int = Field(default=25 * MIB, ge=1024, description="Largest sound to transcribe; more is 413.")
    image_limit_bytes: int = Field(
        default=64 * MIB, ge=1024, description="Pictures of one edit or variation together; more is 413."
    )
    uploads_limit_bytes: int = Field(
        default=4096 * MIB,
        ge=1024,
        description="Uploads of all running requests together, in temporary files; more is 503.",
    )
    upload_read_s: float = Field(default=600, gt=0, description="Until an upload must have arrived; later is 408.")
    picture_limit: int = Field(default=16, ge=1, le=1000, description="Pictures in one conversation.")
    picture_limit_bytes: int = Field(
        default=20 * MIB, ge=1024, description="Largest picture in a conversation; more is 413."
    )
    pictures_limit_bytes: int = Field(
        default=32 * MIB,
        ge=1024,
        description="Pictures of one conversation together; more is 413. Its body may be larger by what they take in base64.",
    )
    picture_urls: bool = Field(
        default=False,
        description="Fetch pictures that conversations name by http and https URLs; otherwise they are 400.",
    )
    picture_url_s: float = Field(default=10, gt=0, description="Until a picture must have been fetched; later is 400.")
    picture_url_ports: str = Field(
        default="80,443", pattern=r"^\d{1,5}(,\d{1,5})*$", description="Ports that pictures may be fetched from."
    )
    picture_url_networks: str = Field(
        default="",
        description=(
            "Networks such as `10.1.0.0/16`, separated by commas, that pictures may be fetched from although they are not public."
        ),
    )
    answer_limit_bytes: int = Field(
        default=256 * MIB,
        ge=1024,
        description="Pictures of one answer, gathered in memory; more is 502. Base64 adds a third.",
    )
    answers_limit_bytes: int = Field(
        default=1024 * MIB, ge=1024, description="Pictures of all answers that are being gathered; more is 503."
    )
    head_read_s: float = Field(
        default=10, gt=0, description="Until a request's head must have arrived; later the connection is closed."
    )
    keep_alive_s: int = Field(default=75, ge=1, description="How long an idle connection is kept.")
    write_stall_s: float = Field(
        default=30, gt=0, description="How long a client may leave its answer unread before it is cut off."
    )
    connection_limit: int = Field(
        default=4096, ge=1, description="HTTP connections at one time; more are answered 503 and closed."
    )
    request_limit: int = Field(
        default=2048, ge=1, description="HTTP requests at one time, waiting ones included; more are 503."
    )

    media_store: Literal["folder", "s3"] = Field(
        default="folder",
        description="Where pictures are kept for the response_format url; several gateways share an s3.",
    )
    media_lifetime_s: float = Field(
        default=3600, ge=1, le=30 * 86_400, description="How long the link to a picture works; then it is deleted."
    )
    media_folder: Path | None = Field(
        default=None,
        description="Folder of the store `folder`; one of this user's own among the temporary files if unset.",
    )
    media_limit_bytes: int = Field(
        default=1024 * MIB,
        ge=1024,
        description="Pictures in the folder together; more is 503. A bucket has no such limit.",
    )
    media_s3_bucket: str = Field(default="", description="Bucket of the store `s3`.")
    media_s3_prefix: str = Field(default="trenza/", max_length=512, description="What keys in the bucket begin with.")
    media_s3_endpoint: str = Field(
        default="",
        description="URL of an S3-compatible server; Amazon's own if unset. Credentials: AWS_ACCESS_KEY_ID etc.",
    )
    media_public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="What links to pictures begin with; the address that a request was sent to if unset.",
    )
    media_trust_forwarded: bool = Field(
        default=False, description="Take that address from X-Forwarded-Host and -Proto, behind a proxy that sets them."
    )

    request_s: float = Field(default=600, gt=0, description="Longest that a request may take in all; then 504.")
    queue_wait_s: float = Field(default=300, gt=0, description="Longest that a request may wait for a place; then 503.")
    silence_s: float = Field(
        default=10, gt=0, description="After so long without a token a stream begins with keep-alive comments."
    )
    attempt_limit: int = Field(default=3, ge=1, le=10, description="Replicas that are tried before a request fails.")
    drain_s: float = Field(default=20, ge=0, description="How long running requests may take to finish after SIGTERM.")
    notice_s: float = Field(
        default=0,
        ge=0,
        description="How long /readyz says no before the port closes, so that load balancers see it; requests are served on.",
    )

    def complaint(self) -> str | None:
        """Why the gateway must not start like this, in one line; None when it may."""
        if self.api_keys_file is None and not is_loopback(self.host):
            return (
                f"TRENZA_GATEWAY_HOST={self.host} can be reached from other machines, which needs API keys: make one with "
                "`trenza keys create NAME --file FILE` and set TRENZA_GATEWAY_API_KEYS_FILE=FILE, or listen on 127.0.0.1."
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            return "TRENZA_GATEWAY_TLS_CERT_FILE and TRENZA_GATEWAY_TLS_KEY_FILE are set both or not at all."
        try:
            self.fetch_networks()
        except ValueError as error:
            return f"TRENZA_GATEWAY_PICTURE_URL_NETWORKS: {error}"
        return None

    def fetch_networks(self) -> list[Network]:
        """The networks of `picture_url_networks`. Raises ValueError."""
        return [ip_network(text.strip()) for text in self.picture_url_networks.split(",") if text.strip()]

    def fetch_ports(self) -> frozenset[int]:
        """The ports of `picture_url_ports`."""
        return frozenset(int(text) for text in self.picture_url_ports.split(","))
