"""Runs the requests of an API call: a slot for each choice, the engine's events as they come, cancelled when the call ends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from trenza.common.v1 import common_pb2
from trenza_runtime.models.host import LoadedModel, ModelHost

from trenza_llama import engine as llama
from trenza_llama.api.answers import Answer
from trenza_llama.api.requests import invalid


@dataclass(frozen=True)
class RunningCall:
    """A call that has its slots: what comes of it, and how long it waited for them, in seconds.

    `events` are lists of (choice, event): all that came since the last look.
    """

    events: AsyncIterator[list[tuple[int, object]]]
    answer: Answer
    queued_s: float


class Calls:
    """The calls of one service, which share its models."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._numbers = itertools.count()

    @asynccontextmanager
    async def model(self, asked: common_pb2.RequestContext, limit_s: float) -> AsyncIterator[LoadedModel]:
        """The model that is asked for; it is loaded first where it has to be. Raises RpcFault as `ModelHost.use` does."""
        if not asked.model:
            raise invalid("model", "The request names no model.")
        async with self._host.use(asked.model, limit_s) as model:
            yield model

    @asynccontextmanager
    async def run(
        self, model: LoadedModel, requests: Sequence[llama.GenerateRequest], asked: common_pb2.RequestContext
    ) -> AsyncIterator[RunningCall]:
        """Takes a slot for each choice and runs them; leaving the block cancels what has not ended.

        Raises RpcFault: INVALID_ARGUMENT where the model cannot run so many choices together, RESOURCE_EXHAUSTED/QUEUE_FULL.
        """
        if len(requests) > model.facts.slots:
            raise invalid("n", f"This model runs {model.facts.slots} choices together at most.")
        base = self._name(asked)
        by_name = {f"{base}/{choice}": request for choice, request in enumerate(requests)}
        choice_of = {name: choice for choice, name in enumerate(by_name)}
        async with model.gate.place(asked.priority, len(requests)) as queued_s, model.worker.open(by_name) as stream:

            async def events() -> AsyncIterator[list[tuple[int, object]]]:
                async for batch in stream:
                    yield [(choice_of[name], event) for name, event in batch]

            yield RunningCall(events(), Answer(model.fingerprint), queued_s)

    async def count(
        self, model: LoadedModel, request: llama.CountRequest, asked: common_pb2.RequestContext
    ) -> llama.Counted:
        """How many tokens a prompt has, without a slot."""
        async with model.worker.open({self._name(asked): request}) as stream:
            async for batch in stream:
                for _, event in batch:
                    if isinstance(event, llama.Counted):
                        return event
        raise AssertionError("the engine did not count")

    def _name(self, asked: common_pb2.RequestContext) -> str:
        """A name for the worker that is unique even where two clients chose the same request id."""
        return f"{asked.request_id}#{next(self._numbers)}"
