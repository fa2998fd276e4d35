"""How much the scheduler takes on, and how long it waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the core. Times are seconds."""

    queue_tickets: int = 1024
    """Tickets that may wait, all models together."""
    longest_wait_s: float = 600.0
    """Longest wait, whatever a ticket asks for itself."""
    position_interval_s: float = 0.5
    """Shortest time between two rounds of telling tickets their positions."""

    heartbeat_interval_s: float = 2.0
    suspect_after_s: float = 5.0
    """Silence after which nothing new is sent to a replica."""
    dead_after_s: float = 20.0
    """Silence after which it is forgotten."""
    flap_window_s: float = 60.0
    """How long a suspicion counts against a replica that comes back."""
    longest_probation_intervals: int = 5
    """Heartbeat intervals that the least reliable replica has to beat without a break before it is trusted again."""
    stall_s: float = 1.0
    """A tick that is later than this was held up here; replicas are not blamed for the time."""

    settle_s: float = 4.0
    """Time after the start in which a replica that the scheduler has not heard of may still turn up."""
    absence_wait_s: float = 10.0
    """How long tickets wait for a model whose last replica has gone; then they are refused. For an expected one they wait on."""
    absence_memory_s: float = 3600.0
    """How long it is remembered that there was such a model."""
    absent_models: int = 4096

    load_patience_s: float = 10.0
    """How long a ticket waits for others to be served, or for a loaded replica, before it makes a replica load its model."""
    load_poll_s: float = 0.25
    """How often it is looked again whether a model can be loaded somewhere."""
    first_pause_s: float = 0.25
    """How long a model is left alone on a replica that refused or failed a request; doubles with every repetition."""
    longest_pause_s: float = 8.0
    failed_load_pause_s: float = 5.0
    """How long a model is left alone on a replica that could not load it, to begin with."""
    lookahead_tickets: int = 32
    """Tickets at the head of a line that may be passed over because only replicas that failed them have room."""

    lease_echo_s: float = 0.25
    """How long before a heartbeat arrives a lease may have ended and still be part of what it reports."""
    activity_hold_s: float = 60.0
    """How long a model counts as active after its last demand, when an autoscaler asks."""
    watched_triggers: int = 1024
    """Triggers of autoscalers that are looked at all the time."""

    remembered_sessions: int = 16_384
    remembered_prefixes: int = 65_536
    remembered_stories: int = 4096
    explained_candidates: int = 16
    """Replicas that are remembered of one decision."""


def limits_for(
    heartbeat_interval_s: float,
    queue_tickets: int,
    longest_wait_s: float,
    *,
    suspect_after_beats: float = 2.5,
    dead_after_beats: float = 10.0,
) -> Limits:
    """The limits that go with a heartbeat interval: so many beats may be late until a replica is suspect or dead, and a stalled
    process or network gets a second whatever the interval."""
    suspect_after_s = max(suspect_after_beats * heartbeat_interval_s, heartbeat_interval_s + 1.0)
    return Limits(
        queue_tickets=queue_tickets,
        longest_wait_s=longest_wait_s,
        heartbeat_interval_s=heartbeat_interval_s,
        suspect_after_s=suspect_after_s,
        dead_after_s=max(dead_after_beats * heartbeat_interval_s, 10.0, 2 * suspect_after_s),
        settle_s=heartbeat_interval_s + 2.0,
    )
