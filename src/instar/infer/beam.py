"""Beam search: the likeliest whole answers, of many prompts side by side.

Of each prompt the `beams` likeliest unfinished answers go on together, each in a row of the cache; behind every one of
them each token is a candidate, and the likeliest candidates over all of them are the next. A score is the sum of an
answer's log-probabilities over length ** length_penalty, where the length counts what was generated, the end token too,
and nothing of the prompt. Scores and stopping are those of transformers, so that one weighs answers here as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import InputError
from ..config.options import SamplingOptions
from ..model.transformer import Transformer
from .engine import PREFILL, Finish, check_numbers, resting
from .prompt import check_prompt, check_source, check_speaks, new_cache, read
from .sampling import check


@dataclass(frozen=True)
class Hypothesis:
    """One answer. ids: without the stop; logprobs: of each id, in nats; score: by which answers are ranked, the stop
    counted; finish: stop or length."""

    ids: list[int]
    logprobs: list[float]
    score: float
    finish: Finish


def beam_search(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
    *,
    sources: Sequence[Sequence[int]] | None = None,
    n: int = 1,
    stops: Iterable[int] = (),
    slots: int = 64,
) -> list[list[Hypothesis]]:
    """The n best answers to each prompt, best first; no answer depends on what else is asked.

    sources: what an encoder-decoder is to answer, one for each prompt; prompts may then be empty, which is the model's
    `start`. slots: rows of the cache, a beam each, so slots // beams prompts are worked on at a time, and never fewer
    than one. Raises InputError before any work where n is not from 1 to beams, or where `Engine.submit` would; and
    afterwards where there are not n answers.
    """
    check(options)
    check_speaks(model)
    if not 1 <= n <= options.beams:
        raise InputError(f"n={n}, wanted from 1 to beams={options.beams}; ask for fewer answers or for more beams")
    if sources is not None and len(sources) != len(prompts):
        raise InputError(f"{len(sources)} sources and {len(prompts)} prompts; wanted as many of both")
    most, stops = model.config.max_positions, frozenset(stops)
    given = [check_source(model, source, most) for source in (sources or (None,) * len(prompts))]
    asked = [check_prompt(model, prompt, options.max_new_tokens, most) for prompt in prompts]
    answers: list[list[Hypothesis]] = [[] for _ in prompts]
    lengths = [max(map(len, both)) for both in zip(asked, given)]
    for places in _batches(lengths, max(1, slots // options.beams)):
        with resting(model), torch.inference_mode():
            batch = [asked[place] for place in places], [given[place] for place in places]
            found = Search(model, *batch, options, stops).run()
        for place, hypotheses in zip(places, found):
            answers[place] = hypotheses[:n]
    if short := [place for place, found in enumerate(answers) if len(found) < n]:
        raise InputError(
            f"n={n} answers are wanted, but to prompt {short[0]} there are only {len(answers[short[0]])} "
            f"of at most {options.max_new_tokens} tokens"
        )
    return answers


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """The places of prompts that are worked on together: the longest first, so that little is padded, and as many as
    are read in one step."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) == most or lengths[batch[0]] * (len(batch) + 1) > PREFILL):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@dataclass
class Texts:
    """Answers of P prompts, N each: ids and logprobs (P, N, T), of which `lengths` (P, N) tokens are said; scores
    (P, N), -inf where there is no answer; stopped (P, N) bool."""

    ids: Tensor
    logprobs: Tensor
    scores: Tensor
    lengths: Tensor
    stopped: Tensor

    def at(self, prompts: Tensor) -> Texts:
        """Those of some prompts."""
        return Texts(*(part[prompts] for part in vars(self).values()))

    def best(self, other: Texts, count: int) -> Texts:
        """The best `count` of these and of others, best first."""
        scores = torch.cat((self.scores, other.scores), dim=1)
        order = scores.topk(count).indices
        parts = zip(vars(self).values(), vars(other).values())
        return Texts(*(_picked(torch.cat(pair, dim=1), order) for pair in parts))

    def hypotheses(self) -> list[list[Hypothesis]]:
        """As Python has them; what is no answer is left out."""
        columns = [part.tolist() for part in vars(self).values()]
        return [
            [
                Hypothesis(ids[:length], logprobs[:length], score, "stop" if stopped else "length")
                for ids, logprobs, score, length, stopped in zip(*rows)
                if score > -torch.inf
            ]
            for rows in zip(*columns)
        ]


class Search:
    """One batch of P prompts, W beams each, in step: after step t every live beam has said t tokens.

    A prompt leaves the batch when it is decided; its rows of the cache are not read any more.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        sources: Sequence[Sequence[int]],
        options: SamplingOptions,
        stops: frozenset[int],
    ) -> None:
        """sources: empty ones for a model without an encoder."""
        self.model, self.prompts, self.sources, self.options = model, prompts, sources, options
        width, most, device = options.beams, options.max_new_tokens, model.device
        known = [id for id in sorted(stops) if 0 <= id < model.config.vocab_size]
        self.stops = torch.tensor(known, dtype=torch.int64, device=device)
        capacity = max(map(len, prompts)) + most - 1
        self.cache = new_cache(model, len(prompts) * width, capacity, max(map(len, sources)))
        # the beams of a prompt share its keys, so these need no moving
        self.since = min(map(len, prompts))
        wide = torch.promote_types(model.compute or model.embed.weight.dtype, torch.float32)
        shape = len(prompts), width
        self.live = torch.arange(len(prompts), device=device)  # which prompts are left, by their place in the batch
        self.ids = torch.zeros(*shape, most, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(*shape, most, dtype=wide, device=device)
        # all beams begin alike: the first alone counts, or each answer would be found W times
        self.sums = torch.full(shape, -torch.inf, dtype=wide, device=device)
        self.sums[:, 0] = 0.0
        none = torch.zeros(shape, dtype=torch.int64, device=device)
        self.done = Texts(self.ids, self.logprobs, torch.full_like(self.sums, -torch.inf), none, none > 0)

    def run(self) -> list[list[Hypothesis]]:
        """The finished answers to each prompt, best first."""
        found: list[list[Hypothesis]] = [[] for _ in self.prompts]
        logits = self._begin()
        for said in range(1, self.options.max_new_tokens + 1):
            parents, open = self._step(logits, said)
            decided = (~open).nonzero().flatten()
            for place, texts in zip(self.live[decided].tolist(), self.done.at(decided).hypotheses()):
                found[place] = texts
            if len(decided) == len(self.live):
                break
            if len(decided):
                parents = self._leave(open, parents)
            logits = self._continue(parents, said)
        return found

    def _begin(self) -> Tensor:
        """Read each prompt once, and let its beams share what was read -> logits (P, W, V). Keys of a source do not
        move, so each beam of an encoder-decoder is given its own; there it is the source that is read once."""
        width = self.options.beams
        if self.model.config.encoder_layers:
            prompts = [prompt for prompt in self.prompts for _ in range(width)]
            return read(self.model, prompts, self.cache, self.sources, width).unflatten(0, (-1, width))
        first = range(0, len(self.cache), width)
        logits = read(self.model, self.prompts, self.cache.rows(first))
        self.cache.reorder([row for row in first for _ in range(width)])
        return logits[:, None].expand(-1, width, -1)

    def _step(self, logits: Tensor, said: int) -> tuple[Tensor, Tensor]:
        """logits (P, W, V) behind each beam -> which beam each of the next goes on from (P, W), and which prompts are
        still open (P,). Every beam has `said` tokens then."""
        options, width, size = self.options, self.options.beams, logits.shape[-1]
        chances = logits.to(self.sums.dtype).log_softmax(-1)
        if said <= options.min_new_tokens:
            chances[..., self.stops] = -torch.inf
        # enough that W are left where every beam could end in every way
        wanted = min(max(2, 1 + len(self.stops)) * width, width * size)
        sums, places = (self.sums[..., None] + chances).flatten(1).topk(wanted)
        check_numbers(sums[:, 0].tolist())  # what is no number counts as the largest
        parents, tokens = places // size, places % size
        stopped = torch.isin(tokens, self.stops)
        ended = stopped | (said == options.max_new_tokens)

        def said_by(which: Tensor) -> tuple[Tensor, Tensor]:
            """ids and logprobs (P, N, T) of candidates (P, N)."""
            origin = parents.gather(1, which)
            ids, logprobs = _picked(self.ids, origin), _picked(self.logprobs, origin)
            ids[..., said - 1] = tokens.gather(1, which)
            logprobs[..., said - 1] = chances.flatten(1).gather(1, places.gather(1, which))
            return ids, logprobs

        # the likeliest W alone may end: those behind them are there to go on where others end
        top = torch.arange(width, device=places.device).expand(len(places), width)
        scores = (sums / float(said) ** options.length_penalty).masked_fill(~ended, -torch.inf)[:, :width]
        lengths = said - stopped[:, :width].long()
        self.done = self.done.best(Texts(*said_by(top), scores, lengths, stopped[:, :width]), width)
        self.sums, next = sums.masked_fill(ended, -torch.inf).topk(width)
        self.ids, self.logprobs = said_by(next)
        return parents.gather(1, next), self._open(said)

    def _open(self, said: int) -> Tensor:
        """Which prompts (P,) may still get a better answer than their worst: none is decided before it has W."""
        options = self.options
        longest = options.early_stopping == "never" and options.length_penalty > 0
        length = options.max_new_tokens if longest else said
        worst = self.done.scores.amin(1)
        open = self.sums[:, 0] / float(length) ** options.length_penalty > worst
        return open & (worst == -torch.inf) if options.early_stopping == "full" else open

    def _leave(self, open: Tensor, parents: Tensor) -> Tensor:
        """Go on with the open prompts alone -> their parents."""
        kept = open.nonzero().flatten()
        width = self.options.beams
        self.cache = self.cache.rows([prompt * width + beam for prompt in kept.tolist() for beam in range(width)])
        self.live, self.done, self.sums = self.live[kept], self.done.at(kept), self.sums[kept]
        self.ids, self.logprobs = self.ids[kept], self.logprobs[kept]
        return parents[kept]

    def _continue(self, parents: Tensor, said: int) -> Tensor:
        """Put the rows of the cache in the order of the beams, and read the last token of each -> logits (P, W, V)."""
        width = self.options.beams
        starts = torch.arange(0, len(self.cache), width, device=parents.device)[:, None]
        rows = (starts + parents).flatten().tolist()
        if rows != list(range(len(rows))):
            self.cache.reorder(rows, since=self.since)
        last = self.ids[..., said - 1].reshape(-1, 1)
        return self.model(last, cache=self.cache)[:, -1].unflatten(0, (-1, width))


def _picked(values: Tensor, which: Tensor) -> Tensor:
    """values (P, N, ...), which (P, M) -> (P, M, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None], which]
