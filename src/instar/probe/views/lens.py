"""The view of layers: what each would say at each place, when that is settled, and which part of which said it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import watched_is_unwatched
from ..direct import Direct, direct
from ..lens import Lens, exit_gap, work_of
from ..lens import lens as read_lens
from ..look import Look
from ..panel import About, Bars, Cells, Check, Figure, Lines, Matrix, Panel, Strip, Unfit, Words
from .attention import told
from .parts import named_rows, part

NEAR = 32  # places that are drawn in the grid
WORK = 1 << 39  # multiplications up to which the lens reads every place, whatever is drawn

TITLE = Words("Layers: what each would say", "各层：如果到此为止会说什么")
RAW = Words(
    "Raw lens: each row of the residual stream through the last norm, computed anew, and the model's own head. Early "
    "layers may write in a form that only later ones read, and then the lens says nothing of them.",
    "原始透镜：残差流的每一行都经过重新计算的末尾归一化和模型自己的输出头。前面的层可能以只有后面的层才能读懂的形式书写，"
    "这时透镜对它们说明不了什么。",
)
DIRECT = Words(
    "Contributions are direct: what a part wrote into the stream here, read along the token's direction with all norms "
    "frozen. What it did through later parts is not in it.",
    "贡献是直接贡献：各部分在此处写入残差流的内容，在所有归一化冻结的情况下沿该词元方向读出；通过后续部分产生的作用不计在内。",
)
ENCODER = Words(
    "An encoder says what stands at the place itself; where it is not masked it has seen the answer.",
    "编码器说的是该位置本身的词元；没有被掩盖的位置它已看到答案。",
)
NEAREST = Words(f"The grid shows {NEAR} places near the one asked about.", f"网格只画所问位置附近的 {NEAR} 个位置。")
PART = Words(
    "The text is long for so large a model: the lens reads the places of the grid alone; written as JSON or "
    "safetensors, it takes all.",
    "对这样大的模型而言文本较长：透镜只读取网格中的位置；写成 JSON 或 safetensors 则包含全部位置。",
)
LAST = Words("the last row of the lens is the model's own logits", "透镜的最后一行就是模型自己的 logits")
EXIT = Words(
    "the lens of a row is what the model says when it ends there (first and middle row)",
    "透镜的一行等于模型在此截断时的输出（首行与中间行）",
)
OTHER = Words(
    "They add up to the logits of different tokens: of what each model finds likeliest.",
    "它们相加得到的是不同词元的 logit：各模型自己认为最可能的词元。",
)
WORDS = Words("They are of different tokens.", "它们属于不同的词元。")
SUM = Words("contributions add up to the logit", "各项贡献之和等于 logit")


def lens(look: Look) -> Panel:
    """For each row of the stream, L + 1 of them, and place T: the likeliest token, its probability, entropy, the rank
    and probability of the model's own likeliest token, KL(p_L || p_l), and from where on that token stands; at the
    place asked about, the contributions to its logit.

    Of a long text and a large vocabulary T are the places that are drawn, `places` of data, unless JSON or safetensors
    are asked for.

    arrays: ids, p (L+1, T, k); entropy, kl, rank, final (L+1, T); settled (T,); heads (L, H), attention, feed_forward
    and, of an encoder-decoder, cross (L,) in logits. Raises InputError where no head says tokens, of the encoder of an
    encoder-decoder, and for a place that does not exist.
    """
    trace, subject = look.trace, look.subject
    if look.side is not trace.own:
        raise Unfit(Words(
            "side=encoder: only the decoder of an encoder-decoder says tokens; leave it out",
            "side=encoder：编码器-解码器中只有解码器输出词元",
        ))  # fmt: skip
    at = look.at
    places = _places(look)
    found = read_lens(trace, look.ask.top, places)
    target = int(found.ids[-1, 0, at - places.start, 0])
    parts = direct(trace, at, target)
    rows = len(trace.own.stream)
    checks = [
        Check("lens", found.gap, 0.0, LAST),
        Check("early_exit", max(exit_gap(trace, row, places) for row in {0, rows // 2}), 0.0, EXIT),
        Check("contributions", parts.gap, parts.limit, SUM),
        watched_is_unwatched(trace),
    ]
    arrays: dict[str, np.ndarray] = {
        name: getattr(found, name)[:, 0].numpy(force=True) for name in ("ids", "p", "entropy", "rank", "final", "kl")
    }
    arrays["settled"] = found.settled[0].numpy(force=True)
    arrays |= {"heads": parts.heads.float().numpy(), "attention": parts.attention.float().numpy()}
    arrays["feed_forward"] = parts.feed_forward.float().numpy()
    if parts.crossing is not None and parts.cross is not None:
        arrays |= {"cross": parts.crossing.float().numpy(), "cross_heads": parts.cross.float().numpy()}
    notes = [RAW, *([] if trace.own.causal else [ENCODER]), DIRECT]
    if len(subject.tokens) > NEAR:
        notes.append(NEAREST)
    if len(places) < len(subject.tokens):
        notes.append(PART)
    data: dict[str, Any] = {
        "tokens": told(subject.tokens),
        "at": at,
        "places": [places.start, places.stop],
        "rows": _rows(rows),
        "target": {"id": target, "piece": subject.piece(target), "logit": parts.logit},
        "settled": found.settled[0].tolist(),
        "top": [
            [
                [{"id": id, "piece": subject.piece(id), "p": p} for id, p in zip(ids, shares)]
                for ids, shares in zip(row, chances)
            ]
            for row, chances in zip(arrays["ids"].tolist(), arrays["p"].tolist())
        ],
        "contributions": {
            "embedding": dict(parts.embedding),
            "attention": parts.attention.tolist(),
            "cross": None if parts.crossing is None else parts.crossing.tolist(),
            "feed_forward": parts.feed_forward.tolist(),
            "biases": dict(parts.constants),
            "total": parts.total,
        },
    }
    about = {name: About(target, why=OTHER) for name in ("heads", "attention", "feed_forward", "cross", "cross_heads")}
    about["p"] = About(arrays["ids"].tolist(), why=WORDS)
    about |= {name: About(arrays["ids"][-1, :, 0].tolist(), why=WORDS) for name in ("rank", "final")}
    return Panel("lens", TITLE, data, arrays, _figures(look, found, parts, places), checks, notes, about)


def _near(look: Look) -> range:
    """The places that are drawn."""
    count = len(look.subject.tokens)
    first = max(0, min(look.at - NEAR // 2, count - NEAR))
    return range(first, min(first + NEAR, count))


def _places(look: Look) -> range:
    """Those that are read: all, where that is little work or all numbers are asked for; else those that are drawn."""
    count = len(look.subject.tokens)
    whole = look.ask.format in ("json", "safetensors") or work_of(look.trace, count) <= WORK
    return range(count) if whole else _near(look)


def _rows(count: int) -> list[str]:
    """What goes into the blocks, then what comes out of each."""
    return ["in", *map(str, range(count - 1))]


def _figures(look: Look, found: Lens, parts: Direct, places: range) -> list[Figure]:
    subject, rows = look.subject, found.entropy.shape[0]
    at, near = look.at - places.start, [place - places.start for place in _near(look)]
    labels = named_rows(_rows(rows))
    best = subject.piece(int(found.ids[-1, 0, at, 0]))
    here = subject.tokens[look.at].piece
    layer = Words("layer (-1: what the first is given)", "层（-1：第一层的输入）")
    x = list(range(-1, rows - 1))
    figures: list[Figure] = [
        Cells(
            Words(
                "Likeliest token by layer (down) and place (across), shaded by its probability",
                "各层（纵向）各位置（横向）最可能的词元，深浅为其概率",
            ),
            [[subject.piece(int(found.ids[row, 0, place, 0])) for place in near] for row in range(rows)],
            found.p[:, 0, near, 0].float().numpy(force=True), labels,
            [subject.tokens[place].piece for place in _near(look)],
        ),
        Strip(
            Words("How deep it is settled: the share of the layers that are needed", "多深才定下来：所需层数的占比"),
            [subject.tokens[place].piece for place in places],
            [row / max(1, rows - 1) for row in found.settled[0].tolist()],
            notes=[labels[row] for row in found.settled[0].tolist()],
        ),
        Lines(
            Words(
                f"At {here!r}: how far from the answer, and how undecided", f"在「{here}」处：离最终答案多远，多犹豫"
            ), x,
            {"KL(p_L‖p_l)": found.kl[:, 0, at].tolist(), "H(p_l)": found.entropy[:, 0, at].tolist()},
            layer, Words("nat", "nat"),
        ),
        Lines(
            Words(
                f"At {here!r}: the probability of the final word {best!r}", f"在「{here}」处：最终答案「{best}」的概率"
            ), x,
            {"p": found.final[:, 0, at].tolist()}, layer, Words("probability", "概率"),
        ),
        _parts(parts, here, best),
        Matrix(
            Words(f"What each head adds to the logit of {best!r}", f"每个头对「{best}」的 logit 的贡献"),
            parts.heads.float().numpy(), [str(n) for n in range(rows - 1)],
            [str(n) for n in range(parts.heads.shape[1])], "signed",
            Words("layer", "层"), Words("head", "头"),
        ),
    ]  # fmt: skip
    return figures


def _parts(parts: Direct, here: str, best: str) -> Bars:
    """In the order of the pass: the embedding, the parts of each layer, and what biases said."""
    found = [(part("embedding"), sum(parts.embedding.values()))]
    for layer, (attention, feed_forward) in enumerate(zip(parts.attention.tolist(), parts.feed_forward.tolist())):
        found.append((part("attention", layer), attention))
        if parts.crossing is not None:
            found.append((part("cross", layer), float(parts.crossing[layer])))
        found.append((part("feed_forward", layer), feed_forward))
    found.append((part("biases"), sum(parts.constants.values())))
    return Bars(
        Words(
            f"At {here!r}: what adds up to the logit {parts.logit:.2f} of {best!r}",
            f"在「{here}」处：「{best}」的 logit {parts.logit:.2f} 由什么相加而成",
        ),
        [name for name, _ in found], {"logit": [value for _, value in found]}, Words("logit", "logit"),
    )  # fmt: skip
