"""The jobs of the images API: how many pictures, how large, in how many steps."""

from __future__ import annotations

from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2

from trenza_gateway.dispatch.intake.intake import Effort, Intake
from trenza_gateway.dispatch.job import Job

USUAL_SIDE_PIXELS = 512
"""What a side counts as where the request leaves it to the model."""

_MOST_UNITS = 2**32 - 1


class ImagesIntake:
    """Makes jobs of images requests. Each method raises RpcFault for one that cannot be served whoever were to serve it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def generation(self, request: images_pb2.GenerateRequest, time_limit_s: float | None = None) -> Job:
        """The job of drawing from a text. `time_limit_s` is the caller's own limit for the whole request."""
        return self._job(request.context, common_pb2.CAPABILITY_IMAGE_GENERATION, request.options, time_limit_s)

    def edit(self, config: images_pb2.EditConfig, time_limit_s: float | None = None) -> Job:
        """The job of redrawing pictures."""
        return self._job(config.context, common_pb2.CAPABILITY_IMAGE_EDIT, config.options, time_limit_s)

    def variation(self, config: images_pb2.VaryConfig, time_limit_s: float | None = None) -> Job:
        """The job of drawing pictures like another."""
        return self._job(config.context, common_pb2.CAPABILITY_IMAGE_EDIT, config.options, time_limit_s)

    @staticmethod
    def units_drawn(summary: images_pb2.DrawingSummary) -> int:
        """How much was drawn, in the units of a job's size."""
        return _units(summary.images * summary.width * summary.height)

    def _job(
        self,
        context: common_pb2.RequestContext,
        capability: common_pb2.Capability.ValueType,
        options: images_pb2.DrawingOptions,
        time_limit_s: float | None,
    ) -> Job:
        self._intake.require(context.model, common_pb2.MODALITY_IMAGES, capability)
        pictures = max(1, options.count)
        # A request of more pictures than a replica draws together is drawn in turns, on all the slots that there are.
        slots = min(pictures, self._intake.most_slots(context.model) or 1)
        pixels = (options.width or USUAL_SIDE_PIXELS) * (options.height or USUAL_SIDE_PIXELS)
        effort = Effort(slots=slots, size_estimate=_units(pictures * pixels))
        return self._intake.job(context, common_pb2.MODALITY_IMAGES, effort, time_limit_s)


def _units(pixels: int) -> int:
    return min(pixels // USUAL_SIDE_PIXELS, _MOST_UNITS)
