"""The engine that draws with diffusers: plan → choose → run → tell, one forward pass or one decoded picture in each step.

Every picture is a pipeline's own call with its own scheduler and noise. Where such a call runs a text encoder or the denoising
network it stops; the engine makes one pass of all those that stop at the same place with equal shapes, whatever request they
belong to and however far they have come, and lets each go on with its rows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts, ProgressReporter

from trenza_images.core.sharing import PassLimit, Pending, choose
from trenza_images.engine import Drawn, DrawRequest, ImagesSpec
from trenza_images.engines import loading
from trenza_images.engines.drawing import Drawing
from trenza_images.engines.job import Job
from trenza_images.engines.loading import LoadedPipeline
from trenza_images.engines.merging import Call, Grouping, run_together
from trenza_images.engines.planning import Planner, Refused
from trenza_images.engines.shortage import free_memory, is_shortage

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Active:
    """A picture that is being drawn, and what it waits for."""

    job: Job
    drawing: Drawing
    waits_for: Pending
    denoising: bool = False
    """Whether it has come as far as the network that draws."""


class DiffusersEngine:
    """Draws for several requests at once with one loaded pipeline."""

    def __init__(self, loaded: LoadedPipeline, spec: ImagesSpec) -> None:
        self._pipelines = loaded.pipelines
        self._planner = Planner(loaded.pipelines, spec)
        self._grouping = Grouping()
        self._slots = spec.slots
        self._limit = PassLimit(loaded.plan.pass_pixels)
        self._jobs: dict[str, Job] = {}
        self._unplanned: deque[Job] = deque()
        self._active: list[_Active] = []
        self._turn = 0
        self._passes = self._shared_rows = self._splits = 0
        self.facts = self._describe(loaded, spec)

    @property
    def busy(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._jobs)

    def submit(self, request_id: str, request: DrawRequest) -> None:
        """Accepts a request; its uploads are looked at in a later step."""
        self._jobs[request_id] = job = Job(request_id, request)
        self._unplanned.append(job)

    def cancel(self, request_id: str) -> None:
        """Drops a request's pictures where they stand."""
        if job := self._jobs.pop(request_id, None):
            with torch.no_grad():
                self._drop(job)

    def step(self) -> Sequence[Emission]:
        """Makes one pass, or decodes one picture, after whatever can begin has begun."""
        self._turn += 1
        # Around all drawings: each of them switches gradients off, and back to what it found, in whatever order they end.
        with torch.no_grad():
            emissions = self._plan_waiting()
            self._begin_pictures()
            self._advance()
            emissions += self._settle()
        if not self._jobs:
            self._pipelines.rest()
        return emissions

    def gauges(self) -> Mapping[str, float]:
        """Pictures being drawn and waiting, passes made so far, drawings that each of them served, passes that did not fit."""
        return {
            "drawing": len(self._active),
            "waiting": sum(len(job.to_begin) for job in self._jobs.values()) + len(self._unplanned),
            "passes": self._passes,
            "drawings_per_pass": self._shared_rows / self._passes if self._passes else 0.0,
            "split_passes": self._splits,
        }

    def close(self) -> None:
        """Drops everything."""
        for request_id in list(self._jobs):
            self.cancel(request_id)

    def _plan_waiting(self) -> list[Emission]:
        """Plans the requests that have come; of those with uploads, which may take long to decode, one in each step."""
        refusals = []
        while self._unplanned:
            job = self._unplanned.popleft()
            try:
                job.planned(self._planner.plan(job.request))
            except Refused as refused:
                refusals.append(self._end(job, refused.failure))
            if job.request.sources:
                break
        return refusals

    def _begin_pictures(self) -> None:
        for job in self._jobs.values():
            while job.to_begin and len(self._active) < self._slots:
                index = job.to_begin.popleft()
                active = _Active(job, Drawing(partial(job.draw, index, self._pipelines)), Pending(None, self._turn, 0))
                self._active.append(active)
                self._go_on(active, active.drawing.resume)

    def _advance(self) -> None:
        """Serves whoever has waited longest, and all who can share it."""
        waiting = [active for active in self._active if not active.drawing.ended]
        chosen = [waiting[position] for position in choose([one.waits_for for one in waiting], self._limit.pixels)]
        if chosen and isinstance(chosen[0].drawing.stop_at, Call):
            self._make_pass(chosen)
        elif chosen:
            self._go_on(chosen[0], chosen[0].drawing.resume)

    def _make_pass(self, chosen: Sequence[_Active]) -> None:
        """Makes one pass for all of them; where it does not fit into memory, one for each half."""
        calls = [active.drawing.stop_at for active in chosen]
        outcomes, shortage = None, ""
        try:
            outcomes = run_together([call for call in calls if isinstance(call, Call)])
        except Exception as error:
            if not is_shortage(error):
                _raise_if_broken(error)
                for active in chosen:
                    self._go_on(active, partial(active.drawing.fail, error))
                return
            shortage = str(error)
        if outcomes is not None:
            self._limit.fitted()
            self._passes += 1
            self._shared_rows += len(chosen)
            for active, outcome in zip(chosen, outcomes, strict=True):
                self._go_on(active, partial(active.drawing.resume, outcome))
        else:  # past the handler, which would hold on to what the pass had allocated
            self._make_room(chosen, shortage)

    def _make_room(self, chosen: Sequence[_Active], shortage: str) -> None:
        free_memory()
        self._splits += 1
        if len(chosen) == 1:
            self._go_on(chosen[0], partial(chosen[0].drawing.fail, MemoryError(shortage)))
            return
        self._limit.did_not_fit(sum(active.waits_for.pixels for active in chosen))
        log.warning("a pass did not fit into memory", extra={"drawings": len(chosen), "limit": self._limit.pixels})
        middle = len(chosen) // 2
        self._make_pass(chosen[:middle])
        self._make_pass(chosen[middle:])

    def _go_on(self, active: _Active, resume: Callable[[], None]) -> None:
        """Lets a drawing run to its next stop and notes what it waits for there."""
        resume()
        call = active.drawing.stop_at
        if isinstance(call, Call):
            drawn = active.job.plan.sizes.drawn if active.job.plan else (0, 0)
            denoises = self._pipelines.denoises(call.module)
            pixels = call.rows() * drawn[0] * drawn[1] * self._pipelines.weight(call.module)
            active.waits_for = Pending(self._grouping.group_of(call), self._turn, pixels, denoises)
            active.denoising = active.denoising or denoises
        else:
            active.waits_for = Pending(None, self._turn, 0, denoises=False)

    def _settle(self) -> list[Emission]:
        """Tells what came of the step, and forgets what has ended."""
        emissions = []
        for active in [active for active in self._active if active.drawing.ended]:
            if active in self._active:
                self._active.remove(active)
                if active.drawing.error is not None:
                    emissions.append(self._end(active.job, _failure(active.drawing.error, active.denoising)))
        for job in list(self._jobs.values()):
            for event in job.take_events():
                emissions.append(Emission(job.request_id, event, isinstance(event, Drawn)))
                if isinstance(event, Drawn):
                    del self._jobs[job.request_id]
        return emissions

    def _end(self, job: Job, failure: EngineFailure) -> Emission:
        del self._jobs[job.request_id]
        self._drop(job)
        return Emission(job.request_id, failure, last=True)

    def _drop(self, job: Job) -> None:
        if job in self._unplanned:
            self._unplanned.remove(job)
        for active in [active for active in self._active if active.job is job]:
            active.drawing.drop()
            self._active.remove(active)

    def _describe(self, loaded: LoadedPipeline, spec: ImagesSpec) -> ModelFacts:
        usual, rules = self._planner.usual, self._planner.rules
        properties = {
            "pipeline": type(loaded.pipelines.root).__name__,
            "modes": ",".join(loaded.pipelines.modes),
            "device": str(loaded.device),
            "precision": loaded.precision,
            "offload": loaded.plan.offload,
            "pass_pixels": str(loaded.plan.pass_pixels),
            "steps": str(usual.steps),
            "guidance_scale": f"{usual.guidance_scale:g}",
            "size": f"{rules.usual[0]}x{rules.usual[1]}",
            "native_size": str(rules.native or 0),
            "size_multiple": "1" if rules.native else str(rules.multiple),
        }
        return ModelFacts(slots=spec.slots, memory_bytes=loaded.memory_bytes, properties=properties)


def _failure(error: Exception, denoising: bool) -> EngineFailure:
    """What a drawing's error means for its request. Raises it where it means that nothing works any more."""
    if is_shortage(error):
        free_memory()
        message = "There is not enough memory for a picture of this size."
        return EngineFailure("OUT_OF_MEMORY", message, {"param": "size"})
    _raise_if_broken(error)
    log.error("a picture cannot be drawn", exc_info=error)
    if isinstance(error, ValueError) and not denoising:  # how pipelines refuse what they are called with
        return EngineFailure("UNSUPPORTED", f"This model cannot draw that: {str(error)[:300]}")
    return EngineFailure("INTERNAL", f"The pipeline failed with {type(error).__name__}: {str(error)[:300]}")


def _raise_if_broken(error: Exception) -> None:
    """Raises an error after which a GPU serves this process no more."""
    if isinstance(error, RuntimeError) and "CUDA error" in str(error):
        raise error


def load(spec: ImagesSpec, report: ProgressReporter) -> DiffusersEngine:
    """Loads a pipeline and makes its engine; the loader that worker processes import. Raises ModelLoadError."""
    return DiffusersEngine(loading.load(spec, report), spec)
