"""Models that are loaded on demand, come back, make room and go, with real worker processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from prometheus_client import REGISTRY
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.devices import Device
from trenza_runtime.errors import RpcFault, from_rpc_error
from trenza_runtime.models.host import HostLimits, LoadedModel, ModelHost
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.models.servicer import SERVICE, ModelServicer
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer, RpcService

LOADABLE, LOADING, LOADED, FAILED = (
    common_pb2.LOAD_STATE_LOADABLE,
    common_pb2.LOAD_STATE_LOADING,
    common_pb2.LOAD_STATE_LOADED,
    common_pb2.LOAD_STATE_FAILED,
)


def write_model(root: Path, name: str, spec: str = "ok", size_bytes: int = 10) -> None:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(b"x" * size_bytes)
    (folder / "model.toml").write_text(
        f'name = "{name}"\nmodality = "chat"\nfiles = {{model = "weights"}}\n[toy]\nspec = "{spec}"\n'
    )


def spec_for(manifest: ModelManifest) -> tuple[str, Any]:
    return "toy_engine:load", manifest.tables["toy"]["spec"]


@asynccontextmanager
async def hosting(
    root: Path, limits: HostLimits | None = None, free_bytes: int = 2**40, on_change: Callable[[], None] = lambda: None
) -> AsyncIterator[ModelHost]:
    """A host that looks at its root ten times a second."""
    registry = ModelRegistry(root, common_pb2.MODALITY_CHAT)
    limits = limits or HostLimits(rescan_s=0.1)
    host = ModelHost(registry, spec_for, limits, on_change, lambda: [Device("cpu", 2**40, free_bytes, 0.0)])
    running = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        running.cancel()
        pids = [loaded.worker.pid for loaded in host.loaded()]
        await host.stop(5)
        assert not [pid for pid in pids if pid and psutil.pid_exists(pid)]


def state_of(host: ModelHost, name: str) -> scheduler_pb2.ModelState:
    return next(state for state in host.states() if state.model.name == name)


async def eventually(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  the test looks from outside, nothing there sets an event for it
            await asyncio.sleep(0.01)


async def count_to(model: LoadedModel, last: int) -> list[Any]:
    async with model.worker.open({f"r{time.monotonic_ns()}": last}) as stream:
        return [event async for events in stream for _, event in events]


async def fault_of(host: ModelHost, name: str, limit_s: float = 10.0) -> RpcFault:
    with pytest.raises(RpcFault) as caught:
        async with host.use(name, limit_s):
            pass
    return caught.value


def directive(**order: Any) -> scheduler_pb2.Directive:
    return scheduler_pb2.Directive(**order)


async def test_loads_once_for_all_who_ask(tmp_path: Path) -> None:
    write_model(tmp_path, "m", "slow")
    changes: list[None] = []
    async with hosting(tmp_path, on_change=lambda: changes.append(None)) as host:
        assert state_of(host, "m").model.load_state == LOADABLE

        async def ask() -> LoadedModel:
            async with host.use("m", 10) as model:
                assert await count_to(model, 3) == [0, 1, 2]
                return model

        first, *others = await asyncio.gather(*(ask() for _ in range(5)))
        assert all(other is first for other in others)
        state = state_of(host, "m")
        assert (state.model.load_state, state.model.load_progress, state.model.slots) == (LOADED, 1.0, 2)
        assert (state.memory_bytes, state.pinned, state.slots_used) == (1000, False, 0)
        assert abs(state.last_used_unix_s - time.time()) < 5
        assert changes


async def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    async with hosting(tmp_path) as host:
        fault = await fault_of(host, "nope")
    assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert "'nope'" in fault.message
    assert "m" in fault.message.split(":")[-1]


async def test_a_deadline_that_ends_before_the_load_does_not_end_the_load(tmp_path: Path) -> None:
    write_model(tmp_path, "m", "slow")
    async with hosting(tmp_path) as host:
        fault = await fault_of(host, "m", limit_s=0.3)
        assert (fault.code, fault.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "MODEL_LOADING")
        await eventually(lambda: state_of(host, "m").model.load_state == LOADED)


@pytest.mark.parametrize(("spec", "sentence"), [("corrupt", "The file is no model"), ("abort", "SIGABRT")])
async def test_a_model_that_cannot_be_loaded_is_left_alone_for_a_while(
    tmp_path: Path, spec: str, sentence: str
) -> None:
    write_model(tmp_path, "m", spec)
    async with hosting(tmp_path) as host:
        fault = await fault_of(host, "m")
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_LOAD_FAILED")
        assert sentence in fault.message
        assert fault.retry_after_s is not None
        assert 0 < fault.retry_after_s <= 1
        assert (state_of(host, "m").model.load_state, sentence in state_of(host, "m").failure) == (FAILED, True)
        begun_s = time.monotonic()
        await fault_of(host, "m")
        assert time.monotonic() - begun_s < 0.2
        write_model(tmp_path, "m", "ok", size_bytes=11)
        await eventually(lambda: state_of(host, "m").model.load_state == LOADABLE)
        async with host.use("m", 10) as model:
            assert await count_to(model, 1) == [0]


async def test_the_pause_grows_with_each_failure(tmp_path: Path) -> None:
    write_model(tmp_path, "m", "corrupt")
    async with hosting(tmp_path) as host:
        first = await fault_of(host, "m")
        await asyncio.sleep(first.retry_after_s or 0)
        second = await fault_of(host, "m")
        assert second.retry_after_s is not None
        assert 1 < second.retry_after_s <= 2


async def test_a_crashed_model_comes_back_by_itself_and_for_whoever_asks(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    async with hosting(tmp_path) as host:
        async with host.use("m", 10) as model:
            async with model.worker.open({"a": 10**9}) as stream:
                await anext(stream)
                os.kill(model.worker.pid or 0, signal.SIGKILL)
                with pytest.raises(RpcFault, match="SIGKILL") as caught:
                    async for _ in stream:
                        pass
            assert caught.value.reason == "ENGINE_CRASHED"
            await eventually(lambda: state_of(host, "m").model.load_state == FAILED)
        async with host.use("m", 10) as again:
            assert again is not model
            assert await count_to(again, 1) == [0]
            os.kill(again.worker.pid or 0, signal.SIGKILL)
        await eventually(lambda: state_of(host, "m").model.load_state == FAILED)
        await eventually(lambda: state_of(host, "m").model.load_state == LOADED)


async def test_the_longest_idle_model_makes_room(tmp_path: Path) -> None:
    for name in "abc":
        write_model(tmp_path, name)
    async with hosting(tmp_path, HostLimits(loaded_models=2)) as host:
        for name in "abac":
            async with host.use(name, 10):
                pass
        loaded = {model.name for model in host.loaded()}
        assert loaded == {"a", "c"}
        assert state_of(host, "b").model.load_state == LOADABLE


async def test_a_model_too_large_for_the_memory_is_refused_with_figures(tmp_path: Path) -> None:
    write_model(tmp_path, "m", size_bytes=5000)
    async with hosting(tmp_path, free_bytes=4000) as host:
        fault = await fault_of(host, "m")
    assert (fault.reason, fault.details["cause"]) == ("MODEL_LOAD_FAILED", "NO_CAPACITY")
    assert "GiB" in fault.message


async def test_a_load_waits_for_a_model_that_serves_and_never_evicts_it(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    write_model(tmp_path, "b")
    async with hosting(tmp_path, HostLimits(loaded_models=1)) as host:
        async with host.use("a", 10) as model:
            other = asyncio.create_task(fault_of(host, "b", limit_s=0.3))
            assert (await other).reason == "MODEL_LOADING"
            waiting = asyncio.create_task(host.use("b", 10).__aenter__())
            await asyncio.sleep(0.3)
            assert await count_to(model, 2) == [0, 1]
        assert (await waiting).name == "b"
        assert [loaded.name for loaded in host.loaded()] == ["b"]


async def test_a_load_that_nobody_waits_for_any_more_is_given_up(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    write_model(tmp_path, "b")
    async with hosting(tmp_path, HostLimits(loaded_models=1)) as host:
        async with host.use("a", 10):
            waiting = asyncio.create_task(host.use("b", 10).__aenter__())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
        await asyncio.sleep(0.5)
        assert [loaded.name for loaded in host.loaded()] == ["a"]


async def test_a_pinned_model_makes_no_room_and_comes_back(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    write_model(tmp_path, "b")
    async with hosting(tmp_path, HostLimits(loaded_models=1)) as host:
        host.preload(["a"])
        await eventually(lambda: state_of(host, "a").model.load_state == LOADED)
        assert state_of(host, "a").pinned
        assert (await fault_of(host, "b")).reason == "MODEL_LOAD_FAILED"
        os.kill(host.loaded()[0].worker.pid or 0, signal.SIGKILL)
        await eventually(lambda: state_of(host, "a").model.load_state == FAILED)
        await eventually(lambda: state_of(host, "a").model.load_state == LOADED)


async def test_a_pinned_model_that_is_not_there_yet_is_loaded_when_it_comes(tmp_path: Path) -> None:
    async with hosting(tmp_path) as host:
        host.preload(["late"])
        await asyncio.sleep(0.2)
        write_model(tmp_path, "late")
        await eventually(lambda: host.names() == ["late"] and state_of(host, "late").model.load_state == LOADED)


async def test_obeys_orders_to_load_and_to_unload_once_idle(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    async with hosting(tmp_path) as host:
        await host.obey(directive(load_model=scheduler_pb2.LoadModel(model="nope")))
        await host.obey(directive(load_model=scheduler_pb2.LoadModel(model="m", pin=True)))
        await eventually(lambda: state_of(host, "m").model.load_state == LOADED)
        async with host.use("m", 10) as model:
            await host.obey(directive(unload_model=scheduler_pb2.UnloadModel(model="m")))
            await asyncio.sleep(0.1)
            assert await count_to(model, 2) == [0, 1]
            pid = model.worker.pid
        await eventually(lambda: state_of(host, "m").model.load_state == LOADABLE)
        assert pid
        assert not psutil.pid_exists(pid)
        assert not state_of(host, "m").pinned
        await host.obey(directive(load_model=scheduler_pb2.LoadModel(model="m")))
        await eventually(lambda: state_of(host, "m").model.load_state == LOADED)


async def test_shows_what_a_model_holds_as_long_as_it_is_loaded(tmp_path: Path) -> None:
    write_model(tmp_path, "shown")
    labels = {"model": "shown", "device": "cpu"}
    async with hosting(tmp_path) as host:
        await host.obey(directive(load_model=scheduler_pb2.LoadModel(model="shown")))
        await eventually(lambda: REGISTRY.get_sample_value("trenza_model_memory_bytes", labels) == 1000)
        assert REGISTRY.get_sample_value("trenza_model_crashes_total", {"model": "shown"}) == 0
        await host.obey(directive(unload_model=scheduler_pb2.UnloadModel(model="shown")))
        await eventually(lambda: REGISTRY.get_sample_value("trenza_model_memory_bytes", labels) is None)
        assert REGISTRY.get_sample_value("trenza_model_loaded", {"model": "shown"}) == 0


async def test_follows_the_models_root(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    async with hosting(tmp_path) as host:
        write_model(tmp_path, "b")
        await eventually(lambda: host.names() == ["a", "b"])
        shutil.rmtree(tmp_path / "a")
        await eventually(lambda: host.names() == ["b"])
        async with host.use("b", 10) as model:
            shutil.rmtree(tmp_path / "b")
            await asyncio.sleep(0.3)
            assert await count_to(model, 2) == [0, 1]
        await eventually(lambda: host.names() == [])
        assert model.worker.ended.is_set()


async def test_a_service_that_stops_gives_out_no_more_models(tmp_path: Path) -> None:
    write_model(tmp_path, "m", "slow")
    async with hosting(tmp_path) as host:
        asking = asyncio.create_task(fault_of(host, "m"))
        await asyncio.sleep(0.2)
        await host.stop(1)
        assert (await asyncio.wait_for(asking, 5)).reason == "DRAINING"
        assert (await fault_of(host, "m")).reason == "DRAINING"


async def test_a_mistake_of_the_service_is_a_failure_and_no_endless_loop(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    registry = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT)

    def broken(_: ModelManifest) -> tuple[str, Any]:
        raise KeyError("no such engine")

    host = ModelHost(registry, broken, read_devices=lambda: [Device("cpu", 2**40, 2**40, 0.0)])
    fault = await fault_of(host, "m")
    assert (fault.reason, fault.details["cause"]) == ("MODEL_LOAD_FAILED", "INTERNAL")
    await host.stop(0)


async def test_lists_its_models_over_grpc(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    write_model(tmp_path, "b")
    async with hosting(tmp_path) as host:
        servicer = ModelServicer(host)
        service = RpcService(
            SERVICE, lambda server: common_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
        )
        server = RpcServer("127.0.0.1", 0, [service])
        port = await server.start()
        async with open_channel(f"127.0.0.1:{port}") as channel:
            stub = common_pb2_grpc.ModelServiceStub(channel)
            listed = await stub.ListModels(common_pb2.ListModelsRequest())
            assert [model.name for model in listed.models] == ["a", "b"]
            audio = common_pb2.ListModelsRequest(modality=common_pb2.MODALITY_AUDIO)
            assert not (await stub.ListModels(audio)).models
            async with host.use("b", 10):
                pass
            model = (await stub.GetModel(common_pb2.GetModelRequest(name="b"))).model
            assert (model.name, model.load_state, model.slots) == ("b", LOADED, 2)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetModel(common_pb2.GetModelRequest(name="c"))
            assert from_rpc_error(caught.value).reason == "MODEL_NOT_FOUND"
        await server.drain(1)
