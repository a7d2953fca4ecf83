"""Whether heads follow what words have to do with each other: entities, grammar, and who did what with what.

Letters: T queries, S keys, H heads, L layers, W words, N draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import InputError
from ..data.treebank import Sentence
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .capture import Side
from .heads import visible
from .routing import by_words, pieces, sinkless, sinks_among, words
from .subject import MOST_TOKENS, Token, covering, read

Array = np.ndarray
GAIN = 0.10  # over the best fixed offset: less is no hit
FEWEST = 20  # arcs of a relation, in a direction, that are worth a figure
FOLDS = 10  # a head is chosen on nine tenths of the texts and measured on the last
DRAWS, RESAMPLES = 200, 2000
DIRECTIONS = ("forth", "back")


def entity_lift(
    weights: Tensor, entity: Tensor, *, sees: Tensor | None = None, sinks: Tensor | None = None, own: bool = True
) -> Tensor:
    """How many times the share of chance the entities of a text are given: the mean over rows of their share, over
    their part of the keys that the row may look at -> (H,), 1 is chance.

    weights (H, T, S); entity (S,) bool, or (N, S) for several, which gives (H, N); sees (T, S): what a row may look
    at, by default what stands before it (`heads.visible` tells it of a seam). Sinks, the first key by default, and the
    row's own token are neither shares nor keys, or every entity would find itself. own: whether queries and keys are
    the same tokens. Rows that see no entity say nothing; NaN where none does.
    """
    shares, content = _content(weights, sees, sinks, own)
    found = _lifts(shares, content, entity if entity.ndim == 2 else entity[None])
    return found if entity.ndim == 2 else found[:, 0]


@torch.no_grad()
def stack_lifts(side: Side, entities: Tensor, *, which: str = "self", sinks: Tensor | None = None) -> Tensor:
    """`entity_lift` of every head of a stack, of the first text: entities (N, S) -> (L, H, N) on the CPU, a few heads'
    weights at a time."""
    layers = []
    for seam in side.seams(which):
        sees, masks = visible(seam)[0], entities.to(seam.q.device)
        layers.append(torch.cat([
            entity_lift(weights[0], masks, sees=sees, sinks=sinks, own=which == "self").cpu()
            for _, weights in pieces(seam)
        ]))  # fmt: skip
    return torch.stack(layers)


def p_value(found: float, drawn: Array) -> float:
    """How often what was drawn is at least what was found, itself counted: at least 1 / (draws + 1). NaN where nothing
    was found."""
    return float((1 + (drawn >= found - 1e-6).sum()) / (1 + len(drawn))) if np.isfinite(found) else float("nan")


def drawn_spans(entity: Tensor, free: Tensor, draws: int, seed: int) -> Tensor:
    """entity (S,) bool -> (N, S): spans of the same lengths, in any order, anywhere among the free places (S,)."""
    places = free.nonzero().flatten()
    inside = (entity & free)[places].tolist()
    lengths = [len(run) for run in "".join("x" if yes else " " for yes in inside).split()]
    chance = np.random.default_rng(seed)
    gaps = len(places) - sum(lengths)
    found = torch.zeros(draws, len(entity), dtype=torch.bool)
    for row in found:
        # which of the gaps and spans, in their order, are spans
        order = np.zeros(gaps + len(lengths), bool)
        order[chance.choice(len(order), len(lengths), replace=False)] = True
        left = iter(chance.permutation(lengths).tolist())
        marks = [mark for is_span in order for mark in ([True] * next(left) if is_span else [False])]
        row[places] = torch.tensor(marks, dtype=torch.bool)
    return found


def _content(weights: Tensor, sees: Tensor | None, sinks: Tensor | None, own: bool) -> tuple[Tensor, Tensor]:
    """Shares (H, T, S) of what is neither a sink nor the row itself, rows that add up to 1 or are 0, and which keys
    (T, S) those are."""
    queries, keys = weights.shape[-2:]
    sees = torch.ones(queries, keys, dtype=torch.bool, device=weights.device).tril() if sees is None else sees.clone()
    if sinks is None:
        sinks = torch.arange(keys, device=weights.device) == 0
    sees &= ~sinks.to(sees.device)
    if own:
        sees.fill_diagonal_(False)
        sees[sinks.to(sees.device)] = False  # a sink says nothing of its own
    kept = weights.masked_fill(~sees, 0.0)
    left = kept.sum(-1, keepdim=True)
    some = left > torch.finfo(weights.dtype).eps
    return torch.where(some, kept / left.where(some, 1.0), 0.0), sees


def _lifts(shares: Tensor, content: Tensor, entities: Tensor) -> Tensor:
    """(H, N)."""
    columns = entities.to(shares.dtype).T
    part = content.to(shares.dtype) @ columns / content.sum(-1, keepdim=True).clamp(min=1)  # (T, N)
    rows = (part > 0) & (shares.sum(-1) > 0)[..., None]  # (H, T, N)
    ratios = (shares @ columns / part.where(part > 0, 1.0)).where(rows, 0.0)
    return ratios.sum(1) / rows.sum(1)  # 0 / 0 is NaN


class Arc(NamedTuple):
    """One word has something to do with another. In a treebank the first depends on the second."""

    from_word: int
    to_word: int
    relation: str


@dataclass(frozen=True)
class Example:
    """A text, words of it, each the characters [start, end), and arcs between those. Other words may stand between."""

    text: str
    places: tuple[tuple[int, int], ...]
    arcs: tuple[Arc, ...]


def of_treebank(sentence: Sentence) -> Example:
    """Each word and what it depends on, by relation without its subtype; roots and punctuation have no arc."""
    arcs = [
        Arc(word, head, relation.partition(":")[0])
        for word, (head, relation) in enumerate(zip(sentence.heads, sentence.relations))
        if head >= 0 and relation != "punct"
    ]
    return Example(sentence.text, sentence.places, tuple(arcs))


def of_record(record: Mapping[str, Any]) -> Example:
    """A record of the world with annotate=1: who does something with what (`does`), owner-thing, part-whole,
    thing-place and the others, between the words that name them. Raises InputError where it has no annotations."""
    if not {"text", "spans", "arcs"} <= set(record):
        raise InputError(
            f"the keys are {', '.join(map(str, record))}; wanted spans and arcs, as of world:stories?annotate=1"
        )
    places = sorted({(span["start"], span["end"]) for span in record["spans"]})
    number = [places.index((span["start"], span["end"])) for span in record["spans"]]
    arcs = {Arc(number[arc["from"]], number[arc["to"]], arc["relation"]) for arc in record["arcs"]}
    return Example(record["text"], tuple(places), tuple(sorted(arc for arc in arcs if arc.from_word != arc.to_word)))


@dataclass(frozen=True)
class RelationScore:
    """How well heads find one word from the other, in one direction: from `from_word` to `to_word` (`forth`) or the
    other way (`back`).

    accuracy (L, H): how often the word with the largest share is the right one. offset: the distance in words, k back,
    that is right most often, and fixed: how often it is. gain (L, H): accuracy - fixed. head: the (layer, head) that is
    best most often; best: what the heads gain that were chosen on other texts, over that offset, which is chosen on the
    same: chosen on others too it would be right less often than any one is, and heads would seem to gain by its bad
    luck. interval: 95 % of `best` over resampled texts.
    """

    relation: str
    direction: str
    count: int
    accuracy: Array
    offset: int
    fixed: float
    head: tuple[int, int]
    best: float
    interval: tuple[float, float]

    @property
    def gain(self) -> Array:
        return self.accuracy - self.fixed

    @property
    def hit(self) -> bool:
        """At least +0.10, and more than nothing in 95 % of resamplings."""
        return self.best >= GAIN and self.interval[0] > 0


@dataclass(frozen=True)
class RelationScores:
    """scores: the best first. few: relations with too few arcs for a figure, and how many they have. lost: arcs that
    cannot be asked about, by why: of texts too long, of words without a token of their own, of words in the sink."""

    scores: tuple[RelationScore, ...]
    few: Mapping[str, int]
    lost: Mapping[str, int]
    texts: int


def arc_scores(
    model: Transformer,
    tokenizer: Tokenizer,
    examples: Iterable[Example],
    *,
    side: str = "auto",
    least: int = FEWEST,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RelationScores:
    """Whether the word that a head looks at most, the sink and the word itself left out, is the one that an arc leads
    to (Clark et al. 2019, section 4.2; Voita et al. 2019), beyond what the best fixed offset finds.

    To a word the shares of its tokens are added, from one their mean is taken. A causal model can look back alone, so
    each arc is asked in the direction that it can. side: `encoder` or `decoder` of an encoder-decoder, which reads the
    text on both; the encoder by default. Raises InputError where nothing can be asked, and for fewer than 2 texts.
    """
    lost: Counter[str] = Counter()
    asked: list[_Asked] = []
    texts = 0
    for example in examples:
        if len(tokenizer.document(example.text)) > min(model.config.max_positions, MOST_TOKENS) - 1:
            lost["too long"] += len(example.arcs)
            continue
        asked += _ask(model, tokenizer, example, texts, side, lost)
        texts += 1
    if texts < 2 or not asked:
        raise InputError(
            f"{texts} texts with {len(asked)} arcs that can be asked about; wanted at least 2 texts that are annotated "
            "and shorter than the model's context"
        )
    fold = np.random.default_rng(seed).permutation(np.arange(texts) % FOLDS)
    groups: dict[tuple[str, str], list[_Asked]] = {}
    for one in asked:
        groups.setdefault((one.relation, one.direction), []).append(one)
    scores, few = [], {}
    for (relation, direction), arcs in sorted(groups.items()):
        folds = fold[[arc.text for arc in arcs]]
        if len(arcs) < least or len(set(folds.tolist())) < 2:
            few[f"{relation} {direction}"] = len(arcs)
        else:
            scores.append(_score(relation, direction, arcs, folds, texts, resamples, seed))
    ordered = sorted(scores, key=lambda score: -score.best)
    return RelationScores(tuple(ordered), few, dict(lost), texts)


class _Asked(NamedTuple):
    """One arc in one direction: what every head said, (L, H) bool, and how many words back the right one stands."""

    text: int
    relation: str
    direction: str
    back: int
    right: Array


def _ask(
    model: Transformer, tokenizer: Tokenizer, example: Example, number: int, side: str, lost: Counter[str]
) -> list[_Asked]:
    """Every arc of one text that can be asked about."""
    if not example.arcs:
        return []
    both = model.encoder is not None
    subject = read(model, tokenizer, example.text, target=example.text if both else "")
    trace = subject.capture()
    if side not in ("auto", *(each.name for each in trace.sides)):
        raise InputError(f"side={side}, and the model has {' and '.join(each.name for each in trace.sides)}")
    found = trace.encoder if both and side != "decoder" and trace.encoder is not None else trace.own
    tokens = subject.source if found is trace.encoder else subject.tokens
    groups, of = grouped(tokens, example)
    sinks = sinks_among(tokens, causal=found.causal)
    weights = torch.stack([seam.weights()[0] for seam in found.attended])  # (L, H, T, S): texts are short
    between = by_words(sinkless(weights, sinks), groups, groups)
    between.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
    top, largest = (x.cpu().numpy() for x in between.max(-1))
    sunk = [bool(sinks[start:end].any()) for start, end in groups]
    asked = []
    for arc in example.arcs:
        start, end = of[arc.from_word], of[arc.to_word]
        if start is None or end is None:
            lost["no token of its own"] += 1
            continue
        for direction, (row, target) in zip(DIRECTIONS, ((start, end), (end, start))):
            if found.causal and target > row:
                continue
            if sunk[target]:
                lost["in the sink"] += 1
                continue
            right = (largest[..., row] == target) & (top[..., row] > 0)
            asked.append(_Asked(number, arc.relation, direction, row - target, right))
    return asked


def grouped(tokens: Sequence[Token], example: Example) -> tuple[list[tuple[int, int]], list[int | None]]:
    """[start, end) of the tokens of every word of a text in order, those of the example as they are there, the rest as
    `words` has them, without control tokens; and which of them each word of the example is, None where it shares all
    its tokens with the word before."""
    owner: list[int | None] = [None] * len(tokens)
    for word, (start, end) in sorted(enumerate(example.places), key=lambda each: each[1]):
        for place in covering(tokens, start, end):
            if owner[place] is None:
                owner[place] = word
    groups: list[tuple[int, int]] = []
    of: list[int | None] = [None] * len(example.places)
    for begin, end in words(tokens, example.text):
        for place in range(begin, end):
            if tokens[place].control:
                continue
            same = groups and groups[-1][1] == place and owner[place] == owner[place - 1]
            if same and (owner[place] is not None or place > begin):
                groups[-1] = groups[-1][0], place + 1
            else:
                groups.append((place, place + 1))
            if (number := owner[place]) is not None:
                of[number] = len(groups) - 1
    return groups, of


def _score(
    relation: str, direction: str, arcs: Sequence[_Asked], folds: Array, texts: int, resamples: int, seed: int
) -> RelationScore:
    """folds (N,): the part of the texts that each arc stands in."""
    right = np.stack([arc.right for arc in arcs])  # (N, L, H)
    back = np.array([arc.back for arc in arcs])
    text = np.array([arc.text for arc in arcs])
    counts = Counter(back.tolist())
    offset = min(counts, key=lambda back: (-counts[back], abs(back), back))
    fixed = back == offset
    gains = -fixed.astype(float)
    heads: Counter[tuple[int, int]] = Counter()
    for fold in set(folds.tolist()):
        mine = folds == fold
        accuracy = right[~mine].mean(0)
        layer, head = np.unravel_index(int(accuracy.argmax()), accuracy.shape)
        gains[mine] += right[mine, layer, head]
        heads[int(layer), int(head)] += int(mine.sum())
    sums, asked = np.bincount(text, gains, texts), np.bincount(text, minlength=texts)
    told = np.flatnonzero(asked)
    draws = np.random.default_rng(seed).choice(told, (resamples, len(told)))
    low, high = np.quantile(sums[draws].sum(1) / asked[draws].sum(1), (0.025, 0.975))
    return RelationScore(
        relation, direction, len(arcs), right.mean(0).astype(np.float32), offset, float(fixed.mean()),
        heads.most_common(1)[0][0], float(gains.mean()), (float(low), float(high)),
    )  # fmt: skip
