"""Lists the models of one service over gRPC, as this replica sees them."""

from __future__ import annotations

from typing import Any

import grpc
from trenza.common.v1 import common_pb2, common_pb2_grpc

from trenza_runtime.models.host import ModelHost, model_not_found

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE = "trenza.common.v1.ModelService"


class ModelServicer(common_pb2_grpc.ModelServiceServicer):
    """Serves `trenza.common.v1.ModelService` for the models of a host."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    async def ListModels(
        self, request: common_pb2.ListModelsRequest, context: Context
    ) -> common_pb2.ListModelsResponse:
        models = [state.model for state in self._host.states()]
        wanted = [model for model in models if request.modality in (common_pb2.MODALITY_UNSPECIFIED, model.modality)]
        return common_pb2.ListModelsResponse(models=wanted)

    async def GetModel(self, request: common_pb2.GetModelRequest, context: Context) -> common_pb2.GetModelResponse:
        for state in self._host.states():
            if state.model.name == request.name:
                return common_pb2.GetModelResponse(model=state.model)
        raise model_not_found(request.name, self._host.names())
