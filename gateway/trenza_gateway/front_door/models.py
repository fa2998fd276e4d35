"""ModelService for the whole fleet."""

from __future__ import annotations

from trenza.common.v1 import common_pb2, common_pb2_grpc

from trenza_gateway.dispatch import faults
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.front_door.callers import Callers, Context


class ModelsFrontDoor(common_pb2_grpc.ModelServiceServicer):
    """The servicer."""

    def __init__(self, callers: Callers, fleet: Fleet) -> None:
        self._callers = callers
        self._fleet = fleet

    async def ListModels(
        self, request: common_pb2.ListModelsRequest, context: Context
    ) -> common_pb2.ListModelsResponse:
        """Lists models."""
        self._callers.tenant(context)
        wanted = request.modality
        return common_pb2.ListModelsResponse(
            models=[
                model for model in self._fleet.models() if wanted in (common_pb2.MODALITY_UNSPECIFIED, model.modality)
            ]
        )

    async def GetModel(self, request: common_pb2.GetModelRequest, context: Context) -> common_pb2.GetModelResponse:
        """Looks up one model."""
        self._callers.tenant(context)
        model = self._fleet.model(request.name)
        if model is None:
            raise faults.model_not_found(request.name)
        return common_pb2.GetModelResponse(model=model)
