"""The loop that a language model speaks by, as it went on: prompt, tokens, embedding, layers, head, the distribution
before and after each rule, the draw, the cache that grows, and again, until the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import InputError
from ...infer.asking import check, check_ids
from ...infer.text import complete
from ...text.figures import size as bytes_for_the_eye
from ..look import Look
from ..panel import About, Bars, Cells, Check, Flow, Lines, Panel, Strip, Table, Words
from ..subject import Subject
from ..telling import Pass, Told, begins, cache_gap, limit_of, room, speaks, tell
from .next import before_and_after, choice_record, heeded, numpy, percent, pipeline, stage_record, tokens_of

TITLE = Words("Generation, token by token", "逐词元生成")
MOST_NUMBERS = 1 << 20  # logits that are kept, those of the last steps where there are more
UNASKED = Words(
    "Plain generation is given a source alone, and here the answer goes on from a beginning: nothing to compare with.",
    "普通生成只接受源文本，而这里的回答接着已有的开头：没有可比较的对象。",
)
PARTED = Words(
    "From the first token that differs the two read different texts.", "从第一个不同的词元起，两者读到的文本不同。"
)
ENGINE = Words("every token shown as chosen is the engine's own", "每个所选词元均与引擎一致")
CACHED = Words("logits of every step equal those without a cache", "每步 logits 与无缓存时相同")
PHASES = {"prefill": Words("prefill", "预填充"), "decode": Words("decode", "解码")}
FINISHES = {"stop": Words("stop", "遇到结束符"), "length": Words("length", "达到长度上限")}
ROWS = 48  # steps that a table shows


def generation(look: Look) -> Panel:
    """Raises InputError for a model that cannot continue a text, and for sampling that is malformed."""
    subject, seed = look.subject, look.ask.seed
    prompt, _ = begins(subject)
    check(look.ask.sampling)
    check_ids(look.ask.sampling, subject.model.config.vocab_size)
    options, notes = speaks(look.ask.sampling, room(subject.model, prompt))
    if subject.source and subject.tokenizer is not None and look.ask.target:
        notes.append(
            Words("The answer begins anew; the target is not read here.", "回答从头生成;此处不使用给定的译文。")
        )
    keep = max(1, MOST_NUMBERS // subject.model.config.vocab_size)
    told = tell(subject, options, seed, keep=keep, top=look.ask.top)
    if not told.passes:
        raise InputError("the engine said nothing; wanted max_new_tokens of at least 1")
    first = max(0, len(told.passes) - keep)
    whole = [each.whole for each in told.passes[first:] if each.whole is not None]
    data = {
        "tokens": tokens_of(look),
        "seed": seed,
        "text": told.text,
        "ids": told.ids,
        "finish": told.finish,
        "steps": [_step(subject, told, each) for each in told.passes],
        "logits_from": first,
    }
    stages = [[stage.entropy for stage in each.choice.stages] for each in told.passes]
    kept = [[stage.kept for stage in each.choice.stages] for each in told.passes]
    arrays = {
        "logits": np.stack([numpy(choice.logits) for choice in whole]),
        "chances": np.stack([numpy(choice.stages[-1].chances) for choice in whole]),
        "entropy": np.array(stages, dtype=np.float32),
        "kept": np.array(kept, dtype=np.int64),
        "cache_tokens": np.array([each.held for each in told.passes], dtype=np.int64),
        "cache_bytes": np.array([each.needed for each in told.passes], dtype=np.int64),
        "block_bytes": np.array([each.used for each in told.passes], dtype=np.int64),
    }
    checks = _checks(look, told)
    if not any(check.name == "generate" for check in checks):
        notes.append(UNASKED)
    notes.append(heeded(told.options, seed))
    about = {name: _about(told, first if name in ("logits", "chances") else 0) for name in arrays}
    return Panel("generation", TITLE, data, arrays, _pictures(look, told), checks, notes, about)


def _about(told: Told, first: int) -> About:
    """A step is of what was said before it."""
    said = told.chosen[:-1]
    rules = [stage.name for stage in told.passes[0].choice.stages]
    return About((rules, said[:first]), [None, *said[first:]], PARTED)


def _step(subject: Subject, told: Told, each: Pass) -> dict[str, Any]:
    last = each is told.passes[-1]
    return {
        "step": each.number, "phase": each.phase, "read": each.read, **choice_record(subject, each.choice),
        "stages": [stage_record(stage) for stage in each.choice.stages], "cache_tokens": each.held,
        "cache_bytes": each.needed, "block_bytes": each.used, "finish": told.finish if last else None,
    }  # fmt: skip


def _checks(look: Look, told: Told) -> list[Check]:
    model = look.subject.model
    said = [each.choice.id for each in told.passes[: len(told.ids)]]
    checks = [
        Check(
            "engine", float(sum(a != b for a, b in zip(said, told.ids)) + abs(len(said) - len(told.ids))), 0.0,
            ENGINE,
        ),
        *_generated(look, told),
        Check(
            "cached", cache_gap(model, told), limit_of(model),
            CACHED,
        ),
    ]  # fmt: skip
    return [*checks, *_worst([one for each in told.passes for one in each.choice.checks])]


def _worst(checks: list[Check]) -> list[Check]:
    """Of each check the one of the step that is farthest from green; NaN is."""
    found: dict[str, Check] = {}
    for one in sorted(checks, key=lambda one: (one.gap != one.gap, one.gap)):
        found[one.name] = one
    return list(found.values())


def _generated(look: Look, told: Told) -> list[Check]:
    """How many tokens of the answer are not those of `generate`, which is given the text itself where it can be; no
    check where nothing but an engine is given a source and a beginning."""
    subject, ask = look.subject, look.ask
    prompt, source = begins(subject)
    ids = source if source is not None else prompt
    if source is not None and prompt:
        return []
    asked: Any = ids
    tokenizer = subject.tokenizer
    if tokenizer is not None and not ask.chat:
        text = subject.source_text if source is not None else subject.text
        holds_mask = tokenizer.mask in ids  # spelt in the text, which generate takes as letters
        asked = ids if holds_mask else text
    (answer,) = complete(subject.model, tokenizer, [asked], told.options, seed=ask.seed)
    wrong = sum(a != b for a, b in zip(answer.ids, told.ids)) + abs(len(answer.ids) - len(told.ids))
    about = Words("the text is what plain generation says with this seed", "文本与同一种子的普通生成一致")
    return [Check("generate", float(wrong + (answer.text != told.text)), 0.0, about)]


def _pictures(look: Look, told: Told) -> list[Any]:
    subject = look.subject
    last = told.openest
    assert last.whole is not None, "that of the least decided pass is kept"
    labels, series = before_and_after(subject, last.whole, look.ask.top)
    steps = [each.number for each in told.passes]
    return [
        Flow(Words("The loop", "生成循环"), _loop(subject, told)),
        _said(subject, told),
        _likeliest(subject, told),
        _steps(subject, told),
        Bars(
            Words(f"The most open step: {last.number}", f"最不确定的一步:第 {last.number} 步"), labels, series,
            Words("p", "p"),
        ),
        Lines(
            Words("The cache grows", "缓存增长"), steps,
            {
                Words("keys + values", "键与值"): [float(each.needed) for each in told.passes],
                Words("blocks", "缓存块"): [float(each.used) for each in told.passes],
            },
            Words("step", "步"), Words("bytes", "字节"),
        ),
    ]  # fmt: skip


def _loop(subject: Subject, told: Told) -> list[tuple[Words, str]]:
    """The steps of the textbook, with the figures of the first pass, and what became of it."""
    model, first, last = subject.model, told.passes[0], told.passes[-1]
    config, choice = model.config, told.passes[0].choice
    text = subject.source_text or subject.text
    pieces = [token.piece for token in subject.source or subject.tokens]
    read = len(told.source) or len(told.prompt)
    stack = f"L = {config.layers}   H = {config.heads}   D = {config.d_model}"
    if config.encoder_layers:
        stack = f"{config.encoder_layers} + {stack}"
    own = pipeline(choice)[0][1].removeprefix("–   ")
    likeliest = percent(choice.top[0][1])
    steps = [
        (Words("prompt", "输入"), _cut(text) or "–"),
        (Words("tokens", "词元化"), f"{read}:  " + _cut(" | ".join(pieces))),
        (Words("embedding", "嵌入"), f"{read} × {config.d_model}"),
        (Words("layers", "Transformer 层"), f"{stack}   N = {model.size():,}"),
        (Words("head", "语言模型头"), f"{config.d_model} → {config.vocab_size:,} logits"),
        (
            Words("softmax", "概率分布"),
            f"{own}   max p = {likeliest}",
        ),
        *pipeline(choice)[1:],
    ]
    drawn = _cut(subject.piece(choice.id))
    if choice.luck is None:
        steps.append((Words("choice", "选择"), drawn))
    else:
        steps.append((Words("draw", "抽取"), f"u = {choice.luck:.3f}  →  {drawn}   p = {percent(choice.stages[-1].p)}"))
    steps += [
        (
            Words("cache", "KV 缓存"),
            f"{first.held} → {last.held}   {bytes_for_the_eye(first.needed)} → {bytes_for_the_eye(last.needed)}",
        ),
        (Words("again", "重复"), f"× {len(told.passes)}"),
        (Words("end", "结束"), f"{told.finish}:  {_cut(subject.piece(last.choice.id))}"),
    ]
    return steps


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _said(subject: Subject, told: Told) -> Strip:
    """What was said, each token shaded by how likely the model found it."""
    pieces = [subject.piece(each.choice.id) for each in told.passes]
    values = [each.choice.stages[0].p for each in told.passes]
    notes = [f"#{each.choice.rank}   p = {value:.3f}" for each, value in zip(told.passes, values)]
    return Strip(Words("The answer, shaded by its probability", "回答(按模型概率着色)"), pieces, values, notes=notes)


def _likeliest(subject: Subject, told: Told) -> Cells:
    """At each of the last steps the likeliest tokens under the model."""
    passes = told.passes[-ROWS:]
    tops = [each.choice.top for each in passes]
    return Cells(
        Words("The likeliest tokens at each step", "每一步最可能的词元"),
        [[subject.piece(id) for id, _ in top] for top in tops],
        np.array([[p for _, p in top] for top in tops], dtype=np.float32),
        [f"{each.number} → {subject.piece(each.choice.id)}" for each in passes],
        [str(place + 1) for place in range(len(tops[0]))],
    )


def _steps(subject: Subject, told: Told) -> Table:
    rows = []
    for each in told.passes[-ROWS:]:
        choice, last = each.choice, each.choice.stages[-1]
        before = choice.stages[-2] if last.name == "greedy" else last
        rows.append(
            [
                each.number, PHASES[each.phase], subject.piece(choice.id), choice.id,
                choice.stages[0].p, before.p, choice.rank,
                choice.stages[0].entropy, last.kept, "–" if choice.luck is None else choice.luck, each.held,
                each.needed, FINISHES.get(told.finish, told.finish) if each is told.passes[-1] else "",
            ]
        )  # fmt: skip
    columns = [
        Words("step", "步"), Words("phase", "阶段"), Words("token", "词元"), Words("id", "id"),
        Words("p of the model", "模型概率"), Words("p after the rules", "采样后概率"), Words("rank", "排名"),
        Words("entropy (nat)", "熵 (nat)"), Words("kept", "保留"), Words("u", "u"),
        Words("cached tokens", "缓存词元"), Words("cache bytes", "缓存字节"), Words("finish", "结束原因"),
    ]  # fmt: skip
    hidden = len(told.passes) - len(rows)
    note = Words("", "")
    if hidden:
        note = Words(f"The first {hidden} steps are in the data.", f"前 {hidden} 步见数据。")
    return Table(Words("Step by step", "逐步记录"), columns, rows, note)
