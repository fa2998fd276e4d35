"""One request while it is drawn: its pictures, what they have come to, what is told of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from trenza_runtime.worker.engine import EngineFailure

from trenza_images.engine import Advanced, DrawEvent, Drawn, DrawRequest, Picture, Sketch
from trenza_images.engines import canvas, decoding
from trenza_images.engines.drawing import pause
from trenza_images.engines.foresight import Foresight
from trenza_images.engines.pipelines import Pipelines
from trenza_images.engines.planning import PicturePlan

_SEED_SPAN = 2**64
_LEAST_SEED = -(2**63)


def seed_of(base: int, index: int) -> int:
    """The seed of picture `index` of a request, within 64 bits with a sign."""
    return (base + index - _LEAST_SEED) % _SEED_SPAN + _LEAST_SEED


class Job:
    """A request whose pictures are drawn one, several or all at a time."""

    def __init__(self, request_id: str, request: DrawRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self.request_id = request_id
        self.request = request
        self.plan: PicturePlan | None = None
        self.to_begin: deque[int] = deque()
        """Pictures of which nothing is done yet."""
        self._clock = clock
        self._events: list[DrawEvent | EngineFailure] = []
        self._steps_made = [0] * request.count
        self._finished = 0
        self._arrived_s = self._begun_s = self._first_step_s = clock()
        self._told_steps = 0

    def planned(self, plan: PicturePlan) -> None:
        """It is known how to draw it: the pictures may begin."""
        self.plan = plan
        self.to_begin.extend(range(self.request.count))
        self._begun_s = self._clock()

    def take_events(self) -> list[DrawEvent | EngineFailure]:
        """What has happened since the last look, the progress as of now last before the end."""
        events, self._events = self._events, []
        made = sum(self._steps_made)
        if self.plan and made != self._told_steps:
            total = self.plan.steps * self.request.count
            self._told_steps = made
            events.append(Advanced(made / total, made, total))
        if self.plan and self._finished == self.request.count:
            events.append(self._summary(self.plan))
        return events

    def draw(self, index: int, pipelines: Pipelines) -> None:
        """Draws one picture; the work of a `Drawing`."""
        assert self.plan is not None
        plan, pipe = self.plan, pipelines.copy(self.plan.mode)
        arguments = dict(plan.arguments)
        taken = pipelines.parameters(plan.mode)
        if "generator" in taken:
            # On the CPU whatever the device: the same seed is the same noise everywhere.
            arguments["generator"] = torch.Generator("cpu").manual_seed(seed_of(self.request.seed, index))
        if "callback_on_step_end" in taken:
            arguments["callback_on_step_end"] = self._watcher(index, plan, pipe, pipelines)
        image = pipe(**arguments).images[0]
        pause()  # encoding takes its time, and nobody can share it
        data = canvas.encoded(self._finish(image, plan), self.request.encoding)
        self._steps_made[index] = plan.steps
        self._finished += 1
        self._events.append(Picture(index, data, seed_of(self.request.seed, index)))

    def _watcher(self, index: int, plan: PicturePlan, pipe: Any, pipelines: Pipelines) -> Callable[..., dict[str, Any]]:
        foresight = Foresight(pipe.scheduler) if plan.sketch_steps else None
        sketches = deque(enumerate(plan.sketch_steps))

        def on_step_end(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            # Schedulers of a higher order call their network more often than once for a step.
            made = (step + 1) * plan.steps // (getattr(pipe, "num_timesteps", 0) or plan.steps)
            self._stepped(index, min(made, plan.steps))
            sketch_due = bool(sketches) and sketches[0][1] <= made < plan.steps
            if not pipelines.stops_to_draw or ((sketch_due or made >= plan.steps) and not pipelines.stops_to_decode):
                pause()
            if sketch_due:
                latents = tensors["latents"] if foresight is None or foresight.expected is None else foresight.expected
                self._sketch(index, sketches.popleft()[0], plan, pipe, latents)
            return {}

        return on_step_end

    def _stepped(self, index: int, made: int) -> None:
        if not any(self._steps_made):
            self._first_step_s = self._clock()
        self._steps_made[index] = made

    def _sketch(self, index: int, number: int, plan: PicturePlan, pipe: Any, latents: torch.Tensor) -> None:
        width, height = plan.sizes.drawn
        image = decoding.decoded(pipe, latents, height, width)
        self._events.append(Sketch(index, number, canvas.encoded(self._finish(image, plan), self.request.encoding)))

    @staticmethod
    def _finish(image: Image.Image, plan: PicturePlan) -> Image.Image:
        """In the size that is shown, with everything that was not to be redrawn as it was."""
        shown = canvas.resized(image, plan.sizes.shown)
        if plan.source is None or plan.area is None:
            return shown
        return Image.composite(shown.convert("RGB"), plan.source, plan.area)

    def _summary(self, plan: PicturePlan) -> Drawn:
        now_s = self._clock()
        return Drawn(
            count=self.request.count,
            size=plan.sizes.shown,
            steps=plan.steps,
            quality="medium" if self.request.quality == "auto" else self.request.quality,
            prompt_tokens=plan.reading.tokens,
            truncated_prompt=plan.reading.left_out,
            queue_s=self._begun_s - self._arrived_s,
            first_step_s=self._first_step_s - self._begun_s,
            draw_s=now_s - self._first_step_s,
        )
