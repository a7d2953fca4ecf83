"""The body of a request: one JSON object, stricter than Python's own parser, or a 400 that names the field at fault."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from .failure import Refusal, bad
from .schema import Strict, unknown_in

DEEPEST = 128  # lists and objects within each other; a schema may be 32 deep and stands inside others
DIGITS = 4300  # of a whole number, as Python itself bounds them, since reading one takes quadratic time
LARGE = 2**16  # bytes that are parsed on the event loop at most
IGNORED = "x-instar-ignored"
MOST_IGNORED = 16
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_STRANGE = re.compile("[\x00\ud800-\udfff]")
# what a text has to be searched for only where the body says one of these
_SUSPECT = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
_STRANGER = "holds U+0000 or half a surrogate pair"
_TOO_DEEP_INSIDE = f"is nested too deeply; at most {DEEPEST} levels are read"
_TOO_DEEP = f"The body {_TOO_DEEP_INSIDE}."
_unknown: ContextVar[list[str] | None] = ContextVar("unknown", default=None)


class StrictRoute(APIRoute):
    """A route whose body is read by `parse`, whose faults are Refusals, and which tells what keys it ignored."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _noting(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, reads = super().get_route_handler(), self.body_field is not None

        async def understood(request: Request) -> Response:
            token = _unknown.set([])
            try:
                if reads:
                    raw = await request.body()
                    # Starlette gives this out as request.json(), so that nobody parses it once more
                    request._json = await asyncio.to_thread(parse, raw) if len(raw) > LARGE else parse(raw)
                response = await answer(request)
                if names := list(told(_unknown.get() or ())):
                    response.headers[IGNORED] = ", ".join(names)
                return response
            except RequestValidationError as error:
                raise refusal_of(error.errors()) from None
            finally:
                _unknown.reset(token)

        async def handle(request: Request) -> Response:
            service = getattr(request.app.state, "service", None)
            if service is None or not reads:
                return await understood(request)
            with service.entered():
                return await understood(request)

        return handle


def _noting(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The same, noting the keys that its body has and we do not know."""

    @functools.wraps(endpoint)
    async def noting(**values: Any) -> Any:
        noted = _unknown.get()
        if noted is not None:
            for value in values.values():
                noted.extend(unknown_in(value))
        return await endpoint(**values)

    return noting


def told(unknown: Iterable[str]) -> Iterator[str]:
    """Of the keys that a client made up, those that may stand in a header: plain names, and only so many."""
    plain = (name for name in dict.fromkeys(unknown) if _NAME.fullmatch(name))
    yield from sorted(name for _, name in zip(range(MOST_IGNORED), plain))


class _Wrong:
    """Stands in a parsed body where its text was wrong, so that the field around it can be named."""

    def __init__(self, why: str) -> None:
        self.why = why


class _Reader:
    """What Python's parser asks about each number and object, and whether anything was wrong."""

    def __init__(self) -> None:
        self.wrong = False

    def fault(self, why: str) -> _Wrong:
        self.wrong = True
        return _Wrong(why)

    def constant(self, name: str) -> _Wrong:
        return self.fault(f"holds {name}, which is no number of JSON")

    def float(self, text: str) -> float | _Wrong:
        number = float(text)
        return number if math.isfinite(number) else self.fault("holds a number that is too large")

    def int(self, text: str) -> int | _Wrong:
        return int(text) if len(text) <= DIGITS else self.fault(f"holds a number of more than {DIGITS} digits")

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            found[twice] = self.fault("holds a key twice")
        return found


def parse(raw: bytes) -> dict[str, Any]:
    """A body as an object. Raises Refusal (400) for what is no JSON object, and for what Python's parser lets pass:
    NaN, numbers too large for a float, keys said twice, lone surrogates, and nesting without end. U+0000 is refused
    too, at which grammars and some tokenizers end a text."""
    reader = _Reader()
    try:
        body = json.loads(
            raw.decode(), parse_constant=reader.constant, parse_float=reader.float, parse_int=reader.int,
            object_pairs_hook=reader.pairs,
        )  # fmt: skip
    except UnicodeDecodeError:
        raise bad("The body is not UTF-8.") from None
    except RecursionError:
        raise bad(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise bad(f"The body is no JSON: it breaks off or is wrong at character {error.pos}.") from None
    if isinstance(body, _Wrong):
        raise bad(f"The body {body.why}.")
    if not isinstance(body, dict):
        raise bad("The body has to be a JSON object.")
    if reader.wrong or _SUSPECT.search(raw) or raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check(body)
    return body


def _check(body: Mapping[str, Any]) -> None:
    """Raise Refusal, naming the field, for what is wrong anywhere in a body. Without recursion: it may be deep."""
    for key, value in body.items():
        if why := _fault(key, value):
            param = key if key in Strict.names else None  # any other name is the client's own text
            raise bad(f"{'The body' if param is None else param} {why}.", param)


def _fault(key: str, value: Any) -> str | None:
    if _STRANGE.search(key):
        return _STRANGER
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, _Wrong):
                return item.why
            if isinstance(item, str) and _STRANGE.search(item):
                return _STRANGER
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return None
        level = inner
    return _TOO_DEEP_INSIDE


def refusal_of(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """What pydantic found, as a 400 that names the field (`messages[0].role`) and repeats nothing of the client's."""
    first = tuple(errors[0]["loc"][:2])
    # where a field may be one of several things, what came furthest is what was meant, least of all another type
    error = max((error for error in errors if error["loc"][:2] == first), key=_nearness)
    where = ""
    for step in error["loc"][1:]:
        if isinstance(step, int):
            where += f"[{step}]"
        elif step in Strict.names:
            where += f".{step}" if where else step
    if named := (error.get("ctx") or {}).get("param"):
        where += f".{named}" if where else named
    said = "this is required" if error["type"] == "missing" else str(error["msg"])
    return bad(f"{where or 'The body'}: {said[:1].lower()}{said[1:]}", where or None)


def _nearness(error: Mapping[str, Any]) -> tuple[int, bool]:
    return len(error["loc"]), not error["type"].endswith(("_type", "literal_error"))
