"""The view of attribution: which tokens, or which parts of the model, made it say a token, and how far that is to be
believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..asked import Asked, asked_of, first_of
from ..attribution import (
    COMPLETE,
    Aim,
    Credit,
    afford_routes,
    faithfulness,
    gradient_attention,
    gradient_input,
    integrated,
    occlusion,
    routes,
)
from ..capture import Trace
from ..checks import limit
from ..direct import Direct, direct
from ..look import Look
from ..panel import Bars, Check, Figure, Panel, Strip, Unfit, Words
from .attention import told
from .parts import bias_of, part

# Tokens up to which a text is also occluded, one by one, and up to which all methods are judged beside the one asked.
REFEREED, JUDGED = 512, 128
LISTED = 24  # tokens that have a bar
STEP = 1e-4  # by which a weight of attention is tried out, in fp64
WIDEST = 8  # bytes of a number then
FLAT = 1e-9  # of the largest logit: slopes below it are rounding
METHODS: dict[str, Callable[[Trace, Aim], Credit]] = {
    "gradient-attention": gradient_attention,
    "gradient-input": gradient_input,
    "integrated": integrated,
    "occlusion": occlusion,
}
NAMES = {
    "direct": Words("direct logit attribution", "直接 logit 归因"),
    "gradient-attention": Words("attention × gradient", "注意力×梯度"),
    "gradient-input": Words("input × gradient", "输入×梯度"),
    "integrated": Words("integrated gradients", "积分梯度"),
    "occlusion": Words("occlusion", "遮挡"),
}
ABOUT = {
    "direct": Words(
        "Each part's share is what it wrote into the residual stream at this place, read in the token's direction, all "
        "norms kept at the scale they had.",
        "每一部分的贡献，是它在此位置写入残差流的向量在该词元方向上的分量，途中的归一化固定为当时的尺度。",
    ),
    "gradient-attention": Words(
        "Weights of attention times their gradients where positive, rolled out over the layers (Chefer et al. 2021); "
        "shares have no unit and no sign.",
        "注意力权重乘以其梯度，取正值，逐层展开（Chefer 等 2021）；份额没有单位，也没有正负。",
    ),
    "gradient-input": Words(
        "Each embedding times the gradient of the logit: a straight line through the point where the model stands.",
        "每个嵌入向量乘以 logit 对它的梯度：只是在当前点上的线性近似。",
    ),
    "integrated": Words(
        "Gradients along the way from the mean of all embeddings to the text's own; shares add up to what the logit "
        "gained on that way (Sundararajan et al. 2017).",
        "沿着从全词表平均嵌入到本文嵌入的直线累加梯度；各份额之和等于 logit 在途中的增量（Sundararajan 等 2017）。",
    ),
    "occlusion": Words(
        "What the logit loses when one token's embedding is replaced by the mean of all embeddings.",
        "把一个词元的嵌入换成全词表平均嵌入后，logit 损失多少。",
    ),
}
MEANT = Words(
    "A share says how a method splits the logit. How far to believe it says the correlation of ranks with occlusion, "
    "which changes the text and looks.",
    "份额只说明该方法怎样拆分 logit；可信程度看它与遮挡法的等级相关系数，遮挡法真正改动文本再看结果。",
)
UNREFEREED = Words(
    f"The text has more than {REFEREED} tokens; it is not occluded one by one unless occlusion is the method.",
    f"文本超过 {REFEREED} 个词元，除非方法选为遮挡，否则不逐个遮挡。",
)
JUMPING = Words(
    "Each token takes a few experts, and which ones changes at a stroke on the way from the baseline; gradients see "
    "nothing of such a jump. Shares need not add up here: by how much they do not is in the data, and is no check.",
    "每个词元只经过少数专家，沿途所选专家会突然切换；梯度看不到这种跳变，份额之和不必对得上：差距记在数据里，不作为检查项。",
)


def attribution(look: Look) -> Panel:
    """Why this token: the shares of the tokens that were read, by the method asked for, beside occlusion; of direct
    the shares of the model's parts.

    arrays: shares (T,) and source_shares (S,), occlusion and source_occlusion; of direct heads (L, H), attention (L,),
    feed_forward (L,), cross (L, H). `at` is a place of the own text, of an encoder without it the first mask. Raises
    InputError where no head says tokens, for side=encoder beside a decoder, and for a text that has no token.
    """
    trace, method = look.trace, look.ask.method
    if look.side is not trace.own:
        raise Unfit(Words(
            "side=encoder, and what is explained is said by the decoder; leave it out",
            "side=encoder：所解释的词元由解码器给出",
        ))  # fmt: skip
    asked = asked_of(look)
    if method == "gradient-attention":
        afford_routes(trace, WIDEST)  # as its proof computes, before anything else is
    length = len(look.subject.tokens) + len(look.subject.source)
    referee = occlusion(trace, asked.aim) if method == "occlusion" or length <= REFEREED else None
    credit = None if method == "direct" else _credit(method, trace, asked.aim, referee)
    found = direct(trace, asked.aim.place, asked.aim.target) if credit is None else None
    trust = _trust(trace, asked.aim, credit, referee, every=length <= JUDGED)
    figures, arrays = _direct(found) if found is not None else ([], {})
    if credit is not None:
        figures += _strips(look, credit, NAMES[method])
        arrays |= _arrays("shares", credit)
    if referee is not None:
        if credit is not None and method != "occlusion":
            figures.append(_bars(look, asked.aim, credit, referee))
        if method != "occlusion":
            figures += _strips(look, referee, NAMES["occlusion"])
        arrays |= _arrays("occlusion", referee)
    if trust:
        figures.append(_meter(trust))
    logit = found.logit if found is not None else credit.value if credit is not None else float("nan")
    return Panel(
        "attribution",
        _title(look, asked, method),
        {
            "tokens": told(look.subject.tokens),
            "source": told(look.subject.source),
            "at": asked.aim.place,
            "target": {"id": asked.aim.target, "piece": asked.piece},
            "logit": logit,
            "method": method,
            "baseline": "mean",
            "faithfulness": trust,
            "shares": None if credit is None else credit.own.tolist(),
            "source_shares": None if credit is None or credit.source is None else credit.source.tolist(),
            "completeness": None
            if credit is None or credit.gap is None
            else {"gap": credit.gap, "steps": credit.steps, "whole": credit.whole},
            "parts": None if found is None else _parts(found),
        },
        arrays,
        figures,
        _checks(trace, asked.aim, credit, referee, found),
        [
            ABOUT[method],
            *([MEANT] if trust else []),
            *([UNREFEREED] if referee is None else []),
            *([JUMPING] if method == "integrated" and look.subject.model.experts else []),
            *first_of(asked),
        ],
    )


def _credit(method: str, trace: Trace, wanted: Aim, referee: Credit | None) -> Credit:
    return referee if method == "occlusion" and referee is not None else METHODS[method](trace, wanted)


def _trust(
    trace: Trace, wanted: Aim, credit: Credit | None, referee: Credit | None, *, every: bool
) -> dict[str, float | None]:
    """Each method's correlation of ranks with occlusion: of the one asked for, and of a short text of all others."""
    if referee is None:
        return {}
    made = {} if credit is None or credit is referee else {credit.method: credit}
    if every:
        made |= {name: f(trace, wanted) for name, f in METHODS.items() if name not in (*made, "occlusion")}
    found = {
        name: faithfulness(made[name], referee, wanted, causal=trace.own.causal) for name in METHODS if name in made
    }
    return {name: rho if np.isfinite(rho) else None for name, rho in found.items()}


def _strips(look: Look, credit: Credit, name: Words) -> list[Figure]:
    """The own tokens, and those of the source before them, shaded."""
    scale = "share" if credit.method == "gradient-attention" else "signed"
    parts = [(look.subject.pieces, credit.own, Words("", ""))]
    if credit.source is not None:
        own = Words(": what was said so far", "：已说出的部分")
        pieces = [token.piece for token in look.subject.source]
        parts = [(pieces, credit.source, Words(": the source", "：源文")), (parts[0][0], credit.own, own)]
    most = float(credit.all.abs().max()) or 1.0
    return [
        Strip(
            Words(name.en[:1].upper() + name.en[1:] + more.en, name.zh + more.zh),
            pieces,
            [float(share) / (most if scale == "share" else 1.0) for share in shares],
            scale,  # type: ignore[arg-type]
            [f"{float(share):+.3f}" for share in shares],
        )
        for pieces, shares, more in parts
    ]


def _bars(look: Look, wanted: Aim, credit: Credit, referee: Credit) -> Bars:
    """The tokens with the largest shares by either, in reading order, as shares of all that either gives."""
    pieces = [token.piece for token in (*look.subject.source, *look.subject.tokens)]
    shares = [one.all / one.all.abs().sum().clamp(min=1e-30) for one in (credit, referee)]
    count = len(look.subject.source) + (wanted.place + 1 if look.trace.own.causal else len(look.subject.tokens))
    size = torch.stack([share.abs() for share in shares]).amax(0)[:count]
    kept = sorted(size.topk(min(LISTED, count)).indices.tolist())
    return Bars(
        Words("Share of each token, and what occlusion says", "各词元的份额，以及遮挡法的结果"),
        [pieces[place] for place in kept],
        {NAMES[one.method]: share[kept].tolist() for one, share in zip((credit, referee), shares)},
        Words("share of all", "占总量的比例"),
    )


def _meter(trust: dict[str, float | None]) -> Bars:
    known = {name: rho for name, rho in trust.items() if rho is not None}
    return Bars(
        Words("How far to believe it: Spearman's ρ against occlusion", "可信度：与遮挡法的斯皮尔曼等级相关 ρ"),
        [NAMES[name] for name in known],
        {"ρ": list(known.values())},
        Words("-1 opposed, 0 unrelated, 1 alike", "-1 相反，0 无关，1 一致"),
    )


def _direct(found: Direct) -> tuple[list[Figure], dict[str, np.ndarray]]:
    """By layer, and the heads that said most."""
    crossing = found.crossing
    layers = range(len(found.heads))
    parts = {"attention": found.attention} | ({"cross": crossing} if crossing is not None else {})
    parts |= {"feed_forward": found.feed_forward}
    by_layer = Bars(
        Words("What each layer wrote in the token's direction", "各层在该词元方向上写入的量"),
        [str(layer) for layer in layers],
        {part(name): values.tolist() for name, values in parts.items()},
        Words("logit, by layer", "logit，按层"),
    )
    heads = {f"{layer}.{head}": float(share) for layer, row in enumerate(found.heads) for head, share in enumerate(row)}
    if found.cross is not None:
        heads |= {
            f"{layer}.{head} ×": float(share) for layer, row in enumerate(found.cross) for head, share in enumerate(row)
        }
    best = sorted(heads, key=lambda name: -abs(heads[name]))[:LISTED]
    rest = {part(name): share for name, share in found.embedding.items()}
    rest |= {bias_of(name): share for name, share in found.constants.items() if share}
    ranked = Bars(
        Words("Heads that said most (layer.head; × looks at the source)", "贡献最大的注意力头（层.头；× 看源文）"),
        best,
        {"logit": [heads[name] for name in best]},
        Words("logit", "logit"),
    )
    others = Bars(
        Words("Embedding and biases", "嵌入与偏置"), list(rest), {"logit": list(rest.values())}, Words("logit", "logit")
    )
    arrays = {
        "heads": found.heads,
        "cross": found.cross,
        **{name: values for name, values in parts.items() if name != "cross"},
    }
    return [by_layer, ranked, others], {name: _numbers(one) for name, one in arrays.items() if one is not None}


def _parts(found: Direct) -> dict[str, Any]:
    return {
        "embedding": dict(found.embedding),
        "attention": found.attention.tolist(),
        "cross": None if found.crossing is None else found.crossing.tolist(),
        "feed_forward": found.feed_forward.tolist(),
        "heads": found.heads.tolist(),
        "constants": dict(found.constants),
        "total": found.total,
    }


def _arrays(name: str, credit: Credit) -> dict[str, np.ndarray]:
    found = {name: _numbers(credit.own)}
    return found if credit.source is None else found | {f"source_{name}": _numbers(credit.source)}


def _numbers(x: Tensor) -> np.ndarray:
    return x.detach().float().numpy(force=True)


def _title(look: Look, asked: Asked, method: str) -> Words:
    said, before, name = asked.piece, asked.before, NAMES[method]
    if look.trace.own.causal:
        return Words(f"Why {said!r} after {before!r}: {name.en}", f"为什么在「{before}」之后是「{said}」：{name.zh}")
    return Words(
        f"Why {said!r} at place {asked.aim.place}: {name.en}",
        f"为什么第 {asked.aim.place} 个位置是「{said}」：{name.zh}",
    )


def _checks(
    trace: Trace, wanted: Aim, credit: Credit | None, referee: Credit | None, found: Direct | None
) -> list[Check]:
    made = []
    logits = trace.logits(slice(wanted.place, wanted.place + 1))[0, 0].double()
    size = float(logits.abs().max().clamp(min=1e-30))
    if found is not None:
        about = Words("the shares of all parts add up to the logit", "各部分的贡献之和等于该 logit")
        made.append(Check("direct", found.gap, found.limit, about))
    for one in dict.fromkeys(one.method for one in (credit, referee) if one is not None):
        value = next(x.value for x in (credit, referee) if x is not None and x.method == one)
        about = Words(
            f"{one}: what is explained is the logit that the model gives",
            f"{NAMES[one].zh}：所解释的正是模型给出的 logit",
        )
        gap = abs(value - float(wanted.of(logits))) / size
        made.append(Check(f"explained {one}", gap, limit(trace.model.dtype, 1e-4), about))
    if credit is None:
        return made
    if credit.gap is not None and not trace.model.experts:
        about = Words(
            f"shares add up to what the logit gained on the way from the baseline ({credit.steps} steps)",
            f"各份额之和等于 logit 从基线起的增量（{credit.steps} 步）",
        )
        made.append(Check("completeness", credit.gap, COMPLETE, about))
    if trace.own.causal:
        later = credit.own[wanted.place + 1 :]
        about = Words("what stands behind the place has exactly no share", "该位置之后的词元份额恰好为 0")
        made.append(Check("later", float(later.abs().max()) if len(later) else 0.0, 0.0, about))
    if credit.method == "gradient-attention":
        made.append(_tried(trace, wanted, size))
    return made


def _tried(trace: Trace, wanted: Aim, size: float) -> Check:
    """The steepest weight of all, changed a little both ways: does the logit do what its gradient says? In fp64, since
    in fp32 the difference of two logits is rounding where slopes are small."""
    # not every accelerator has fp64
    exact = torch.float32 if trace.model.device.type == "mps" else torch.float64
    step = STEP if exact == torch.float64 else 1e-2
    routed, _ = routes(trace, wanted, least=exact)
    steepest = max(routed, key=lambda route: float(route.slope.abs().max()))
    flat = int(steepest.slope.abs().argmax())
    slope = float(steepest.slope.flatten()[flat])

    def nudged(step: float) -> float:
        def nudge(whose: str, layer: int, weights: Tensor) -> Tensor:
            if (whose, layer) != (steepest.whose, steepest.layer):
                return weights
            change = torch.zeros_like(weights, memory_format=torch.contiguous_format)
            change.view(-1)[flat] = step
            return weights + change

        return routes(trace, wanted, nudge, exact)[1]

    found = (nudged(step) - nudged(-step)) / (2 * step)
    about = Words(
        "the steepest weight of attention, changed a little, moves the logit as its gradient says",
        "把梯度最大的注意力权重略作改动，logit 的变化与梯度一致",
    )
    return Check("gradient", abs(found - slope) / max(abs(slope), FLAT * size, 1e-30), 5e-2, about)
