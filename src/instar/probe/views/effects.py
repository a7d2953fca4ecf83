"""The view of effects: what the answer loses when a part is left out, and where the difference of two texts is
carried."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ...config import InputError
from ..asked import Asked, asked_of, first_of
from ..capture import Side, Trace
from ..checks import limit, no_hooks, watched_is_unwatched
from ..effects import PLAIN, Lost, Onward, Restored, again, last_head_gap, patch, without_heads, without_parts
from ..intervene import Which, ablated, effect, patched
from ..look import Look
from ..panel import Bars, Check, Figure, Matrix, Panel, Words
from ..subject import Subject, Token, read, read_ids, within
from .attention import told
from .parts import named_rows, part

# Passes of heads, and of states, up to which all layers are shown, and the tokens that all of them read.
MOST_RUNS, MOST_TOKENS = 1024, 131_072
SHOWN = 40  # tokens of a text that an error shows

LEFT_OUT = {
    "zero": Words(
        "Each head alone says nothing at any place (zero ablation), which later layers may never have met; "
        "with ablation by the mean it says its mean over the text.",
        "逐个让注意力头在所有位置输出 0（零消融），后面的层可能从未见过这种情况；均值消融则让它输出在全文上的平均值。",
    ),
    "mean": Words(
        "Each head alone says its mean over the text at every place (mean ablation): what it says of one place is "
        "lost, what it says everywhere stays.",
        "逐个让注意力头在所有位置输出它在全文上的平均值（均值消融）：只失去因位置而异的内容，处处相同的内容保留。",
    ),
}
CAUSES = Words(
    "A change counts all that later layers made of the part, and what they do in its stead: others may stand in for a "
    "head that is missing, so small is not the same as unused. Changes of several parts do not add up.",
    "变化包含后面各层对该部件的一切利用，也包含它们的补偿：缺了一个头，别的头可能顶上，所以变化小不等于没有用。"
    "多个部件的变化不能相加。",
)
PATCHED = Words(
    "Patching: the state of one place of the residual stream, or the output of one head at all places, is put in from "
    "the pass over the other text; 0 restores nothing of the difference, 1 all (Vig et al. 2020; Meng et al. 2022).",
    "激活修补：把另一段文本计算中残差流某一位置的状态，或一个头在所有位置的输出，换进本文的计算；"
    "0 表示差异毫未恢复，1 表示完全恢复（Vig 等 2020；Meng 等 2022）。",
)
ASIDE = Words(
    "Own places carry the difference only once cross-attention has brought it; on the side "
    "of the encoder the source is patched.",
    "交叉注意力把差异带来之后，解码器自身的位置才会承载它；选编码器一侧，则修补源文。",
)
ONE_LAYER = Words(
    f"More than {MOST_RUNS:,} passes over heads, or {MOST_TOKENS:,} tokens in them: only the layer asked about is "
    "shown.",
    f"逐头计算超过 {MOST_RUNS:,} 遍，或合计超过 {MOST_TOKENS:,} 个词元：只显示所问的一层。",
)
THINNED = Words(
    f"More than {MOST_RUNS:,} passes over states, or {MOST_TOKENS:,} tokens in them: only some layers are shown, and "
    f"of at most {MOST_RUNS:,} places.",
    f"逐状态计算超过 {MOST_RUNS:,} 遍，或合计超过 {MOST_TOKENS:,} 个词元：只显示部分层，且至多 {MOST_RUNS:,} 个位置。",
)
UNCHANGED = Words(
    "a row of each batch to which nothing is done says what the pass says", "每批中不作任何改动的一行，输出与原计算一致"
)
ALONE = Words(
    "the head with the largest effect, left out in a pass of its own, has the same effect",
    "影响最大的头在一次单独的完整计算中去掉，影响相同",
)
DIRECT = Words(
    "what the stream loses without a head of the last layer is that head's direct contribution",
    "去掉最后一层的一个头，残差流失去的恰为该头的直接贡献",
)
WHOLE = Words(
    "all places of a layer put in from the other pass give the other pass's logits",
    "把一层的所有位置都换成另一次计算的状态，得到的就是另一次计算的 logits",
)
ALONE_STATE = Words(
    "the state that restores most, put in in a pass of its own, restores the same",
    "恢复最多的状态在一次单独的完整计算中换入，恢复的程度相同",
)
LAYER, HEAD = Words("layer", "层"), Words("head", "头")


@dataclass(frozen=True)
class _Other:
    """A second text, its pass, and what its states restore."""

    subject: Subject
    trace: Trace
    restored: Restored
    which: Which
    thinned: bool


def effects(look: Look) -> Panel:
    """What the logit of a token loses without each head and each sublayer, and with `other`, a second text of as many
    tokens, how much of the difference between their answers the state of each place, and each head, carries.

    arrays: heads, heads_kl (L, H), of a decoder with an encoder cross, cross_kl (L, H); attention, feed_forward and
    cross_skipped, each with its _kl, (L,); restored (L + 1, T), restored_heads (L, H); fewer layers where that would
    be long, by `data`. side=encoder: heads, sublayers and states of the encoder of an encoder-decoder, about what its
    decoder says. Raises InputError where no head says tokens, for a place or token that does not exist, and for
    another text with other numbers of tokens or the same answer.
    """
    trace, side = look.trace, look.side
    asked = asked_of(look)
    other = _read_other(look)
    onward = Onward(trace, side, asked.aim.place)
    heads = side.stack.config.heads
    length = max(len(look.subject.tokens), len(look.subject.source))
    runs = len(side.blocks) * heads
    fits = runs <= MOST_RUNS and runs * length <= MOST_TOKENS
    layers = list(range(len(side.blocks))) if fits else [look.layer]
    whiches: list[Which] = ["self", "cross"] if side.crossed else ["self"]
    lost = {which: without_heads(onward, asked.aim, which, look.ask.ablation, layers) for which in whiches}
    parts = without_parts(onward, asked.aim)
    found = None if other is None else _restored(look, onward, asked, other, layers)
    arrays = {name: _numbers(value) for name, value in _arrays(lost, parts, found).items()}
    return Panel(
        "effects",
        _title(look, asked),
        {
            "tokens": told(look.subject.tokens),
            "source": told(look.subject.source),
            "at": asked.aim.place,
            "target": {"id": asked.aim.target, "piece": asked.piece},
            "logit": float(asked.aim.of(onward.before)),
            "side": side.name,
            "ablation": look.ask.ablation,
            "layers": layers,
            "heads": _ranked(lost, layers),
            "skipped": {name: {"change": one.change.tolist(), "kl": one.kl.tolist()} for name, one in parts.items()},
            "other": None if found is None else _told(look, found),
        },
        arrays,
        _figures(look, asked, layers, lost, parts, found),
        _checks(look, asked, onward, layers, lost, found),
        [
            LEFT_OUT[look.ask.ablation],
            CAUSES,
            *([PATCHED] if found is not None else []),
            *([ASIDE] if found is not None and look.subject.source and side is trace.own else []),
            *([] if fits else [ONE_LAYER]),
            *([THINNED] if found is not None and found.thinned else []),
            *first_of(asked),
        ],
    )


def _read_other(look: Look) -> Subject | None:
    """The second text as the first was read; of an encoder-decoder the same words about a second source."""
    ask, one = look.ask, look.subject
    if not (ask.other or ask.other_ids):
        return None
    model, config = one.model, one.model.config
    if ask.other_ids:
        rows = config.source_vocab_size or config.vocab_size
        ids = within("other_ids", ask.other_ids, rows)
        other = read_ids(model, [token.id for token in one.tokens], ids) if one.source else read_ids(model, ids)
    elif one.tokenizer is None:
        raise InputError("found another text and no tokenizer; wanted other_ids, such as --other-ids 5 9 11")
    else:
        other = read(model, one.tokenizer, ask.other, target=one.text if one.source else "", chat=ask.chat)
    mine, theirs = (one.source, other.source) if one.source else (one.tokens, other.tokens)
    if len(mine) != len(theirs):
        raise InputError(
            f"the text has {len(mine)} tokens, the other {len(theirs)}; wanted as many of both, so that each has its "
            f"counterpart: {_spelt(mine)} and {_spelt(theirs)}"
        )
    return replace(one, source=other.source, source_text=other.source_text) if one.source else other


def _spelt(tokens: tuple[Token, ...]) -> str:
    return "|".join(token.piece for token in tokens[:SHOWN]) + ("|..." if len(tokens) > SHOWN else "")


def _restored(look: Look, onward: Onward, asked: Asked, other: Subject, layers: list[int]) -> _Other:
    side, trace = onward.side, other.capture()
    which: Which = "cross" if look.which == "cross" else "self"
    differ = [n for n, (a, b) in enumerate(zip(_tokens(look.subject, side), _tokens(other, side))) if a.id != b.id]
    last = len(look.tokens)
    if side is look.trace.own and side.causal:  # what stands before the first difference is the same, by the mask
        places = range(0 if look.subject.source else min(differ, default=last), asked.aim.place + 1)
    else:
        places = range(last)
    thinned = places[-MOST_RUNS:]
    rows = len(side.stream)
    most = max(1, min(MOST_RUNS, MOST_TOKENS // last) // max(1, len(thinned)))
    step = math.ceil(rows / most)
    kept = [row for row in range(rows) if (row - look.layer) % step == 0]
    found = patch(onward, trace, asked.aim, kept, thinned, which, layers)
    return _Other(other, trace, found, which, step > 1 or len(thinned) < len(places))


def _tokens(subject: Subject, side: Side) -> tuple[Token, ...]:
    return subject.source if subject.source and side.name == "encoder" else subject.tokens


def _arrays(lost: dict[Which, Lost], parts: dict[str, Lost], found: _Other | None) -> dict[str, Tensor]:
    named = {"heads": lost["self"]} | ({"cross": lost["cross"]} if "cross" in lost else {})
    named |= {"cross_skipped" if name == "cross" else name: one for name, one in parts.items()}
    arrays = {name: one.change for name, one in named.items()} | {f"{name}_kl": one.kl for name, one in named.items()}
    return arrays if found is None else arrays | {
        "restored": found.restored.states, "restored_heads": found.restored.heads,
    }  # fmt: skip


def _numbers(x: Tensor) -> np.ndarray:
    return x.float().numpy(force=True)


def _title(look: Look, asked: Asked) -> Words:
    if look.trace.own.causal:
        return Words(
            f"What {asked.piece!r} after {asked.before!r} rests on",
            f"「{asked.before}」之后的「{asked.piece}」依靠什么",
        )
    place = asked.aim.place
    return Words(f"What {asked.piece!r} at place {place} rests on", f"第 {place} 个位置的「{asked.piece}」依靠什么")


def _ranked(lost: dict[Which, Lost], layers: list[int]) -> list[dict[str, Any]]:
    """A record of each head, the largest change first."""
    rows = [
        {"which": which, "layer": layers[row], "head": head, "change": float(one.change[row, head]),
         "kl": float(one.kl[row, head])}
        for which, one in lost.items() for row, head in np.ndindex(*one.change.shape)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -abs(row["change"]))


def _told(look: Look, found: _Other) -> dict[str, Any]:
    theirs = found.subject.source or found.subject.tokens
    return {
        "tokens": told(theirs),
        "logits": list(found.restored.ends),
        "which": found.which,
        "rows": [_row(row) for row in found.restored.rows],
    }


def _row(row: int) -> str:
    """What goes into the first block, then what comes out of each."""
    return "in" if row == 0 else str(row - 1)


def _figures(
    look: Look, asked: Asked, layers: list[int], lost: dict[Which, Lost], parts: dict[str, Lost], found: _Other | None
) -> list[Figure]:
    said, rows = asked.piece, [str(layer) for layer in layers]
    columns = [str(head) for head in range(look.side.stack.config.heads)]
    whose = {"self": Words("head", "头"), "cross": Words("head of cross-attention", "交叉注意力头")}
    figures: list[Figure] = [
        Matrix(
            Words(
                f"How the logit of {said!r} changes without each {whose[which].en}",
                f"逐个去掉{whose[which].zh}后，「{said}」的 logit 如何变化",
            ),
            _numbers(one.change), rows, columns, "signed", LAYER, HEAD,
        )
        for which, one in lost.items()
    ]  # fmt: skip
    figures.append(
        Matrix(
            Words(
                "How far the whole distribution moves without each head (KL, nat)",
                "逐个去掉头后，整个分布偏离多少（KL，nat）",
            ),
            _numbers(lost["self"].kl), rows, columns, "plain", LAYER, HEAD,
        )
    )  # fmt: skip
    order = [(layer, name) for layer in range(len(look.side.blocks)) for name in parts]
    figures.append(
        Bars(
            Words(
                f"How the logit of {said!r} changes when a sublayer is skipped",
                f"跳过一个子层后，「{said}」的 logit 如何变化",
            ),
            [part(name, layer) for layer, name in order],
            {"logit": [float(parts[name].change[layer]) for layer, name in order]},
            Words("logit", "logit"),
        )
    )
    if found is None:
        return figures
    mine, theirs = (_tokens(subject, look.side) for subject in (look.subject, found.subject))
    pairs = [a.piece if a.id == b.id else f"{a.piece}→{b.piece}" for a, b in zip(mine, theirs)]
    figures[:0] = [
        Matrix(
            Words(
                "How much of the other text's answer the state of each layer (down) and place (across) restores",
                "换入各层（纵向）各位置（横向）的状态，能恢复另一段文本答案的多少",
            ),
            _numbers(found.restored.states), named_rows([_row(row) for row in found.restored.rows]), pairs, "signed",
            LAYER, Words("token", "词元"),
        ),
        Matrix(
            Words(
                f"How much of it the output of each {whose[found.which].en} restores",
                f"换入每个{whose[found.which].zh}的输出，能恢复多少",
            ),
            _numbers(found.restored.heads), rows, columns, "signed", LAYER, HEAD,
        ),
    ]  # fmt: skip
    return figures


def _checks(
    look: Look, asked: Asked, onward: Onward, layers: list[int], lost: dict[Which, Lost], found: _Other | None
) -> list[Check]:
    trace, model, wanted = look.trace, look.subject.model, asked.aim
    wide = limit(model.dtype, 1e-4)
    best = _ranked(lost, layers)[0]
    with ablated(model, [(best["layer"], best["head"])], look.ask.ablation, side=onward.side.name, which=best["which"]):
        change = effect(trace, again(trace), wanted.place, target=wanted.target).change
    checks = [
        Check("unchanged", onward.drift, wide, UNCHANGED),
        Check("alone", abs(change - best["change"]) / onward.size, wide, ALONE),
    ]
    if trace.own.stack.config.residual in PLAIN:
        checks.append(Check("direct", last_head_gap(trace, wanted), limit(model.dtype, 1e-4), DIRECT))
    if found is not None:
        checks += _patch_checks(onward, wanted.place, found, wide)
    return [*checks, watched_is_unwatched(trace), no_hooks(model)]


def _patch_checks(onward: Onward, place: int, found: _Other, wide: float) -> list[Check]:
    """Of whole passes."""
    trace, side, restored = onward.trace, onward.side, found.restored
    model, rows, count = trace.model, len(side.stream), side.last.shape[1]
    # the decoder of an encoder-decoder reads the first source on its way, up to behind its last layer
    row = rows - 1 if trace.encoder is not None and side is trace.own else rows // 2
    with patched(model, found.trace, [(row, n) for n in range(count)], side=side.name):
        whole = again(trace)
    at = slice(place, place + 1)
    gap = float((whole.logits(at) - found.trace.logits(at)).abs().max())
    number, best = np.unravel_index(int(restored.states.abs().argmax()), tuple(restored.states.shape))
    with patched(model, found.trace, [(restored.rows[number], int(best))], side=side.name):
        said = float(restored.aim.of(again(trace).logits(at)[0, 0].double().cpu()))
    start, end = restored.ends
    state = abs(said - start - float(restored.states[number, best]) * (end - start)) / onward.size
    return [Check("whole", gap, 0.0, WHOLE), Check("state_alone", state, wide, ALONE_STATE)]
