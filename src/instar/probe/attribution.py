"""Which tokens made the model say it: credit for one logit, or the difference of two, among the tokens it read.

Gradients through attention, gradients times inputs, integrated gradients, and occlusion, which changes the text and
looks, and is therefore the referee of the others. Every one is computed in fp32 at least, whatever the weights are.
Letters: B batch, T tokens, S tokens of the source, D model, H heads, L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from ..batch import View
from ..config import InputError
from ..infer.reader import resting
from ..model.attention import attention_weights
from ..model.layers import Embedding
from ..model.stack import Stack
from ..model.transformer import Transformer
from .capture import Side, Trace, seam_of, words_of
from .memory import afford

# What the embedding of a token is replaced by: nothing, the mean row of the table, or the row of an id, as a pad's.
Baseline = Literal["zero", "mean"] | int
TOKENS_AT_ONCE = 2048  # of copies of a text that are read together with a graph; four times as many without
FIRST_STEPS, MOST_STEPS = 8, 1024
TOKENS_READ = 1 << 18  # for the gradients along one way
COMPLETE = 0.01  # the completeness gap below which steps are doubled no more
SMALL = 0.01  # of the logit: a gain below it is not what a gap is measured by


@dataclass(frozen=True)
class Aim:
    """What is explained: the logit of `target` behind the token at `place`, or what it has more than that of `minus`;
    of an encoder what it says of that place itself."""

    place: int
    target: int
    minus: int | None = None

    def of(self, logits: Tensor) -> Tensor:
        """logits (..., V) -> (...)."""
        said = logits[..., self.target]
        return said if self.minus is None else said - logits[..., self.minus]


@dataclass(frozen=True)
class Credit:
    """The share of each token, own (T,) and, where the model reads one, source (S,), in the logit's units except of
    gradient-attention, whose shares are of no unit and never negative.

    whole: what the shares ought to add up to, where a method promises that, and gap, by what share of it they do not,
    or of a hundredth of the logit, where that is more; steps: of integrated gradients; value: the logit that was
    explained.
    """

    method: str
    own: Tensor
    source: Tensor | None
    value: float
    whole: float | None = None
    gap: float | None = None
    steps: int = 0

    @property
    def all(self) -> Tensor:
        """The shares of the source, then of the own tokens: (S + T,)."""
        return self.own if self.source is None else torch.cat((self.source, self.own))


class Routed(NamedTuple):
    """One attention of a pass: whose (encoder, self or cross), its layer, its weights (H, T, S), and how the logit
    changes with each of them."""

    whose: str
    layer: int
    weights: Tensor
    slope: Tensor


def aim(trace: Trace, place: int = -1, target: int | None = None, minus: int | None = None) -> Aim:
    """Of the first text of a batch; target: none takes the likeliest token there. Raises InputError for a place or an
    id that does not exist, or where the model has no head that says tokens."""
    words_of(trace.model)
    count, vocab = trace.tokens.shape[1], trace.model.config.vocab_size
    if not -count <= place < count:
        raise InputError(f"place={place}, wanted 0 to {count - 1}, or -1 for the last")
    for id in (target, minus):
        if id is not None and not 0 <= id < vocab:
            raise InputError(f"id={id}, wanted 0 to {vocab - 1}")
    place %= count
    if target is None:
        target = int(trace.logits(slice(place, place + 1))[0, 0].argmax())
    return Aim(place, target, minus)


def gradient_input(trace: Trace, aim: Aim) -> Credit:
    """Each embedding times the gradient of the logit in its direction, x . dy/dx (Shrikumar et al. 2017): what the
    token would take away with it if the logit were linear in it."""
    with _embeddings(trace) as (own, source):
        ends = _both(own, source)
        slopes, value = _slopes(trace, aim, [x[None] for x in ends])
        return _credit("gradient-input", [x * slope[0] for x, slope in zip(ends, slopes)], value)


def integrated(
    trace: Trace, aim: Aim, baseline: Baseline = "mean", *, limit: float = COMPLETE, most: int = MOST_STEPS
) -> Credit:
    """Integrated gradients (Sundararajan et al. 2017): gradients along the way from a baseline x' to the embeddings x,
    (x - x') . integral of dy/dx, which add up to y(x) - y(x').

    The steps are doubled until they do within `limit` of that and no longer change by more, since a sum can be right by
    chance, or until there are `most`, of a long text fewer: no more than 262,144 tokens are read for the last of them.
    """
    with _embeddings(trace) as (own, source):
        ends = _both(own, source)
        starts = [_blank(trace.model, x, which, baseline) for which, x in zip(_stacks(trace), ends)]
        with torch.no_grad():
            value, nothing = (float(_said(trace, aim, [x[None] for x in xs])[0]) for xs in (ends, starts))
        whole, steps, before = value - nothing, FIRST_STEPS, own.new_tensor(torch.inf)
        # where nearly nothing was gained on the way there is nothing to take shares of
        size = max(abs(whole), SMALL * max(abs(value), abs(nothing)), 1e-12)
        most = max(FIRST_STEPS, min(most, TOKENS_READ // sum(map(len, ends))))
        while True:
            parts = _along(trace, aim, starts, ends, steps)
            gap = abs(float(sum(part.sum() for part in parts)) - whole) / size
            shares = torch.cat([part.sum(-1) for part in parts])
            moved = float((shares - before).abs().sum() / shares.abs().sum().clamp(min=1e-12))
            if max(gap, moved) < limit or steps >= most:
                return replace(_credit("integrated", parts, value), whole=whole, gap=gap, steps=steps)
            steps, before = 2 * steps, shares


def _along(trace: Trace, aim: Aim, starts: list[Tensor], ends: list[Tensor], steps: int) -> list[Tensor]:
    """(end - start) times the mean gradient on the way, for each channel of the embeddings (T, D).

    Steps stand closer near the start, between the fourth powers of equal ones: a norm makes little of how long a vector
    is, so that much happens as soon as a token differs from the baseline at all. The integral is the same.
    """
    edges = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** 4
    at, share = (edges[1:] + edges[:-1]) / 2, edges.diff()
    sums = [torch.zeros_like(x, dtype=torch.float64) for x in ends]
    for part in torch.arange(steps).split(_rows(trace)):
        along = at[part].to(ends[0])[:, None, None]
        slopes, _ = _slopes(trace, aim, [start + along * (end - start) for start, end in zip(starts, ends)])
        for total, slope in zip(sums, slopes):
            total += (slope.double() * share[part].to(slope.device)[:, None, None]).sum(0)
    return [(end - start).double() * total for start, end, total in zip(starts, ends, sums)]


def occlusion(trace: Trace, aim: Aim, baseline: Baseline = "mean") -> Credit:
    """What the logit loses when the embedding of one token is replaced, its position kept, y(x) - y(x without it);
    what it is replaced by is by default the mean of all embeddings, a token that says nothing in particular (after
    Zeiler and Fergus 2014, who covered parts of pictures). What a decoder reads later is not tried: it sees nothing of
    it."""
    with torch.no_grad(), _embeddings(trace) as (own, source):
        ends = _both(own, source)
        starts = [_blank(trace.model, x, which, baseline) for which, x in zip(_stacks(trace), ends)]
        value = float(_said(trace, aim, [x[None] for x in ends])[0])
        losses = []
        for number, (start, end) in enumerate(zip(starts, ends)):
            seen = aim.place + 1 if trace.model.config.causal and end is own else len(end)
            found = [torch.zeros(len(end) - seen, dtype=torch.float64, device=end.device)]
            for part in torch.arange(seen).split(4 * _rows(trace)):
                texts = [x.expand(len(part), -1, -1) for x in ends]
                texts[number] = texts[number].clone()
                texts[number][range(len(part)), part] = start[part]
                found.insert(-1, value - _said(trace, aim, texts).double())
            losses.append(torch.cat(found)[:, None])
        return _credit("occlusion", losses, value)


def gradient_attention(trace: Trace, aim: Aim) -> Credit:
    """Relevance rolled out over the layers by (A * dy/dA)+, the mean over heads of weights times gradients where that
    is positive: R <- R + A R from the identity up, across to the source by its rows' shares (Chefer et al. 2021,
    equations 5 to 10). What a token has of itself without any attention is left out.
    """
    routed, value = routes(trace, aim)
    own = torch.eye(trace.tokens.shape[1], dtype=torch.float64)
    source, across = None, None
    if trace.source is not None:
        source = torch.eye(trace.source.shape[1], dtype=torch.float64)
        across = own.new_zeros(len(own), len(source))
    for route in routed:
        flow = (route.weights.double() * route.slope.double()).clamp(min=0).mean(0).cpu()
        if route.whose == "encoder" and source is not None:
            source = source + flow @ source
        elif route.whose == "cross" and source is not None and across is not None:
            across = across + _shares(own).mT @ flow @ _shares(source)
        else:
            across = across if across is None else across + flow @ across
            own = own + flow @ own
    own = own - torch.eye(len(own), dtype=torch.float64)
    return Credit("gradient-attention", own[aim.place], None if across is None else across[aim.place], value)


def routes(
    trace: Trace,
    aim: Aim,
    nudge: Callable[[str, int, Tensor], Tensor] | None = None,
    least: torch.dtype = torch.float32,
) -> tuple[list[Routed], float]:
    """Every attention of a pass in the order in which they happened, with the gradient of the logit, and the logit.

    The weights enter the graph by a hook on the seam, which computes its output from them. nudge(whose, layer,
    weights (1, H, T, S)) may change them on their way: what the gradients say can be tried out. least: how widely
    everything is computed. Raises InputError where all weights and gradients are too large for memory.
    """
    afford_routes(trace, torch.promote_types(trace.model.dtype, least).itemsize)
    made: list[tuple[str, int, Tensor]] = []
    model = trace.model
    with ExitStack() as hooks, resting(model), _wide(model, least), torch.enable_grad():
        stacks: list[tuple[str, Stack]] = (
            [("self", model)] if model.encoder is None else [("encoder", model.encoder), ("self", model)]
        )
        for name, stack in stacks:
            for layer, block in enumerate(Side(name, stack).blocks):
                for whose, attention in ((name, block.attention), ("cross", block.cross)):
                    if attention is None:
                        continue

                    def expose(attend, given, y, whose=whose, layer=layer):  # type: ignore[no-untyped-def]
                        seam = seam_of(attend, given, y)
                        a = attention_weights(seam.q, seam.k, seam.mask, seam.causal, seam.scale, seam.cap)
                        a = a if a.requires_grad else a.detach().requires_grad_()
                        a = a if nudge is None else nudge(whose, layer, a)
                        made.append((whose, layer, a))
                        return a @ seam.values()

                    hooks.callback(attention.attend.register_forward_hook(expose).remove)
        value = _said(trace, aim, None)[0]
        slopes = torch.autograd.grad(value, [a for *_, a in made], allow_unused=True, materialize_grads=True)
    found = [Routed(whose, layer, a[0].detach(), slope[0]) for (whose, layer, a), slope in zip(made, slopes)]
    return found, float(value.detach())


def afford_routes(trace: Trace, size: int) -> None:
    """Five numbers of so many bytes a weight: itself, its gradient, and what both passes hold beside them. Raises
    InputError where that is too much."""
    config, own = trace.model.config, trace.tokens.shape[1]
    source = 0 if trace.source is None else trace.source.shape[1]
    weights = config.layers * own * (own + source) + config.encoder_layers * source**2
    afford(
        5 * size * config.heads * weights, "a gradient for every weight of attention",
        "shorten the text, or ask another method, such as integrated",
    )  # fmt: skip


def _afford_slopes(trace: Trace, places: list[Tensor]) -> None:
    """What a graph holds of every token in every layer; where no fused kernel has the scores, these too."""
    config, size = trace.model.config, places[0].element_size()
    longest = max(x.shape[1] for x in places)
    tokens, layers = len(places[0]) * sum(x.shape[1] for x in places), config.layers + config.encoder_layers
    each = 12 * config.d_model + 3 * config.d_ff
    if config.score_cap or config.positions == "t5":
        each += 3 * config.heads * longest
    afford(size * tokens * layers * each, "a gradient for this text", "shorten the text, or ask the method occlusion")


def spearman(one: Tensor, other: Tensor) -> float:
    """How far two lists of numbers order things alike, -1 to 1: the correlation of their ranks, equal numbers sharing
    the mean of theirs (Spearman 1904). NaN where all of one are equal."""
    x, y = (_ranks(values) for values in (one, other))
    x, y = x - x.mean(), y - y.mean()
    size = float((x.square().sum() * y.square().sum()).sqrt())
    return float((x * y).sum()) / size if size else float("nan")


def faithfulness(credit: Credit, referee: Credit, aim: Aim, *, causal: bool) -> float:
    """How far a method orders tokens as the referee does, by Spearman over all tokens that the place sees; a method
    without signs against the referee's magnitudes. NaN for fewer than three."""
    count = aim.place + 1 if causal else len(credit.own)
    kept = len(credit.all) - len(credit.own) + count
    one, other = credit.all[:kept], referee.all[:kept]
    if credit.method == "gradient-attention":
        other = other.abs()
    return spearman(one, other) if kept > 2 else float("nan")


def _ranks(values: Tensor) -> Tensor:
    _, where, counts = values.double().unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2)[where]


def _shares(relevance: Tensor) -> Tensor:
    """Relevance (T, T) without the identity, its rows brought to 1, and the identity again (equations 8 and 9)."""
    eye = torch.eye(len(relevance), dtype=relevance.dtype)
    moved = relevance - eye
    return moved / moved.sum(-1, keepdim=True).clamp(min=1e-30) + eye


def _credit(method: str, parts: list[Tensor], value: float) -> Credit:
    """Of parts (T, D) each, the source's first."""
    sums = [part.detach().double().sum(-1).cpu() for part in parts]
    return Credit(method, sums[-1], sums[0] if len(sums) > 1 else None, value)


def _both(own: Tensor, source: Tensor | None) -> list[Tensor]:
    return [own] if source is None else [source, own]


def _stacks(trace: Trace) -> list[Embedding]:
    """The embedding of the source, where there is one, and of the own tokens; they may be one."""
    model = trace.model
    own = model.embed
    return [own] if model.encoder is None else [cast(Embedding, getattr(model.encoder, "embed", own)), own]


@contextmanager
def _embeddings(trace: Trace) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The rows of the own tokens (T, D) and of the source (S, D), with the model computing as widely as they are."""
    with resting(trace.model), _wide(trace.model) as dtype:
        with torch.no_grad():
            texts = [trace.tokens[0]] if trace.source is None else [trace.source[0], trace.tokens[0]]
            rows = [embed(tokens).to(dtype) for embed, tokens in zip(_stacks(trace), texts)]
        yield rows[-1], rows[0] if len(rows) > 1 else None


@contextmanager
def _wide(model: Transformer, least: torch.dtype = torch.float32) -> Iterator[torch.dtype]:
    """With activations in fp32 at least, or as widely as asked."""
    kept, dtype = model.compute, torch.promote_types(model.dtype, least)
    model.compute = dtype
    try:
        yield dtype
    finally:
        model.compute = kept


def _blank(model: Transformer, x: Tensor, embed: Embedding, baseline: Baseline) -> Tensor:
    """Embeddings that stand for nothing, one for each of x (T, D). Raises InputError for an id that does not exist."""
    count = embed.num_embeddings
    with torch.no_grad():
        if baseline == "zero":
            return torch.zeros_like(x)
        if baseline == "mean":
            ids = torch.arange(count, device=x.device)
            row = sum(embed(part).to(x.dtype).sum(0) for part in ids.split(8192)) / count
        else:
            if not 0 <= baseline < count:
                raise InputError(f"baseline={baseline}, wanted zero, mean, or an id from 0 to {count - 1}")
            row = embed(torch.tensor(baseline, device=x.device)).to(x.dtype)
        return cast(Tensor, row).expand_as(x)


def _slopes(trace: Trace, aim: Aim, places: list[Tensor]) -> tuple[list[Tensor], float]:
    """How the logit changes with each channel of embeddings (B, T, D), the source's first, and what it is in the first
    row."""
    _afford_slopes(trace, places)
    leaves = [x.detach().requires_grad_() for x in places]
    with torch.enable_grad():
        said = _said(trace, aim, leaves)
        return list(torch.autograd.grad(said.sum(), leaves)), float(said[0].detach())


def _said(trace: Trace, aim: Aim, embeddings: list[Tensor] | None) -> Tensor:
    """The logit that is explained, of the text with these embeddings (B, T, D), the source's first, in each row: (B,).
    None: with its own."""
    model, rows = trace.model, 1 if embeddings is None else len(embeddings[0])
    with ExitStack() as hooks:
        waiting = list(embeddings or [])
        for embed in dict.fromkeys(_stacks(trace)):
            # the source is embedded first, also where both are by the same module
            hooks.callback(embed.register_forward_hook(lambda *_: waiting.pop(0) if waiting else None).remove)
        hidden = model.hidden(
            trace.tokens[:1].expand(rows, -1),
            view=spread(trace.view, rows),
            source=None if trace.source is None else trace.source[:1].expand(rows, -1),
            source_view=spread(trace.source_view, rows),
        )
        return aim.of(words_of(model)(hidden[:, aim.place]))


def spread(view: View | None, rows: int) -> View | None:
    """The view of the first text, once for each row."""
    if view is None:
        return None
    inside = {part.name: getattr(view, part.name) for part in fields(view)}
    return View(**{name: x[:1].expand(rows, -1) for name, x in inside.items() if x is not None})


def _rows(trace: Trace) -> int:
    """Copies of a text that are read at once, so that memory does not grow with steps or places."""
    longest = max(trace.tokens.shape[1], 0 if trace.source is None else trace.source.shape[1])
    return max(1, TOKENS_AT_ONCE // longest)
