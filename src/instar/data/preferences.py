"""Pairs of answers of which one was preferred -> a store, rows that hold several pairs, and batches.

A sequence is the prompt, exactly as chat serving spells it, and an answer with its end. What does not fit the context
is never cut inside an answer: first the prompt gives up its earliest turns, and where its last turn alone is too long,
the pair is left out. Both are counted, and so are records that nothing can be learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ..config import InputError
from .comparisons import Comparison, comparison_of
from .corpus import text_key
from .dialogues import Rendered, Renderer, spelt_plainly
from .faults import Fault, Faults
from .records import Message, told
from .shards import threshold, token_dtype
from .sources import Document

CHUNK = 512  # records rendered at a time


class Speaker(Renderer, Protocol):
    """What is needed of a tokenizer. stops: the ids that end an answer."""

    @property
    def stops(self) -> Sequence[int]: ...
    def chat_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
    ) -> Sequence[Rendered]: ...


@dataclass(frozen=True, eq=False)
class Preferences:
    """N pairs. ids: each as prompt, chosen, rejected, end to end; bounds (N, 4): where in them the prompt begins and
    each of the three stops; keys (N,): hashes of the prompts; sizes (N,): bytes of the answers; margins (N,): what was
    given as such, None where nothing was; references (N, 2): log-probabilities of both answers under a reference.

    Where one document is asked for, as by what shows or counts tokens, it is a pair's three parts end to end.
    """

    ids: np.ndarray
    bounds: np.ndarray
    keys: np.ndarray
    sizes: np.ndarray
    margins: np.ndarray | None = None
    references: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.bounds)

    @property
    def lengths(self) -> np.ndarray:
        return self.bounds[:, 3] - self.bounds[:, 0]

    @property
    def total(self) -> int:
        return int(self.lengths.sum())

    @property
    def bytes(self) -> int:
        return int(self.sizes.sum())

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ids of the prompt, of the chosen and of the rejected answer."""
        start, asked, chosen, rejected = self.bounds[number].tolist()
        return self.ids[start:asked], self.ids[asked:chosen], self.ids[chosen:rejected]

    def tokens(self, pair: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        first, last = int(self.bounds[pair, 0]), int(self.bounds[pair, 3])
        return self.ids[first:last][start:stop]

    def teaches(self, pair: int, start: int, stop: int) -> np.ndarray:
        """Which of the tokens [start, stop) of a pair are its answers'."""
        asked = int(self.bounds[pair, 1] - self.bounds[pair, 0])
        return np.arange(start, min(stop, int(self.lengths[pair]))) >= asked

    def split(self, share: float) -> tuple[Preferences, Preferences]:
        """(to train on, held out), by the hash of the prompt, so that no prompt is on both sides."""
        held = self.keys < threshold(share)
        return self.only(~held), self.only(held)

    def only(self, kept: np.ndarray) -> Preferences:
        """The pairs where kept (N,) is True."""
        margins, references = (None if x is None else x[kept] for x in (self.margins, self.references))
        return replace(
            self, bounds=self.bounds[kept], keys=self.keys[kept], sizes=self.sizes[kept], margins=margins,
            references=references,
        )  # fmt: skip


def load_preferences(
    documents: Iterable[Document],
    tokenizer: Speaker,
    *,
    context: int,
    bad_records: float = 0.01,
    say: Callable[[str], None] | None = None,
) -> tuple[Preferences, dict[str, int]]:
    """All pairs of which each answer fits `context` tokens with its prompt, and what became of the records.

    kept; shortened: kept with a prompt that lost its first turns; too_long: left out; and the records at fault, by
    reason (`comparison_of`; refused: the chat template does not take them), of which the first are told to `say`.
    prompt_tokens, tokens and bytes: of what is kept, tokens and bytes those of both answers. Raises InputError where
    more than the share `bad_records` of the records is at fault, and where nothing is left.
    """
    faults = Faults(bad_records, say)
    counts = dict.fromkeys(("pairs", "kept", "shortened", "too_long", "prompt_tokens", "tokens", "bytes"), 0)
    kept = [pair for chunk in _chunks(documents) for pair in _encoded(chunk, tokenizer, context, counts, faults)]
    faults.check(counts["pairs"])
    if not kept:
        left_out = ", ".join(f"{count} {reason}" for reason, count in faults.counts.items()) or "none at fault"
        raise InputError(
            f"nothing to learn: of {counts['pairs']} pairs {counts['too_long']} are longer than context={context} "
            f"and {left_out}; raise the context or check the data"
        )
    return _stored(kept, tokenizer.vocab_size), {**counts, **faults.counts}


def answered(
    conversations: Sequence[Sequence[Message]], tokenizer: Speaker, *, tools: Sequence[Any] | None = None
) -> list[tuple[list[int], list[int]]]:
    """Conversations that end with an answer -> the ids of what stands before it and of the answer with its end, spelt
    as those of pairs are. Raises InputError for one that ends otherwise, or that the chat template refuses."""
    for number, messages in enumerate(conversations):
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            roles = ", ".join(str(message["role"]) for message in messages) or "nobody"
            raise InputError(f"conversation {number} is said by {roles}; wanted one that ends with an answer")
    told_once = [Comparison([*said[:-1]], said[-1], said[-1], list(tools or ()) or None) for said in conversations]
    return [(prompt, answer) for prompt, answer, _ in (_spelt(told_once, tokenizer) if told_once else ())]


@dataclass(frozen=True)
class _Pair:
    """One pair as ids, before it is stored."""

    sides: list[list[int]]  # the prompt, chosen, rejected
    key: int
    size: int
    margin: float

    def fits(self, context: int) -> bool:
        prompt, *answers = map(len, self.sides)
        return prompt + max(answers) <= context


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    documents = iter(documents)
    while chunk := list(islice(documents, CHUNK)):
        yield chunk


def _encoded(
    documents: Sequence[Document], tokenizer: Speaker, context: int, counts: dict[str, int], faults: Faults
) -> Iterator[_Pair]:
    """The pairs that are kept, in order; all else is counted."""
    counts["pairs"] += len(documents)
    read: list[tuple[Document, Comparison]] = []
    for document in documents:
        try:
            comparison = comparison_of(document.record)
            text_key(comparison.text)  # half a character is found here, and belongs to this record alone
            read.append((document, comparison))
        except InputError as error:
            faults.add(document, error)
    for (document, comparison), found in zip(read, _pairs([comparison for _, comparison in read], tokenizer)):
        if isinstance(found, InputError):
            faults.add(document, found)
            continue
        pair = _fitting(found, comparison, tokenizer, context)
        if pair is None:
            counts["too_long"] += 1
            continue
        counts["shortened"] += pair is not found
        counts["kept"] += 1
        counts["prompt_tokens"] += len(pair.sides[0])
        counts["tokens"] += sum(map(len, pair.sides[1:]))
        counts["bytes"] += pair.size
        yield pair


def _fitting(pair: _Pair, comparison: Comparison, tokenizer: Speaker, context: int) -> _Pair | None:
    """The pair, if need be with fewer turns before it; None where it does not fit with one."""
    if pair.fits(context):
        return pair
    if max(map(len, pair.sides[1:])) >= context:
        return None
    for shorter in comparison.shortened():
        found = _pairs([shorter], tokenizer)[0]
        if isinstance(found, _Pair) and found.fits(context):
            return replace(found, key=pair.key)
    return None


def _pairs(comparisons: Sequence[Comparison], tokenizer: Speaker) -> list[_Pair | InputError]:
    """Comparisons as ids, or what is wrong with each."""
    plain = [one for one in comparisons if not one.tools]
    try:
        spelt = iter(_spelt(plain, tokenizer) if len(plain) else ())
    except InputError:
        spelt = None  # one of them is at fault: one by one, to be able to say which
    found: list[_Pair | InputError] = []
    for one in comparisons:
        try:
            sides = _spelt([one], tokenizer)[0] if one.tools or spelt is None else next(spelt)
            found.append(_pair(one, sides))
        except Fault as error:
            found.append(error)
        except InputError as error:
            found.append(Fault("refused", str(error)))
    return found


def _pair(comparison: Comparison, sides: list[list[int]]) -> _Pair:
    if not sides[0]:
        raise Fault("empty", "the prompt has no token")
    if sides[1] == sides[2]:
        raise Fault("identical", "chosen and rejected are the same tokens")
    size = sum(len(told([answer]).encode()) for answer in (comparison.chosen, comparison.rejected))
    return _Pair(sides, text_key(comparison.text), size, comparison.margin)


def _spelt(comparisons: Sequence[Comparison], tokenizer: Speaker) -> list[list[list[int]]]:
    """The ids of the prompt and of each answer with its end, of comparisons of which either none has tools or there is
    one. Raises InputError where the template refuses one of them."""
    if tokenizer.template is None:
        return _plain(comparisons, tokenizer)
    tools = comparisons[0].tools
    prompts = tokenizer.chat_batch([one.prompt for one in comparisons], add_generation_prompt=True, tools=tools)
    told_once = [[*one.prompt, answer] for one in comparisons for answer in (one.chosen, one.rejected)]
    chats = iter(tokenizer.chat_batch(told_once, tools=tools))
    return [
        [prompt.ids, *(_said(prompt.ids, next(chats), answer, tokenizer) for answer in (one.chosen, one.rejected))]
        for one, prompt in zip(comparisons, prompts)
    ]


def _said(prompt: list[int], chat: Rendered, answer: Message, tokenizer: Speaker) -> list[int]:
    """What has to be said after the prompt for the chat to be as the template writes it, up to the end of the answer.

    Where an answer does not begin behind the prompt (its first characters share a token with the prompt's last, or the
    template writes a past answer otherwise than it asks for one), it is the answer's text and the end of a turn.
    """
    stops = set(tokenizer.stops)
    last = max(place for place, teaches in enumerate(chat.teaches) if teaches)
    if chat.ids[: len(prompt)] == prompt and last >= len(prompt):
        said = chat.ids[len(prompt) : last + 1]
    elif answer.get("tool_calls"):
        raise Fault("refused", "the chat template writes a tool call otherwise than it asks for one")
    else:
        said = tokenizer.encode_batch([answer["content"]])[0]
    if said and said[-1] in stops:
        return said
    if not stops:
        raise InputError("neither the chat template nor the tokenizer has an end for an answer; name another tokenizer")
    return [*said, tokenizer.stops[0]]


def _plain(comparisons: Sequence[Comparison], tokenizer: Speaker) -> list[list[list[int]]]:
    """Without a chat template: see `spelt_plainly`."""
    if comparisons[0].tools:
        raise Fault("refused", "tools are shown by a chat template, and this tokenizer has none")
    told_once = [[*one.prompt, answer] for one in comparisons for answer in (one.chosen, one.rejected)]
    sides = iter(spelt_plainly(tokenizer, told_once))
    return [[*chosen, rejected] for chosen, (_, rejected) in zip(sides, sides)]


def _stored(pairs: Sequence[_Pair], vocab_size: int) -> Preferences:
    sizes = np.array([[0, *map(len, pair.sides)] for pair in pairs], np.int64)
    ends = np.cumsum(sizes.sum(1)) - sizes.sum(1)
    margins = np.array([pair.margin for pair in pairs], np.float32)
    return Preferences(
        ids=np.concatenate([np.asarray(side, token_dtype(vocab_size)) for pair in pairs for side in pair.sides]),
        bounds=sizes.cumsum(1) + ends[:, None],
        keys=np.array([pair.key for pair in pairs], np.uint64),
        sizes=np.array([pair.size for pair in pairs], np.int64),
        margins=margins if margins.any() else None,
    )
