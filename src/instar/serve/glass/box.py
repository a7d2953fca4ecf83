"""What every operation of the glass box is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...config.options import GlassOptions
from .stock import Stock
from .traces import Traces
from .trouble import Abandoned


@dataclass(frozen=True)
class Binary:
    """A reply that is no JSON. name: of the file that a browser saves it as; empty shows it."""

    content: bytes
    media_type: str = "application/octet-stream"
    name: str = ""


# of a stream: {"event": name, "data": what JSON knows}
Event = Mapping[str, Any]
# what JSON knows; bytes; or events, taken one at a time and in turn with other jobs, None where there is nothing to
# tell yet: then it is asked again a little later. A generator never yields inside of what alters a model
Reply = Mapping[str, Any] | Binary | Iterator[Event | None]
Operation = Callable[["Box", Mapping[str, Any]], Reply]


@dataclass
class Box:
    """stock: the models; traces: what is kept of passes; cancelled: whether nobody waits for what is being computed."""

    stock: Stock
    traces: Traces
    options: GlassOptions
    cancelled: Callable[[], bool] = lambda: False

    def check(self, *_: Any) -> None:
        """Raises Abandoned where nobody waits any more. Every block of every model calls it before it computes; what
        takes long without one calls it now and then."""
        if self.cancelled():
            raise Abandoned
