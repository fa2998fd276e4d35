"""The models of one service: loaded when asked for, brought back after a crash, removed when another needs the room.

Everything here runs in one task's event loop; a decision and the change that it makes are never parted by an `await`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import psutil
from trenza.scheduler.v1 import scheduler_pb2

from trenza_runtime.admission import AdmissionGate
from trenza_runtime.devices import CPU, Device, Devices
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models import metrics
from trenza_runtime.models.core.plan import DoesNotFit, Load, Memory, Wait, plan_load
from trenza_runtime.models.hosted import HostedModel, LoadedModel
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.worker.engine import ModelFacts, ModelLoadError
from trenza_runtime.worker.process import STALL_LIMIT_S, WorkerProcess

__all__ = ["HostLimits", "LoadedModel", "ModelHost", "SpecFor"]

log = logging.getLogger(__name__)

SpecFor = Callable[[ModelManifest], tuple[str, Any]]
"""How a service runs a model: the loader's import path and the spec it is given. May raise ModelLoadError."""

_PATIENCE_S = 5.0
"""A caller waits for a crashed model that comes back this soon; otherwise it is told when to come back itself."""
_MAX_RECOVERIES = 6
"""After so many failures in a row a model that is not pinned is loaded again only when somebody asks for it."""
_NAMES_SHOWN = 20
_PROGRESS_STEPS = 20
"""How many times a load's progress is told at once; in between the next heartbeat will do."""


@dataclass(frozen=True)
class HostLimits:
    """What a host takes on. `usual_slots` is what it tells of a model that was never loaded and whose manifest is silent."""

    loaded_models: int = 3
    queue_limit: int = 32
    usual_slots: int = 1
    load_s: float = 900.0
    unload_s: float = 10.0
    stall_s: float = STALL_LIMIT_S
    rescan_s: float = 5.0


class ModelHost:
    """Gives callers loaded models. Looks at the models root once when it is made; `run` goes on looking.

    `on_change` is called when a model's state changes. Models are loaded one after the other, so that the memory that is
    free is known; requests for models in memory do not notice.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        spec_for: SpecFor,
        limits: HostLimits | None = None,
        on_change: Callable[[], None] = lambda: None,
        read_devices: Callable[[], Sequence[Device]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._spec_for = spec_for
        self._limits = limits or HostLimits()
        self._on_change = on_change
        self._read_devices = read_devices or Devices().read
        self._clock = clock
        self._models: dict[str, HostedModel] = {}
        self._pins: set[str] = set()
        self._load_lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._registry.scan()
        self._take_catalogue()  # nothing is told yet: whoever makes a host may still be making what listens to it

    def names(self) -> list[str]:
        """The models that there are, sorted."""
        return sorted(self._models)

    def manifests(self) -> list[ModelManifest]:
        """What the folders of the models say, sorted by name."""
        return [self._models[name].manifest for name in self.names()]

    def states(self) -> list[scheduler_pb2.ModelState]:
        """Every model as the scheduler is told of it, sorted by name."""
        return [self._models[name].describe(self._limits.usual_slots) for name in self.names()]

    def loaded(self) -> list[LoadedModel]:
        """The models in memory."""
        return [model.loaded for model in self._models.values() if model.loaded]

    @asynccontextmanager
    async def use(self, name: str, limit_s: float) -> AsyncIterator[LoadedModel]:
        """Gives a model, loading it first where it has to be; it stays loaded inside the block.

        Raises RpcFault: NOT_FOUND/MODEL_NOT_FOUND; UNAVAILABLE/MODEL_LOAD_FAILED while it is left alone after a failure;
        DEADLINE_EXCEEDED/MODEL_LOADING when it is not loaded after `limit_s` seconds; UNAVAILABLE/DRAINING while stopping.
        """
        model = self._find(name)
        loaded = model.enter() or await self._enter_once_loaded(model, limit_s)
        try:
            yield loaded
        finally:
            loaded.users -= 1
            model.used(loaded)
            if not loaded.users:
                self._became_idle(model)

    def preload(self, names: Iterable[str]) -> None:
        """Begins to load models and keeps them loaded; one whose folder is not there yet is loaded when it comes."""
        for name in names:
            self._pins.add(name)
            if name in self._models:
                self._pin(self._models[name])
            else:
                log.warning("a model to be kept loaded is not there", extra={"model": name})

    async def obey(self, directive: scheduler_pb2.Directive) -> None:
        """Begins what the scheduler asks for, loading or unloading; unknown models and other orders are ignored."""
        order = directive.WhichOneof("order")
        if order == "load_model" and (model := self._models.get(directive.load_model.model)):
            if directive.load_model.pin:
                self.preload([model.name])
            elif not model.backoff.remaining_s(self._clock()):
                model.called_for = True
                self._ensure_loading(model)
        elif order == "unload_model" and (model := self._models.get(directive.unload_model.model)):
            self._pins.discard(model.name)
            model.pinned = model.called_for = False
            model.unload_when_idle = model.loaded is not None
            self._became_idle(model)

    async def run(self) -> None:
        """Looks for new and removed models and publishes figures, for ever."""
        scan_due_s = self._clock() + self._limits.rescan_s
        while True:
            await asyncio.sleep(min(1.0, self._limits.rescan_s))
            for loaded in self.loaded():
                gate = loaded.gate
                metrics.show_loaded(
                    loaded.name, gate.slots_used, gate.waiting, loaded.memory_bytes, loaded.worker.gauges
                )
            if self._clock() >= scan_due_s:
                await asyncio.to_thread(self._registry.scan)
                if self._take_catalogue():
                    self._changed()
                scan_due_s = self._clock() + self._limits.rescan_s

    async def stop(self, grace_s: float) -> None:
        """Unloads everything within about `grace_s` seconds. Requests that still run end with ENGINE_CRASHED."""
        self._stopping = True
        unloads = [model.unloading for model in self._models.values() if model.unloading]
        for task in self._tasks - set(unloads):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(loaded.worker.stop(grace_s) for loaded in self.loaded()), return_exceptions=True)

    def _find(self, name: str) -> HostedModel:
        if self._stopping:
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.DRAINING, "This process is stopping.")
        if model := self._models.get(name):
            return model
        raise model_not_found(name, self.names())

    async def _enter_once_loaded(self, model: HostedModel, limit_s: float) -> LoadedModel:
        model.waiters += 1
        try:
            async with asyncio.timeout(limit_s):
                while not (loaded := model.enter()):
                    await self._wait_out_failure(model)
                    await asyncio.wait([self._ensure_loading(model)])
                return loaded
        except TimeoutError:
            message = f"The model {model.name} was still being loaded ({model.progress:.0%}) when the time was up."
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise RpcFault(code, Reason.MODEL_LOADING, message, {"model": model.name}) from None
        finally:
            model.waiters -= 1
            self._became_idle(model)

    async def _wait_out_failure(self, model: HostedModel) -> None:
        """Raises RpcFault while the model is left alone after a failure, unless it is one that will soon be over."""
        if self._stopping:
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.DRAINING, "This process is stopping.")
        remaining_s = model.backoff.remaining_s(self._clock())
        if not remaining_s:
            return
        if not model.died_loaded or remaining_s > _PATIENCE_S:
            message = f"The model {model.name} is not loaded: {model.failure}"
            details = {"model": model.name, "cause": model.failure_reason}
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.MODEL_LOAD_FAILED, message, details, remaining_s)
        await asyncio.sleep(remaining_s)

    def _ensure_loading(self, model: HostedModel) -> asyncio.Task[None]:
        """The task that loads the model: one for all who want it."""
        if model.loading is None or model.loading.done():
            model.loading = self._spawn(self._load(model))
        return model.loading

    async def _load(self, model: HostedModel) -> None:
        """Loads a model once there is room for it; gives up when nobody wants it any more."""
        try:
            while not model.loaded and model.wanted:
                news = self._news
                if await self._load_if_there_is_room(model):
                    return
                await news.wait()
        except ModelLoadError as error:
            self._load_failed(model, str(error), error.reason)
        except Exception:
            log.exception("loading a model went wrong", extra={"model": model.name})
            self._load_failed(model, "the service made a mistake; its log says more", Reason.INTERNAL)
        finally:
            model.loading = None
            self._became_idle(model)

    def _load_failed(self, model: HostedModel, message: str, reason: str) -> None:
        log.warning("a model cannot be loaded", extra={"model": model.name, "error": message, "reason": reason})
        metrics.LOADS.labels(model.name, "failed").inc()
        model.became_failed(message, reason)
        self._changed()
        model.called_for = model.called_for and model.backoff.failures < _MAX_RECOVERIES
        if model.pinned or model.called_for:
            self._spawn(self._come_back(model))

    async def _load_if_there_is_room(self, model: HostedModel) -> bool:
        """Raises ModelLoadError when the model is too large or broken."""
        async with self._load_lock:
            await asyncio.gather(*(other.unloading for other in self._models.values() if other.unloading))
            residents = [other.resident(other.loaded) for other in self._models.values() if other.loaded]
            free_bytes = {device.name: device.memory_free_bytes for device in self._read_devices()}
            match plan_load(model.need, residents, free_bytes, self._limits.loaded_models):
                case DoesNotFit(message):
                    raise ModelLoadError(f"there is no room for it: {message}", Reason.NO_CAPACITY)
                case Wait(busy):
                    log.info("a model waits for room", extra={"model": model.name, "busy": ",".join(busy)})
                    return False
                case Load(evict):
                    await self._evict(evict)
            await self._start_worker(model)
            return True

    async def _evict(self, names: Sequence[str]) -> None:
        for name in names:
            log.info("a model makes room", extra={"model": name})
            metrics.EVICTIONS.labels(name).inc()
        await asyncio.gather(*[self._unload(self._models[name]) for name in names])

    async def _start_worker(self, model: HostedModel) -> None:
        manifest, begun_s = model.manifest, self._clock()
        model.became_loading()
        self._changed()
        loader, spec = self._spec_for(manifest)
        worker = WorkerProcess(model.name, loader, spec, self._limits.stall_s)

        def on_progress(fraction: float) -> None:
            told, model.progress = model.progress, fraction
            if int(fraction * _PROGRESS_STEPS) != int(told * _PROGRESS_STEPS):
                self._on_change()

        try:
            async with asyncio.timeout(self._limits.load_s):
                facts = await worker.start(on_progress)
        except TimeoutError:
            raise ModelLoadError(f"it was not loaded after {self._limits.load_s:.0f} seconds") from None
        gate = AdmissionGate(facts.slots, self._limits.queue_limit, self._clock)
        now_s = self._clock()
        loaded = LoadedModel(manifest, facts, worker, gate, _memory_bytes(facts, worker), now_s, now_s)
        model.became_loaded(loaded)
        self._spawn(self._watch(model, loaded))
        metrics.LOADS.labels(model.name, "loaded").inc()
        metrics.LOAD_SECONDS.labels(model.name).observe(now_s - begun_s)
        log.info(
            "model loaded", extra={"model": model.name, "slots": facts.slots, "properties": dict(facts.properties)}
        )
        self._changed()

    async def _watch(self, model: HostedModel, loaded: LoadedModel) -> None:
        """Brings a model back whose process died without having been asked to."""
        await loaded.worker.ended.wait()
        metrics.show_absent(model.name)
        if model.loaded is not loaded:
            return
        metrics.CRASHES.labels(model.name).inc()
        model.became_failed(f"the process that ran it {loaded.worker.how_it_ended}", Reason.ENGINE_CRASHED)
        model.called_for = True
        self._changed()
        await self._come_back(model)

    async def _come_back(self, model: HostedModel) -> None:
        await asyncio.sleep(model.backoff.remaining_s(self._clock()))
        if model.wanted and not self._stopping:
            self._ensure_loading(model)

    def _unload(self, model: HostedModel) -> asyncio.Task[None]:
        """Begins to remove a model from memory; the task ends when its process has."""
        loaded = model.became_unloading()
        self._changed()
        model.unloading = self._spawn(self._finish_unload(model, loaded))
        return model.unloading

    async def _finish_unload(self, model: HostedModel, loaded: LoadedModel | None) -> None:
        if loaded:
            await loaded.worker.stop(self._limits.unload_s)
        model.unloading = None
        model.became_loadable()
        log.info("model unloaded", extra={"model": model.name})
        self._changed()
        self._forget_if_gone(model)

    def _became_idle(self, model: HostedModel) -> None:
        """Lets go of a model that nobody uses, where that was asked for; tells loads that wait for room."""
        if model.idle and (model.unload_when_idle or model.removed):
            self._unload(model)
        self._forget_if_gone(model)
        self._tell_waiting_loads()

    def _forget_if_gone(self, model: HostedModel) -> None:
        if model.forgettable and self._models.get(model.name) is model:
            del self._models[model.name]
            self._changed()

    def _take_catalogue(self) -> bool:
        """Follows what the last scan found; says whether that is something new."""
        found = self._registry.catalogue.models
        known = {name: model.manifest for name, model in self._models.items() if not model.removed}
        for name, manifest in found.items():
            if name in self._models:
                self._models[name].refresh(manifest)
            else:
                self._models[name] = HostedModel(manifest, self._clock)
            if name in self._pins and not self._models[name].pinned:
                self._pin(self._models[name])
        for name in list(self._models.keys() - found.keys()):
            self._remove(self._models[name])
        if known != found:
            log.info("models found", extra={"models": ",".join(sorted(found))})
        return known != found

    def _remove(self, model: HostedModel) -> None:
        """Forgets a model whose folder is gone: at once, or when it is idle."""
        model.removed, model.pinned, model.called_for = True, False, False
        self._became_idle(model)

    def _pin(self, model: HostedModel) -> None:
        model.pinned = True
        if not model.loaded:
            self._ensure_loading(model)

    def _changed(self) -> None:
        self._tell_waiting_loads()
        self._on_change()

    def _tell_waiting_loads(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task


def model_not_found(name: str, there: Sequence[str]) -> RpcFault:
    """What is answered to a request for a model that there is not: NOT_FOUND/MODEL_NOT_FOUND, with the names of those there are."""
    shown = ", ".join(there[:_NAMES_SHOWN]) + (" …" if len(there) > _NAMES_SHOWN else "")
    message = f"There is no model {name[:128]!r} here; there is: {shown or 'none'}."
    return RpcFault(grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND, message, {"model": name[:128]})


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a task of the model host failed", exc_info=error)


def _memory_bytes(facts: ModelFacts, worker: WorkerProcess) -> Memory:
    """What the engine says that the model holds, else what its process holds."""
    if facts.memory_bytes:
        return dict(facts.memory_bytes)
    try:
        return {CPU: int(psutil.Process(worker.pid).memory_info().rss)}
    except psutil.Error:
        return {}
