"""One model of a service: what it is, where it stands between the disk and an answer, and how it describes itself."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2

from trenza_runtime.admission import AdmissionGate
from trenza_runtime.models.core.backoff import Backoff
from trenza_runtime.models.core.plan import Memory, Need, Resident
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelFacts
from trenza_runtime.worker.process import WorkerProcess


@dataclass(eq=False)
class LoadedModel:
    """A model in memory: its worker process, and the gate in front of its slots.

    `users` counts those inside `ModelHost.use`; while there is one, the model is not unloaded.
    """

    manifest: ModelManifest
    facts: ModelFacts
    worker: WorkerProcess
    gate: AdmissionGate
    memory_bytes: Memory
    loaded_at_s: float
    idle_since_s: float
    users: int = 0

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """Stands for the model's files and how they are run: the same request with the same seed answers alike under it."""
        parts = [self.name, str(self.manifest.created_unix_s), str(self.manifest.size_bytes), str(self.facts.slots)]
        parts += [f"{key}={value}" for key, value in sorted(self.facts.properties.items())]
        return "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


class HostedModel:
    """A model over all its lives. It only keeps account: `ModelHost` decides and acts."""

    def __init__(self, manifest: ModelManifest, clock: Callable[[], float]) -> None:
        self.manifest = manifest
        self.state: common_pb2.LoadState.ValueType = common_pb2.LOAD_STATE_LOADABLE
        self.progress = 0.0
        self.failure = ""
        self.failure_reason = ""
        self.died_loaded = False
        """Whether the last failure was that it died in memory, not that it could not be loaded."""
        self.pinned = False
        self.called_for = False
        """Whether it is to be loaded though nobody waits for it: after a crash, or because the scheduler wants it."""
        self.unload_when_idle = False
        self.removed = False
        """Whether its folder is gone."""
        self.waiters = 0
        """Callers that wait for it to be loaded."""
        self.loaded: LoadedModel | None = None
        self.loading: asyncio.Task[None] | None = None
        self.unloading: asyncio.Task[None] | None = None
        self.backoff = Backoff()
        self.measured_bytes: Memory = {}
        self.last_used_unix_s = 0
        self._clock = clock

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it, or it belongs into memory anyway."""
        return self.waiters > 0 or self.pinned or self.called_for

    @property
    def idle(self) -> bool:
        """Whether it is in memory and nobody uses it or is about to."""
        return self.loaded is not None and not self.loaded.users and not self.waiters

    @property
    def forgettable(self) -> bool:
        """Whether its folder is gone and nothing goes on with it any more."""
        return self.removed and not (self.loaded or self.loading or self.unloading or self.waiters)

    @property
    def need(self) -> Need:
        """The memory that it takes: as measured when it was loaded last, else as large as its files."""
        return Need(self.measured_bytes, self.manifest.size_bytes)

    def resident(self, loaded: LoadedModel) -> Resident:
        """The model as the memory plan sees it."""
        in_use = loaded.users > 0 or self.waiters > 0
        return Resident(self.name, loaded.idle_since_s, in_use, self.pinned, loaded.memory_bytes)

    def became_loading(self) -> None:
        """A worker process begins to load it."""
        self.state, self.progress = common_pb2.LOAD_STATE_LOADING, 0.0

    def became_loaded(self, loaded: LoadedModel) -> None:
        """It answers now."""
        self.state, self.progress, self.failure, self.failure_reason = common_pb2.LOAD_STATE_LOADED, 1.0, "", ""
        self.loaded, self.measured_bytes, self.called_for = loaded, loaded.memory_bytes, False
        self.unload_when_idle = False

    def became_failed(self, message: str, reason: str) -> None:
        """It could not be loaded, or its process died; it is left alone for a while."""
        now_s = self._clock()
        healthy_for_s = now_s - self.loaded.loaded_at_s if self.loaded else 0.0
        self.backoff.failed(now_s, healthy_for_s)
        self.died_loaded = self.loaded is not None
        self.state, self.progress, self.loaded = common_pb2.LOAD_STATE_FAILED, 0.0, None
        self.failure, self.failure_reason = message, reason

    def became_unloading(self) -> LoadedModel | None:
        """It is leaving memory; returns what has to be stopped."""
        loaded, self.loaded = self.loaded, None
        self.state, self.progress, self.unload_when_idle = common_pb2.LOAD_STATE_UNLOADING, 0.0, False
        return loaded

    def became_loadable(self) -> None:
        """It is on the disk only."""
        self.state, self.progress, self.failure, self.failure_reason = common_pb2.LOAD_STATE_LOADABLE, 0.0, "", ""

    def enter(self) -> LoadedModel | None:
        """Begins a use of it; None where it is not in memory."""
        if self.loaded:
            self.loaded.users += 1
        return self.loaded

    def used(self, loaded: LoadedModel) -> None:
        """Notes that a use of it has ended."""
        loaded.idle_since_s = self._clock()
        self.last_used_unix_s = int(time.time())

    def refresh(self, manifest: ModelManifest) -> None:
        """Takes a manifest that has changed; a model in memory goes on as it was loaded. Past failures no longer count."""
        self.removed = False
        if manifest != self.manifest:
            self.manifest, self.measured_bytes = manifest, {}
            self.backoff.forget()
            if self.state == common_pb2.LOAD_STATE_FAILED:
                self.became_loadable()

    def describe(self, usual_slots: int) -> scheduler_pb2.ModelState:
        """What the scheduler is told. `usual_slots` is the number of slots where neither manifest nor model says one."""
        manifest, loaded = self.manifest, self.loaded
        model = common_pb2.Model(
            name=manifest.name,
            modality=manifest.modality,
            capabilities=manifest.capabilities,
            description=manifest.description,
            created_unix_s=manifest.created_unix_s,
            owned_by=manifest.owned_by,
            context_length=_context_length(manifest, loaded),
            load_state=self.state,
            load_progress=self.progress,
            slots=loaded.facts.slots if loaded else manifest.slots or usual_slots,
        )
        return scheduler_pb2.ModelState(
            model=model,
            slots_used=loaded.gate.slots_used if loaded else 0,
            memory_bytes=sum(self.measured_bytes.values()) or manifest.size_bytes,
            pinned=self.pinned,
            failure=self.failure,
            last_used_unix_s=self.last_used_unix_s,
        )


def _context_length(manifest: ModelManifest, loaded: LoadedModel | None) -> int:
    """What the model turned out to have once it is loaded, in the engine's property `context_length`."""
    known = loaded.facts.properties.get("context_length", "") if loaded else ""
    return int(known) if known.isdigit() else manifest.context_length
