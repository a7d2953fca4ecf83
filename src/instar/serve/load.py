"""Load for any server of OpenAI's API: answers that are streamed side by side, and how long each was waited for.

A closed loop: so many requests are open at a time, and where one has ended the next is sent. Nothing is tried again.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from ..config import InputError
from ..config.options import BenchServeOptions
from .connection import Broken, Connection, address, connected

PATHS = {"chat": "chat/completions", "text": "completions"}
WARMUP = 16  # tokens of the answers that are not counted
EACH = 4  # requests of a stream, where none are asked for
PERCENTILES = (50, 90, 99)
# what not every server takes, the dearest last: usage tells how many tokens there were
EXTRAS: dict[str, Any] = {"ignore_eos": True, "stream_options": {"include_usage": True}}
WORDS = (
    "river stone apple morning garden letter window silver mountain paper yellow kitchen winter bridge music doctor "
    "forest island summer market pencil bottle candle village button ladder corner tunnel harbour blanket engine "
    "captain mirror basket hammer ticket valley wagon rabbit farmer"
).split()


@dataclass
class Reply:
    """What became of one request. fault: nothing where the answer is whole; else the HTTP status, or "in stream" for an
    error among the events, "cut" for an end without a reason, "late", "no answer". began: by time.perf_counter;
    first, total: seconds from there to the first text and to the end; gaps: seconds between texts; tokens: as the
    server counts them, or the number of texts where it does not; prompt: tokens, 0 where the server does not say;
    text: of all choices; said: what the server said of the fault."""

    began: float
    fault: str = ""
    first: float = 0.0
    total: float = 0.0
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    prompt: int = 0
    text: str = ""
    finish: str = ""
    said: str = ""


class Target:
    """A server. url: up to and with its version, as http://127.0.0.1:8000/v1, which is added where the address has no
    path; key: "" sends none; timeout: seconds of a request."""

    def __init__(self, url: str, key: str = "", *, timeout: float = 600.0) -> None:
        self._url, self.timeout = address(url), timeout
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    @property
    def url(self) -> str:
        return self._url.geturl()

    async def models(self) -> list[str]:
        """The names that requests may ask for. Raises InputError where nobody answers, or not as OpenAI would."""
        try:
            async with asyncio.timeout(self.timeout), connected(self._url) as connection:
                await connection.send("GET", "models", self._headers)
                body = await connection.body()
        except (Broken, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise InputError(
                f"nothing answers at {self.url} ({why}); start a server, or say where it is with --url"
            ) from error
        if connection.status == 401:
            raise InputError(f"{self.url} wants a key; say --api-key or set INSTAR_API_KEY")
        try:
            return [model["id"] for model in json.loads(body)["data"]]
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self.url}/models answered {connection.status} and no list of models; is it a server of OpenAI's API?"
            ) from error

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Stream one answer over a connection of its own; the clock starts when that is open. path: below the address,
        such as chat/completions; body: without "stream". Never raises for what a server does."""
        reply, sent = Reply(time.perf_counter()), json.dumps({**body, "stream": True}).encode()
        try:
            async with asyncio.timeout(self.timeout), connected(self._url) as connection:
                reply.began = time.perf_counter()
                await connection.send("POST", path, self._headers, sent)
                if connection.status == 200:
                    await _read(reply, connection)
                else:
                    reply.fault = str(connection.status)
                    reply.said = (await connection.body()).decode(errors="replace")[:500]
        except TimeoutError:
            reply.fault = "late"
        except Broken as error:
            reply.fault, reply.said = "cut" if reply.first else "no answer", str(error)
        except (AttributeError, LookupError, TypeError) as error:  # events of another shape than OpenAI's
            reply.fault, reply.said = "in stream", type(error).__name__
        reply.total = time.perf_counter() - reply.began
        return reply

    async def load(
        self, path: str, bodies: Iterable[Mapping[str, Any]], streams: int, done: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        """Ask everything that `bodies` gives, `streams` at a time -> the replies in the order of the bodies. done:
        called with each reply as it ends."""
        waiting, replies = enumerate(bodies), dict[int, Reply]()

        async def one_stream() -> None:
            for number, body in waiting:  # all streams take from the same
                replies[number] = await self.ask(path, body)
                if done:
                    done(replies[number])

        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(one_stream())
        return [replies[number] for number in sorted(replies)]


async def _read(reply: Reply, connection: Connection) -> None:
    """Fill a reply from its events."""
    last, texts = reply.began, list[str]()
    async for event in _events(connection):
        if event.get("error"):
            reply.fault, reply.said = "in stream", json.dumps(event["error"])[:500]
            return
        usage = event.get("usage") or {}
        reply.tokens = usage.get("completion_tokens") or reply.tokens
        reply.prompt = usage.get("prompt_tokens") or reply.prompt
        for choice in event.get("choices") or ():
            reply.finish = choice.get("finish_reason") or reply.finish
            if text := _text(choice):
                now = time.perf_counter()
                if texts:
                    reply.gaps.append(now - last)
                else:
                    reply.first = now - reply.began
                last = now
                texts.append(text)
    reply.text = "".join(texts)
    reply.tokens = reply.tokens or len(texts)
    reply.fault = "" if reply.finish else "cut"


async def _events(connection: Connection) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each event. A line that holds half of one waits for the rest."""
    rest = b""
    async for piece in connection.pieces():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
                try:
                    event = json.loads(data)
                except ValueError:
                    event = {"error": "an event that is no JSON"}
                yield event if isinstance(event, dict) else {"error": "an event that is no object"}


def _text(choice: Mapping[str, Any]) -> str:
    """What an event adds to an answer: text, reasoning, or arguments of a call."""
    delta = choice.get("delta") or choice
    called = "".join(call["function"].get("arguments") or "" for call in delta.get("tool_calls") or ())
    return (delta.get("content") or delta.get("reasoning_content") or delta.get("text") or "") + called


@dataclass(frozen=True)
class Asking:
    """How requests to a server are written. model: its name there; extras: of EXTRAS, those that the server takes;
    words: of a prompt, by which it has about as many tokens as wanted."""

    path: str
    model: str
    new: int
    words: int
    extras: Mapping[str, Any] = field(default_factory=dict)

    def body(self, text: str, new: int = 0) -> dict[str, Any]:
        """A request for the likeliest answer to a text."""
        told: dict[str, Any] = {"prompt": text}
        if self.path == PATHS["chat"]:
            told = {"messages": [{"role": "user", "content": text}]}
        return {"model": self.model, **told, "max_tokens": new or self.new, "temperature": 0, **self.extras}

    def bodies(self, seed: int, new: int = 0) -> Iterator[dict[str, Any]]:
        """No end of them; no two begin alike, or a server would know the keys of the second."""
        luck = random.Random(seed)
        while True:
            yield self.body(" ".join(luck.choices(WORDS, k=self.words)), new)


async def agree(target: Target, options: BenchServeOptions) -> Asking:
    """Find out how the server wants to be asked, by a few short answers. Raises InputError where the model is missing,
    or the server answers none of them."""
    names = await target.models()
    model = options.model or next(iter(names), "")
    if model not in names:
        known = f"; there are: {', '.join(names)}" if names else "; it has none"
        raise InputError(f"{target.url} has no model {model or 'at all'}{known}")
    wanted = dict(EXTRAS) if options.ignore_end else {"stream_options": EXTRAS["stream_options"]}
    reply = Reply(0.0)
    for dropped in ((), ("ignore_eos",), ("stream_options",), ("ignore_eos", "stream_options")):
        extras = {name: value for name, value in wanted.items() if name not in dropped}
        asking = Asking(PATHS[options.kind], model, options.new, options.prompt, extras)
        reply = await target.ask(asking.path, next(asking.bodies(options.seed - 1, 2)))
        if reply.fault not in ("400", "422"):
            break
    if reply.fault:
        raise InputError(f"{target.url} does not answer: {reply.fault} {reply.said}".rstrip())
    if reply.prompt and options.prompt > 1:  # tokens of a word, and of what stands around all of them
        around = (await target.ask(asking.path, asking.body(WORDS[0], 2))).prompt
        each = (reply.prompt - around) / (options.prompt - 1)
        words = 1 + round((options.prompt - around) / each) if each > 0 else options.prompt
        asking = replace(asking, words=max(1, words))
    return asking


async def measure(
    target: Target, asking: Asking, streams: int, requests: int, seed: int, done: Callable[[Reply], None] | None = None
) -> dict[str, Any]:
    """One row: `requests` answers, `streams` at a time, behind a short one for each stream that is not counted."""
    luck = random.Random(f"{seed} {streams}")
    await target.load(
        asking.path, islice(asking.bodies(luck.getrandbits(64), min(WARMUP, asking.new)), streams), streams
    )
    bodies = islice(asking.bodies(luck.getrandbits(64)), requests)
    return {"streams": streams} | summary(await target.load(asking.path, bodies, streams, done))


async def bench(options: BenchServeOptions, key: str, done: Callable[[Reply], None] | None = None) -> dict[str, Any]:
    """Everything that `instar bench serve` reports: {"url", "model", "refused": extras that the server does not take,
    "rows"}. Raises InputError as `agree` does."""
    target = Target(options.url, key, timeout=options.timeout)
    asking = await agree(target, options)
    rows = [
        await measure(target, asking, streams, options.requests or EACH * streams, options.seed, done)
        for streams in options.streams
    ]
    wanted = [name for name in EXTRAS if name != "ignore_eos" or options.ignore_end]
    refused = [name for name in wanted if name not in asking.extras]
    return {"url": target.url, "model": asking.model, "refused": refused, "rows": rows}


def summary(replies: Sequence[Reply]) -> dict[str, Any]:
    """Of requests that ran together. faults: how often each came; seconds: from the first request to the last end;
    rate: tokens a second over that; first, gap, total: seconds at percentiles, of whole answers alone, empty where
    there were none; pieces: texts of an answer; tokens, prompt: of an answer, its mean."""
    whole = [reply for reply in replies if not reply.fault]
    seconds = max((r.began + r.total for r in replies), default=0.0) - min((r.began for r in replies), default=0.0)
    tokens = sum(reply.tokens for reply in whole)
    count = max(1, len(whole))
    return {
        "requests": len(replies),
        "whole": len(whole),
        "faults": dict(sorted(Counter(reply.fault for reply in replies if reply.fault).items())),
        "seconds": seconds,
        "rate": tokens / seconds if seconds else 0.0,
        "answers_per_second": len(whole) / seconds if seconds else 0.0,
        "tokens": tokens / count,
        "prompt": sum(reply.prompt for reply in whole) / count,
        "pieces": sum(len(reply.gaps) + bool(reply.first) for reply in whole) / count,
        "first": percentiles([reply.first for reply in whole if reply.first]),
        "gap": percentiles([gap for reply in whole for gap in reply.gaps]),
        "total": percentiles([reply.total for reply in whole]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99, between the nearest two values; nothing of nothing."""
    return {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES} if len(values) else {}
