"""The KV cache changes nothing but time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...config.options import SamplingOptions
from ...infer.reader import resting
from ...infer.text import complete
from ...probe.panel import Lines, Words
from .reading import Text, begun, limit_of, now, texts_of, widened
from .verdict import Case, Claim, Finding, Outcome, curves_of, interval, mean, span

PROMPT, NEW = 16, 64  # tokens


@dataclass(frozen=True)
class Said:
    """A greedy answer: its ids, the logits (T, V) that each was taken from, and the seconds until each was said."""

    ids: list[int]
    logits: Tensor
    seconds: list[float]


@torch.inference_mode()
def measure(case: Case) -> Finding:
    """Greedy answers with a cache, without, and by the engine that serves."""
    model = case.model
    texts = [text if text.source is not None else text.cut(PROMPT) for text in texts_of(case, case.scaled(16), PROMPT)]
    starts = [text.cut(1) if text.source is not None else text for text in texts]
    new = max(4, min(NEW, model.config.max_positions - max(text.ids.shape[1] for text in starts)))
    kept, bare = [], []
    with resting(model), case.watch.counting("answers said", len(starts)) as each:
        say(case, starts[0], new, cached=True), say(case, starts[0], 2, cached=False)  # to warm up
        for text in starts:
            kept.append(say(case, text, new, cached=True))
            bare.append(say(case, text, new, cached=False))
            each(1)
    asked = [(text.ids if text.source is None else text.source)[0].tolist() for text in starts]
    options = SamplingOptions(strategy="greedy", max_new_tokens=new, min_new_tokens=new)
    served = [answer.ids for answer in complete(model, case.tokenizer, asked, options)]
    limit = limit_of(model)
    gaps = [gap_until(one, other) for one, other in zip(kept, bare)]
    by_cache = [same_until(one.ids, other, limit) for one, other in zip(kept, bare)]
    by_engine = [same_until(ids, other, limit) for ids, other in zip(served, bare)]
    same = [min(one, other) for one, other in zip(by_cache, by_engine)]
    ratios = [other.seconds[-1] / one.seconds[-1] for one, other in zip(kept, bare)]
    gap, share, faster, quicker = max(gaps), mean(same), mean(ratios), interval(ratios, case.seed)
    verdict: Outcome = "holds" if gap <= limit and share == 1.0 else "fails"
    curves = {
        name: [1000 * mean([said.seconds[place] for said in answers]) for place in range(new)]
        for name, answers in (("with the cache", kept), ("without", bare))
    }
    return Finding(
        verdict, share, interval=interval(same, case.seed), count=len(starts),
        found=Words(
            f"{sum(one == 1.0 for one in same)} of {len(same)} greedy answers are the same with the cache, without it "
            f"and from the engine; the logits differ by at most {gap:.1e} of their standard deviation (allowed: "
            f"{limit:.0e}). Without the cache an answer of {new} tokens takes "
            f"{faster:.1f} times as long {span(quicker, '.1f')}.",
            f"{len(same)} 个贪心回答中有 {sum(one == 1.0 for one in same)} 个在使用缓存、不用缓存以及由推理引擎"
            f"生成时完全相同；logits 最多相差其标准差的 {gap:.1e}（允许 {limit:.0e}）。不用缓存时，"
            f"{new} 个词元的回答耗时是原来的 {faster:.1f} 倍 "
            f"{span(quicker, '.1f')}。",
        ),
        how=Words(
            "The same prompts are answered greedily three times: each step reads one token and the cache; each step "
            "reads the whole text again; and by the engine's pages. A token that differs where the two are "
            "closer than rounding counts as a tie. No answer may end early.",
            "同样的提示以贪心方式回答三次：每步只读一个词元并使用缓存；每步重读全文；由推理引擎的分页缓存生成。"
            "若不同的两个词元的 logits 之差小于舍入误差，则视为并列。回答不得提前结束。",
        ),
        figures=[
            Lines(
                Words("Time until a token is said", "说出各个词元所用的累计时间"), list(range(1, new + 1)),
                curves_of(curves, {"with the cache": "使用缓存", "without": "不用缓存"}),
                Words("token of the answer", "回答的第几个词元"), Words("milliseconds", "毫秒"), dots=False,
            )
        ],
        data={"gap": gap, "limit": limit, "gaps": gaps, "same": same, "ratios": ratios, "milliseconds": curves},
    )  # fmt: skip


def say(case: Case, text: Text, new: int, *, cached: bool) -> Said:
    """A greedy answer of so many tokens, none of which ends it."""
    model, stops = case.model, list(case.tokenizer.stops)
    ids, logits, seconds = text.ids, [], []
    started, said = now(model.device), []
    memory = None if text.source is None else model.encode(text.source)
    cache = begun(model, text, ids.shape[1] + new) if cached else None
    for step in range(new):
        if cache is None:
            hidden = model.hidden(ids, memory=memory)
        else:
            hidden = model.hidden(ids if not step else ids[:, -1:], memory=None if step else memory, cache=cache)
        logits.append(widened(model.heads["lm"](hidden[0, -1])))
        allowed = logits[-1].index_fill(0, torch.tensor(stops, device=ids.device), -torch.inf) if stops else logits[-1]
        id = int(allowed.argmax())
        seconds.append(now(model.device) - started)
        said.append(id)
        ids = torch.cat((ids, ids.new_tensor([[id]])), 1)
    return Said(said, torch.stack(logits), seconds)


def gap_until(one: Said, other: Said) -> float:
    """The largest difference of their logits up to the first token that differs, in standard deviations."""
    count = min(_alike(one.ids, other.ids) + 1, len(one.logits), len(other.logits))
    a, b = one.logits[:count], other.logits[:count]
    return float((a - b).abs().max() / a.std())


def same_until(ids: list[int], other: Said, limit: float) -> float:
    """The share of an answer that is the same; all of it too where only a tie parts the two."""
    alike, longest = _alike(ids, other.ids), max(len(ids), len(other.ids))
    if alike == longest:
        return 1.0
    if alike == min(len(ids), len(other.ids)):  # one ends where the other goes on
        return alike / longest
    row = other.logits[alike]
    apart = abs(float(row[ids[alike]] - row[other.ids[alike]]))
    return 1.0 if apart <= limit * float(row.std()) else alike / longest


def _alike(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


CACHE = Claim(
    "cache",
    title=Words("The KV cache only saves time", "KV 缓存只省时间"),
    unit=Words("of each answer is the same", "的回答内容相同"),
    said=Words(
        "KV cache: the keys and values of tokens that were generated are kept, which avoids computing them again and "
        "makes inference faster.",
        "读过的词元的键和值留在缓存里，后面的每一步不必再算一遍，推理因此更快。",
    ),
    rule=Words(
        "Holds where all answers are the same tokens (but for ties) and the logits are the same within rounding; else "
        "it fails. Time is told and decides nothing.",
        "若所有回答的词元都相同（并列除外），且 logits 在舍入误差内一致，则成立；否则不成立。用时仅供参考，不影响判定"
        "。",
    ),
    measure=measure,
)
