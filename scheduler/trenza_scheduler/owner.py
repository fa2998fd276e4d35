"""The state machine's one owner: gives it events and the time, and carries out what it says.

Everything happens in one event loop and no decision is interrupted by an `await`, so events have an order and nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from random import Random

import grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import Reason as FaultReason
from trenza_runtime.errors import RpcFault

from trenza_scheduler import translate
from trenza_scheduler.core.actions import (
    Action,
    CutGateway,
    CutReplica,
    Grant,
    PushSnapshot,
    QueueUpdate,
    Refuse,
    ReplicaChanged,
)
from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.core.events import Event, GatewayClosed, GatewayOpened, LeaseReleased, ShutDown, Tick
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.machine import Machine
from trenza_scheduler.core.stories import Story
from trenza_scheduler.metrics import SchedulerMetrics
from trenza_scheduler.outbox import Outbox
from trenza_scheduler.scaling import Scaling

log = logging.getLogger(__name__)

SHORTEST_TICK_S = 0.02
"""What is due sooner after one tick waits for the next."""
SNAPSHOT_GAP_S = 0.1
"""Snapshots are pushed at most this often."""
METRICS_GAP_S = 0.5
"""How often the gauges are set while something happens."""

REPLACED = "STREAM_REPLACED"
NAME_IN_USE = "REPLICA_ID_IN_USE"


class Owner:
    """Holds the state machine. Its methods are to be called in the event loop that it was made in."""

    def __init__(
        self,
        limits: Limits,
        epoch: str,
        rng: Random,
        metrics: SchedulerMetrics,
        outbox_limit: int,
        expected: Mapping[ModelKey, int] | None = None,
    ) -> None:
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._machine = Machine(limits, epoch, self._loop.time(), expected)
        self.scaling = Scaling(self._machine, limits)
        self._epoch = epoch
        self._rng = rng
        self._metrics = metrics
        self._outbox_limit = outbox_limit
        self._outboxes: dict[str, Outbox] = {}
        self._replica_cuts: dict[str, asyncio.Future[RpcFault]] = {}
        self._version = 0
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_at_s = float("inf")
        self._push_timer: asyncio.TimerHandle | None = None
        self._push_at_s = float("inf")
        self._pushed_s = float("-inf")
        self._metrics_timer: asyncio.TimerHandle | None = None
        self._set_tick()

    def apply(self, event: Event) -> None:
        """Lets the machine decide and carries out what it says."""
        actions = self._machine.apply(event, self._loop.time(), self._rng)
        for action in actions:
            self._carry_out(action)
        if isinstance(event, LeaseReleased):
            self._metrics.released(event.outcome)
        if not isinstance(event, Tick):
            # Slots in use are part of a snapshot, too, and no reason to hurry.
            self._push_within(self.limits.heartbeat_interval_s)
        self._set_tick()
        self._show_soon()
        self.scaling.touched()

    def open_gateway(self, event: GatewayOpened) -> Outbox:
        """A gateway's stream begins; returns what is to be sent to it, the fleet first."""
        outbox = self._outboxes[event.stream] = Outbox(self._outbox_limit)
        self.apply(event)
        outbox.put_snapshot(self.snapshot())
        log.info("gateway connected", extra={"gateway": event.gateway_id, "held_leases": len(event.held)})
        return outbox

    def close_gateway(self, stream: str, gateway_id: str) -> None:
        """A gateway's stream has ended, and with it its tickets and leases."""
        del self._outboxes[stream]
        self.apply(GatewayClosed(stream))
        log.info("gateway gone", extra={"gateway": gateway_id})

    def refuse(self, refusal: Refuse) -> None:
        """Refuses a ticket that is too wrong for the machine to see."""
        self._carry_out(refusal)

    def open_replica(self, stream: str) -> asyncio.Future[RpcFault]:
        """A replica's stream begins; the future gets the reason should it have to be cut off."""
        cut: asyncio.Future[RpcFault] = self._loop.create_future()
        self._replica_cuts[stream] = cut
        return cut

    def close_replica(self, stream: str) -> None:
        """A replica's stream has ended."""
        self._replica_cuts.pop(stream).cancel()

    def snapshot(self) -> scheduler_pb2.Snapshot:
        """The fleet as it is now."""
        return translate.snapshot(self._machine, self._version, self._epoch)

    def queues(self) -> list[scheduler_pb2.QueueView]:
        """The tickets that wait, by model."""
        return translate.queues(self._machine, self._loop.time())

    def story(self, request_id: str) -> Story | None:
        """What became of a request; None where it is not remembered."""
        return self._machine.story(request_id, self._loop.time())

    def shut_down(self) -> None:
        """Refuses everything that waits and ends all streams, once what is left to say has been said."""
        self.apply(ShutDown())
        self.scaling.close()
        fault = RpcFault(grpc.StatusCode.UNAVAILABLE, FaultReason.DRAINING, "The scheduler is stopping.")
        for outbox in self._outboxes.values():
            outbox.close(fault)
        for cut in self._replica_cuts.values():
            _settle(cut, fault)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Grant():
                self._metrics.granted(action)
                self._outboxes[action.lease.stream].put_grant(translate.grant(action))
            case Refuse():
                self._metrics.refused(action)
                self._outboxes[action.stream].put_refusal(translate.refusal(action))
            case QueueUpdate():
                self._outboxes[action.stream].put_update(translate.queue_update(action))
            case PushSnapshot():
                self._version += 1
                self._push_within(0.0)
            case ReplicaChanged(replica_id, change):
                log.info("replica %s", change, extra={"replica": replica_id})
            case CutGateway(stream, message):
                log.warning("gateway cut off", extra={"stream": stream, "why": message})
                self._outboxes[stream].close(RpcFault(grpc.StatusCode.ABORTED, REPLACED, message))
            case CutReplica(stream, message):
                log.warning("replica cut off", extra={"stream": stream, "why": message})
                if stream in self._replica_cuts:
                    _settle(self._replica_cuts[stream], RpcFault(grpc.StatusCode.ALREADY_EXISTS, NAME_IN_USE, message))

    # Timers

    def _set_tick(self) -> None:
        """Sees to it that the machine gets its tick in time."""
        due_s = max(self._machine.wake_s, self._loop.time() + SHORTEST_TICK_S)
        if self._tick_timer is None or due_s < self._tick_at_s:
            if self._tick_timer is not None:
                self._tick_timer.cancel()
            self._tick_at_s = due_s
            self._tick_timer = self._loop.call_at(due_s, self._tick) if due_s < float("inf") else None

    def _tick(self) -> None:
        self._tick_timer = None
        self.apply(Tick())

    def _push_within(self, delay_s: float) -> None:
        """Sees to it that gateways get a snapshot by then, and no sooner after the last one than they may."""
        due_s = max(self._loop.time() + delay_s, self._pushed_s + SNAPSHOT_GAP_S)
        if self._push_timer is None or due_s < self._push_at_s:
            if self._push_timer is not None:
                self._push_timer.cancel()
            self._push_at_s = due_s
            self._push_timer = self._loop.call_at(due_s, self._push)

    def _push(self) -> None:
        self._push_timer = None
        self._pushed_s = self._loop.time()
        self._version += 1
        if self._outboxes:
            snapshot = self.snapshot()
            for outbox in self._outboxes.values():
                outbox.put_snapshot(snapshot)

    def _show_soon(self) -> None:
        if self._metrics_timer is None:
            self._metrics_timer = self._loop.call_later(METRICS_GAP_S, self._show)

    def _show(self) -> None:
        self._metrics_timer = None
        figures = self._machine.figures(self._loop.time())
        self._metrics.show(figures, len(self._outboxes))
        if any(model.oldest_wait_s for model in figures.models.values()):
            self._show_soon()  # they grow older though nothing happens


def _settle(cut: asyncio.Future[RpcFault], fault: RpcFault) -> None:
    if not cut.done():
        cut.set_result(fault)
