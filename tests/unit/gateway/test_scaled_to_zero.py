"""What clients see of models that have no replica now and get one when they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL, FakeFleet, FakeReplica, chat_body, fake_fleet
from scheduler_fakes import waiting
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_gateway.dispatch import placement


def expected(name: str, modality: Any = common_pb2.MODALITY_CHAT, **facts: Any) -> scheduler_pb2.ExpectedModel:
    model = common_pb2.Model(name=name, modality=modality, load_state=common_pb2.LOAD_STATE_LOADABLE, **facts)
    return scheduler_pb2.ExpectedModel(model=model)


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    """No replica, and a scheduler that lets everything wait."""
    async with fake_fleet(replicas=0, ready=False, silence_s=0.2) as running:
        running.scheduler.policy = waiting
        running.scheduler.expected = [
            expected(MODEL),
            expected("seeing", common_pb2.MODALITY_VISION),
            expected("talking", common_pb2.MODALITY_AUDIO),
            expected("hearing", common_pb2.MODALITY_AUDIO, capabilities=[common_pb2.CAPABILITY_TRANSCRIPTION]),
        ]
        await eventually(lambda: running.scheduler.hellos)
        running.scheduler.send(running.scheduler.snapshot())
        await running.ready()
        yield running
        for replica in running.replicas:
            await replica.die()


async def come_up(fleet: FakeFleet, replica: FakeReplica) -> None:
    """A replica starts, and the scheduler grants it to whoever waits."""
    await replica.start()
    fleet.replicas.append(replica)
    fleet.scheduler.replicas.append(replica)
    fleet.scheduler.policy = None
    fleet.scheduler.send(fleet.scheduler.snapshot())
    for ticket in fleet.scheduler.tickets:
        answer = fleet.scheduler.grant(ticket)
        assert answer is not None
        fleet.scheduler.send(answer)


async def test_it_is_listed_and_ready(fleet: FakeFleet) -> None:
    ready = (await fleet.client.get("/readyz")).json()
    assert (ready["status"], ready["live_replicas"]) == ("ready", 0)
    models = {item["id"]: item for item in (await fleet.client.get("/v1/models")).json()["data"]}
    assert models.keys() == {MODEL, "seeing", "talking", "hearing"}
    assert (models[MODEL]["modality"], models[MODEL]["state"], models[MODEL]["slots"]) == ("chat", "loadable", 0)
    assert (await fleet.client.get("/v1/models/seeing")).json()["modality"] == "vision"
    assert (await fleet.client.get("/v1/models/nonsense")).status_code == 404


async def test_a_request_waits_for_the_replica_and_is_answered_by_it(fleet: FakeFleet) -> None:
    asked = asyncio.create_task(fleet.chat("hello there", stream=True))
    await eventually(lambda: fleet.scheduler.tickets)
    await asyncio.sleep(0.5)
    await come_up(fleet, FakeReplica("chat-0"))
    response = await asked
    assert response.status_code == 200
    assert response.text.startswith(": "), "comments keep the connection alive meanwhile"
    assert "hello" in response.text
    assert response.text.rstrip().endswith("data: [DONE]")
    listed = (await fleet.client.get(f"/v1/models/{MODEL}")).json()
    assert (listed["state"], listed["slots"]) == ("loaded", 4), "what a replica announces goes before what is expected"


async def test_the_ticket_is_of_the_models_own_modality(fleet: FakeFleet) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"model": "seeing", "messages": [{"role": "user", "content": "What do you see?"}]}
    tasks = [asyncio.create_task(fleet.client.post("/v1/chat/completions", json=body))]
    await eventually(lambda: fleet.scheduler.tickets)
    assert fleet.scheduler.tickets[0].modality == common_pb2.MODALITY_VISION
    for task in tasks:
        task.cancel()
    refused = await fleet.chat([picture])  # type: ignore[arg-type]  # content in parts
    assert refused.status_code == 400, "a chat model cannot see, running or not"
    assert len(fleet.scheduler.tickets) == 1


async def test_what_it_is_known_not_to_do_is_refused_at_once(fleet: FakeFleet) -> None:
    response = await fleet.client.post(
        "/v1/audio/speech", json={"model": "hearing", "input": "Hello!", "voice": "nobody"}
    )
    assert response.status_code == 400
    assert "talking" in response.text, "those that might do it are named"
    assert not fleet.scheduler.tickets


async def test_a_list_of_all_voices_starts_nothing(fleet: FakeFleet) -> None:
    response = await fleet.client.get("/v1/audio/voices")
    assert response.status_code == 200
    assert not fleet.scheduler.tickets


async def test_without_the_scheduler_nobody_starts_it(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SCHEDULER_RETURN_S", 0.5)
    await fleet.scheduler.die()
    response = await fleet.chat()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert f"No replica of the model '{MODEL}' runs now" in response.text
    assert "scheduler" in response.text
    assert (await fleet.client.get("/readyz")).status_code == 200, (
        "a 503 with a reason is better than no gateway at all"
    )


async def test_a_scheduler_that_comes_back_soon_is_waited_for(fleet: FakeFleet) -> None:
    await fleet.scheduler.die()
    asked = asyncio.create_task(fleet.chat())
    await asyncio.sleep(0.3)
    replica = FakeReplica("chat-0")
    await replica.start()
    fleet.replicas.append(replica)
    fleet.scheduler.replicas.append(replica)
    fleet.scheduler.policy = None
    await fleet.scheduler.start()
    assert (await asked).status_code == 200


async def test_the_deadline_says_what_was_waited_for(fleet: FakeFleet) -> None:
    def too_late(ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse:
        refusal = scheduler_pb2.Refusal(
            request_id=ticket.request_id,
            reason=scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED,
            message="No replica of the model 'm' has come up within 3 s; one may still be starting.",
            retry_after_ms=5000,
        )
        return scheduler_pb2.AdmitResponse(refusal=refusal)

    fleet.scheduler.policy = too_late
    response = await fleet.client.post("/v1/chat/completions", json=chat_body())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert "has come up within 3 s" in response.text
