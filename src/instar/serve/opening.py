"""From the options to a service that can answer, and back to nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..config.options import ServeOptions
from ..text.tokenizer import Tokenizer
from .desk import Desk
from .fleet import Fleet
from .metrics import Metrics
from .naming import adapters_of, check, model_name, name_of
from .render import Renderer
from .service import THREADS, Card, Service, waiting_of
from .wire import Facts


async def open_service(options: ServeOptions) -> Service:
    """Load the model in as many engines as there are to be, and all that stands before them. Raises InputError where
    the model cannot be served, Failed where an engine died, and leaves no process then."""
    adapters_of(options)  # before anything is loaded
    fleet = Fleet(options)
    facts = await fleet.start()
    renderer = threads = None
    try:
        tokenizer = Tokenizer.load(facts.tokenizer)
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="texts")
        renderer = Renderer(Path(facts.tokenizer), waiting=waiting_of(options, facts), seconds=options.queue_seconds)
        await renderer.start()
        metrics = Metrics()
        desk = Desk(fleet, metrics, options)
        service = Service(options, tokenizer, cards_of(options, facts), facts, desk, renderer, metrics, threads)
        await service.in_thread(getattr, service, "most_bytes")  # all tokens are looked at, once
        return service
    except BaseException:
        if renderer is not None:
            await renderer.close()
        if threads is not None:
            threads.shutdown(wait=False)
        await fleet.close()
        raise


async def close_service(service: Service) -> None:
    """End all processes and threads of a service. Answers that go on are lost: `service.drain` comes before."""
    await service.renderer.close()
    await service.desk.fleet.close()
    service.threads.shutdown(wait=False, cancel_futures=True)


def cards_of(options: ServeOptions, facts: Facts) -> dict[str, Card]:
    """The names by which models may be asked for: that of the folder first, then of its base where it holds an
    adapter, then of the adapters."""
    own = model_name(options)
    folders = adapters_of(options)
    base = own
    found = {own: Card(own, own if facts.base else "", facts.created)}
    if facts.base:
        named = name_of(facts.base)
        base = check(f"{named}-base" if named in {own, *folders} else named)
        found[own] = Card(own, own, facts.created, base)
        found[base] = Card(base, "", facts.created)
    for name, folder in folders.items():
        found[name] = Card(name, name, _written(folder, facts.created), base)
    return found


def _written(folder: str, otherwise: int) -> int:
    """When a folder was, in seconds since 1970."""
    path = Path(folder)
    return int(path.stat().st_mtime) if path.is_dir() else otherwise
