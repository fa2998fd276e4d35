"""The scheduler's settings; each field is the environment variable `TRENZA_SCHEDULER_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.core.limits import Limits, limits_for
from trenza_scheduler.translate import MODALITIES, MODELS_LIMIT, NAME_LIMIT

SLOTS_LIMIT = 65_536
"""The most slots that a model may be said to have on one replica."""


class SchedulerSettings(BaseSettings):
    """Where the scheduler listens, how much it lets wait, and how patient it is with replicas."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_SCHEDULER_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    grpc_port: int = Field(9091, ge=0, le=65535, description="gRPC port; 0 takes any free one.")
    metrics_port: int = Field(0, ge=-1, le=65535, description="Port of /metrics; 0 takes any free one, -1 serves none.")
    health_port: int = Field(
        -1,
        ge=-1,
        le=65535,
        description="Port of grpc.health.v1 in the clear, for probes; 0 takes any free one, -1 serves none.",
    )

    queue_limit: int = Field(
        1024, ge=1, le=65536, description="Tickets that may wait, all models together; more are refused."
    )
    wait_limit_s: float = Field(
        600.0, gt=0, le=86400, description="Longest that a ticket may wait, whatever it asks for itself."
    )
    expected_models: str = Field(
        "",
        description="Models that may be scaled to zero, as `modality/model[:slots of one replica]`, separated by commas: "
        "requests for them wait for a replica to come up, their demand is a metric from the start, and gateways list them.",
    )
    absence_wait_s: float = Field(
        10.0,
        ge=0,
        le=86400,
        description="How long tickets wait for a model whose last replica has gone; for an expected one they wait as long as "
        "they may.",
    )
    load_patience_s: float = Field(
        10.0,
        ge=0,
        le=86400,
        description="How long a ticket leaves loaded models in peace before it makes a replica load its own.",
    )
    activity_hold_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        description="How long KEDA is told that a model is active after its last demand; more than KEDA's polling interval.",
    )
    heartbeat_interval_ms: int = Field(2000, ge=100, le=60000, description="How often replicas are asked to beat.")
    suspect_after_beats: float = Field(
        2.5,
        ge=1.5,
        le=100,
        description="Heartbeat intervals of silence after which a replica gets nothing new (at least one and a second).",
    )
    dead_after_beats: float = Field(
        10.0,
        ge=3,
        le=1000,
        description="Heartbeat intervals of silence after which a replica is forgotten (at least 10 s, and twice what makes it "
        "suspect).",
    )
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

    @field_validator("expected_models")
    @classmethod
    def _readable(cls, text: str) -> str:
        expected_models(text)
        return text

    def expected(self) -> Mapping[ModelKey, int]:
        """The expected models, with the slots of one replica; 0 where those are not given."""
        return expected_models(self.expected_models)

    def limits(self) -> Limits:
        """What the core is told of all this."""
        limits = limits_for(
            self.heartbeat_interval_ms / 1000,
            self.queue_limit,
            self.wait_limit_s,
            suspect_after_beats=self.suspect_after_beats,
            dead_after_beats=self.dead_after_beats,
        )
        return replace(
            limits,
            absence_wait_s=self.absence_wait_s,
            load_patience_s=self.load_patience_s,
            activity_hold_s=self.activity_hold_s,
        )


def expected_models(text: str) -> dict[ModelKey, int]:
    """Reads `modality/model[:slots]`, separated by commas. Raises ValueError with a sentence.

    A model's name may have slashes and colons; whole digits behind the last colon are the slots. Of a model that is there twice,
    as one of two unlike pools is, the larger figure counts.
    """
    words = {word: number for number, word in MODALITIES.items()}
    models: dict[ModelKey, int] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        modality, _, rest = item.partition("/")
        name, colon, tail = rest.rpartition(":")
        name, slots = (name, int(tail)) if colon and tail.isascii() and tail.isdigit() else (rest, 0)
        if modality not in words or not 0 < len(name) <= NAME_LIMIT:
            raise ValueError(f"'{item}' is not of the form modality/model[:slots], with one of {', '.join(words)}.")
        if slots > SLOTS_LIMIT:
            raise ValueError(f"'{item}' has more than {SLOTS_LIMIT} slots.")
        key = ModelKey(words[modality], name)
        models[key] = max(slots, models.get(key, 0))
    if len(models) > MODELS_LIMIT:
        raise ValueError(f"More than {MODELS_LIMIT} models are too many.")
    return models
