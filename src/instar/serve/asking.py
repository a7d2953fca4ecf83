"""A request -> what an engine is asked: how tokens are drawn, how long an answer may be, and from what it goes on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..config import InputError
from ..config.options import SamplingOptions
from ..infer.asking import COLDEST, check
from .failure import bad, from_input_error, too_long
from .schema import INT64, Asked
from .service import Card, Service
from .wire import Ask

T = TypeVar("T")


def speaker(service: Service, name: str) -> Card:
    """The model that is asked to continue a text. Raises Refusal where there is no such model (404), or it gives
    vectors alone (400)."""
    card = service.card(name)
    if not service.facts.speaks:
        raise bad("This model continues no texts; it gives vectors of them at /v1/embeddings.", "model")
    return card


def room(service: Service, prompt: int, wanted: int | None, fields: tuple[str, str], default: int | None) -> int:
    """Tokens that an answer may have. prompt: tokens of it; wanted: of the answer, None where the request does not say;
    fields: what the request calls the prompt and the longest answer; default: the longest answer where it says
    nothing, None is all that the context leaves. Raises Refusal (400) where there is no room."""
    context = service.facts.context
    left = context - prompt
    if left < 1:
        raise too_long(prompt, wanted or 1, context, fields[0])
    if wanted is None:
        return left if default is None else min(default, left)
    if wanted > left:
        raise too_long(prompt, wanted, context, fields[1])
    return wanted


def sampling(
    service: Service, body: Asked, longest: int, constraint: Mapping[str, Any] | None = None, top: int = 0
) -> SamplingOptions:
    """How tokens are drawn: as the request says, else as the server's options do, and never as a checkpoint does.
    longest: tokens of the answer; constraint: fields of SamplingOptions; top: likeliest tokens to be told at each
    place. Raises Refusal (400)."""
    options, rows = service.options, service.facts.vocab_size
    warmth = _or(body.temperature, options.temperature)
    shortest = body.min_tokens or 0
    if shortest > longest:
        raise bad(f"min_tokens is above the {longest} tokens that the answer may have.", "min_tokens")
    bias = [(int(id), weight) for id, weight in (body.logit_bias or {}).items()]
    for name, ids in (("logit_bias", [id for id, _ in bias]), ("stop_token_ids", body.stop_token_ids or [])):
        if any(id >= rows for id in ids):
            raise bad(f"{name} names a token that there is not; ids go from 0 to {rows - 1}.", name)
    if len({id for id, _ in bias}) < len(bias):
        raise bad("logit_bias names a token twice.", "logit_bias")
    top_k = _or(body.top_k, options.top_k)
    found = SamplingOptions(
        # so cold that the likeliest token is certain, and the quotient by it might overflow
        strategy="greedy" if warmth < COLDEST else "sample",
        temperature=0.0 if warmth < COLDEST else warmth,
        top_k=max(top_k, 0),  # vLLM's -1 keeps all, too
        top_p=_or(body.top_p, options.top_p),
        min_p=_or(body.min_p, options.min_p),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        logit_bias=tuple(bias),
        min_new_tokens=shortest,
        max_new_tokens=longest,
        stop_ids=tuple(body.stop_token_ids or ()),
        top_logprobs=top,
        **(constraint or {}),
    )
    try:
        check(found)
    except InputError as error:
        raise from_input_error(error) from None
    return found


def _or(said: T | None, default: T) -> T:
    return default if said is None else said


def asks(
    service: Service,
    body: Asked,
    card: Card,
    ids: Sequence[int],
    options: SamplingOptions,
    client: str,
) -> list[Ask]:
    """The n answers to one prompt, which draw with the seeds seed, seed + 1, ..., so that each is what it would be
    alone. ids: of an encoder-decoder the source."""
    first = secrets.randbits(63) if body.seed is None else body.seed
    source = list(ids) if service.facts.reads_source else None
    prompt = [] if service.facts.reads_source else list(ids)
    return [
        Ask(
            0, prompt, options, _wrapped(first + number), source, card.adapter, service.desk.salt(client),
            endless=bool(body.ignore_eos),
        )
        for number in range(body.n or 1)
    ]  # fmt: skip


def _wrapped(seed: int) -> int:
    """Behind the last number of 64 bits comes the first."""
    return (seed + INT64) % (2 * INT64) - INT64
