"""Worker processes that work, crash, hang and outlive nobody."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from trenza_runtime.errors import RpcFault
from trenza_runtime.worker.engine import ModelLoadError
from trenza_runtime.worker.output import NativeOutput
from trenza_runtime.worker.process import WorkerProcess


@asynccontextmanager
async def worker(spec: str = "ok", **options: Any) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess("toy", "toy_engine:load", spec, **options)
    try:
        facts = await process.start(lambda _: None)
        assert facts.slots == 2
        yield process
    finally:
        await process.stop(5)
        assert process.pid is None or not psutil.pid_exists(process.pid)


async def events_of(process: WorkerProcess, request_id: str, request: object) -> list[Any]:
    async with process.open({request_id: request}) as stream:
        return [event async for events in stream for _, event in events]


async def test_requests_run_side_by_side_and_end() -> None:
    async with worker() as process:
        answers = await asyncio.gather(*(events_of(process, str(n), n + 1) for n in range(20)))
        assert answers == [list(range(n + 1)) for n in range(20)]
        assert process.open_requests == 0


async def test_requests_that_belong_together_share_a_stream() -> None:
    async with worker() as process, process.open({"a": 3, "b": 50}) as stream:
        events = [event async for events in stream for event in events]
        assert [event for name, event in events if name == "a"] == [0, 1, 2]
        assert [event for name, event in events if name == "b"] == list(range(50))
        with pytest.raises(ValueError, match="open already"):
            await events_of(process, "a", 1)


async def test_progress_is_reported() -> None:
    reported: list[float] = []
    process = WorkerProcess("toy", "toy_engine:load", "slow")
    await process.start(reported.append)
    await process.stop(5)
    assert reported == [0.5, 1.0]


@pytest.mark.parametrize(
    ("loader", "spec", "message"),
    [
        ("toy_engine:load", "corrupt", "no model"),
        ("toy_engine:load", "abort", "SIGABRT"),
        ("toy_engine:nothing", "ok", "not installed"),
        ("no_such_module:load", "ok", "not installed"),
        ("toy_engine:load", "mistake", "ZeroDivisionError"),
    ],
)
async def test_load_failures_say_why(loader: str, spec: str, message: str) -> None:
    process = WorkerProcess("toy", loader, spec)
    with pytest.raises(ModelLoadError, match=message):
        await process.start(lambda _: None)
    assert process.pid is not None
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        ("refuse", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ("explode", grpc.StatusCode.INTERNAL, "DECODE_FAILED"),
    ],
)
async def test_a_failed_request_fails_alone(request_: str, code: grpc.StatusCode, reason: str) -> None:
    async with worker() as process:
        other = asyncio.create_task(events_of(process, "other", 200))
        with pytest.raises(RpcFault) as caught:
            await events_of(process, "bad", request_)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert await other == list(range(200))


@pytest.mark.parametrize(("request_", "how"), [("abort", "SIGABRT"), ("raise", "exit code 1")])
async def test_a_crash_ends_every_request_with_its_cause(request_: str, how: str) -> None:
    async with worker() as process:
        other = asyncio.create_task(events_of(process, "other", 10**9))
        await asyncio.sleep(0.1)
        with pytest.raises(RpcFault, match=how) as caught:
            await events_of(process, "bad", request_)
        assert caught.value.reason == "ENGINE_CRASHED"
        with pytest.raises(RpcFault, match=how):
            await other
        await asyncio.wait_for(process.ended.wait(), 5)
        with pytest.raises(RpcFault):
            await events_of(process, "late", 1)


async def test_kill_9_mid_stream() -> None:
    async with worker() as process, process.open({"a": 10**9}) as stream:
        await anext(stream)
        os.kill(process.pid or 0, signal.SIGKILL)
        with pytest.raises(RpcFault, match="SIGKILL"):
            async for _ in stream:
                pass


async def test_leaving_a_stream_cancels_it_in_the_engine() -> None:
    async with worker() as process:
        async with process.open({"a": 10**9}) as stream:
            await anext(stream)
        for _ in range(100):
            if process.gauges.get("cancelled") == 1:
                break
            await asyncio.sleep(0.05)
        assert process.gauges == {"cancelled": 1, "slots_used": 0}


async def test_a_hanging_worker_is_killed() -> None:
    async with worker(stall_limit_s=2.0) as process:
        await asyncio.sleep(2.5)  # an idle one is not: its pulse goes on
        assert not process.ended.is_set()
        with pytest.raises(RpcFault, match="SIGKILL"):
            await asyncio.wait_for(events_of(process, "bad", "hang"), 10)


async def test_start_that_is_given_up_leaves_no_process() -> None:
    process = WorkerProcess("toy", "toy_engine:load", "slow")
    start = asyncio.create_task(process.start(lambda _: None))
    while process.pid is None:  # noqa: ASYNC110  nothing there sets an event for it
        await asyncio.sleep(0.01)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not psutil.pid_exists(process.pid)


def test_worker_dies_with_its_service(tmp_path: Path) -> None:
    """Even while it hangs in native code, where it cannot notice that its socket is closed."""
    program = f"""
import asyncio
from trenza_runtime.worker.output import NativeOutput
from trenza_runtime.worker.process import WorkerProcess
async def main():
    process = WorkerProcess("toy", "toy_engine:load", "ok")
    await process.start(lambda _: None)
    async with process.open({{"a": "hang"}}) as stream:
        open({str(tmp_path / "pid")!r}, "w").write(str(process.pid))
        await anext(stream)
asyncio.run(main())
"""
    service = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    service.kill()
    service.wait()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_what_native_code_prints_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with worker("prints") as process:
            assert await events_of(process, "a", 1) == [0]
    lines = [record.getMessage() for record in caplog.records if record.name == "trenza_runtime.worker.output"]
    assert lines == ["engine: to standard output", "engine: to standard error"]


async def test_the_last_words_of_a_crash_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelLoadError, match="SIGABRT"):
        await WorkerProcess("toy", "toy_engine:load", "abort").start(lambda _: None)
    (ended,) = [record for record in caplog.records if record.getMessage() == "worker ended"]
    assert "toy_engine.py" in vars(ended)["last_output"]  # where Python was when native code aborted


def test_output_is_cut_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    output = NativeOutput("toy", clock=lambda: now_s)
    with caplog.at_level(logging.INFO):
        output.feed(b"half a ")
        output.feed(b"line\n\n" + b"x" * 5000)
        output.feed(b"y" * 5000 + b"\n")
        for number in range(1000):
            output.feed(b"line %d\n" % number)
        now_s = 1.5
        output.feed(b"later")
        output.end()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "engine: half a line"
    assert lines[1] == "engine: " + "x" * 1000
    assert len(lines) == 102
    assert lines[-2:] == ["engine output left out", "engine: later"]
    assert output.tail.splitlines()[-2:] == ["line 999", "later"]


async def test_a_request_that_cannot_be_sent_leaves_nothing_behind() -> None:
    async with worker() as process:
        with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
            await events_of(process, "a", lambda: None)
        assert process.open_requests == 0
        assert await events_of(process, "a", 2) == [0, 1]


async def test_ids_can_be_used_again_and_streams_left_early_do_not_leak() -> None:
    async with worker() as process:
        for _ in range(50):
            async with process.open({"a": 10**9}) as stream:
                await anext(stream)
        assert await events_of(process, "b", 3) == [0, 1, 2]
        assert process.open_requests == 0


async def test_stopping_ends_open_requests() -> None:
    async with worker() as process:
        running = asyncio.create_task(events_of(process, "a", 10**9))
        await asyncio.sleep(0.1)
        await process.stop(5)
        with pytest.raises(RpcFault) as caught:
            await running
        assert caught.value.reason == "ENGINE_CRASHED"


async def test_a_terminals_interrupt_is_left_to_the_service() -> None:
    async with worker() as process:
        os.kill(process.pid or 0, signal.SIGINT)
        assert await events_of(process, "a", 20) == list(range(20))


def test_a_busy_grpc_server_can_start_workers() -> None:
    """As in production, under uvloop: fork handlers of gRPC, where they run, crash the new process now and then."""
    program = """
import asyncio, uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer
from trenza_runtime.worker.process import WorkerProcess

async def main():
    server = RpcServer("127.0.0.1", 0, [])
    async with open_channel(f"127.0.0.1:{await server.start()}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async def call():
            while True:
                await stub.Check(health_pb2.HealthCheckRequest())
        callers = [asyncio.create_task(call()) for _ in range(4)]
        for _ in range(10):
            worker = WorkerProcess("toy", "toy_engine:load", "ok")
            await worker.start(lambda _: None)
            await worker.stop(5)
        for caller in callers:
            caller.cancel()
    await server.drain(0)
uvloop.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "fork" not in done.stderr
