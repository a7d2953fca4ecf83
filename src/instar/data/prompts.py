"""Prompts for reinforcement learning: each as ids, beside the whole record that a reward may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..config import InputError
from .corpus import frame, text_key
from .faults import Fault, Faults
from .preferences import Speaker
from .records import Message, as_messages, messages_of, told, tools_of
from .shards import threshold
from .sources import Document

CHUNK = 512  # records rendered at a time


@dataclass(frozen=True, eq=False)
class Prompt:
    """One record as what is asked: ids, up to where an answer begins; messages, the same as they were said; key: hash
    of its text."""

    record: dict[str, Any]
    where: str
    messages: list[Message]
    tools: list[Any] | None
    ids: list[int]
    key: int


class Prompts(Sequence[Prompt]):
    """Prompts in order. Where one is asked for as a document, it is the ids of the prompt."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = list(prompts)
        self.lengths = np.array([len(prompt.ids) for prompt in self.prompts], np.int64)
        self.total = int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: Any) -> Any:
        return self.prompts[number]

    def tokens(self, number: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        return np.array(self.prompts[number].ids[start:stop], np.int64)

    def split(self, share: float) -> tuple[Prompts, Prompts]:
        """(to train on, held out), by the hash of the text."""
        limit = threshold(share)
        return tuple(Prompts([p for p in self.prompts if (p.key < limit) is held]) for held in (False, True))  # type: ignore[return-value]


@dataclass
class Counts:
    """What became of the records. too_long: an answer would not fit behind it; left out."""

    prompts: int = 0
    kept: int = 0
    too_long: int = 0
    tokens: int = 0


def load_prompts(
    documents: Iterable[Document],
    tokenizer: Speaker,
    *,
    longest: int,
    bad_records: float = 0.01,
    say: Callable[[str], None] | None = None,
) -> tuple[Prompts, dict[str, int]]:
    """All prompts of at most `longest` tokens, and what became of the records. The first that are left out are told to
    `say`. Raises InputError where more than the share `bad_records` is at fault, and where nothing is left."""
    faults, counts, kept = Faults(bad_records, say), Counts(), []
    documents = iter(documents)
    while chunk := list(islice(documents, CHUNK)):
        counts.prompts += len(chunk)
        for prompt in _encoded(chunk, tokenizer, faults):
            if len(prompt.ids) > longest:
                counts.too_long += 1
                continue
            kept.append(prompt)
            counts.tokens += len(prompt.ids)
    counts.kept = len(kept)
    faults.check(counts.prompts)
    if not kept:
        wrong = f" ({faults.listed})" if len(faults) else ""
        raise InputError(
            f"nothing to answer: of {counts.prompts} prompts {counts.too_long} are longer than the {longest} tokens "
            f"that leave room for an answer, and {len(faults)} are at fault{wrong}; raise train.context or check the "
            "data"
        )
    return Prompts(kept), {**asdict(counts), **faults.counts}


def asked_of(record: dict[str, Any]) -> list[Message]:
    """The messages of a record up to the answer that is wanted: of "prompt", a text or messages, or of a dialogue
    without the answer at its end. Raises InputError for another shape, and where nothing is asked."""
    if "prompt" in record:
        prompt = record["prompt"]
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else messages_of(prompt, "prompt")
    else:
        asked = as_messages(record)
        if asked and asked[-1]["role"] == "assistant":
            asked = asked[:-1]
    if not told(asked).strip():
        raise Fault("empty", "the prompt is empty")
    if asked[-1]["role"] == "assistant":
        raise Fault("answered", "the prompt ends with an answer; wanted a question, or what a tool gave")
    return asked


def _encoded(documents: Sequence[Document], tokenizer: Speaker, faults: Faults) -> Iterator[Prompt]:
    """Those that can be asked, in order."""
    read = []
    for document in documents:
        try:
            asked = asked_of(document.record)
            read.append((document, asked, tools_of(document.record), text_key(told(asked))))
        except InputError as error:
            faults.add(document, error)
    plain = [asked for _, asked, tools, _ in read if not tools]
    try:
        spelt = iter(spell(plain, tokenizer))
    except InputError:
        spelt = None  # one of them is at fault: one by one, to be able to say which
    for document, asked, tools, key in read:
        try:
            ids = spell([asked], tokenizer, tools)[0] if tools or spelt is None else next(spelt)
        except InputError as error:
            faults.add(document, Fault("refused", str(error)))
            continue
        yield Prompt(document.record, document.where, asked, tools, ids, key)


def spell(
    conversations: Sequence[Sequence[Message]], tokenizer: Speaker, tools: list[Any] | None = None
) -> list[list[int]]:
    """What stands before an answer: as chat serving spells it, or without a chat template the text itself, several
    messages as lines."""
    if not conversations:
        return []
    if tokenizer.template is not None:
        return [chat.ids for chat in tokenizer.chat_batch(conversations, add_generation_prompt=True, tools=tools)]
    before, _ = frame(tokenizer)
    texts = [told(messages) + "\n" * (len(messages) > 1) for messages in conversations]
    return [[*before, *ids] for ids in tokenizer.encode_batch(texts)]
