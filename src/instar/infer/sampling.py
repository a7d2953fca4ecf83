"""From logits to the next token, each row by its own rules.

Order: the constraint's mask; logit bias; repetition, presence and frequency penalties; no-repeat-n-gram; shortest
answer (its stops are forbidden); temperature; top-k; top-p; min-p; the draw. Greedy rows take the likeliest token after
the shortest answer and never draw. Log-probabilities that are told are the model's own, before all this.

Every rule is one function of logits (B, V), so that a list of them is a sampler of its own:
sampler(0.8, top_k(50), top_p(0.9)). `Rules` does the same for rows that differ. No rule leaves a row without a token:
where no-repeat-n-gram or the shortest answer would, it is not applied to that row. Top-k, top-p and min-p keep what is
as likely as the least likely token that they keep, so that no answer depends on how equals are sorted.

transformers' processors give the same logits but for this. Its constraint comes behind bias, penalties,
no-repeat-n-gram and shortest answer, which may leave nothing; its top-p keeps only some of the equals; its logit bias
is one case of a bias on sequences. Presence and frequency penalty it does not have: they are OpenAI's formula, over the
answer without its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.options import SamplingOptions
from .asking import check, check_ids, describe, draws, penalises, recalls
from .drawing import Drawing
from .said import Said
from .weights import ahead, ends, floor_of_k, floor_of_p, likeliest, logprob, normaliser, pick, weigh, wide

__all__ = [
    "Rules", "Said", "check", "check_ids", "describe", "draw", "draws", "greedy", "logprob", "min_p", "penalises",
    "presence_and_frequency", "recalls", "repetition", "sampler", "temperature", "top_k", "top_p",
]  # fmt: skip

Rule = Callable[[Tensor], Tensor]
Value = float | Tensor  # one for all rows, or (B, 1)
MOST_TOLD = 20  # alternatives are found among as many for every row, so that they are the same beside any other


def top_k(k: int | Sequence[int]) -> Rule:
    """Keep the k likeliest tokens, with all that are as likely as the last of them; 0 keeps all. One k for all rows, or
    one for each."""
    each = [k] if isinstance(k, int) else list(k)

    def rule(logits: Tensor) -> Tensor:
        if not any(each):
            return logits
        wanted = torch.tensor(each, device=logits.device)[:, None].expand(len(logits), 1)
        return logits.masked_fill(logits < floor_of_k(likeliest(logits, max(each)), wanted), -torch.inf)

    return rule


def top_p(p: Value) -> Rule:
    """Keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al. 2020), with all that are
    as likely as the last of them; never none, and with p = 1 all."""

    def rule(logits: Tensor) -> Tensor:
        share = torch.as_tensor(p, dtype=wide(logits), device=logits.device).expand(len(logits), 1)
        floor = floor_of_p(logits, likeliest(logits, ahead(logits)), share, ends(weigh(logits))[:, -1:])
        return logits.masked_fill(logits < floor, -torch.inf)

    return rule


def min_p(share: Value) -> Rule:
    """Drop what is less likely than this share of the likeliest (Nguyen et al. 2024)."""
    return lambda logits: logits.masked_fill((logits - logits.amax(-1, keepdim=True)).exp() < share, -torch.inf)


def temperature(value: Value) -> Rule:
    """Divide the logits: below 1 is surer, above 1 more varied."""
    return lambda logits: logits / value


def repetition(penalty: Value, seen: Tensor) -> Rule:
    """Positive logits of seen tokens are divided by the penalty, negative ones multiplied (Keskar et al. 2019, section
    4.1, put right for negative logits). seen (B, V) bool: prompt and answer."""
    return lambda logits: torch.where(seen, _repeated(logits, penalty), logits)


def _repeated(logits: Tensor, penalty: Value) -> Tensor:
    return logits.clamp(min=0) / penalty + logits.clamp(max=0) * penalty


def presence_and_frequency(presence: Value, frequency: Value, counts: Tensor) -> Rule:
    """Subtract `presence` from tokens of the answer, and `frequency` for each time they stand in it. counts (B, V)."""
    return lambda logits: logits - presence * (counts > 0) - frequency * counts


def draw(logits: Tensor, luck: Tensor) -> Tensor:
    """The token in whose share of the probability `luck` (B,), uniform in [0, 1), falls -> (B,) ids."""
    return pick(weigh(logits), luck, logits.shape[-1])


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


class Rules:
    """The options of the rows of one step, as columns, made once while the rows stay the same. What no row wants is
    not computed, what looks back only for the rows that want it; and nothing waits for the device."""

    def __init__(
        self, options: Sequence[SamplingOptions], logits: Tensor, stops: Sequence[Collection[int]] | None = None
    ) -> None:
        """logits (..., V): of the size, the dtype and on the device of those to come; stops: of each row, the ids that
        end its answer, beside its own stop_ids."""
        self.size, self._device = logits.shape[-1], logits.device
        self.dtype = torch.promote_types(logits.dtype, torch.float32)
        drawn = [draws(row) for row in options]
        self.drawing, self._all_draw = any(drawn), all(drawn)
        self.counting = any(recalls(row) for row in options)
        self.telling = max((row.top_logprobs for row in options), default=0)
        self._draws = self._tensor(drawn, torch.bool)
        like = torch.empty((), dtype=self.dtype, device=self._device)
        self._rules = Drawing([row if draw else SamplingOptions() for row, draw in zip(options, drawn)], like)
        self._look_back(options)
        ended = stops or [()] * len(options)
        self._bias = self._places([(n, id, bias) for n, row in enumerate(options) for id, bias in row.logit_bias])
        self._stops = self._places(
            [(n, id, 0.0) for n, row in enumerate(options) for id in {*ended[n], *row.stop_ids} if id < self.size]
        )

    def _look_back(self, options: Sequence[SamplingOptions]) -> None:
        """Which rows want penalties, and no n-gram twice, and their columns."""
        self._penalised = self._tensor([n for n, row in enumerate(options) if penalises(row)], torch.long)
        own = [row for row in options if penalises(row)]
        self._repetition, self._presence, self._frequency = (
            self._tensor([getattr(row, name) for row in own], self.dtype)[:, None]
            for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
        )
        self._repeats = any(row.repetition_penalty != 1 for row in own)
        self._counts = any((row.presence_penalty, row.frequency_penalty) != (0, 0) for row in own)
        grams = [row.no_repeat_ngram_size for row in options]
        self._unrepeating = self._tensor([n for n, size in enumerate(grams) if size], torch.long)
        self._grams = self._tensor([size for size in grams if size], torch.long)[:, None]
        self._longest_gram = max(grams, default=0)

    def _tensor(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self._device)

    def _places(self, found: Sequence[tuple[int, int, float]]) -> tuple[Tensor, Tensor, Tensor] | None:
        """Rows, ids and values as three columns; None where there is nothing."""
        if not found:
            return None
        rows, ids, values = zip(*found)
        return self._tensor(rows, torch.long), self._tensor(ids, torch.long), self._tensor(values, self.dtype)

    def shape(
        self,
        logits: Tensor,
        said: Said | None = None,
        rows: Tensor | None = None,
        short: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """logits (B, V) after constraint, bias, penalties, no-repeat-n-gram and shortest answer; those given stay as
        they are.

        said and rows (B,): where the tokens of these rows are kept, wanted where a row is `counting`; rows by default
        0 to B - 1. short (B,) bool: rows that may not end yet. allowed (B, V) bool: what their constraints allow.
        """
        shortens = short is not None and self._stops is not None
        if allowed is None and self._bias is None and not self.counting and not shortens:
            return logits
        if allowed is None:
            shaped = logits.to(self.dtype, copy=True)
        else:  # plus 1 - 1/1 or 1 - 1/0, since to fill by a mask takes a CPU six times as long
            shaped = allowed.to(self.dtype, copy=True).reciprocal_().neg_().add_(1).add_(logits)
        if self._bias is not None:
            own, ids, bias = self._bias
            shaped[own, ids] += bias
        if self.counting:
            assert said is not None
            rows = torch.arange(len(logits), device=logits.device) if rows is None else rows
            self._penalise(shaped, said, rows)
            self._forbid_repeats(shaped, said, rows)
        if shortens and short is not None:
            self._forbid_stops(shaped, short)
        return shaped

    def _penalise(self, shaped: Tensor, said: Said, rows: Tensor) -> None:
        """The penalties, at the tokens that stand in prompt or answer."""
        own = self._penalised
        if not len(own):
            return
        ids = said.past(rows[own])[0]
        logits = shaped[own[:, None], ids]
        if self._repeats:
            logits = _repeated(logits, self._repetition)
        if self._counts:
            counts = said.counts(rows[own]).gather(1, ids)
            logits = presence_and_frequency(self._presence, self._frequency, counts)(logits)
        shaped[own[:, None], ids] = logits  # an id that stands there twice has one value

    def _forbid_repeats(self, shaped: Tensor, said: Said, rows: Tensor) -> None:
        """A token may not follow the last n - 1 ones where it followed them before."""
        own, longest = self._unrepeating, self._longest_gram
        if not longest:
            return
        ids, lengths, _ = said.past(rows[own])
        places = torch.arange(ids.shape[1], device=ids.device)
        back = torch.arange(1 - longest, 0, device=ids.device)
        before = F.pad(ids, (longest - 1, 0)).unfold(1, longest - 1, 1)[:, :-1]  # (rows, W, longest - 1)
        last = ids.gather(1, (lengths + back).clamp(min=0))
        same = ((before == last[:, None]) | (back < 1 - self._grams)[:, None]).all(-1)
        found = same & (places >= self._grams - 1) & (places < lengths)
        was = shaped[own[:, None], ids]
        flat = (own[:, None] * self.size + ids).flatten()
        ban = torch.full_like(was, torch.inf).masked_fill_(found, -torch.inf).flatten()
        shaped.view(-1).scatter_reduce_(0, flat, ban, "amin")
        self._put_back(shaped, own[:, None], ids, was, own)

    def _forbid_stops(self, shaped: Tensor, short: Tensor) -> None:
        """Short rows cannot end."""
        assert self._stops is not None
        own, ids, _ = self._stops
        was = shaped[own, ids]
        shaped[own, ids] = was.masked_fill(short[own], -torch.inf)
        self._put_back(shaped, own, ids, was, own)

    def _put_back(self, shaped: Tensor, rows: Tensor, ids: Tensor, was: Tensor, own: Tensor) -> None:
        """Where nothing is left to say, what was ruled out last is left after all."""
        dead = (shaped.amax(-1) == -torch.inf)[rows]
        shaped[rows, ids] = torch.where(dead, was, shaped[rows, ids])

    def choose(self, shaped: Tensor, luck: Tensor | None = None) -> Tensor:
        """Shaped logits (B, V), luck (B,) where a row draws -> ids (B,)."""
        if luck is None or not self.drawing:
            return greedy(shaped)
        drawn = self._rules.draw(shaped.to(self.dtype), luck)
        return drawn if self._all_draw else torch.where(self._draws, drawn, greedy(shaped))

    def weigh(self, shaped: Tensor) -> Tensor:
        """Shaped logits (B, V) -> what a draw falls into after temperature, top-k, top-p and min-p: weights (B, V),
        the likeliest token's 1 and that of what is dropped 0, with zeros up to whole blocks."""
        return self._rules.weigh(shaped.to(self.dtype))

    def alternatives(self, logits: Tensor) -> tuple[Tensor, Tensor] | None:
        """The likeliest tokens under the model's own logits (B, V) -> ids (B, k) and their log-probabilities (B, k), in
        nats, the likeliest first, with k the most that a row asks for; None where none does."""
        if not self.telling:
            return None
        values, ids = logits.topk(min(MOST_TOLD, logits.shape[-1]))
        return ids[:, : self.telling], (values - normaliser(logits))[:, : self.telling]
