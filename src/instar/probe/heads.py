"""What each head does, in numbers: where it looks, beside what a head would score that looks everywhere alike.

Letters: B batch, T queries, S keys, H heads, L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..config import InputError
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .capture import Seam, Side, Trace, capture
from .copying import copying
from .panel import Unfit, Words
from .repeats import probe_set
from .routing import AT_ONCE, IDLE, pieces, sinkless

Array = np.ndarray
# scores that say what a head is for, in the order in which labels are told
LABELS = ("previous", "next", "offset", "positional", "duplicate", "induction", "copying", "rare")
TEMPORARIES = 8  # of the size of its weights, that the scores of a head take
LEAST, TIMES, CONSTANT = 0.4, 5.0, 0.9  # a label's least score, how often its chance, and what makes an offset constant


@dataclass(frozen=True)
class HeadProfile:
    """Scores of all heads of a stack. side: encoder or decoder; which: `self` or `cross`.

    scores, chance, raw: by name, (L, H) in fp32. Where a head looks is told of its shares without the sink, of which
    the mean over rows is taken; `raw` is the same with it. chance: what shares alike for all that is visible give.
    What has no row to be seen in is left out: `duplicate` of a text that repeats nothing, `induction` of an encoder. It
    is NaN in a layer alone whose window holds no such row (`blind`).

    previous, next: the share of the token before, or after, in an encoder. offset: of the token k back, where k, the
    one at which the largest share of most rows lies, is in `offsets`, negative ahead; of cross-attention, i - j.
    positional: in how many rows the largest share is k back (Voita et al. 2019, section 5.2). duplicate: of earlier
    tokens that are the same one; induction: of what stood behind those (Olsson et al. 2022). copying: `copying`. sink:
    what the sink takes. entropy: of a row, as a share of what it could be, 1 where all is alike. distance: in tokens.
    confidence: the largest share of a row (Voita et al. 2019). rare: in how many rows it lies on the rarest visible
    token. sink, entropy and distance are of shares as they are.

    strongest: by name, (L, H, 3): text, query and key where the largest share lies of those that the score counts;
    peaks: how large it is, (L, H).
    """

    side: str
    which: str
    scores: Mapping[str, Array]
    chance: Mapping[str, Array]
    raw: Mapping[str, Array]
    offsets: Array
    strongest: Mapping[str, Array]
    peaks: Mapping[str, Array]

    @property
    def idle(self) -> Array:
        """Heads that leave more than 0.9 to the sink, (L, H) bool: they move nothing here, which is no label."""
        return self.scores["sink"] > IDLE

    def blind(self, name: str) -> list[int]:
        """The layers whose window holds nothing that a score counts."""
        return np.flatnonzero(np.isnan(self.scores[name]).all(1)).tolist()

    def awake(self, name: str) -> Array:
        """Heads that are not idle and have this score, (L, H) bool."""
        found: Array = ~self.idle & ~np.isnan(self.scores[name])
        return found

    def best(self, name: str) -> tuple[float, int, int]:
        """The highest score of that name, and its layer and head, of those that are not idle. Raises InputError for
        one that was not measured, or where all are idle."""
        if name not in self.scores:
            raise InputError(f"no score {name} here; measured were {', '.join(self.scores)}")
        if not self.awake(name).any():
            raise InputError("every head is idle here: all leave more than 0.9 to the sink; try a longer text")
        awake = np.where(self.awake(name), self.scores[name], -np.inf)
        layer, head = np.unravel_index(int(awake.argmax()), awake.shape)
        return float(awake[layer, head]), int(layer), int(head)


def labels(profile: HeadProfile) -> list[list[list[str]]]:
    """What each head may be called, by layer and head: every score of at least 0.4 that is at least 5 times its
    chance; none of a head that is idle here. An offset goes by its number, and not where previous or next say it."""
    found: list[list[list[str]]] = [[[] for _ in row] for row in profile.idle]
    for name in LABELS:
        if name not in profile.scores:
            continue
        score = profile.scores[name]
        holds = (score >= (CONSTANT if name == "positional" else LEAST)) & (score >= TIMES * profile.chance[name])
        holds &= ~profile.idle
        for layer, head in np.argwhere(holds).tolist():
            offset, said = int(profile.offsets[layer, head]), found[layer][head]
            if name == "offset":
                if {1: "previous", -1: "next"}.get(offset) not in said:
                    said.append(f"offset {offset}")
            else:
                said.append(name)
    return found


def profile(
    model: Transformer,
    tokenizer: Tokenizer | None = None,
    *,
    side: str = "auto",
    which: str = "self",
    length: int = 32,
    samples: int = 4,
    seed: int = 0,
) -> HeadProfile:
    """Scores on random tokens that are said twice, [begin] r1 .. rn r1 .. rn, which tell what heads match from what
    they know of a language (Olsson et al. 2022).

    tokenizer: tells which tokens are control tokens, of which none is drawn, and what a text begins with (an encoder's
    ends with); without one any token is drawn, the first too. `length` is the n of the first of the `samples`; the
    others repeat at shorter distances, so that none is an offset, and go on with fresh tokens. An encoder-decoder reads
    and says the same, where its source has no vocabulary of its own. side: `encoder` of an encoder-decoder.

    Raises InputError where the model has no such side, or no room for two tokens said twice.
    """
    source, tokens, framed = probe_set(model, tokenizer, length=length, samples=samples, seed=seed)
    trace = capture(model, tokens, source=source)
    if side not in ("auto", *(each.name for each in trace.sides)):
        raise InputError(f"side={side}, and the model has {' and '.join(each.name for each in trace.sides)}")
    found = trace.encoder if side == "encoder" and trace.encoder is not None else trace.own
    reads_source = found is trace.encoder or which == "cross"
    # no token is rarer than another here
    alike = torch.ones(max(model.config.vocab_size, model.config.source_vocab_size), dtype=torch.long)
    sinks = framed if reads_source or not found.causal else None
    return profile_of(trace, found, which, sinks=sinks, frequencies=alike)


def profile_of(
    trace: Trace,
    side: Side | None = None,
    which: str = "self",
    *,
    sinks: Tensor | None = None,
    frequencies: Tensor | None = None,
    copies: bool = True,
) -> HeadProfile:
    """Scores on the texts of a trace, its own side by default.

    sinks (S,): the keys that are no content, the first by default (`sinks_among` tells them of tokens). frequencies
    (V,): how often each token is seen in a corpus, counted in these texts by default. copies: `copying` too, which is
    of the weights alone and takes a product with all words. Raises InputError for texts with padding or several
    documents, where offsets would not be what they seem, and where nothing but sinks is visible.
    """
    side = side or trace.own
    encodes = trace.encoder is not None and side.stack is trace.encoder.stack
    queries = trace.source if encodes else trace.tokens
    keys = trace.source if which == "cross" else queries
    for view in (trace.source_view if encodes else trace.view, trace.source_view if which == "cross" else None):
        if view is not None and (view.segments is not None or view.branches is not None or view.keep is not None):
            raise InputError("found padding or several documents in a row; wanted whole texts of one length")
    seams = side.seams(which)
    assert queries is not None
    assert keys is not None
    if sinks is None:
        sinks = torch.arange(keys.shape[1]) == 0
    reading = _Reading(queries, keys, sinks.to(keys.device), which, side.causal, frequencies)
    layers = [
        _joined([reading.measure(seam, weights) for _, weights in pieces(seam, AT_ONCE // TEMPORARIES)])
        for seam in seams
    ]
    # a layer with a window may see none of the pairs that a score counts, and others do
    unseen = _unseen(layers[0]["sink"][0])
    stacked = {
        name: [torch.stack(column).cpu().numpy() for column in zip(*(x.get(name, unseen) for x in layers))]
        for name in dict.fromkeys(name for layer in layers for name in layer)
    }
    offsets = stacked.pop("offsets")[0]
    scores, chance, raw, strongest, peaks = ({name: stacked[name][n] for name in stacked} for n in range(5))
    with torch.no_grad():
        shares = copying(trace.model, side, which) if copies else None
    if shares is not None:
        scores["copying"] = shares.cpu().numpy()
        # the mean of |sum(l)| / sum(|l|) of random numbers, whose eigenvalues fill a disc
        chance["copying"] = np.full_like(scores["copying"], 1.2 / side.stack.config.head_size)
    seen = {name for name in peaks if (peaks[name] >= 0).any()}
    told = {name for name in raw if np.isfinite(raw[name]).any()}
    return HeadProfile(
        side.name, which, scores, chance, {name: raw[name] for name in told}, offsets,
        {name: strongest[name] for name in seen}, {name: peaks[name] for name in seen},
    )  # fmt: skip


# score, chance, raw score (H,), where the largest share lies (H, 3), how large it is (H,)
Measured = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class _Reading:
    """Texts (B, T) that look at keys (B, S), and what of those each score counts."""

    def __init__(
        self, queries: Tensor, keys: Tensor, sinks: Tensor, which: str, causal: bool, frequencies: Tensor | None
    ) -> None:
        place = partial(torch.arange, device=keys.device)
        self.back = place(queries.shape[1])[:, None] - place(keys.shape[1])
        self.own = which == "self"
        # a sink says nothing of its own
        self.rows = ~sinks if self.own else torch.ones(queries.shape[1], dtype=torch.bool, device=keys.device)
        self.sinks = sinks
        self.counted = _counted(queries, keys, self.back, causal) if self.own else {}
        if frequencies is None:
            frequencies = torch.bincount(keys.flatten())
        self.often = frequencies.to(keys.device)[keys]

    def measure(self, seam: Seam, weights: Tensor) -> dict[str, Measured]:
        """Each score of some heads, whose weights are (B, H, T, S)."""
        shares = sinkless(weights, self.sinks)
        sees = visible(seam)
        content = sees & ~self.sinks
        rows = content.any(-1) & self.rows  # (B or 1, T)
        count = content.sum(-1)
        chosen = rows & (count > 1)  # a row that sees one token alone has no choice
        if not bool(rows.any()):
            raise Unfit(Words(
                "the text has nothing to look at besides its first token; give a longer one",
                "除第一个词元外文本中没有可看的内容；请给出更长的文本",
            ))  # fmt: skip
        alike = content / count.clamp(min=1)[..., None]
        found: dict[str, Measured] = {}
        for name, wanted in self.counted.items():
            wanted = wanted & content
            those = rows & wanted.any(-1)
            if bool(those.any()):
                score, raw = (_mean((x * wanted[:, None]).sum(-1), those) for x in (shares, weights))
                found[name] = (
                    score,
                    _mean((alike * wanted).sum(-1)[:, None], those).expand_as(score),
                    raw,
                    *_top(shares, wanted & chosen[..., None]),
                )
        found |= self._offset(shares, weights, alike, chosen if bool(chosen.any()) else rows)
        top, largest = shares.max(-1)
        heads = weights.shape[1]
        nothing = _unseen(weights[0, :, 0, 0])[2:]

        def alone(score: Tensor, chance: Tensor) -> Measured:
            return score, chance.expand_as(score), *nothing

        taken = (weights * self.sinks).sum(-1)
        even = sees / sees.sum(-1, keepdim=True)
        found["sink"] = alone(_mean(taken, rows), _mean((even * self.sinks).sum(-1)[:, None], rows))
        several = rows & (sees.sum(-1) > 1)
        most = sees.sum(-1).clamp(min=2).log()[:, None]
        entropy = _mean(torch.special.entr(weights).sum(-1) / most, several)
        found["entropy"] = alone(entropy, torch.ones_like(entropy))
        if self.own:
            far = self.back.abs().to(weights.dtype)
            found["distance"] = alone(_mean((weights * far).sum(-1), rows), _mean((even * far).sum(-1)[:, None], rows))
        found["confidence"] = (
            _mean(top, rows), _mean(alike.amax(-1)[:, None], rows).expand(heads), nothing[0],
            *_top(shares, content & chosen[..., None]),
        )  # fmt: skip
        often = self.often[:, None].expand(-1, len(self.back), -1)
        rarest = content & (often == often.where(content, often.max() + 1).amin(-1, keepdim=True))
        telling = rows & (rarest.sum(-1) < count)
        if bool(telling.any()):
            on = rarest[:, None].expand(-1, heads, -1, -1).gather(-1, largest[..., None])[..., 0] & (top > 0)
            found["rare"] = (
                _mean(on.to(top.dtype), telling), _mean((alike * rarest).sum(-1)[:, None], telling).expand(heads),
                nothing[0], *_top(shares, rarest & telling[..., None]),
            )  # fmt: skip
        return found

    def _offset(self, shares: Tensor, weights: Tensor, alike: Tensor, rows: Tensor) -> dict[str, Measured]:
        """The offset at which the largest share of most rows lies, in how many, and what it takes on the mean of all
        rows, those that it leads out of counted as nothing."""
        queries, keys = self.back.shape
        heads = shares.shape[1]
        top, largest = shares.max(-1)
        held = rows[:, None] & (top > 0)  # (B, H, T)
        slot = torch.arange(queries, device=shares.device)[:, None] - largest.transpose(-1, -2) + keys
        slots = torch.zeros(heads, queries + keys, dtype=shares.dtype, device=shares.device)
        index = slot.transpose(-1, -2).transpose(0, 1).flatten(1)
        slots.scatter_add_(1, index, held.to(shares.dtype).transpose(0, 1).flatten(1))
        most, best = slots.max(-1)
        offset = best - keys
        total = rows.expand(len(shares), -1).sum()
        wanted = self.back == offset[:, None, None]  # (H, T, S)
        score, raw = (_mean((x * wanted).sum(-1), rows) for x in (shares, weights))
        chance = _mean((alike[:, None] * wanted).sum(-1), rows)
        content = (alike > 0)[:, None] & wanted & rows[:, None, :, None]
        tops = _top(shares, content)
        return {
            "offset": (score, chance, raw, *tops),
            "positional": (most / total, chance, torch.full_like(score, torch.nan), *tops),
            "offsets": (offset, offset, offset, offset, offset),
        }


def visible(seam: Seam) -> Tensor:
    """Which keys each query may look at: (B or 1, T, S) bool."""
    queries, keys = seam.q.shape[2], seam.k.shape[2]
    sees = torch.ones(1, queries, keys, dtype=torch.bool, device=seam.q.device)
    if seam.causal:
        sees = sees.tril()
    return sees if seam.mask is None else sees & (seam.mask > -torch.inf).any(1)


def _unseen(heads: Tensor) -> Measured:
    """Of heads (H,) that see nothing of what is counted."""
    number = torch.full_like(heads, torch.nan)
    return number, number, number, heads.new_zeros(len(heads), 3, dtype=torch.long), torch.full_like(heads, -1.0)


def _counted(queries: Tensor, keys: Tensor, back: Tensor, causal: bool) -> dict[str, Tensor]:
    """The keys that each score counts, (B or 1, T, S) bool."""
    same = queries[:, :, None] == keys[:, None, :]
    counted = {"previous": (back == 1)[None]}
    if not causal:
        return counted | {"next": (back == -1)[None], "duplicate": same & (back != 0)}
    behind = torch.zeros_like(same)
    behind[..., 1:] = same[..., :-1]
    # what stood behind the same token; the token itself is no guess at what comes next
    return counted | {"duplicate": same & (back > 0), "induction": behind & (back > 0)}


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """The mean over texts and rows: values (B or 1, H or 1, T), rows (B or 1, T) bool -> (H or 1,)."""
    batch = max(len(values), len(rows))
    rows = rows.expand(batch, -1)
    values = values.expand(batch, -1, -1).masked_fill(~rows[:, None], 0.0)
    return values.sum((0, 2)) / rows.sum()


def _top(shares: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Where the largest share of those counted lies: (H, 3) text, query, key; and how large it is (H,)."""
    counted = counted if counted.ndim == 4 else counted[:, None]
    flat = shares.masked_fill(~counted, -1.0).transpose(0, 1).flatten(1)
    peak, where = flat.max(-1)
    queries, keys = shares.shape[2:]
    return torch.stack([where // (queries * keys), where // keys % queries, where % keys], dim=-1), peak


def _joined(parts: list[dict[str, Measured]]) -> dict[str, tuple[Tensor, ...]]:
    return {name: tuple(torch.cat(column) for column in zip(*(part[name] for part in parts))) for name in parts[0]}
