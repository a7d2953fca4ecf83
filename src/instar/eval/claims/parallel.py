"""A pass over T tokens gives what T steps give, and takes less time."""

from __future__ import annotations

import torch

from ...infer.reader import resting
from ...probe.panel import Lines, Words
from .reading import Text, alone, at_once, gap_of, limit_of, now, one_by_one, texts_of
from .verdict import Case, Claim, Finding, against, curves_of, interval, mean, span

LONGEST = 128  # tokens
LENGTHS = (8, 16, 32, 64, 128)


@torch.inference_mode()
def measure(case: Case) -> Finding:
    """Logits of each text in one pass, in a pass for each token that sees nothing behind it, and in a step for each
    token that knows the keys of those before it."""
    model = case.model
    texts = texts_of(case, case.scaled(8), LONGEST)
    gaps, ratios = [], []
    with resting(model), case.watch.counting("texts read", len(texts)) as each:
        one_by_one(model, texts[0]), at_once(model, texts[0])  # to warm up
        for text in texts:
            whole, steps = at_once(model, text), one_by_one(model, text)
            gaps.append(max(gap_of(whole, steps), gap_of(whole, alone(model, text))))
            once, many = _seconds(text, case)
            ratios.append(many / once)
            each(1)
        longest = max(texts, key=lambda text: text.ids.shape[1])
        lengths = [length for length in LENGTHS if length <= longest.ids.shape[1]] or [longest.ids.shape[1]]
        times = [_seconds(longest.cut(length), case) for length in lengths]
    limit, faster = limit_of(model), interval(ratios, case.seed)
    gap, ratio = max(gaps), mean(ratios)
    verdict = against(faster, 1.0) if gap <= limit else "fails"
    tokens = mean([text.ids.shape[1] for text in texts])
    curves = {"one pass": [1000 * once for once, _ in times], "a step each": [1000 * many for _, many in times]}
    return Finding(
        verdict, ratio, interval=faster, chance=1.0, count=len(texts),
        found=Words(
            f"Over texts of {tokens:.0f} tokens on average the logits of one pass and of as many steps differ by at "
            f"most {gap:.1e} of their standard deviation (allowed: {limit:.0e}). On {model.device.type} one pass is "
            f"{ratio:.1f} times as fast as the steps {span(faster, '.1f')}.",
            f"在平均 {tokens:.0f} 个词元的文本上，一次前向与逐个词元计算的 logits 最多相差其标准差的 {gap:.1e}"
            f"（允许 {limit:.0e}）。在 {model.device.type} 上，一次前向的速度是逐步计算的 {ratio:.1f} 倍 "
            f"{span(faster, '.1f')}。",
        ),
        how=Words(
            "The logits at every place are computed three times: in one pass over the text; from each of its "
            "beginnings "
            "by itself; and token by token with a KV cache. Seconds are the better of two tries.",
            "每个位置的 logits 计算三次：整段文本一次前向；每个前缀单独计算；借助 KV 缓存逐个词元计算。"
            "用时取两次中较短的一次。",
        ),
        figures=[
            Lines(
                Words("Time to read a text", "读完一段文本所用的时间"), lengths,
                curves_of(curves, {"one pass": "一次前向", "a step each": "逐个词元"}),
                Words("tokens", "词元数"), Words("milliseconds", "毫秒"),
            )
        ],
        data={
            "gap": gap, "limit": limit, "gaps": gaps, "ratios": ratios, "tokens": tokens, "lengths": lengths,
            "milliseconds": curves,
        },
    )  # fmt: skip


def _seconds(text: Text, case: Case, tries: int = 2) -> tuple[float, float]:
    """Of one pass, and of all steps; the best of so many tries."""
    best = []
    for way in (at_once, one_by_one):
        taken = []
        for _ in range(tries):
            started = now(case.model.device)
            way(case.model, text)
            taken.append(now(case.model.device) - started)
        best.append(min(taken))
    return best[0], best[1]


PARALLEL = Claim(
    "parallel",
    title=Words("A sentence is read at once", "整句并行处理"),
    unit=Words("times as fast as step by step", "倍于逐步计算的速度"),
    said=Words(
        "Earlier models such as RNNs had to read a text word by word; a Transformer reads a whole sentence at once, "
        "and is trained efficiently on parallel hardware.",
        "RNN 那样的模型只能逐词读下去；Transformer 一次读完整句，因此很适合在并行的硬件上训练。",
    ),
    rule=Words(
        "Holds where one pass gives the logits of as many steps within rounding and the 95 % interval of its speed "
        "over "
        "theirs lies above 1; fails where the logits differ or the interval lies below 1.",
        "若一次前向与逐步计算的 logits 在舍入误差内一致，且两者速度之比的 95% 区间高于 1，则成立；"
        "若 logits 不一致，或区间低于 1，则不成立。",
    ),
    measure=measure,
)
