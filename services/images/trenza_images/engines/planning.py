"""Turns a request into what a pipeline is called with, or refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from trenza_runtime.worker.engine import EngineFailure

from trenza_images.core import defaults, sizes
from trenza_images.engine import MAX_STEPS, MIN_SIDE, DrawRequest, ImagesSpec
from trenza_images.engines import canvas, decoding, prompts
from trenza_images.engines.pipelines import Mode, Pipelines, usual_size


class Refused(Exception):
    """The request cannot be served, and says why."""

    def __init__(self, reason: str, message: str, param: str) -> None:
        super().__init__(message)
        self.failure = EngineFailure(reason, message, {"param": param})


@dataclass(frozen=True)
class PicturePlan:
    """How the pictures of one request are drawn.

    `steps` are made for each. `source` and `area` are what finished pictures are pasted back into: the given picture in the size
    that is shown, and where it was redrawn.
    """

    mode: Mode
    sizes: sizes.SizePlan
    steps: int
    arguments: Mapping[str, Any]
    sketch_steps: tuple[int, ...]
    reading: prompts.Reading
    source: Image.Image | None = None
    area: Image.Image | None = None


@dataclass(frozen=True)
class _Sources:
    """What was uploaded, decoded: a picture without transparency, and the area of it that is to be redrawn."""

    picture: Image.Image | None = None
    area: Image.Image | None = None


class Planner:
    """Plans requests for one model."""

    def __init__(self, pipelines: Pipelines, spec: ImagesSpec) -> None:
        self._pipelines = pipelines
        self._manifest = spec.defaults
        self._limits = spec.limits
        self.usual = defaults.usual(pipelines.traits(), spec.defaults.steps, spec.defaults.guidance_scale)
        self.rules = sizes.SizeRules(
            usual=spec.defaults.size or usual_size(pipelines.root),
            multiple=pipelines.multiple(),
            native=spec.defaults.native_size,
            min_side=MIN_SIDE,
            max_side=spec.limits.side,
            max_pixels=spec.limits.pixels,
        )

    def plan(self, request: DrawRequest) -> PicturePlan:
        """How to draw it. Decodes what was uploaded. Raises Refused."""
        mode = self._mode(request)
        sources = self._sources(request)
        size_plan = self._sizes(request, sources)
        strength = self._strength(request, mode)
        steps = request.steps or defaults.steps_of(request.quality, self.usual.steps, MAX_STEPS)
        made = steps
        if strength is not None:
            steps = defaults.schedule_length(steps, strength)
            made = defaults.made_steps(steps, strength)
        root = self._pipelines.root
        reading = prompts.read(root, request.prompt)
        arguments = self._arguments(request, mode, size_plan, sources, strength)
        arguments |= {"num_inference_steps": steps, "prompt": reading.given}
        return PicturePlan(
            mode=mode,
            sizes=size_plan,
            steps=made,
            arguments=self._taken(mode, arguments),
            sketch_steps=defaults.sketch_steps(made, request.sketches) if decoding.can_decode(root) else (),
            reading=reading,
            source=canvas.resized(sources.picture, size_plan.shown) if sources.picture and sources.area else None,
            area=canvas.resized_area(sources.area, size_plan.shown) if sources.area else None,
        )

    def _mode(self, request: DrawRequest) -> Mode:
        mode: Mode = "text" if request.task == "generate" else "inpaint" if request.mask is not None else "image"
        if request.transparent:
            raise Refused("UNSUPPORTED", "This model draws no transparent backgrounds.", "background")
        if len(request.sources) > 1:
            raise Refused("INVALID_ARGUMENT", "This model redraws one picture at a time.", "image")
        if mode in self._pipelines.modes:
            return mode
        what, param = {
            "text": ("does not draw from a text alone", "model"),
            "image": ("does not redraw whole pictures", "model"),
            "inpaint": ("does not redraw parts of pictures", "mask"),
        }[mode]
        raise Refused("UNSUPPORTED", f"This model {what}.", param)

    def _sources(self, request: DrawRequest) -> _Sources:
        if request.task == "generate":
            return _Sources()
        picture = self._read(request.sources[0], "image")
        if request.mask is None:
            return _Sources(canvas.flat(picture))
        mask = self._read(request.mask, "mask")
        if mask.size != picture.size:
            given = f"{mask.width}x{mask.height}", f"{picture.width}x{picture.height}"
            raise Refused(
                "INVALID_ARGUMENT", f"The mask must be as large as the picture: {given[0]} is not {given[1]}.", "mask"
            )
        return _Sources(canvas.flat(picture), canvas.redrawn_area(mask))

    def _read(self, data: bytes, param: str) -> Image.Image:
        try:
            return canvas.read(data, self._limits.source_pixels)
        except canvas.PictureError as error:
            raise Refused("INVALID_ARGUMENT", f"The {param} cannot be used. {error}", param) from None

    def _sizes(self, request: DrawRequest, sources: _Sources) -> sizes.SizePlan:
        try:
            if sources.picture is None:
                return sizes.plan_generated(request.size, self.rules)
            return sizes.plan_redrawn(request.size, sources.picture.size, self.rules)
        except sizes.SizeError as error:
            raise Refused("INVALID_ARGUMENT", str(error), "size" if request.size else "image") from None

    def _strength(self, request: DrawRequest, mode: Mode) -> float | None:
        """None where a given picture is no starting point."""
        if mode == "text" or "strength" not in self._pipelines.parameters(mode):
            if request.strength is not None:
                raise Refused("UNSUPPORTED", "Strength means nothing here: nothing is redrawn by degrees.", "strength")
            return None
        if request.strength is not None:
            return request.strength
        manifest = self._manifest
        return defaults.usual_strength(request.task, mode == "inpaint", manifest.strength, manifest.variation_strength)

    def _arguments(
        self, request: DrawRequest, mode: Mode, size_plan: sizes.SizePlan, sources: _Sources, strength: float | None
    ) -> dict[str, Any]:
        guidance = self.usual.guidance_scale if request.guidance_scale is None else request.guidance_scale
        if request.negative_prompt and "negative_prompt" not in self._pipelines.parameters(mode):
            raise Refused("UNSUPPORTED", "This model takes no negative prompt.", "negative_prompt")
        width, height = size_plan.drawn
        arguments: dict[str, Any] = {
            "negative_prompt": prompts.read(self._pipelines.root, request.negative_prompt).given or None,
            "width": width,
            "height": height,
            "guidance_scale": guidance,
            "strength": strength,
            "output_type": "pil",
        }
        if sources.picture is not None:
            arguments["image"] = canvas.resized(sources.picture, size_plan.drawn)
        if sources.area is not None:
            arguments["mask_image"] = canvas.resized_area(sources.area, size_plan.drawn)
        return arguments

    def _taken(self, mode: Mode, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that this pipeline's call takes; None stands for its own default."""
        taken = self._pipelines.parameters(mode)
        return {name: value for name, value in arguments.items() if name in taken and value is not None}
