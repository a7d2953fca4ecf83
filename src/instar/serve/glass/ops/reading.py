"""What is asked about, as a model reads it: a text, messages or ids, and its tokens as JSON knows them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ....config import InputError
from ....config.options import InspectOptions, SamplingOptions
from ....infer.text import complete
from ....probe.inspection import SAID, subject_of
from ....probe.subject import Subject, Token, read_chat, read_said
from ..box import Box
from ..stock import Held
from .question import one_of, refusing

WAYS = ("text", "ids", "messages")  # to say what is read


def read_asked(held: Held, asked: Mapping[str, Any]) -> Subject:
    """Of {text | ids | messages, chat, target, target_ids}. Raises InputError for what the model cannot read."""
    way = one_of(asked, *WAYS)
    if way != "ids" and asked.get("target_ids"):
        raise InputError(f"found target_ids, and {way}; wanted target, the text that is said, or ids of both")
    if way == "ids" and asked.get("target"):
        raise InputError("found a target, and ids; wanted target_ids, or texts of both")
    if way == "messages" and asked.get("target") and not held.config.encoder_layers:
        raise InputError("found a target, and a model without an encoder; leave it out")
    if way == "messages":
        if held.tokenizer is None:
            raise InputError(f"{held.id} has no tokenizer, and messages are text; pass ids")
        return read_chat(held.model, held.tokenizer, asked["messages"])
    if way == "ids" and held.tokenizer is not None and not held.config.source_vocab_size:
        return _read_ids(held, asked)
    return subject_of(held.model, held.tokenizer, question_of(asked))


def question_of(asked: Mapping[str, Any]) -> InspectOptions:
    """What `instar inspect` would be asked of the same."""
    return InspectOptions(
        text=asked.get("text", ""), ids=tuple(asked.get("ids") or ()), target=asked.get("target", ""),
        target_ids=tuple(asked.get("target_ids") or ()), chat=bool(asked.get("chat") or asked.get("messages")),
    )  # fmt: skip


def _read_ids(held: Held, asked: Mapping[str, Any]) -> Subject:
    """Ids with their texts; of an encoder-decoder those of the source."""
    model, tokenizer, ids = held.model, held.tokenizer, asked["ids"]
    assert tokenizer is not None
    said = list(asked.get("target_ids") or ())
    if not held.config.encoder_layers:
        if said:
            raise InputError("found target ids, and a model without an encoder; leave them out")
        return read_said(model, tokenizer, ids)
    if not said:
        rules = SamplingOptions(strategy="greedy", max_new_tokens=SAID)
        (answer,) = complete(model, tokenizer, [list(ids)], rules)
        said = list(answer.ids)
    start = [held.config.start] if held.config.start >= 0 else []
    return read_said(model, tokenizer, [*start, *said], ids)


def tokens_of(tokens: Sequence[Token], surprises: Sequence[float | None] = ()) -> list[dict[str, Any]]:
    """Tokens as JSON knows them. part: [k, n] of the k-th of n tokens that share a character; surprise: in nats, None
    where nothing was foreseen; special: a control token, of which ids without a tokenizer tell nothing."""
    surprises = surprises or [None] * len(tokens)
    return [
        {
            "i": i, "id": token.id, "text": token.piece, "b64": base64.b64encode(token.raw).decode(),
            "start": token.start, "end": token.end, "part": part,
            "special": token.control and not token.piece.isdecimal(), "surprise": surprise,
        }
        for i, (token, part, surprise) in enumerate(zip(tokens, _parts(tokens), surprises))
    ]  # fmt: skip


def _parts(tokens: Sequence[Token]) -> Iterator[list[int]]:
    """[k, n] of each token, [1, 1] of those that share no character with a neighbour."""
    begins = [0] if tokens else []
    begins += [
        place for place, (before, token) in enumerate(pairwise(tokens), 1)
        if before.control or token.control or token.start >= before.end
    ]  # fmt: skip
    for start, end in zip(begins, [*begins[1:], len(tokens)]):
        yield from ([k + 1, end - start] for k in range(end - start))


@refusing
def tokenize(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, text | messages, chat} -> the tokens, and how many bytes the text has."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    said = {**args, "target": args.get("target") or "."} if held.config.encoder_layers else args
    subject = read_asked(held, said)
    text = subject.source_text or subject.text
    return {"tokens": tokens_of(subject.source or subject.tokens), "bytes": len(text.encode("utf-8", "replace"))}
