"""The scheduler's settings; each field is the environment variable `TRENZA_SCHEDULER_<FIELD>`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trenza_scheduler.core.limits import Limits, limits_for


class SchedulerSettings(BaseSettings):
    """Where the scheduler listens, how much it lets wait, and how patient it is with replicas."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_SCHEDULER_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    grpc_port: int = Field(9091, ge=0, le=65535, description="gRPC port; 0 takes any free one.")
    metrics_port: int = Field(0, ge=-1, le=65535, description="Port of /metrics; 0 takes any free one, -1 serves none.")

    queue_limit: int = Field(
        1024, ge=1, le=65536, description="Tickets that may wait, all models together; more are refused."
    )
    wait_limit_s: float = Field(
        600.0, gt=0, le=86400, description="Longest that a ticket may wait, whatever it asks for itself."
    )
    heartbeat_interval_ms: int = Field(2000, ge=100, le=60000, description="How often replicas are asked to beat.")
    outbox_limit: int = Field(
        8192,
        ge=16,
        le=1048576,
        description="Answers that may wait for a gateway to read them; beyond that it is cut off.",
    )
    write_stall_s: float = Field(10.0, gt=0, description="How long a gateway may read nothing; then it is cut off.")
    drain_s: float = Field(
        20.0, ge=0, description="Longest that stopping may take; it takes far less unless somebody hangs."
    )

    def limits(self) -> Limits:
        """What the core is told of all this."""
        return limits_for(self.heartbeat_interval_ms / 1000, self.queue_limit, self.wait_limit_s)
