"""The next token: its distribution before and after each rule of sampling, and the draw; of an encoder, what stands at
each mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config.options import InspectOptions, SamplingOptions
from ...infer.asking import check, check_ids, describe
from ...infer.reader import resting
from ..capture import words_of
from ..choice import Choice, Chosen, Figures, Stage
from ..look import Look
from ..panel import Bars, Cells, Check, Flow, Lines, Panel, Strip, Table, Unfit, Words
from ..subject import Subject
from ..telling import gap, limit_of, room, speaks, tell

TITLE = Words("Next token", "下一个词元")
BEFORE, AFTER = Words("softmax", "模型（softmax）"), Words("after the rules", "采样规则之后")


def next(look: Look) -> Panel:
    """Raises InputError for a model whose head says no tokens, and for sampling that is malformed."""
    words_of(look.subject.model)
    return _chosen(look) if look.trace.model.config.causal else _restored(look)


def _chosen(look: Look) -> Panel:
    subject, at = _upto(look), look.at
    check(look.ask.sampling)
    check_ids(look.ask.sampling, subject.model.config.vocab_size)
    left = room(subject.model, subject.tokens)
    shortest = min(left, look.ask.sampling.min_new_tokens)
    asked = replace(look.ask.sampling, min_new_tokens=shortest, max_new_tokens=max(1, shortest))
    options, notes = speaks(asked, left)
    told = tell(subject, options, look.ask.seed, anew=False)
    choice = told.passes[0].whole
    assert choice is not None, "that of the first pass is kept"
    plain = look.trace.logits()[0, at]
    checks = [*told.passes[0].choice.checks, _is_engines(told.ids, told.finish, choice)]
    about = Words("logits with the cache are those without it", "有缓存与无缓存的 logits 相同")
    checks.append(Check("cached", gap(choice.logits, plain), limit_of(subject.model), about))
    data = {
        "tokens": tokens_of(look),
        "at": at,
        "seed": look.ask.seed,
        "stages": [stage_record(stage) for stage in choice.stages],
        "chosen": choice_record(subject, told.passes[0].choice),
        "top": top_of(subject, choice, look.ask.top),
    }
    arrays = {"logits": numpy(choice.logits)}
    arrays |= {f"chances/{stage.name}": numpy(stage.chances) for stage in choice.stages}
    notes.append(heeded(options, look.ask.seed))
    return Panel("next", TITLE, data, arrays, _pictures(subject, choice, look.ask.top), checks, notes)


CHOSEN = {
    "greedy": "贪心", "temperature": "温度", "top k": "top-k", "top p": "top-p", "min p": "min-p",
    "repetition penalty": "重复惩罚", "presence penalty": "存在惩罚", "frequency penalty": "频率惩罚",
    "no repeat ngram size": "禁止重复 n 元组", "min new tokens": "最少词元数",
}  # fmt: skip


def heeded(options: SamplingOptions, seed: int) -> Words:
    """How tokens were chosen, as `instar generate` tells it."""
    how = describe(options)
    said = "，".join(_setting(part) for part in how.split(", "))
    return Words(
        f"Chosen by: {how}; seed {seed}. Unless told otherwise, generation and this view draw alike.",
        f"选取方式：{said}；种子 {seed}。不另行指定时，生成与本视图的采样方式相同。",
    )


def _setting(part: str) -> str:
    """A part of `describe` in Chinese. Example: "temperature 0.8" -> "温度 0.8" """
    for name, said in CHOSEN.items():
        if part == name or part.startswith(f"{name} "):
            return said + part[len(name) :]
    return part


def _upto(look: Look) -> Subject:
    """The subject as it stands after the token that is asked about."""
    subject = look.subject
    if look.side is not look.trace.own:
        raise Unfit(
            Words("side=encoder: an encoder says no next token; leave it out", "side=encoder：编码器不预测下一个词元")
        )
    return Subject(
        subject.model,
        subject.tokenizer,
        subject.text,
        subject.tokens[: look.at + 1],
        subject.source_text,
        subject.source,
    )


def _is_engines(ids: list[int], finish: str, choice: Choice) -> Check:
    """What is shown as chosen is what the engine itself said."""
    wrong = (choice.id != ids[0]) if ids else finish != "stop"
    about = Words("the token is the engine's own with this seed", "所选词元与引擎用同一种子得到的一致")
    return Check("engine", float(wrong), 0.0, about)


def numpy(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()


def tokens_of(look: Look) -> list[dict[str, Any]]:
    return [{"id": t.id, "piece": t.piece, "start": t.start, "end": t.end} for t in look.subject.tokens]


def stage_record(stage: Stage | Figures) -> dict[str, Any]:
    return {
        "name": stage.name, "setting": stage.setting, "kept": stage.kept, "mass": stage.mass, "entropy": stage.entropy,
    }  # fmt: skip


def choice_record(subject: Subject, choice: Chosen) -> dict[str, Any]:
    """The token that was chosen, and its figures."""
    return {
        "id": choice.id, "piece": subject.piece(choice.id), "logprob": choice.logprob, "p": choice.stages[-1].p,
        "rank": choice.rank, "u": choice.luck, "low": choice.low, "high": choice.high,
    }  # fmt: skip


def top_of(subject: Subject, choice: Choice, count: int) -> list[dict[str, Any]]:
    """The likeliest tokens under the model, with what each stage makes of them."""
    ids = choice.logits.topk(min(max(1, count), len(choice.logits))).indices.tolist()
    return [
        {
            "id": id, "piece": subject.piece(id), "logit": float(choice.logits[id]),
            **{stage.name: float(stage.chances[id]) for stage in choice.stages},
        }
        for id in ids
    ]  # fmt: skip


def shown(choice: Choice, count: int) -> list[int]:
    """The likeliest ids, 8 at least, and at the end the chosen one where it is not among them."""
    ids = choice.logits.topk(min(max(8, count), len(choice.logits))).indices.tolist()
    return ids if choice.id in ids else [*ids, choice.id]


def before_and_after(subject: Subject, choice: Choice, count: int) -> tuple[list[str], dict[Words, list[float]]]:
    """Labels and series of bars: the probability of the likeliest tokens, and after the rules where any has changed
    it."""
    ids, (first, *_, last) = shown(choice, count), [choice.stages[0], *choice.stages]
    labels = [("→ " if id == choice.id else "") + subject.piece(id) for id in ids]
    series = {BEFORE: [float(first.chances[id]) for id in ids]}
    if any(stage.setting for stage in choice.stages):
        series[AFTER] = [float(last.chances[id]) for id in ids]
    return labels, series


def stage_title(stage: Stage) -> Words:
    return Words(*(f"{title} {stage.setting}".strip() for title in stage.title))


def pipeline(choice: Choice | Chosen) -> list[tuple[Words, str]]:
    """The stages as steps of a flow."""
    return [
        (stage.title, f"{stage.setting or '–'}   n = {stage.kept:,}   H = {stage.entropy:.2f} nat")
        for stage in choice.stages
    ]


def _pictures(subject: Subject, choice: Choice, count: int) -> list[Any]:
    ids = shown(choice, count)
    labels, series = before_and_after(subject, choice, count)
    steps = pipeline(choice)
    drawn = subject.piece(choice.id)
    luck = (
        drawn if choice.luck is None else f"u = {choice.luck:.4f} ∈ [{choice.low:.4f}, {choice.high:.4f})  →  {drawn}"
    )
    steps.append((Words("choice", "选择") if choice.luck is None else Words("draw", "抽取"), luck))
    rows = [
        [stage.title, stage.setting or "–", stage.kept, stage.mass, stage.entropy, float(stage.chances[choice.id])]
        for stage in choice.stages
    ]
    columns = [
        Words("rule", "规则"), Words("setting", "设置"), Words("tokens kept", "保留词元数"),
        Words("mass kept", "保留概率"), Words("entropy (nat)", "熵 (nat)"), Words(f"p({drawn})", f"p({drawn})"),
    ]  # fmt: skip
    grid = np.array([[float(stage.chances[id]) for id in ids] for stage in choice.stages], dtype=np.float32)
    texts = [[percent(x) for x in row] for row in grid]
    figures: list[Any] = [
        Bars(Words("Before and after the rules", "采样规则前后的概率"), labels, series, Words("p", "p")),
        Flow(Words("From the model to the draw", "从模型到抽取"), steps),
        Cells(
            Words("What each rule leaves of the likeliest tokens", "各规则作用后最可能词元的概率"), texts, grid,
            [stage_title(stage) for stage in choice.stages], labels,
        ),
        Table(Words("The rules in the order in which they act", "规则(按执行顺序)"), columns, rows),
    ]  # fmt: skip
    if choice.luck is not None:
        figures.append(_line(subject, choice))
    return figures


def percent(p: float) -> str:
    """Example: 0.031 -> "3.1 %"; nothing for 0."""
    return "" if p == 0 else f"{100 * p:.1f} %" if p >= 0.0005 else "<0.1 %"


def _line(subject: Subject, choice: Choice) -> Strip:
    """The line that a draw falls on: the tokens that are left, in the order of their ids, each as wide as it is likely;
    the few likeliest of very many."""
    chances = choice.stages[-1].chances
    ids = chances.topk(min(24, len(chances))).indices
    ids = torch.unique(torch.cat((ids[chances[ids] > 0], ids.new_tensor([choice.id]))))
    ends = chances.cumsum(0)
    notes = [f"[{float(ends[id] - chances[id]):.4f}, {float(ends[id]):.4f})" for id in ids]
    pieces = [("→ " if int(id) == choice.id else "") + subject.piece(int(id)) for id in ids]
    title = Words(
        f"The line that u = {choice.luck:.4f} falls on, tokens in the order of ids",
        f"u = {choice.luck:.4f} 落入的区间(词元按 id 排列)",
    )
    return Strip(title, pieces, [float(chances[id]) for id in ids], notes=notes)


def _restored(look: Look) -> Panel:
    """Of an encoder: the distribution at each mask, or at the place that is asked about."""
    subject, trace, top = look.subject, look.trace, max(1, look.ask.top)
    mask = None if subject.tokenizer is None else subject.tokenizer.mask
    places = [n for n, token in enumerate(subject.tokens) if token.id == mask] if look.ask.at == -1 else [look.at]
    notes = []
    if not places:
        places = [look.at]
        notes.append(
            Words(
                "There is no mask in the text; this is what the model says at its last token.",
                "文本中没有掩码;这里是模型在最后一个词元处的输出。",
            )
        )
    if look.ask.sampling not in (SamplingOptions(), InspectOptions().sampling):
        notes.append(
            Words(
                "An encoder does not draw; the sampling options change nothing here.",
                "编码器不采样;采样选项无效。",
            )
        )
    logits = trace.logits(torch.tensor(places, device=trace.tokens.device))[0]
    chances = logits.double().softmax(-1)
    best = chances.topk(min(top, chances.shape[-1]))
    entropy = torch.special.entr(chances).sum(-1)
    with torch.no_grad(), resting(trace.model):
        whole = words_of(trace.model)(trace.model.hidden(trace.tokens))[0, places]
    checks = [
        Check(
            "probabilities", float((logits.log_softmax(-1).double().exp().sum(-1) - 1).abs().max()), 1e-5,
            Words("probabilities of all tokens add up to 1", "全部词元的概率之和为 1"),
        ),
        Check(
            "forward", gap(logits, whole), limit_of(trace.model),
            Words("these are the model's own logits", "与模型自身前向计算的 logits 相同"),
        ),
    ]  # fmt: skip
    masks: list[dict[str, Any]] = [
        {
            "place": place, "entropy": float(entropy[row]),
            "top": [
                {"id": id, "piece": subject.piece(id), "p": p}
                for id, p in zip(best.indices[row].tolist(), best.values[row].tolist())
            ],
        }
        for row, place in enumerate(places)
    ]  # fmt: skip
    figures: list[Any] = [
        Cells(
            Words("What stands at each mask", "各掩码处的预测"),
            [[each["piece"] for each in found["top"]] for found in masks],
            numpy(best.values), [f"{place}" for place in places], [str(n + 1) for n in range(best.values.shape[1])],
        ),
        *(
            Bars(
                Words(f"At token {found['place']}", f"第 {found['place']} 个词元处"),
                [each["piece"] for each in found["top"]], {"p": [each["p"] for each in found["top"]]},
            )
            for found in masks[:3]
        ),
        _filled(subject, places, masks),
    ]  # fmt: skip
    if len(places) > 1:
        figures.append(
            Lines(
                Words("Uncertainty at each mask", "各掩码处的不确定性"), places, {"H": entropy.tolist()},
                Words("token", "词元"), Words("entropy (nat)", "熵 (nat)"),
            )
        )  # fmt: skip
    data = {"tokens": tokens_of(look), "masks": masks}
    arrays = {"logits": numpy(logits), "chances": numpy(chances), "entropy": numpy(entropy)}
    return Panel("next", TITLE, data, arrays, figures, checks, notes)


def _filled(subject: Subject, places: list[int], masks: list[dict[str, Any]]) -> Strip:
    """The text with the likeliest tokens in it."""
    best = {place: found["top"][0] for place, found in zip(places, masks)}
    pieces = [best[n]["piece"] if n in best else token.piece for n, token in enumerate(subject.tokens)]
    values = [best[n]["p"] if n in best else 0.0 for n in range(len(pieces))]
    notes = [f"p = {best[n]['p']:.3f}" if n in best else "" for n in range(len(pieces))]
    return Strip(Words("The text as the model would fill it", "模型填补后的文本"), pieces, values, notes=notes)
