"""Settings of the chat service; each field is the environment variable `TRENZA_CHAT_<FIELD>`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _usable_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))


class ChatSettings(BaseSettings):
    """Where the service listens, what it serves and how much it takes on."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_CHAT_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    grpc_port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 takes any free one.")
    metrics_port: int = Field(0, ge=-1, le=65535, description="Port of /metrics; 0 takes any free one, -1 serves none.")
    advertise_address: str = Field("", description="host:port under which gateways reach this replica; empty: where it listens.")
    replica_id: str = Field(
        default_factory=lambda: f"chat-{socket.gethostname()}-{os.getpid()}",
        description="Name of this replica, unique in the fleet and stable over restarts of one place (a pod's name).",
    )
    pool: str = Field("", description="Name of the set of like replicas this one scales with.")
    scheduler_address: str = Field("127.0.0.1:9091", description="host:port of the scheduler.")

    models_root: Path = Field(Path("models/starter"), description="Folder with one folder per model.")
    preload: str = Field(
        "auto",
        description="Models to load at start and keep, separated by commas; `auto` is the only model there is, `none` is none.",
    )
    max_loaded_models: int = Field(3, ge=1, le=64, description="Models in memory at once; idle ones make room.")

    slots: int = Field(4, ge=1, le=256, description="Requests a model runs together.")
    queue_limit: int = Field(32, ge=0, le=4096, description="Requests that may wait for a slot of a model on this replica.")
    context_length: int = Field(0, ge=0, description="Tokens per request, prompt and answer; 0 takes the model's own, at most 4096.")
    batch_tokens: int = Field(512, ge=32, le=16384, description="Tokens computed in one step at most.")
    threads: int = Field(default_factory=_usable_cores, ge=1, le=512, description="CPU threads of a model.")
    gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 takes all where there is a GPU.")

    request_limit_s: float = Field(600.0, gt=0, description="Longest time one request may run where its deadline is later or missing.")
    drain_s: float = Field(20.0, ge=0, description="Time that running requests get to finish when the service is told to stop.")
