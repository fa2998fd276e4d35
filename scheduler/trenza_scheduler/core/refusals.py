"""What a ticket is told that gets no place."""

from __future__ import annotations

from trenza_scheduler.core.domain import Reason, Ticket


def may_be_tried_again(reason: Reason) -> bool:
    """Whether the same ticket may fare better later."""
    return reason not in (Reason.MODEL_NOT_FOUND, Reason.INVALID_TICKET)


def message(ticket: Ticket, reason: Reason, waited_s: float, queue_tickets: int, started: bool = True) -> str:
    """A sentence for people. The model's name is the client's own word. `started` says whether any replica has the model."""
    model = f"'{ticket.key.name}'"
    if reason is Reason.WAIT_LIMIT_EXCEEDED and not started:
        return f"No replica of the model {model} has come up within {waited_s:.3g} s; one may still be starting."
    return {
        Reason.MODEL_NOT_FOUND: f"No replica knows a model {model}.",
        Reason.NO_CAPACITY: f"No replica is there that can serve the model {model}.",
        Reason.QUEUE_FULL: f"The queue is full: {queue_tickets} requests are waiting, as many as may.",
        Reason.WAIT_LIMIT_EXCEEDED: f"The model {model} had no free slot within {waited_s:.3g} s.",
        Reason.SHUTTING_DOWN: "The scheduler is stopping.",
        Reason.INVALID_TICKET: f"The request id '{ticket.request_id}' is in use already, or the ticket takes no slots.",
    }[reason]
