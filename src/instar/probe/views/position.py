"""The view of positions: how the model tells which token stands where, and what it makes of this text in another
order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..checks import limit
from ..ground import Ground, OrderLab, Told, ground, order_of, reversed_order, shift
from ..look import Look
from ..panel import Check, Figure, Label, Lines, Matrix, Panel, Scale, Table, Words
from ..routing import words
from ..subject import Subject
from .attention import told

# Places that are drawn: at least so many, so that a short text shows the shape too, and at most.
FEWEST, MOST = 32, 128
CURVES = 8  # heads that have a curve of their own
OFFSET = 3  # places on, for the matrix of turns
ABOUT = {
    "sinusoidal": Words(
        "Sines and cosines of the position are added to the embedding (Vaswani et al. 2017): the product of two places "
        "depends on their distance alone.",
        "位置的正弦和余弦加到嵌入上（Vaswani 等 2017）：两个位置的内积只取决于距离。",
    ),
    "rotary": Words(
        "Queries and keys are turned by angles that grow with the position (Su et al. 2021). The map shows one vector "
        "of equal pairs against itself, turned.",
        "查询和键按随位置增长的角度旋转（Su 等 2021）。图中是各对分量相等的同一向量旋转后与自身的内积。",
    ),
    "learned": Words(
        "A trained vector for each position is added to the embedding; the map shows how far two point the same way.",
        "每个位置有一个训练得到的向量，加到嵌入上；图中是两两之间的余弦相似度。",
    ),
    "t5": Words(
        "A trained number for each head and distance is added to the scores (Raffel et al. 2020).",
        "每个头、每段距离有一个训练得到的数，加到注意力分数上（Raffel 等 2020）。",
    ),
    "alibi": Words(
        "Scores fall with the distance, in each head at its own slope (Press et al. 2022).",
        "注意力分数随距离下降，每个头斜率不同（Press 等 2022）。",
    ),
    "none": Words(
        "Positions are not told; a causal mask alone leaks order, from the second layer on.",
        "不提供位置信息；只有因果掩码从第二层起透露顺序。",
    ),
}
# the schemes' names in Chinese
CALLED = {
    "sinusoidal": "正弦位置编码", "rotary": "旋转位置编码", "learned": "可学习的位置编码", "t5": "相对位置偏置（T5）",
    "alibi": "线性偏置（ALiBi）", "none": "无",
}  # fmt: skip
SETS = Words(
    "Without positions attention sees a set: the first causal layer cannot tell two orders of the same tokens with the "
    "same last one, deeper ones can, for the mask leaks order; an encoder never can.",
    "没有位置时，注意力看到的是集合：词元相同、末尾相同的两种语序，第一个因果层无法区分，更深的层可以，因为掩码透露了顺序；"
    "编码器则始终无法区分。",
)
ON, OFF = Words("on", "有"), Words("off", "无")


def position(look: Look) -> Panel:
    """A map of positions, whatever stands there, its mean by distance, and the order lab: this text and the same words
    the other way round, with positions told and untold.

    arrays: map (H or 1, P, P), curve (H or 1, 2P - 1), vectors (P, D) where there are such. layer says, where layers
    with a window turn by other angles, which are meant; head whose bias is mapped.
    """
    stack, layer = look.side.stack, look.layer
    window = bool(stack.config.windows and stack.config.windows[layer])
    count = int(min(max(FEWEST, len(look.tokens)), MOST, stack.positions.limit, stack.config.max_positions))
    base = ground(stack, count, window=window)
    turned = turned_words(look.subject)
    lab = None if turned is None else order_of(look.subject, turned, k=look.ask.top)
    figures = _map(look, base)
    data: dict[str, Any] = {
        "tokens": told(look.tokens),
        "kind": base.kind,
        "what": base.what,
        "places": count,
        "unevenness": base.unevenness,
        "order": None,
    }
    if lab is not None:
        figures += _lab(lab)
        data["order"] = {
            "one": [token.piece for token in lab.one.source or lab.one.tokens],
            "other": [token.piece for token in lab.other.source or lab.other.tokens],
            "reordered": lab.reordered,
            "told": _record(lab.told, lab.one),
            "untold": _record(lab.untold, lab.one),
        }
    arrays = {"map": _numbers(base.maps), "curve": _numbers(base.curve)}
    if base.vectors is not None:
        arrays["vectors"] = _numbers(base.vectors)
    name = "sinusoidal" if base.kind.startswith("sinusoidal") else base.kind
    alone = Words(
        "The text has no two words to exchange; there is no order to compare.",
        "文本里没有两个可交换的词，无从比较语序。",
    )
    return Panel(
        "position",
        Words(f"Positions: {base.kind}", f"位置：{CALLED[name]}"),
        data,
        arrays if base.what != "none" else {},
        figures,
        [*_even(base), *_sets(look, lab)],
        [ABOUT[name], SETS if lab is not None else alone],
    )


def turned_words(subject: Subject) -> Subject | None:
    """The text with its words the other way round, None where that is the same; without a tokenizer every token but the
    last is taken for a word."""
    tokens = subject.source or subject.tokens
    if subject.tokenizer is None:
        turned = (*tokens[-2::-1], tokens[-1])
        other = replace(subject, source=turned) if subject.source else replace(subject, tokens=turned)
    else:
        other = reversed_order(subject, words(tokens, subject.source_text if subject.source else subject.text))
    same = [token.id for token in tokens] == [token.id for token in other.source or other.tokens]
    return None if same else other


def _map(look: Look, base: Ground) -> list[Figure]:
    if base.what == "none":
        return []
    heads, count = base.maps.shape[:2]
    head = look.head if heads > 1 else None
    shown = base.maps.mean(0) if head is None else base.maps[head]
    of = Words("", "") if heads == 1 else Words(", mean of heads", "，各头平均")
    if head is not None:
        of = Words(f", head {head}", f"，第 {head} 头")
    kinds: dict[str, tuple[Words, Scale]] = {
        "products": (Words("Products of places", "位置之间的内积"), "plain"),
        "cosines": (Words("Cosines of places", "位置之间的余弦"), "signed"),
        "bias": (Words("What is added to the scores", "加到注意力分数上的偏置"), "signed"),
    }
    title, scale = kinds[base.what]
    places = [str(place) for place in range(count)]
    named: dict[Label, Any] = {str(n): curve for n, curve in enumerate(base.curve[:CURVES])} if heads > 1 else {}
    if heads == 1 or heads > CURVES:
        named[Words("all", "全部")] = base.curve.mean(0)
    figures: list[Figure] = [
        Matrix(
            Words(title.en + of.en, title.zh + of.zh),
            _numbers(shown),
            places,
            places,
            scale,
            Words("place that looks", "查询位置"),
            Words("place that is looked at", "被看位置"),
        ),
        Lines(
            Words("By distance", "按距离平均")
            if heads == 1
            else Words("By distance, of each head", "按距离平均，每个头"),
            list(range(1 - count, count)),
            {name: curve.tolist() for name, curve in named.items()},
            Words("places ahead", "向前的位置数"),
            title,
            dots=False,
        ),
    ]
    if base.vectors is not None:
        added = Words("What is added at each place", "每个位置加上的向量")
        if base.kind == "rotary":
            added = Words(
                "How far each pair of channels is turned: cosines, then sines", "每对通道的旋转：先余弦，后正弦"
            )
        channels = [str(channel) for channel in range(base.vectors.shape[1])]
        figures.append(
            Matrix(
                added,
                _numbers(base.vectors),
                places,
                channels,
                "signed",
                Words("place", "位置"),
                Words("channel", "通道"),
            )
        )
    return figures


def _lab(lab: OrderLab) -> list[Figure]:
    return [
        Table(
            Words("Order lab: the text and its words reversed", "语序实验：原文与词序颠倒"),
            [
                Words("positions", "位置"),
                Words("one", "原文"),
                Words("says", "接着说"),
                Words("other", "颠倒"),
                Words("says", "接着说"),
                Words("KL of the answers", "回答的 KL"),
            ],
            [
                [
                    name,
                    _spelt(lab.one),
                    _likeliest(found, 0, lab),
                    _spelt(lab.other),
                    _likeliest(found, 1, lab),
                    found.kl,
                ]
                for name, found in ((ON, lab.told), (OFF, lab.untold))
            ],
        ),
        Lines(
            Words("How far apart the two orders are, with positions and without", "两种语序相距多远：有位置与无位置"),
            list(range(len(lab.told.by_layer))),
            {Words("with positions", "有位置"): lab.told.by_layer, Words("without", "无位置"): lab.untold.by_layer},
            Words("block that is read next, after the embeddings", "嵌入之后的第几层输入"),
            Words("distance of the last token's states, of their length", "末尾词元状态的距离，相对其长度"),
        ),
    ]


def _spelt(subject: Subject) -> str:
    tokens = subject.source or subject.tokens
    return ("" if subject.tokenizer is not None else " ").join(token.piece for token in tokens)


def _likeliest(found: Told, number: int, lab: OrderLab) -> str:
    if not found.top[number]:
        return ""
    id, p = found.top[number][0]
    return f"{lab.one.piece(id)} {p:.3f}"


def _record(found: Told, subject: Subject) -> dict[str, Any]:
    return {
        "apart": found.apart,
        "by_layer": list(found.by_layer),
        "kl": found.kl if np.isfinite(found.kl) else None,
        "same_answer": found.same_answer,
        "top": [[{"id": id, "piece": subject.piece(id), "p": p} for id, p in top] for top in found.top],
    }


def _even(base: Ground) -> Sequence[Check]:
    """That the distance alone counts, and that a matrix leads from each place to the third behind it."""
    if base.what in ("none", "cosines"):
        return ()
    about = Words(
        "two places of one distance have one value (a Toeplitz matrix)", "距离相同则数值相同（Toeplitz 矩阵）"
    )
    made = [Check("toeplitz", base.unevenness, 1e-4, about)]
    if base.what == "products" and base.vectors is not None and len(base.vectors) > OFFSET:
        pairs = "neighbours" if base.kind == "sinusoidal" else "halves"
        about = Words(
            f"PE(p + {OFFSET}) = PE(p) M with one matrix M for all p",
            f"PE(p + {OFFSET}) = PE(p) M，所有 p 共用一个矩阵 M",
        )
        made.append(Check("shift", shift(base.vectors, OFFSET, pairs)[1], 1e-4, about))  # type: ignore[arg-type]
    return made


def _sets(look: Look, lab: OrderLab | None) -> Sequence[Check]:
    """That without positions a set is a set, where nothing but the mask could tell order."""
    if lab is None or not lab.reordered:
        return ()
    config, reach = look.subject.model.config, len(look.tokens)
    if any(0 < window < reach for window in config.windows):
        return ()  # a window tells near from far
    deep = not config.causal or bool(lab.one.source)
    gap = max(lab.untold.apart, lab.untold.apart_at_first) if deep else lab.untold.apart_at_first
    about = (
        Words("without positions and mask both orders give the same state", "没有位置也没有掩码时，两种语序的状态相同")
        if deep
        else Words(
            "without positions the first layer gives both orders the same last state",
            "没有位置时，第一层对两种语序给出相同的末尾状态",
        )
    )
    return (Check("set", gap, limit(look.subject.model.dtype, 1e-4), about),)


def _numbers(x: Tensor) -> np.ndarray:
    return x.detach().float().numpy(force=True)
