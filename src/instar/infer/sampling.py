"""From logits to the next token, each row by its own rules.

Order: repetition, presence and frequency penalties; temperature; top-k; top-p; min-p; the draw. Greedy rows take the
likeliest token after the penalties and never draw. Every rule is one function of logits (B, V), so that a list of them
is a sampler of its own: sampler(0.8, top_k(50), top_p(0.9)). No rule leaves a row without a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ..config import InputError, unknown
from ..config.options import BEAMING, DRAWING, PENALTIES, SamplingOptions

Rule = Callable[[Tensor], Tensor]
Value = float | Tensor  # one for all rows, or (B, 1)

NUMBERS: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 100),
    "top_k": (int, 0, 2**31),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 100),
    "presence_penalty": (float, -100, 100),
    "frequency_penalty": (float, -100, 100),
    "beams": (int, 1, 4096),
    "length_penalty": (float, -10, 10),
    "min_new_tokens": (int, 0, 2**31),
    "max_new_tokens": (int, 1, 2**31),
}
STRATEGIES = ("greedy", "sample", "beam")
STOPPING = ("likely", "full", "never")
COLDEST = 0.001


def top_k(k: int | Sequence[int]) -> Rule:
    """Keep the k likeliest tokens, with all that are as likely as the last of them; 0 keeps all. One k for all rows, or
    one for each."""
    each = [k] if isinstance(k, int) else list(k)

    def rule(logits: Tensor) -> Tensor:
        size = logits.shape[-1]
        if not any(each):
            return logits
        likeliest = logits.topk(min(max(each), size), sorted=True).values
        wanted = torch.tensor(each, device=logits.device)[:, None].expand(len(logits), 1)
        least = likeliest.gather(-1, wanted.clamp(1, likeliest.shape[-1]) - 1)
        return logits.masked_fill((logits < least) & (wanted > 0), -torch.inf)

    return rule


def top_p(p: Value) -> Rule:
    """Keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al. 2020); never none, and
    with p = 1 all."""

    def rule(logits: Tensor) -> Tensor:
        share = torch.as_tensor(p, dtype=logits.dtype, device=logits.device)
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        chances = values.softmax(-1)
        # the sum of all rounds to 1 before the last token is reached
        drop = (chances.cumsum(-1) - chances >= share) & (share < 1)
        drop[..., 0] = False
        return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)

    return rule


def min_p(share: Value) -> Rule:
    """Drop what is less likely than this share of the likeliest (Nguyen et al. 2024)."""

    def rule(logits: Tensor) -> Tensor:
        chances = logits.softmax(-1)
        return logits.masked_fill(chances < share * chances.amax(-1, keepdim=True), -torch.inf)

    return rule


def temperature(value: Value) -> Rule:
    """Divide the logits: below 1 is surer, above 1 more varied."""
    return lambda logits: logits / value


def repetition(penalty: Value, seen: Tensor) -> Rule:
    """Positive logits of seen tokens are divided by the penalty, negative ones multiplied (Keskar et al. 2019, section
    4.1, put right for negative logits). seen (B, V) bool: prompt and answer."""

    def rule(logits: Tensor) -> Tensor:
        punished = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(seen, punished, logits)

    return rule


def presence_and_frequency(presence: Value, frequency: Value, counts: Tensor) -> Rule:
    """Subtract `presence` from tokens of the answer, and `frequency` for each time they stand in it. counts (B, V)."""
    return lambda logits: logits - presence * (counts > 0) - frequency * counts


def draw(logits: Tensor, luck: Tensor) -> Tensor:
    """The token in whose share of the probability `luck` (B,), uniform in [0, 1), falls -> (B,) ids."""
    wide = torch.float32 if logits.device.type == "mps" else torch.float64  # MPS has no doubles
    ends = logits.to(wide).softmax(-1).cumsum(-1)
    whole = ends[:, -1:].contiguous()
    places = torch.searchsorted(ends, luck.to(ends)[:, None] * whole, right=True)
    last = torch.searchsorted(ends, whole)  # the product may round up to the whole
    return torch.minimum(places, last).squeeze(-1)


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row, the first of equals -> (B,) ids."""
    return logits.argmax(-1)


def sampler(heat: float = 1.0, *rules: Rule, generator: torch.Generator | None = None) -> Callable[[Tensor], Tensor]:
    """A function from logits (B, V) to ids (B,): temperature, then the rules in turn, then the draw."""
    if heat == 0:
        return greedy

    def sample(logits: Tensor) -> Tensor:
        for rule in (temperature(heat), *rules):
            logits = rule(logits)
        return draw(logits, torch.rand(len(logits), dtype=torch.float64, generator=generator))

    return sample


def logprob(logits: Tensor, ids: Tensor) -> Tensor:
    """How likely ids (B,) are under logits (B, V), in nats -> (B,)."""
    return logits.gather(-1, ids[:, None]).squeeze(-1) - logits.logsumexp(-1)


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
    if not all(isinstance(text, str) and text for text in options.stop):
        raise InputError(f"sampling.stop={options.stop!r}, wanted texts, none of them empty: that stops every answer")
    if options.min_new_tokens > options.max_new_tokens:
        raise InputError(
            f"sampling.min_new_tokens={options.min_new_tokens} is above max_new_tokens={options.max_new_tokens}"
        )
    if lost := unheeded(options):
        said = ", ".join(f"{name}={getattr(options, name)}" for name in lost)
        remedy = "leave it out, or say strategy sample" if options.strategy == "beam" else "say strategy beam"
        raise InputError(f"sampling.strategy={options.strategy} does not heed {said}; {remedy}")


def unheeded(options: SamplingOptions) -> list[str]:
    """Rules that were asked for and would do nothing. Greedy rows may carry rules of drawing, so that one word
    switches between the two."""
    names = (*DRAWING, *PENALTIES, "stop") if options.strategy == "beam" else BEAMING
    neutral = SamplingOptions()
    return [name for name in names if getattr(options, name) != getattr(neutral, name)]


def draws(options: SamplingOptions) -> bool:
    """Whether a request leaves its tokens to chance."""
    return options.strategy == "sample" and options.temperature > 0


def penalises(options: SamplingOptions) -> bool:
    """Whether a request needs its tokens counted."""
    return (options.repetition_penalty, options.presence_penalty, options.frequency_penalty) != (1.0, 0.0, 0.0)


def describe(options: SamplingOptions) -> str:
    """What really decides the next token, for the eye. Example: "temperature 0.8, top p 0.95"."""
    neutral = SamplingOptions()
    if options.strategy == "beam":
        return (
            f"{options.beams} beams, length penalty {options.length_penalty:g}, early stopping {options.early_stopping}"
            + (f", at least {options.min_new_tokens} tokens" if options.min_new_tokens else "")
        )
    quiet = {"strategy", "max_new_tokens", "stop", *BEAMING}
    if not draws(options):
        quiet |= set(DRAWING)
    said = [
        f"{field.name.replace('_', ' ')} {getattr(options, field.name):g}"
        for field in fields(options)
        if field.name not in quiet
        and (field.name == "temperature" or getattr(options, field.name) != getattr(neutral, field.name))
    ]
    return ", ".join(said if draws(options) else ["greedy", *said])


class Rules:
    """The options of the rows of one step, as columns; rules that no row wants are not computed."""

    def __init__(self, options: Sequence[SamplingOptions], logits: Tensor) -> None:
        """logits: any tensor of the dtype and on the device of those to come."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=logits.dtype, device=logits.device)[:, None]

        self.samples = torch.tensor([draws(row) for row in options], device=logits.device)
        self.drawing = any(draws(row) for row in options)
        self.penalising = any(penalises(row) for row in options)
        self.repetition = column([row.repetition_penalty for row in options])
        self.presence = column([row.presence_penalty for row in options])
        self.frequency = column([row.frequency_penalty for row in options])
        self.filters: list[Rule] = [temperature(column([row.temperature or 1.0 for row in options]))]
        if any(row.top_k > 0 for row in options):
            self.filters.append(top_k([row.top_k for row in options]))
        if any(row.top_p < 1 for row in options):
            self.filters.append(top_p(column([row.top_p for row in options])))
        if any(row.min_p > 0 for row in options):
            self.filters.append(min_p(column([row.min_p for row in options])))

    def penalise(self, logits: Tensor, seen: Tensor, counts: Tensor) -> Tensor:
        """logits (B, V) after the penalties; seen and counts (B, V) of prompt and answer, and of the answer."""
        logits = repetition(self.repetition, seen)(logits)
        return presence_and_frequency(self.presence, self.frequency, counts)(logits)

    def choose(self, logits: Tensor, luck: Tensor | None) -> Tensor:
        """Penalised logits (B, V), luck (B,) where a row draws -> ids (B,)."""
        likeliest = greedy(logits)
        if luck is None:
            return likeliest
        for rule in self.filters:
            logits = rule(logits)
        return torch.where(self.samples, draw(logits, luck), likeliest)


class Said:
    """Which tokens stand in the prompt of each row of the engine, and how often its answer said them."""

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self.asked = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self.counts = torch.zeros(rows, vocabulary, dtype=torch.int32, device=device)

    def begin(self, row: int, prompt: Sequence[int]) -> None:
        """A new request takes the row: nothing of the one before is left."""
        self.asked[row], self.counts[row] = False, 0
        self.asked[row, torch.tensor(prompt, device=self.asked.device)] = True

    def add(self, rows: Tensor, ids: Tensor) -> None:
        """Each of these rows said one more token."""
        self.counts[rows, ids] += 1

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """seen (B, V) in prompt or answer, counts (B, V) in the answer."""
        counts = self.counts[rows]
        return self.asked[rows] | (counts > 0), counts
