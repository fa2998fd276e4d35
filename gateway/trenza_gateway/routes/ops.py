"""What operators and probes ask: /healthz, /readyz, /metrics. None of them needs a key."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from trenza_gateway.routes.parts import Parts


def ops_router(parts: Parts) -> APIRouter:
    """The operators' routes."""
    router = APIRouter(tags=["Operations"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", summary="Whether requests can be served now, and if not, what is missing")
    async def readyz() -> JSONResponse:
        missing = missing_parts(parts)
        report = {
            "status": "not ready" if missing else "ready",
            "missing": missing,
            "scheduler": "up" if parts.scheduler_up() else "away",
            "live_replicas": parts.fleet.live_replicas,
            "models": [model.name for model in parts.fleet.models()],
        }
        return JSONResponse(report, status_code=503 if missing else 200)

    @router.get("/metrics", summary="Prometheus metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def missing_parts(parts: Parts) -> list[str]:
    """What keeps the gateway from serving requests; empty when nothing does.

    The scheduler being away is not among it: requests are routed by the last picture of the fleet meanwhile. Nor is a fleet
    that is scaled to zero: requests for expected models wait until a replica has come up.
    """
    if parts.counter.leaving:
        return ["the gateway is shutting down"]
    if parts.fleet.picture is None:
        return ["no picture of the fleet yet: the scheduler has not been reached since the start"]
    if parts.fleet.live_replicas == 0 and not parts.fleet.expects_models:
        return ["no live replica"]
    return []
