"""The server as an application of Ray Serve: several engines on the machines of a cluster, behind one address.

    serve run instar.serve.cluster:application model=runs/demo replicas=2 cpus=4 insecure=true

Each replica is a whole server without a port: its own front, its own engine, its own queue. Ray's proxies choose the
replica, start a new one where one has died, and listen; `host` and `port` are theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ..config import InputError
from ..config.errors import Failed
from ..config.flags import parse
from ..config.options import ServeOptions
from .app import create_app
from .gate import GateRules
from .opening import close_service, open_service
from .service import Service

BESIDE = 64  # requests of a replica that no engine answers: lists of models, health, those to be refused
HEALTH_SECONDS = 10.0  # between two looks of Ray at a replica
THEIRS = ("host", "port")  # what Ray decides


class Replica:
    """One replica as an ASGI application: it is there once its model is loaded. service: of this process, in which
    there is never a second replica."""

    service: Service | None = None

    def __init__(self, options: ServeOptions, rules: GateRules) -> None:
        self.options, self.rules = options, rules
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._app is not None, "a request came before the model was loaded"
        await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            service = await open_service(self.options)
        except (InputError, Failed) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        Replica.service, self._app = service, create_app(service=service, rules=self.rules)
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
            await service.drain(self.options.drain_seconds)
        finally:
            await close_service(service)
        await send({"type": "lifespan.shutdown.complete"})


class Checked:
    """What Ray asks of a replica beside requests."""

    async def check_health(self) -> None:
        """Raises RuntimeError where the engine has died or stands still, upon which Ray starts another replica."""
        service = Replica.service
        if service is not None and not (service.desk.fleet.living() and service.desk.alive):
            raise RuntimeError("the engine of this replica has died or says nothing")


def application(arguments: Mapping[str, Any]) -> Any:
    """What `serve run` and a Serve config name -> a ray.serve.Application. arguments: options of `instar serve` by
    their names, replicas among them, and what each replica takes of the cluster: cpus, by default 1, which are the
    threads of its engine too, and gpus. A key, INSTAR_API_KEY here or api_key, is wanted unless insecure is said, for
    others can call. Raises InputError for an option that there is not, or that Ray decides."""
    given = dict(arguments)
    for name in THEIRS:
        if name in given:
            raise InputError(f"{name}={given[name]} is not ours to decide: say it to Ray, as its http_options")
    cpus, gpus = (_number(name, given.pop(name, least)) for name, least in (("cpus", 1), ("gpus", 0)))
    options = parse(ServeOptions, list(flags(given)), program="instar.serve.cluster:application")
    keys = [*options.api_key, *os.environ.get("INSTAR_API_KEY", "").split()]
    rules = GateRules.of(replace(options, host="0.0.0.0"), keys)
    # a replica knows its keys as digests alone
    alone = replace(options, replicas=1, api_key=())
    from ray import serve

    deployment = serve.deployment(
        name="instar",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # our own queue is bounded, fair and says when to come again; theirs should never be the one that is full
        max_ongoing_requests=options.engine.slots + options.queue + BESIDE,
        graceful_shutdown_timeout_s=options.drain_seconds,
        health_check_period_s=HEALTH_SECONDS,
    )
    return deployment(serve.ingress(Replica(alone, rules))(Checked)).bind()


def flags(arguments: Mapping[str, Any]) -> Iterable[str]:
    """Options as a command line says them. They come as texts from `serve run`, and as YAML has them from a config.

    Example: {"model": "runs/demo", "insecure": "true", "adapters": ["a=runs/a"]} -> --model runs/demo --insecure ...
    """
    for name, value in arguments.items():
        switch = str(value).lower()
        if switch in ("true", "false"):
            yield f"--{name}" if switch == "true" else f"--no-{name}"
            continue
        yield f"--{name}"
        yield from map(str, value) if isinstance(value, (list, tuple)) else [str(value)]


def _number(name: str, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if found < 0:
        raise InputError(f"{name}={value}, wanted a number of 0 or more")
    return found
