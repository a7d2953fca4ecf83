"""What a client is told in the place of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..config import InputError

Kind = Literal["invalid_request_error", "rate_limit_error", "server_error"]


class Refusal(Exception):
    """An answer that there will not be, with its HTTP status. message: for people; it never holds a prompt, a key or a
    path. param: the field at fault; code: for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: Kind | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        by_status: dict[int, Kind] = {429: "rate_limit_error"}
        self.kind: Kind = kind or by_status.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI writes it, all four keys present."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """The request is at fault (400)."""
    return Refusal(400, message, param=param, code=code)


def too_long(found: int, wanted: int, context: int, param: str) -> Refusal:
    """A prompt that leaves no room for its answer (400). found: tokens of the prompt; wanted: of the answer."""
    return bad(
        f"This model reads {context} tokens at most, and {found + wanted} were asked for: {found} in the prompt, "
        f"{wanted} in the answer. Shorten one of them.",
        param,
        "context_length_exceeded",
    )


def no_such_model(names: str) -> Refusal:
    """names: those that there are (404). What was asked for is not repeated: it is the client's text."""
    return Refusal(404, f"There is no such model here; there are: {names}", param="model", code="model_not_found")


def busy(seconds: int) -> Refusal:
    """The queue is full (429)."""
    return Refusal(
        429, f"Too many requests are waiting; come again in {seconds} s.", code="queue_full",
        headers={"Retry-After": str(seconds)},
    )  # fmt: skip


def unavailable(message: str, code: str, seconds: int = 5) -> Refusal:
    """The server cannot answer now: it loads, drains, or its engine has died (503)."""
    return Refusal(503, message, code=code, headers={"Retry-After": str(seconds)})


def late(what: str, seconds: float) -> Refusal:
    """Time has run out (504). what: of which time, such as "waiting for its turn"."""
    return Refusal(504, f"The request took more than {seconds:g} s of {what}.", code="timeout")


def broken() -> Refusal:
    """A fault of ours (500); what it was stands in the log alone."""
    return Refusal(500, "The server failed at this request; its log says more.", code="internal_error")


def from_input_error(error: InputError, param: str | None = None) -> Refusal:
    """What the package refuses is the request's fault."""
    return bad(str(error), param)
