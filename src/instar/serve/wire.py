"""What the front and an engine's process tell each other: one JSON line for each message, over a socket both inherit.

Nothing here imports torch, and nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..config.options import SamplingOptions

LINE = 64 * 2**20  # bytes of the longest message: vectors of a large batch


@dataclass(frozen=True)
class Start:
    """The first message to an engine: what to load and how. options: of ServeOptions, as asdict gives them; number:
    which of the replicas it is."""

    options: dict[str, Any]
    number: int = 0


@dataclass(frozen=True)
class Ask:
    """An answer is wanted. prompt: ids, of an encoder-decoder what its answer begins with; adapter: "" is the bare
    base; salt: keys of prompts are shared only within it; endless: no token ends it but those of options.stop_ids.
    options.stop is empty: the front cuts texts."""

    id: int
    prompt: list[int]
    options: SamplingOptions
    seed: int
    source: list[int] | None = None
    adapter: str = ""
    salt: str = ""
    endless: bool = False


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for it any more."""

    id: int


@dataclass(frozen=True)
class Embed:
    """Vectors are wanted, one for each row of ids."""

    id: int
    rows: list[list[int]]
    adapter: str = ""


@dataclass(frozen=True)
class Score:
    """How likely each token of a text is behind those before it; top: likeliest tokens told at each place."""

    id: int
    ids: list[int]
    top: int = 0
    adapter: str = ""


@dataclass(frozen=True)
class Facts:
    """The first message from an engine: what was loaded. speaks: it continues texts; reads_source: it answers sources;
    embeds: it gives vectors; context: tokens of prompt and answer together; longest: tokens of an embedded text;
    width: of a vector; kv_blocks: blocks of the memory for keys; fingerprint:
    sha256 of the weights; tokenizer: its folder; created: when the model's folder was written, seconds since 1970;
    adapters: their names; base: where the folder itself holds an adapter, the name of what it was made for."""

    speaks: bool
    reads_source: bool
    embeds: bool
    context: int
    longest: int
    width: int
    vocab_size: int
    start: int
    weights: int
    weight_bytes: int
    kv_bytes: int
    kv_blocks: int
    slots: int
    device: str
    dtype: str
    fingerprint: str
    tokenizer: str
    created: int
    adapters: list[str] = field(default_factory=list)
    seconds: float = 0.0
    base: str = ""


@dataclass(frozen=True)
class Refused:
    """What was asked cannot be: the request is at fault (status 400). param: a field of SamplingOptions, or prompt."""

    id: int
    message: str
    param: str | None = None


@dataclass(frozen=True)
class Taken:
    """A request was checked and waits for a row, or has one."""

    id: int


@dataclass(frozen=True)
class Told:
    """What one step said, of all requests: each [id, token, logprob, finish, alternatives, cached]. token None where a
    stop ended it; finish None, stop, length, cancelled or failed; alternatives None or [[token, logprob], ...];
    cached: tokens of the prompt that were known, told with the first token."""

    events: list[list[Any]]


@dataclass(frozen=True)
class Failed:
    """One request came to grief inside the engine. message: for the log, not for the client. With the id -1, in the
    place of Facts: the model cannot be loaded, and the message is for whoever started the server."""

    id: int
    message: str


@dataclass(frozen=True)
class Vectors:
    """data: float32, little-endian, base64, row after row."""

    id: int
    data: str
    width: int


@dataclass(frozen=True)
class Scored:
    """logprobs of all ids but the first, and the alternatives at each."""

    id: int
    logprobs: list[float]
    alternatives: list[list[list[float]]]


@dataclass(frozen=True)
class Beat:
    """The engine's loop goes round: at least once a second. rss: bytes of memory of the process."""

    running: int
    waiting: int
    kv_free: int
    kv_total: int
    rss: int
    steps: int


Message = Any
KINDS: dict[str, type] = {
    kind.__name__.lower(): kind
    for kind in (
        Start, Ask, Cancel, Embed, Score, Facts, Refused, Taken, Told, Failed, Vectors, Scored, Beat,
    )
}  # fmt: skip


def dump(message: Message) -> bytes:
    """A message as a line."""
    # not asdict, which would copy every number of a long list
    return (
        json.dumps([type(message).__name__.lower(), vars(message)], separators=(",", ":"), default=vars).encode()
        + b"\n"
    )


def load(line: bytes) -> Message:
    """A line as a message. Only our own processes write here, so a line that is none is a fault of ours: ValueError."""
    kind, fields = json.loads(line)
    if kind == "ask":
        options = {name: _tuples(value) for name, value in fields["options"].items()}
        fields["options"] = SamplingOptions(**options)
    return KINDS[kind](**fields)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
