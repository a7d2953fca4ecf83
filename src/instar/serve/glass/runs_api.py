"""Runs over HTTP: which there are, what they have written, and what they write while one looks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse

from ...config import unknown
from ..sse import EventStream, dumps
from .asking import once
from .following import Told, follow
from .route import NO_STORE, GlassRoute
from .runs import POINTS, Runs
from .trouble import Trouble

FOLLOWERS = 16  # streams that are open at a time


class RunEvents(EventStream):
    """Events with a name, and an id where they tell of a step."""

    def written(self, event: Told) -> str:
        name, data, number = event
        id = "" if number is None else f"id: {number}\n"
        return f"event: {name}\n{id}data: {dumps(data)}\n\n"


def only(*names: str) -> Any:
    """A query that holds nothing else: a name that is not known is told, as everywhere."""

    def check(request: Request) -> None:
        for name in once(request.query_params.multi_items()):
            if name not in names:
                raise unknown("name", name[:64], names)

    return Depends(check)


def said(content: Mapping[str, Any]) -> JSONResponse:
    return JSONResponse(content, headers=NO_STORE)


def routes(runs: Runs, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> APIRouter:
    """What stands below /glass/api/runs. pause: waits between two looks at a run that is followed."""
    router = APIRouter(prefix="/glass/api/runs", tags=["glass"], route_class=GlassRoute)
    following: set[object] = set()

    @router.get("", dependencies=[only()])
    async def listed() -> JSONResponse:
        """Every run in short."""
        return said({"runs": await asyncio.to_thread(runs.listed)})

    @router.get("/{run:path}/metrics", dependencies=[only("after", "points")])
    async def metrics(
        run: str, after: int = Query(0, ge=0), points: int = Query(POINTS, ge=2, le=100_000)
    ) -> JSONResponse:
        """Rows behind a step, as columns."""
        return said(await asyncio.to_thread(runs.metrics, run, after=after, points=points))

    @router.get("/{run:path}/samples", dependencies=[only()])
    async def samples(run: str) -> JSONResponse:
        """What the model said by step."""
        return said(await asyncio.to_thread(runs.samples, run))

    @router.get("/{run:path}/inside", dependencies=[only()])
    async def inside(run: str) -> JSONResponse:
        """The birth of its heads."""
        return said(await asyncio.to_thread(runs.inside, run))

    @router.get("/{run:path}/events", response_class=RunEvents, status_code=200, dependencies=[only("after")])
    async def events(
        run: str, after: int = Query(0, ge=0), last: str | None = Header(None, alias="Last-Event-ID")
    ) -> RunEvents:
        """Rows as they are written. A reader that lost the connection goes on behind the last event that it had."""
        folder, recipe = await asyncio.to_thread(runs.opened, run)
        if last and re.fullmatch("[0-9]{1,18}", last):
            after = int(last)
        if len(following) >= FOLLOWERS:
            raise Trouble(429, "busy", f"{FOLLOWERS} readers follow runs; close one of them", limit=FOLLOWERS)
        reader = object()
        following.add(reader)
        return RunEvents(_guarded(follow(folder, recipe, after, pause)), closed=lambda: following.discard(reader))

    return router


async def _guarded(events: AsyncGenerator[Told]) -> AsyncGenerator[Told]:
    """What goes wrong on the way is an event too, so that the page can say it; it is of no step, and who comes back
    goes on where it was."""
    try:
        async for event in events:
            yield event
    except Trouble as trouble:
        yield "error", trouble.body["error"], None
    finally:
        await events.aclose()
