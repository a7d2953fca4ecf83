"""Text in, text out: prompts -> answers, whole or as they come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..config import InputError, unknown
from ..config.options import BEAMING, DRAWING, EngineOptions, SamplingOptions
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .answer import Completion
from .draft import Drafting
from .speaker import Prompt, Speaker


def complete(
    model: Transformer,
    tokenizer: Tokenizer | None,
    prompts: Sequence[Prompt],
    options: SamplingOptions,
    *,
    n: int = 1,
    seed: int | Sequence[int] = 0,
    chat: bool = False,
    slots: int | None = None,
    how: EngineOptions = EngineOptions(),  # noqa: B008  it is frozen
    draft: Drafting = None,
) -> list[Completion]:
    """n answers to each prompt, as `Speaker.complete` gives them, by an engine made for them. slots: instead of
    how.slots; draft: a smaller model that guesses, as in `proposer`."""
    how = how if slots is None else replace(how, slots=slots)
    return Speaker(model, tokenizer, how, draft=draft).complete(prompts, options, n=n, seed=seed, chat=chat)


def generate(
    model: Transformer,
    tokenizer: Tokenizer | None,
    prompts: Prompt | Sequence[Prompt],
    *,
    max_new_tokens: int = 128,
    strategy: str | None = None,
    n: int = 1,
    seed: int = 0,
    chat: bool = False,
    draft: Drafting = None,
    **rules: Any,
) -> list[Any]:
    """Answers to prompts: texts, or lists of ids where the tokenizer is None and the prompts are ids.

    strategy: greedy, sample or beam; by default sample where temperature, top_k, top_p or min_p is given, and beam
    where beams, length_penalty or early_stopping is. Further rules: min_new_tokens, repetition_penalty,
    presence_penalty, frequency_penalty, no_repeat_ngram_size, logit_bias ({17: -5.0}), stop, stop_ids, and one of
    json_schema, regex, choice and grammar. What is not given changes nothing. What answers are computed with changes
    none of them: slots, kv_budget, chunk, deterministic, compile, tune, speculate="ngram", or a smaller model as draft.
    Raises InputError for an unknown word, and where an answer failed.
    """
    how = engine_options(rules)
    options = sampling_options(max_new_tokens=max_new_tokens, strategy=strategy, **rules)
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], (int, Mapping))):
        prompts = [prompts]  # type: ignore[assignment]
    answers = Speaker(model, tokenizer, how, draft=draft).complete(prompts, options, n=n, seed=seed, chat=chat)  # type: ignore[arg-type]
    if failed := next((answer.error for answer in answers if answer.finish == "failed"), None):
        raise InputError(f"an answer failed: {failed}")
    return [answer.ids if tokenizer is None else answer.text for answer in answers]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    seed: int = 0,
    chat: bool = False,
    options: SamplingOptions | None = None,
    how: EngineOptions | None = None,
    draft: Drafting = None,
    **rules: Any,
) -> Iterator[str]:
    """One answer in pieces, as soon as each is whole; joined they are what `generate` gives: beam search knows it at
    its end, in one piece. Closing the iterator stops the work. Raises InputError at once where `generate` would."""
    if (options is not None or how is not None) and rules:
        raise InputError(f"found both options and {', '.join(rules)}; put all of it into the options")
    how = how or engine_options(rules)
    options = options or sampling_options(**rules)
    return Speaker(model, tokenizer, how, draft=draft).stream(prompt, options, seed=seed, chat=chat)


def engine_options(rules: dict[str, Any]) -> EngineOptions:
    """What is said of the engine among some keywords, which lose it."""
    return EngineOptions(**{f.name: rules.pop(f.name) for f in fields(EngineOptions) if f.name in rules})


def sampling_options(**rules: Any) -> SamplingOptions:
    """SamplingOptions from keywords. A stop, a stop id or a choice may be one, logit_bias a mapping of ids to biases,
    json_schema a mapping. Without a strategy a rule of drawing means to draw, one of beam search to search. Raises
    InputError for an unknown keyword."""
    known = {f.name for f in fields(SamplingOptions)}
    for name in rules:
        if name not in known:
            raise unknown("sampling option", name, known)
    meant = {"beam": BEAMING, "sample": DRAWING}
    implied = next((word for word, names in meant.items() if any(name in rules for name in names)), "greedy")
    rules["strategy"] = rules.get("strategy") or implied
    for name in {"stop", "stop_ids", "choice"} & set(rules):
        one = isinstance(rules[name], str) or not isinstance(rules[name], Iterable)
        rules[name] = (rules[name],) if one else tuple(rules[name])
    bias = rules.get("logit_bias", ())
    if isinstance(bias, (Mapping, list, tuple)):
        pairs = bias.items() if isinstance(bias, Mapping) else bias
        rules["logit_bias"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)
    if isinstance(schema := rules.get("json_schema"), Mapping):
        rules["json_schema"] = json.dumps(schema, ensure_ascii=False)
    if isinstance(early := rules.get("early_stopping"), bool):  # as transformers says it
        rules["early_stopping"] = "full" if early else "likely"
    return SamplingOptions(**rules)
