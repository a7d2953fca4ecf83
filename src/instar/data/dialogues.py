"""Dialogues -> tokens and which of them teach. One that is too long ends with the last reply that fits.

A cut dialogue is a prefix of the whole one: what stands in it is what the template writes there, cut behind the end
marker of a reply, so that every reply that is learnt is learnt to its end. Which replies are learnt, records may say
(`records.taught_of`); what users, systems and tools say is read only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np

from ..config import InputError, unknown
from .branched import folded
from .corpus import frame, text_key
from .faults import Fault, Faults
from .memory import store_in_memory
from .records import Message, Record, apart, as_messages, evidence_of, is_reading, taught_of, text_of, told, tools_of
from .shards import Section, TokenStore
from .sources import Document

CHUNK = 2048  # dialogues rendered at a time
TEACH = ("assistant", "all")


class Rendered(Protocol):
    """ids and teaches: equally long."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def teaches(self) -> list[bool]: ...


@dataclass(frozen=True)
class Plain:
    """A text without a chat template, as `Rendered`."""

    ids: list[int]
    teaches: list[bool]


class Renderer(Protocol):
    """What is needed of a tokenizer to make tokens of dialogues. template: None where it has no chat template."""

    template: str | None
    eos: int | None

    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def document(self, text: str) -> list[int]: ...
    def chat(self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None) -> Rendered: ...
    def chat_batch(self, conversations: Sequence[Sequence[Message]]) -> Sequence[Rendered]: ...
    def visible_bytes(self, ids: Iterable[int]) -> list[bytes]: ...


@dataclass
class Counts:
    """What became of the dialogues.

    too_long: not even the first reply that is learnt ends within the context; unanswered: nobody replies; untaught: no
    reply is to be learnt. All are left out. truncated: kept up to the last reply that fits; replies_cut: the replies
    that this cost, of all `replies` that are to be learnt. teaching: tokens that are learnt, of all `tokens`; bytes: of
    the replies that are learnt; shared: tokens that would be read besides if questions about one text did not share it.
    """

    dialogues: int = 0
    kept: int = 0
    too_long: int = 0
    unanswered: int = 0
    untaught: int = 0
    truncated: int = 0
    replies: int = 0
    replies_cut: int = 0
    tokens: int = 0
    teaching: int = 0
    bytes: int = 0
    shared: int = 0


def load_dialogues(
    documents: Iterable[Document],
    tokenizer: Renderer,
    *,
    context: int,
    teach: str = "assistant",
    bad_records: float = 0.0,
    say: Callable[[str], None] | None = None,
    fold: bool = False,
    evidence: bool = False,
) -> tuple[TokenStore, dict[str, int]]:
    """All dialogues as one store whose `teaches` is set, and the counts of what was kept, cut and left out.

    teach: assistant learns the replies with their end markers, all learns every token, but for replies that are marked
    not to teach. Where the tokenizer has no chat template, a record is one prompt and its completion, spelt as plain
    text (`spelt_plainly`). Records that are no dialogue (malformed), or that the template does not take (refused), are
    counted so and the first told to `say`. fold: questions about one text are one document of the store, in which the
    text stands once. evidence: the store knows where the words stand that a reply names as what it rests on. Raises
    InputError where more than the share `bad_records` is at fault, and where none is left to learn from.
    """
    if teach not in TEACH:
        raise unknown("value for teach:", teach, TEACH)
    counts, faults = Counts(), Faults(bad_records, say)
    encoded = encode_dialogues(documents, tokenizer, counts, faults, context=context, teach=teach, evidence=evidence)
    store = store_in_memory(_each(encoded, counts, context if fold else 0), tokenizer.vocab_size)
    counts.tokens -= counts.shared
    faults.check(counts.dialogues)
    if not counts.teaching:
        wrong = f" and {len(faults)} are at fault ({faults.listed})" if len(faults) else ""
        raise InputError(
            f"nothing to learn: of {counts.dialogues} dialogues {counts.too_long} are longer than context={context} "
            f"before their first reply ends and {counts.unanswered} have no reply{wrong}; "
            "raise the context or check the data"
        )
    return store, asdict(counts) | faults.counts


def _each(encoded: Iterable[tuple[Document, Section]], counts: Counts, context: int) -> Iterator[Section]:
    """The sections, those of one record folded within the context unless it is 0."""
    for _, group in groupby(encoded, key=lambda pair: pair[0].where):
        whole = [section for _, section in group]
        sections = list(folded(whole, context)) if context else whole
        counts.shared += sum(len(each.ids) for each in whole) - sum(len(each.ids) for each in sections)
        yield from sections


def encode_dialogues(
    documents: Iterable[Document], tokenizer: Renderer, counts: Counts, faults: Faults, *, context: int, teach: str,
    evidence: bool = False,
) -> Iterator[tuple[Document, Section]]:  # fmt: skip
    """Each dialogue that fits as one section, and the record that it is from, in order."""
    documents = iter(documents)
    while chunk := list(islice(documents, CHUNK)):
        threads: list[tuple[Document, Thread]] = []
        for document in chunk:
            try:
                threads += [(document, thread) for thread in threads_of(document.record, evidence)]
            except InputError as error:
                counts.dialogues += 1
                faults.add(document, error)
        counts.dialogues += len(threads)
        answered = [(document, thread) for document, thread in threads if thread.replies]
        counts.unanswered += len(threads) - len(answered)
        for (document, thread), chat in zip(answered, _render(tokenizer, [thread for _, thread in answered])):
            try:
                if isinstance(chat, InputError):
                    raise chat
                told = grounds(tokenizer, thread, chat) if evidence and any(thread.evidence) else None
                section = _fit(thread, chat, counts, context=context, teach=teach, evidence=told)
            except Fault as error:
                faults.add(document, error)
                continue
            if section is not None:
                yield document, section


def threads_of(record: Record, evidence: bool = False) -> list[Thread]:
    """The dialogues of a record. Questions about a text are held out with the text, all of them or none."""
    threads = [Thread(one, evidence) for one in apart(record)]
    for thread in threads if is_reading(record) else ():
        thread.key = text_key(record["context"])
    return threads


class Thread:
    """One dialogue on its way to tokens. replies: its answers; taught: which of them are to be learnt."""

    def __init__(self, record: Record, evidence: bool = False) -> None:
        """evidence: what its answers rest on is wanted. Raises InputError for a record that is none."""
        self.messages: list[Message] = as_messages(record)
        self.tools: list[Any] | None = tools_of(record)
        self.key = text_key(text_of(record) if "text" in record else told(self.messages))
        may_teach = taught_of(record)
        places = [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]
        self.replies: list[Message] = [self.messages[place] for place in places]
        self.taught = [may_teach[place] for place in places]
        named = evidence_of(record) if evidence else []
        self.evidence = [named[place] for place in places] if evidence else []

    def spans(self, teaches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where replies begin and end among tokens of which theirs are marked. Raises Fault where only some of them are
        learnt and nobody could say which they are."""
        begins = np.flatnonzero(teaches & ~np.append(False, teaches[:-1]))
        ends = np.flatnonzero(teaches & ~np.append(teaches[1:], False)) + 1
        if len(ends) != len(self.replies):
            if not all(self.taught):
                raise Fault(
                    "refused",
                    f"{len(self.replies)} replies, some marked not to teach, are {len(ends)} stretches of what the "
                    "chat template writes, so that nobody can say which is which; remove the marks or the record",
                )
            self.taught = [True] * len(ends)
        return begins, ends


def _render(tokenizer: Renderer, threads: list[Thread]) -> list[Rendered | Fault]:
    """Ids and what teaches of whole dialogues, or why the template refuses one."""
    plain = [thread.messages for thread in threads if not thread.tools]
    if tokenizer.template is None:
        return [_render_one(tokenizer, thread) for thread in threads]
    try:
        batch = iter(tokenizer.chat_batch(plain) if plain else ())
    except InputError:
        batch = None  # one of them is at fault: render one by one, to be able to say which
    return [_render_one(tokenizer, thread) if thread.tools or batch is None else next(batch) for thread in threads]


def _render_one(tokenizer: Renderer, thread: Thread) -> Rendered | Fault:
    try:
        if tokenizer.template is not None:
            return tokenizer.chat(thread.messages, tools=thread.tools)
        return _plain(tokenizer, thread)
    except InputError as error:
        return Fault("refused", str(error))


def _plain(tokenizer: Renderer, thread: Thread) -> Plain:
    """A prompt and its completion without a chat template."""
    last = thread.messages[-1]["role"] == "assistant"
    if not last or thread.tools or any(thread.taught[:-1]):
        raise Fault(
            "refused",
            "without a chat template, which this tokenizer lacks, wanted a prompt and one completion, and no tools",
        )
    thread.replies, thread.taught, thread.evidence = thread.replies[-1:], thread.taught[-1:], thread.evidence[-1:]
    prompt, answer = spelt_plainly(tokenizer, [thread.messages])[0]
    return Plain([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


def spelt_plainly(tokenizer: Renderer, conversations: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[int]]]:
    """Conversations that end with an answer, as texts without a chat template: the ids of the prompt, as generation
    spells it, and of the answer with the end of a text. A prompt of several messages is a line for each.

    Raises InputError where the tokenizer has no end of a text.
    """
    if tokenizer.eos is None:
        raise InputError("this tokenizer has neither a chat template nor an eos_token to end an answer; name another")
    before, _ = frame(tokenizer)
    prompts = [told(said[:-1]) + "\n" * (len(said) > 2) for said in conversations]
    answers = [told(said[-1:]) for said in conversations]
    asked, said = tokenizer.encode_batch(prompts), tokenizer.encode_batch(answers)
    return [([*before, *x], [*y, tokenizer.eos]) for x, y in zip(asked, said)]


def grounds(tokenizer: Renderer, thread: Thread, chat: Rendered) -> np.ndarray:
    """Where the words stand that each reply rests on: (N, 2), [begin, end) in tokens, at every token after which the
    reply says something, and 0, 0 elsewhere. Raises Fault where what a reply names does not stand before it."""
    pieces = tokenizer.visible_bytes(chat.ids)
    edges = np.cumsum([0, *map(len, pieces)])
    text = b"".join(pieces)
    found = np.zeros((len(chat.ids), 2), np.int32)
    begins, ends = thread.spans(np.array(chat.teaches, bool))
    if len(begins) != len(thread.evidence):
        raise Fault(
            "refused",
            f"{len(thread.evidence)} replies, some with evidence, are {len(begins)} stretches of what the chat "
            "template writes, so that nobody can say which is which; remove the evidence or the record",
        )
    for number, (begin, end, named) in enumerate(zip(begins, ends, thread.evidence)):
        words = named.encode()
        at = text.find(words, 0, int(edges[begin])) if words else 0
        if at < 0:
            raise Fault("refused", f"the evidence of reply {number + 1}, {named[:60]!r}, does not stand before it")
        if words:
            first, last = np.searchsorted(edges, at, "right") - 1, np.searchsorted(edges, at + len(words))
            found[begin - 1 : end - 1] = first, last
    return found


def _fit(
    thread: Thread, chat: Rendered, counts: Counts, *, context: int, teach: str, evidence: np.ndarray | None = None
) -> Section | None:
    """The dialogue up to the last reply that ends within the context; None where it then teaches nothing."""
    ids, teaches = np.array(chat.ids), np.array(chat.teaches, bool)
    begins, ends = thread.spans(teaches)
    taught = np.array(thread.taught)
    fitting = int((ends <= context).sum())
    counts.replies += int(taught.sum())
    counts.replies_cut += int(taught[fitting:].sum())
    if not taught[:fitting].any():
        counts.too_long += bool(taught.any())
        counts.untaught += not taught.any()
        return None
    silent = np.zeros(len(ids), bool)
    for begin, end in zip(begins[~taught], ends[~taught]):
        silent[begin:end] = True
    if len(ids) > context:
        ids = ids[: ends[fitting - 1]]
        counts.truncated += fitting < len(ends)
    teaches = (teaches if teach == "assistant" else np.arange(len(teaches)) > 0)[: len(ids)] & ~silent[: len(ids)]
    size = sum(len(reply["content"].encode()) for reply, learnt in zip(thread.replies[:fitting], taught) if learnt)
    counts.kept += 1
    counts.tokens += len(ids)
    counts.teaching += int(teaches[1:].sum())
    counts.bytes += size
    return Section(ids, thread.key, size, teaches=teaches, evidence=None if evidence is None else evidence[: len(ids)])
