"""What clients and the scheduler see when replicas, the scheduler or clients fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL, FakeFleet, chat_body, end, failing, fake_fleet, in_turn, parrot, text
from scheduler_fakes import refusing, waiting
from trenza.chat.v1 import chat_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import Reason, RpcFault

CRASH = RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "The engine crashed.")
FULL = RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, "Full.", retry_after_s=2)
TOO_LONG = RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.CONTEXT_LENGTH_EXCEEDED, "9000 tokens are too many.")


async def endless(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
    """Goes on for ever, a token every 10 ms."""
    while True:
        yield text("more ")
        await asyncio.sleep(0.01)


async def silent(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
    """Never says anything."""
    await asyncio.sleep(3600)
    yield end()


def torrent(pieces: int, piece_bytes: int) -> Any:
    """As much as it is let send."""

    async def script(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        for _ in range(pieces):
            yield text("x" * piece_bytes)
        yield end()

    return script


async def test_a_failure_in_the_middle_ends_the_stream_with_an_error_event(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = failing(CRASH, after=2)
    response = await fleet.chat(stream=True)
    assert response.status_code == 200
    last = response.text.rstrip().split("\n\n")[-1]
    assert '"code":"engine_crashed"' in last
    assert "[DONE]" not in response.text
    assert len(fleet.replicas[0].requests) == 1
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_REPLICA_FAILED"])


async def test_a_replica_that_does_not_let_the_gateway_in_is_as_good_as_lost(fleet: FakeFleet) -> None:
    refusal = RpcFault(grpc.StatusCode.PERMISSION_DENIED, Reason.PEER_NOT_ALLOWED, "somebody may not call this.")
    fleet.replicas[0].script = in_turn(failing(refusal), parrot)
    assert (await fleet.chat()).status_code == 200
    assert len(fleet.replicas[0].requests) == 2
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])
    fleet.replicas[0].script = failing(refusal)
    response = await fleet.chat()
    assert response.status_code == 503
    assert "somebody" not in response.text


async def test_a_failure_in_the_middle_of_a_whole_answer_is_a_503(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = failing(CRASH, after=2)
    response = await fleet.chat()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_crashed"
    assert response.headers["retry-after"] == "1"


async def test_a_replica_that_stops_in_the_middle_ends_the_stream_with_an_error_event(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = endless
    async with fleet.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
        lines = response.aiter_lines()
        await anext(lines)
        await fleet.replicas[0].die()
        rest = [line async for line in lines]
    assert '"error"' in [line for line in rest if line][-1]
    assert not any("[DONE]" in line for line in rest)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_message_is_tried_elsewhere(stream: bool) -> None:
    async with fake_fleet(replicas=2) as fleet:
        fleet.replicas[0].script = failing(CRASH)
        fleet.scheduler.leases["taken"] = "chat-1"  # so that the failing one is chosen first
        response = await fleet.chat("all is well", stream=stream)
        assert response.status_code == 200
        assert "well" in response.text
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])
        assert list(fleet.scheduler.tickets[1].excluded_replica_ids) == ["chat-0"]


async def test_an_unreachable_replica_is_tried_elsewhere() -> None:
    async with fake_fleet(replicas=2) as fleet:
        fleet.scheduler.leases["taken"] = "chat-1"
        await fleet.replicas[0].die()
        response = await fleet.chat()
        assert response.status_code == 200
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])


async def test_attempts_are_bounded(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = failing(CRASH)
    response = await fleet.chat()
    assert response.status_code == 503
    assert len(fleet.replicas[0].requests) == 3
    await eventually(lambda: len(fleet.scheduler.releases) == 3)
    assert not fleet.scheduler.leases


async def test_a_crashed_engine_that_recovers_serves_the_same_request(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = in_turn(failing(CRASH), parrot)
    response = await fleet.chat("again")
    assert response.json()["choices"][0]["message"]["content"] == "again"


async def test_the_clients_mistake_is_not_tried_again(fleet: FakeFleet) -> None:
    fleet.replicas[0].script = failing(TOO_LONG)
    response = await fleet.chat()
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_CLIENT_ERROR"])


async def test_an_answer_without_an_end_is_an_error(fleet: FakeFleet) -> None:
    async def cut(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        yield text("half")

    fleet.replicas[0].script = cut
    assert (await fleet.chat()).status_code == 502
    streamed = await fleet.chat(stream=True)
    assert "bad_answer" in streamed.text
    assert "[DONE]" not in streamed.text


REFUSALS = [
    (scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND, 404, "model_not_found"),
    (scheduler_pb2.REFUSAL_REASON_QUEUE_FULL, 429, "queue_full"),
    (scheduler_pb2.REFUSAL_REASON_TENANT_LIMIT, 429, "tenant_limit"),
    (scheduler_pb2.REFUSAL_REASON_NO_CAPACITY, 503, "no_capacity"),
    (scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED, 503, "wait_limit_exceeded"),
    (scheduler_pb2.REFUSAL_REASON_INVALID_TICKET, 500, "internal_error"),
]


async def test_refusals_become_statuses(fleet: FakeFleet) -> None:
    for reason, status, code in REFUSALS:
        fleet.scheduler.policy = refusing(reason, retry_after_ms=2500)
        for stream in (False, True):
            response = await fleet.chat(stream=stream)
            assert response.status_code == status
            assert response.json()["error"]["code"] == code
            assert response.headers["retry-after"] == "3"


async def test_overload_always_says_when_to_come_back(fleet: FakeFleet) -> None:
    fleet.scheduler.policy = refusing(scheduler_pb2.REFUSAL_REASON_QUEUE_FULL)
    assert int((await fleet.chat()).headers["retry-after"]) >= 1


async def test_a_scheduler_that_stops_costs_nothing(fleet: FakeFleet) -> None:
    fleet.scheduler.policy = refusing(scheduler_pb2.REFUSAL_REASON_SHUTTING_DOWN)
    assert (await fleet.chat()).status_code == 200


class TestClientsThatLeave:
    async def test_in_the_queue(self, fleet: FakeFleet) -> None:
        fleet.scheduler.policy = waiting
        await self._leave(fleet, stream=False, when=lambda: fleet.scheduler.tickets)
        await eventually(lambda: fleet.scheduler.cancellations == [fleet.scheduler.tickets[0].request_id])
        assert not fleet.scheduler.releases

    @pytest.mark.parametrize("stream", [False, True])
    async def test_before_the_first_token(self, fleet: FakeFleet, stream: bool) -> None:
        fleet.replicas[0].script = silent
        await self._leave(fleet, stream, when=lambda: fleet.replicas[0].running)
        await eventually(lambda: fleet.replicas[0].cancelled == 1)
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_CANCELLED"], limit_s=1)

    async def test_in_the_middle_of_a_stream(self, fleet: FakeFleet) -> None:
        fleet.replicas[0].script = endless
        async with fleet.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
            await anext(response.aiter_lines())
        await eventually(lambda: fleet.replicas[0].cancelled == 1)
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_CANCELLED"], limit_s=1)

    async def test_a_grant_that_comes_too_late_is_given_back(self, fleet: FakeFleet) -> None:
        fleet.scheduler.policy = waiting
        await self._leave(fleet, stream=False, when=lambda: fleet.scheduler.tickets)
        await eventually(lambda: fleet.scheduler.cancellations)
        grant = fleet.scheduler.grant(fleet.scheduler.tickets[0])
        assert grant is not None
        fleet.scheduler.send(grant)
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_CANCELLED"])
        assert not fleet.replicas[0].requests

    async def _leave(self, fleet: FakeFleet, stream: bool, when: Any) -> None:
        sending = asyncio.ensure_future(fleet.chat(stream=stream))
        await eventually(when)
        sending.cancel()
        await asyncio.wait({sending})


class TestDeadlines:
    async def test_on_the_replica(self) -> None:
        async with fake_fleet(request_s=0.3) as fleet:
            fleet.replicas[0].script = silent
            response = await fleet.chat()
            assert response.status_code == 504
            assert response.json()["error"]["type"] == "timeout"
            assert fleet.replicas[0].deadlines_s[0] <= 0.3
            await eventually(lambda: fleet.outcomes() == ["OUTCOME_DEADLINE_EXCEEDED"])

    async def test_in_the_queue(self) -> None:
        async with fake_fleet(request_s=0.3) as fleet:
            fleet.scheduler.policy = refusing(scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED)
            assert (await fleet.chat()).status_code == 504
            assert 0 < fleet.scheduler.tickets[0].wait_limit_ms <= 300

    async def test_of_waiting_alone(self) -> None:
        async with fake_fleet(queue_wait_s=0.2) as fleet:
            await fleet.scheduler.die()
            fleet.replicas[0].script = failing(FULL)
            response = await fleet.chat()
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "wait_limit_exceeded"

    async def test_in_the_middle_of_a_stream(self) -> None:
        async with fake_fleet(request_s=0.3) as fleet:
            fleet.replicas[0].script = endless
            response = await fleet.chat(stream=True)
            assert response.status_code == 200
            assert '"type":"timeout"' in response.text
            assert "[DONE]" not in response.text


class TestSlowReaders:
    async def test_a_client_that_does_not_read_is_cut_off(self) -> None:
        async with fake_fleet(write_stall_s=0.5) as fleet:
            fleet.replicas[0].script = torrent(pieces=100_000, piece_bytes=4_000)
            reader, writer = await asyncio.open_connection("127.0.0.1", fleet.gateway.http_port, limit=1024)
            body = httpx.Request("POST", "http://x/", json=chat_body(stream=True)).content
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await eventually(lambda: fleet.replicas[0].running == 1)
            await eventually(lambda: fleet.outcomes() == ["OUTCOME_CANCELLED"], limit_s=10)
            assert fleet.replicas[0].running == 0
            writer.close()
            del reader

    async def test_a_client_that_reads_slowly_gets_everything(self) -> None:
        async with fake_fleet(write_stall_s=5) as fleet:
            fleet.replicas[0].script = torrent(pieces=200, piece_bytes=4_000)
            size = 0
            async with fleet.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
                async for chunk in response.aiter_raw(65_536):
                    size += len(chunk)
                    await asyncio.sleep(0.02)
            assert size > 200 * 4_000


class TestWithoutScheduler:
    async def test_requests_are_served_by_the_last_picture(self, fleet: FakeFleet) -> None:
        await fleet.scheduler.die()
        responses = await asyncio.gather(*(fleet.chat(f"number {n}") for n in range(20)))
        assert [response.status_code for response in responses] == [200] * 20
        assert (await fleet.client.get("/readyz")).json()["scheduler"] == "away"
        assert fleet.replicas[0].requests[0].context.lease_id.startswith("own-")

    async def test_waiting_tickets_are_placed_otherwise_when_the_stream_breaks(self, fleet: FakeFleet) -> None:
        fleet.scheduler.policy = waiting
        asking = [asyncio.ensure_future(fleet.chat(f"number {n}", stream=n % 2 == 0)) for n in range(10)]
        await eventually(lambda: len(fleet.scheduler.tickets) == 10)
        await fleet.scheduler.die()
        responses = await asyncio.gather(*asking)
        assert [response.status_code for response in responses] == [200] * 10

    async def test_a_scheduler_that_says_nothing_is_done_without(self, fleet: FakeFleet) -> None:
        fleet.scheduler.policy = lambda _ticket: None
        responses = await asyncio.gather(*(fleet.chat() for _ in range(3)))
        assert [response.status_code for response in responses] == [200] * 3

    async def test_running_requests_go_on_and_are_announced_to_the_next_scheduler(self, fleet: FakeFleet) -> None:
        go_on = asyncio.Event()

        async def patient(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
            yield text("first")
            await go_on.wait()
            yield end()

        fleet.replicas[0].script = patient
        under_lease = asyncio.ensure_future(fleet.chat())
        await eventually(lambda: fleet.replicas[0].running == 1)
        await fleet.scheduler.die()
        on_its_own = asyncio.ensure_future(fleet.chat())
        await eventually(lambda: fleet.replicas[0].running == 2)
        await fleet.scheduler.start()
        await eventually(lambda: len(fleet.scheduler.hellos) == 2)
        held = fleet.scheduler.hellos[1].held_leases
        assert {lease.lease_id.split("-")[0] for lease in held} == {"lease", "own"}
        assert {lease.replica_id for lease in held} == {"chat-0"}
        go_on.set()
        assert (await under_lease).status_code == (await on_its_own).status_code == 200
        await eventually(lambda: len(fleet.scheduler.releases) == 2)
        assert {r.lease_id for r in fleet.scheduler.releases} == {lease.lease_id for lease in held}

    async def test_full_replicas_are_waited_for(self, fleet: FakeFleet) -> None:
        await fleet.scheduler.die()
        fleet.replicas[0].script = in_turn(*[failing(FULL)] * 5, parrot)
        assert (await fleet.chat()).status_code == 200
        assert len(fleet.replicas[0].requests) == 6

    async def test_a_dead_replica_is_avoided(self) -> None:
        async with fake_fleet(replicas=2) as fleet:
            await fleet.scheduler.die()
            await fleet.replicas[0].die()
            responses = await asyncio.gather(*(fleet.chat() for _ in range(10)))
            assert [response.status_code for response in responses] == [200] * 10

    async def test_a_scheduler_that_has_just_started_does_not_shrink_the_fleet(self) -> None:
        async with fake_fleet(replicas=2) as fleet:
            await fleet.scheduler.die()
            fleet.scheduler.replicas.clear()
            fleet.scheduler.settled = False
            fleet.scheduler.policy = refusing(scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND)
            await fleet.scheduler.start()
            await eventually(lambda: len(fleet.scheduler.hellos) == 2)
            assert (await fleet.chat()).status_code == 200
            assert (await fleet.client.get("/v1/models")).json()["data"] != []

    async def test_leases_are_never_released_twice(self, fleet: FakeFleet) -> None:
        fleet.replicas[0].script = in_turn(failing(CRASH), parrot, failing(CRASH, after=1), parrot)
        for _ in range(3):
            await fleet.chat()
        await eventually(lambda: not fleet.scheduler.leases)
        released = [release.lease_id for release in fleet.scheduler.releases]
        assert len(released) == len(set(released)) == 4


class TestLongWaits:
    async def test_a_stream_is_kept_alive_while_it_waits(self) -> None:
        async with fake_fleet(silence_s=0.1) as fleet:
            fleet.scheduler.policy = waiting
            async with fleet.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
                assert response.status_code == 200
                lines = response.aiter_lines()
                assert [await anext(lines) for _ in range(4)] == [": waiting", "", ": waiting", ""]
                grant = fleet.scheduler.grant(fleet.scheduler.tickets[0])
                assert grant is not None
                fleet.scheduler.send(grant)
                rest = [line async for line in lines if line.startswith("data")]
            assert rest[-1] == "data: [DONE]"

    async def test_an_error_after_that_is_an_event(self) -> None:
        async with fake_fleet(silence_s=0.1) as fleet:
            fleet.scheduler.policy = waiting
            async with fleet.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
                lines = response.aiter_lines()
                await anext(lines)
                refusal = refusing(scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED)(fleet.scheduler.tickets[0])
                assert refusal is not None
                fleet.scheduler.send(refusal)
                rest = [line async for line in lines if line.startswith("data")]
            assert len(rest) == 1
            assert "wait_limit_exceeded" in rest[0]


async def test_one_prompt_that_fails_ends_the_others_too(fleet: FakeFleet) -> None:
    started = asyncio.Event()

    async def by_prompt(request: chat_pb2.CompleteRequest, _context: Any) -> AsyncIterator[chat_pb2.CompleteResponse]:
        yield chat_pb2.CompleteResponse(deltas=[chat_pb2.CompleteDelta(text="x")])
        if request.text == "bad":
            await started.wait()
            raise CRASH
        started.set()
        await asyncio.sleep(3600)

    fleet.replicas[0].complete_script = by_prompt
    body = {"model": MODEL, "prompt": ["good", "bad", "good"]}
    response = await fleet.client.post("/v1/completions", json=body)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_crashed"
    await eventually(lambda: len(fleet.scheduler.releases) == 3)
    assert sorted(fleet.outcomes()) == ["OUTCOME_CANCELLED", "OUTCOME_CANCELLED", "OUTCOME_REPLICA_FAILED"]
    assert fleet.replicas[0].running == 0


async def test_whatever_happens_nothing_is_left_behind() -> None:
    """Clients that leave at any moment, replicas that fail, a scheduler that comes and goes: no lease, no call remains."""
    chance = random.Random(7)

    async def moody(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        await asyncio.sleep(chance.random() * 0.05)
        if chance.random() < 0.1:
            raise chance.choice([CRASH, FULL])
        for _ in range(chance.randrange(10)):
            yield text("a ")
            await asyncio.sleep(0.005)
            if chance.random() < 0.02:
                raise CRASH
        yield end()

    async with fake_fleet(replicas=3, silence_s=0.02) as fleet:
        for replica in fleet.replicas:
            replica.script = moody

        async def client(number: int) -> int:
            await asyncio.sleep(chance.random() * 2)
            try:
                async with asyncio.timeout(chance.choice([0.01, 0.05, 30])):
                    return (await fleet.chat(stream=number % 2 == 0)).status_code
            except TimeoutError:
                return 0

        asking = [asyncio.ensure_future(client(number)) for number in range(300)]
        for _ in range(3):
            await asyncio.sleep(0.4)
            await fleet.scheduler.die()
            fleet.scheduler.leases.clear()
            await asyncio.sleep(0.3)
            await fleet.scheduler.start()
        statuses = set(await asyncio.gather(*asking))
        assert statuses <= {0, 200, 429, 503}
        assert 200 in statuses
        await eventually(lambda: not any(replica.running for replica in fleet.replicas))
        await eventually(lambda: not fleet.scheduler.leases)
        metrics = (await fleet.client.get("/metrics")).text
        assert "trenza_gateway_leases 0.0" in metrics
        assert 'trenza_gateway_in_flight_requests{front="http"} 0.0' in metrics
