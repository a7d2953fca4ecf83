"""Whether the server lives, whether it would answer, and its counters."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from .desk import dead, stopping
from .failure import unavailable
from .service import service_of

router = APIRouter(tags=["health"])


@router.head("/health", include_in_schema=False)
@router.get("/health", responses={503: {"description": "The engine is being loaded, is stuck, or has died"}})
async def health(request: Request) -> dict[str, str]:
    """Whether an engine's loop went round in the last ten seconds. Where it did not, a restart is the remedy."""
    desk = service_of(request).desk
    if not desk.fleet.living():
        raise dead()
    if not desk.alive:
        raise unavailable("The engine of the model has said nothing for ten seconds.", "engine_stuck")
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: {"description": "The model is being loaded, or the server is about to stop"}})
async def ready(request: Request) -> dict[str, str]:
    """Whether a request would be taken now. Where it would not, requests are to go elsewhere."""
    service = service_of(request)
    if service.draining or service.desk.draining:
        raise stopping()
    if not service.desk.ready:
        raise dead()
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
async def metrics(request: Request) -> Response:
    """Counters, times and the state of the engines, as Prometheus reads them."""
    service = service_of(request)
    return Response(service.metrics.render(service.desk, draining=service.draining), media_type=CONTENT_TYPE_LATEST)
