"""Dialogues -> tokens and which of them teach. One that is too long ends with the last reply that fits.

A cut dialogue is a prefix of the whole one: what stands in it is what the template writes there, cut behind the end
marker of a reply, so that every reply that is learnt is learnt to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ..config import InputError, unknown
from .corpus import text_key
from .records import Message, as_messages, told, tools_of
from .shards import Section, TokenStore, store_in_memory
from .sources import Document

CHUNK = 2048  # dialogues rendered at a time
TEACH = ("assistant", "all")


class Rendered(Protocol):
    """ids and teaches: equally long."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def teaches(self) -> list[bool]: ...


class Renderer(Protocol):
    """What is needed of a tokenizer to make tokens of dialogues."""

    @property
    def vocab_size(self) -> int: ...
    def chat(self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None) -> Rendered: ...
    def chat_batch(self, conversations: Sequence[Sequence[Message]]) -> Sequence[Rendered]: ...


@dataclass
class Counts:
    """What became of the dialogues.

    too_long: not even the first reply ends within the context; unanswered: nobody replies. Both are left out.
    truncated: kept up to the last reply that fits; replies_cut: the replies that this cost, of all `replies`.
    teaching: tokens that are learnt, of all `tokens`; bytes: of the replies that are learnt.
    """

    dialogues: int = 0
    kept: int = 0
    too_long: int = 0
    unanswered: int = 0
    truncated: int = 0
    replies: int = 0
    replies_cut: int = 0
    tokens: int = 0
    teaching: int = 0
    bytes: int = 0


def load_dialogues(
    documents: Iterable[Document], tokenizer: Renderer, *, context: int, teach: str = "assistant"
) -> tuple[TokenStore, dict[str, int]]:
    """All dialogues as one store whose `teaches` is set, and the counts of what was kept, cut and left out.

    teach: assistant learns the replies with their end markers, all learns every token. Raises InputError for a record
    that is no dialogue, and where none is left to learn from.
    """
    if teach not in TEACH:
        raise unknown("value for teach:", teach, TEACH)
    counts = Counts()
    encoded = encode_dialogues(documents, tokenizer, counts, context=context, teach=teach)
    store = store_in_memory(encoded, tokenizer.vocab_size)
    if not counts.teaching:
        raise InputError(
            f"nothing to learn: of {counts.dialogues} dialogues {counts.too_long} are longer than context={context} "
            f"before their first reply ends and {counts.unanswered} have no reply; raise the context or check the data"
        )
    return store, asdict(counts)


def encode_dialogues(
    documents: Iterable[Document], tokenizer: Renderer, counts: Counts, *, context: int, teach: str
) -> Iterator[Section]:
    """Each dialogue that fits as one section, in order."""
    documents = iter(documents)
    while chunk := list(islice(documents, CHUNK)):
        threads = [Thread(document) for document in chunk]
        counts.dialogues += len(threads)
        answered = [thread for thread in threads if thread.replies]
        counts.unanswered += len(threads) - len(answered)
        for thread, chat in zip(answered, _render(tokenizer, answered)):
            section = _fit(thread, chat, counts, context=context, teach=teach)
            if section is not None:
                yield section


class Thread:
    """One dialogue on its way to tokens."""

    def __init__(self, document: Document) -> None:
        self.where = document.where
        self.messages: list[Message] = document.read(as_messages)
        self.tools: list[Any] | None = document.read(tools_of)
        self.key = text_key(
            document.text if "text" in document.record else document.read(lambda _: told(self.messages))
        )
        self.replies: list[Message] = [message for message in self.messages if message["role"] == "assistant"]


def _render(tokenizer: Renderer, threads: list[Thread]) -> list[Rendered]:
    """Ids and what teaches of whole dialogues. Raises InputError naming the record that the template refuses."""
    plain = [thread.messages for thread in threads if not thread.tools]
    try:
        batch = iter(tokenizer.chat_batch(plain) if plain else ())
    except InputError:
        batch = None  # one of them is at fault: render one by one, to be able to say which
    return [_render_one(tokenizer, thread) if thread.tools or batch is None else next(batch) for thread in threads]


def _render_one(tokenizer: Renderer, thread: Thread) -> Rendered:
    try:
        return tokenizer.chat(thread.messages, tools=thread.tools)
    except InputError as error:
        raise InputError(f"{thread.where}: {error}") from None


def _fit(thread: Thread, chat: Rendered, counts: Counts, *, context: int, teach: str) -> Section | None:
    """The dialogue up to the last reply that ends within the context; None where not even one does."""
    ids, teaches = np.array(chat.ids), np.array(chat.teaches, bool)
    ends = np.flatnonzero(teaches & ~np.append(teaches[1:], False)) + 1
    fitting = int((ends <= context).sum())
    counts.replies += len(ends)
    counts.replies_cut += len(ends) - fitting
    if not fitting:
        counts.too_long += 1
        return None
    if len(ids) > context:
        ids, teaches = ids[: ends[fitting - 1]], teaches[: ends[fitting - 1]]
        counts.truncated += fitting < len(ends)
    if teach == "all":
        teaches = np.arange(len(ids)) > 0
    size = sum(len(reply["content"].encode()) for reply in thread.replies[:fitting])
    counts.kept += 1
    counts.tokens += len(ids)
    counts.teaching += int(teaches[1:].sum())
    counts.bytes += size
    return Section(ids, thread.key, size, teaches=teaches)
