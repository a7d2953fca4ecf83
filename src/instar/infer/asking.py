"""What is asked of sampling: refused where it cannot be or would do nothing, and told in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..config import InputError, unknown
from ..config.options import BEAMING, CONSTRAINTS, DRAWING, PENALTIES, EngineOptions, SamplingOptions

MOST_IDS = 1024  # entries of logit_bias, and stop tokens
NUMBERS: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 100),
    "top_k": (int, 0, 2**31),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 100),
    "presence_penalty": (float, -100, 100),
    "frequency_penalty": (float, -100, 100),
    "no_repeat_ngram_size": (int, 0, 64),
    "top_logprobs": (int, 0, 20),
    "beams": (int, 1, 4096),
    "length_penalty": (float, -10, 10),
    "min_new_tokens": (int, 0, 2**31),
    "max_new_tokens": (int, 1, 2**31),
}
STRATEGIES = ("greedy", "sample", "beam")
STOPPING = ("likely", "full", "never")
COLDEST = 0.001
STEEPEST = 100.0
# what else a search over whole answers does not heed
TOKENWISE = ("stop", "stop_ids", "top_logprobs", *CONSTRAINTS)


def check(options: SamplingOptions) -> None:
    """Raise InputError for a figure outside its range, and for rules that the strategy does not heed."""
    if options.strategy not in STRATEGIES:
        raise unknown("sampling.strategy", str(options.strategy), STRATEGIES)
    if options.early_stopping not in STOPPING:
        raise unknown("sampling.early_stopping", str(options.early_stopping), STOPPING)
    for name, (kind, least, most) in NUMBERS.items():
        value: Any = getattr(options, name)
        if type(value) not in (int, kind) or not least <= value <= most:
            noun = "a whole number" if kind is int else "a number"
            raise InputError(f"sampling.{name}={value}, wanted {noun} from {least} to {most}")
    if 0 < options.temperature < COLDEST:  # the quotient would overflow
        raise InputError(
            f"sampling.temperature={options.temperature}, wanted 0, which is greedy, or {COLDEST} and more"
        )
    if options.min_new_tokens > options.max_new_tokens:
        raise InputError(
            f"sampling.min_new_tokens={options.min_new_tokens} is above max_new_tokens={options.max_new_tokens}"
        )
    if not _are_texts(options.stop):
        raise InputError(f"sampling.stop={options.stop!r}, wanted texts, none of them empty: that stops every answer")
    _check_ids_asked(options)
    _check_constraint(options)
    if lost := unheeded(options):
        said = ", ".join(f"{name}={_short(getattr(options, name))}" for name in lost)
        remedy = "leave it out, or say strategy sample" if options.strategy == "beam" else "say strategy beam"
        raise InputError(f"sampling.strategy={options.strategy} does not heed {said}; {remedy}")


def _check_ids_asked(options: SamplingOptions) -> None:
    """Raise InputError where what should be ids, or ids with their biases, is something else."""
    for name, found in (("logit_bias", options.logit_bias), ("stop_ids", options.stop_ids)):
        if not isinstance(found, tuple) or len(found) > MOST_IDS:
            count = f"{len(found)} entries" if isinstance(found, tuple) else _short(found)
            raise InputError(f"sampling.{name} has {count}, wanted a tuple of at most {MOST_IDS}")
    for pair in options.logit_bias:
        if not isinstance(pair, tuple) or len(pair) != 2 or not _is_id(pair[0]):
            raise InputError(f"sampling.logit_bias holds {_short(pair)}, wanted pairs of a token id and its bias")
        bias: Any = pair[1]
        if type(bias) not in (int, float) or not -STEEPEST <= bias <= STEEPEST:
            raise InputError(
                f"sampling.logit_bias adds {_short(bias)} to token {pair[0]}, wanted a number from {-STEEPEST:g} to "
                f"{STEEPEST:g}"
            )
    ids = [id for id, _ in options.logit_bias]
    if len(set(ids)) < len(ids):
        twice = min(id for id, count in Counter(ids).items() if count > 1)
        raise InputError(f"sampling.logit_bias names token {twice} twice; keep one")
    if strange := [id for id in options.stop_ids if not _is_id(id)]:
        raise InputError(f"sampling.stop_ids holds {_short(strange[0])}, wanted token ids")


def _check_constraint(options: SamplingOptions) -> None:
    """Raise InputError where more than one constraint is set, or one is no text."""
    for name in ("json_schema", "regex", "grammar"):
        if not isinstance(getattr(options, name), str):
            raise InputError(f"sampling.{name}={_short(getattr(options, name))}, wanted a text")
    if not _are_texts(options.choice):
        raise InputError(f"sampling.choice={_short(options.choice)}, wanted texts, none of them empty")
    asked = [name for name in CONSTRAINTS if getattr(options, name)]
    if len(asked) > 1:
        raise InputError(f"found the constraints {' and '.join(asked)}, wanted at most one; leave the others out")


def check_ids(options: SamplingOptions, vocab_size: int) -> None:
    """Raise InputError where logit_bias or stop_ids name a token that a model of this vocabulary does not have."""
    for name, ids in (("logit_bias", [id for id, _ in options.logit_bias]), ("stop_ids", list(options.stop_ids))):
        if beyond := [id for id in ids if not 0 <= id < vocab_size]:
            raise InputError(f"sampling.{name} names token {beyond[0]}, outside 0 to {vocab_size - 1}")


def _is_id(id: Any) -> bool:
    return type(id) is int and id >= 0


def _are_texts(texts: Sequence[Any]) -> bool:
    return isinstance(texts, (tuple, list)) and all(isinstance(text, str) and text for text in texts)


def _short(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."


def check_how(how: EngineOptions) -> None:
    """Raise InputError for a figure outside its range."""
    for name, least, most in (("slots", 1, 2**16), ("chunk", 1, 2**20), ("kv_budget", 0, 2**30)):
        value: Any = getattr(how, name)
        if type(value) is not int or not least <= value <= most:
            raise InputError(f"engine.{name}={value}, wanted a whole number from {least} to {most}")
    if how.deterministic and how.compile:
        raise InputError("engine.deterministic and engine.compile: a compiled step has other bits; leave one out")


def unheeded(options: SamplingOptions) -> list[str]:
    """Rules that were asked for and would do nothing. Greedy rows may carry rules of drawing, so that one word
    switches between the two."""
    names = (*DRAWING, *PENALTIES, *TOKENWISE) if options.strategy == "beam" else BEAMING
    neutral = SamplingOptions()
    return [name for name in names if getattr(options, name) != getattr(neutral, name)]


def draws(options: SamplingOptions) -> bool:
    """Whether a request leaves its tokens to chance."""
    return options.strategy == "sample" and options.temperature > 0


def penalises(options: SamplingOptions) -> bool:
    """Whether a token's logit depends on how often it was said."""
    return (options.repetition_penalty, options.presence_penalty, options.frequency_penalty) != (1.0, 0.0, 0.0)


def recalls(options: SamplingOptions) -> bool:
    """Whether the next token depends on which were said, beyond what the model reads: `Said` then has to keep them."""
    return penalises(options) or options.no_repeat_ngram_size > 0


def describe(options: SamplingOptions) -> str:
    """What really decides the next token, for the eye. Example: "temperature 0.8, top p 0.95"."""
    neutral = SamplingOptions()
    if options.strategy == "beam":
        return (
            f"{options.beams} beams, length penalty {options.length_penalty:g}, early stopping {options.early_stopping}"
            + (f", at least {options.min_new_tokens} tokens" if options.min_new_tokens else "")
        )
    quiet = {"strategy", "max_new_tokens", "logit_bias", *TOKENWISE, *BEAMING}
    if not draws(options):
        quiet |= set(DRAWING)
    said = [
        f"{field.name.replace('_', ' ')} {getattr(options, field.name):g}"
        for field in fields(options)
        if field.name not in quiet
        and (field.name == "temperature" or getattr(options, field.name) != getattr(neutral, field.name))
    ]
    if biased := len(options.logit_bias):
        said.append(f"bias on {biased} token{'s' if biased > 1 else ''}")
    said += [f"held to a {name.replace('_', ' ')}" for name in CONSTRAINTS if getattr(options, name)]
    return ", ".join(said if draws(options) else ["greedy", *said])
