"""The glass box as the front has it: what models there are, and how the process that computes is asked."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from fastapi import Request

from ...config import InputError
from ...config.options import ServeOptions
from ..service import service_of
from .caller import Caller
from .index import Index
from .runs import Runs
from .trouble import Trouble

FRESH = 1.0  # seconds that a look at the folders is good for


def check(options: ServeOptions) -> None:
    """Raises InputError for options that could not be."""
    glass = options.glass
    for name, least in (("budget", 2**20), ("seconds", 1), ("idle", 1)):
        if not getattr(glass, name) >= least:
            raise InputError(f"glass.{name}={getattr(glass, name):g}, wanted at least {least:,}")


class Glass:
    """caller: asks the process that computes; index: of models and runs; runs: what those have written; stopping: set
    when the server ends."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.caller = Caller(options)
        self.index = Index(options)
        self.runs = Runs(self.index)
        self.stopping = asyncio.Event()
        self._looked = -FRESH
        self._looking = asyncio.Lock()

    async def stop(self) -> None:
        """End the process, and what would never end by itself."""
        self.stopping.set()
        await self.caller.close()

    async def pause(self, seconds: float) -> None:
        """Wait. Raises Trouble (503) where the server stops meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
            raise Trouble(503, "worker_died", "the server is stopping")

    async def listing(self) -> dict[str, Any]:
        """What there is, as GET /models says it."""
        async with self._looking:
            if time.monotonic() - self._looked > FRESH:
                await asyncio.to_thread(self.index.refresh)
                self._looked = time.monotonic()
        index, loaded = self.index, self.caller.loaded
        return {
            "models": [one.record(loaded) for one in index.models.values()], "served": index.served,
            "runs": list(index.runs),
        }  # fmt: skip


def is_here(request: Request) -> bool:
    return isinstance(getattr(request.app.state, "glass", None), Glass)


def off() -> Trouble:
    """403."""
    return Trouble(403, "off", "the glass box is off here; start the server with --glass.mode on")


def glass_of(request: Request) -> Glass:
    """Raises Trouble: 403 where it is off, and Refusal: 503 until the model of the server is loaded."""
    if not is_here(request):
        raise off()
    service_of(request)
    found: Glass = request.app.state.glass
    return found
