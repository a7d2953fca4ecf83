"""What the glass box tells in the place of an answer."""

from __future__ import annotations

from typing import Any

from ...config import InputError


class Trouble(Exception):
    """An answer that there will not be. status: of HTTP; code: for programs, and for the page, which has the text for
    each in both languages; detail: for people, in English; more: figures that the text of the page says, such as
    limit=4096, got=5210."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "detail": self.detail, **self.more}}


class Abandoned(BaseException):  # not an Exception: nobody who catches those for a request's sake may go on with it
    """Nobody waits any more for what is being computed."""


def expired(trace: str) -> Trouble:
    """409: a trace that is no longer kept, or never was."""
    return Trouble(409, "trace_expired", f"the trace {trace} is no longer kept; trace the text again")


def too_long(limit: int, got: int) -> Trouble:
    """413. In tokens."""
    return Trouble(
        413, "too_long", f"the text has {got:,} tokens; at most {limit:,} can be looked at; shorten it",
        limit=limit, got=got,
    )  # fmt: skip


def bad_input(detail: str, **more: Any) -> Trouble:
    """422."""
    return Trouble(422, "bad_input", detail, **more)


def no_memory(need: int, budget: int) -> Trouble:
    """507. In bytes; need 0 where that is not known."""
    found = f"it needs {need:,} bytes, and" if need else "memory ran out;"
    return Trouble(
        507, "memory", f"{found} {budget:,} are allowed; shorten the text, or start with more --glass.budget",
        need=need, budget=budget,
    )  # fmt: skip


def no_such_model(known: str) -> Trouble:
    """404. known: those that there are."""
    return Trouble(404, "no_such_model", f"there is no such model here; there are: {known}")


def trouble_of(error: InputError) -> Trouble:
    """What the package refuses, with its own words; of a view that does not apply, in both languages."""
    why = getattr(error, "why", None)
    if why is None:
        return bad_input(str(error))
    return Trouble(422, "unfit", why.en, zh=why.zh)


def broken() -> Trouble:
    """500: a fault of ours; what it was stands in the log alone."""
    return Trouble(500, "internal_error", "this request failed; the server's log says where")
