"""Answers of the policy to prompts, by the engine, as what they are learnt from: ids with their end, and text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..config.options import SamplingOptions
from ..data.prompts import Prompt
from ..infer.engine import Engine
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Said:
    """One answer. group: which of the prompts it is to; ids: all that was said, the end counted; ended: it has one;
    text: without it."""

    group: int
    ids: list[int]
    ended: bool
    text: str


def sample(
    policy: Transformer,
    tokenizer: Tokenizer,
    asked: Sequence[Prompt],
    seeds: Sequence[int],
    *,
    temperature: float,
    max_new_tokens: int,
    slots: int,
) -> list[Said]:
    """Answers drawn from softmax(logits / temperature), as many to each prompt as there are seeds for: prompt 0's
    first."""
    each = len(seeds) // len(asked)
    rules = SamplingOptions(strategy="sample", temperature=temperature, max_new_tokens=max_new_tokens)
    groups = [group for group in range(len(asked)) for _ in range(each)]
    return _said(policy, tokenizer, asked, groups, list(seeds), rules, slots)


def likeliest(
    policy: Transformer, tokenizer: Tokenizer, asked: Sequence[Prompt], *, max_new_tokens: int, slots: int
) -> list[Said]:
    """One answer to each prompt, token by token the likeliest."""
    rules = SamplingOptions(strategy="greedy", max_new_tokens=max_new_tokens)
    return _said(policy, tokenizer, asked, list(range(len(asked))), [0] * len(asked), rules, slots)


def _said(
    policy: Transformer, tokenizer: Tokenizer, asked: Sequence[Prompt], groups: Sequence[int], seeds: Sequence[int],
    rules: SamplingOptions, slots: int,
) -> list[Said]:  # fmt: skip
    """The end of an answer is said like any token, so that it is known which of several it was."""
    stops = frozenset(tokenizer.stops)
    capacity = max(len(prompt.ids) for prompt in asked) + rules.max_new_tokens
    # a new one each time: its memory is free while the policy learns, and what it was asked before changes no bit
    engine = Engine(policy, slots=min(slots, len(groups)), capacity=min(capacity, policy.config.max_positions))
    requests = [engine.submit(asked[group].ids, rules, seed=seed) for group, seed in zip(groups, seeds)]
    while engine.busy:
        for event in engine.step():
            if event.id in stops:
                engine.cancel(event.request)
    return [told(tokenizer, group, request.ids, stops) for group, request in zip(groups, requests)]


def told(tokenizer: Tokenizer, group: int, ids: list[int], stops: Collection[int]) -> Said:
    """What was said, with its text."""
    ended = bool(ids) and ids[-1] in stops
    return Said(group, ids, ended, tokenizer.decode(ids[:-1] if ended else ids, continues=True))
