"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from trenza_gateway.openai.errors import model_not_found
from trenza_gateway.openai.models import model_list, model_object
from trenza_gateway.routes.parts import Parts


def models_router(parts: Parts) -> APIRouter:
    """The routes that list models."""
    router = APIRouter(tags=["Models"])

    @router.get("/v1/models", summary="List the models of the fleet")
    async def list_models() -> dict[str, Any]:
        return model_list(parts.fleet.models())

    @router.get("/v1/models/{model:path}", summary="Look up one model")
    async def get_model(model: str) -> dict[str, Any]:
        found = parts.fleet.model(model)
        if found is None:
            raise model_not_found(model)
        return model_object(found)

    return router
