"""The view of heads: what each is for, by its scores on random tokens said twice and on the text, beside chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import InputError
from ..arrays import READ, SCORES
from ..capture import Seam, Side
from ..checks import no_hooks, rows_add_up, values_give_output, watched_is_unwatched, widest
from ..copying import trace_gap
from ..heads import LABELS, HeadProfile, labels, profile, profile_of, visible
from ..look import Look
from ..panel import Bars, Check, Figure, Matrix, Panel, Scatter, Table, Unfit, Words, why_not
from ..relations import stack_lifts
from ..routing import pieces, sinks_among
from .attention import told
from .lifted import lift_of

ROWS = 64  # of the table
MOST = 1024  # tokens of a text that are read
IDLE = Words("idle here", "此处空闲")
NOTHING = Words("", "")
CHANCE = Words(
    "a head that looks everywhere alike scores exactly the chance beside each score",
    "处处均匀的注意力头，其得分恰等于表中的随机水平",
)
TRACE = Words(
    "copying from the small matrix agrees with all words taken one by one",
    "由小矩阵算得的复制得分与逐词计算一致",
)
RULE = Words(
    "A label needs a score of 0.4, without the sink, and 5 times its chance; positional 0.9. A head may have several, "
    "or none: most do nothing so simple. A narrow test does not tell all that a head does; the view effects shows "
    "what is lost without it.",
    "标签要求去除汇聚点后的得分不低于 0.4，且不低于随机水平的 5 倍；「按位置」要求 0.9。一个头可以有多个标签，"
    "也可以没有：多数头做的事并不这样简单，单项测试也不能说明一个头的全部作用。"
    "去掉一个头会失去什么，见视图 effects。",
)
RANDOM = Words(
    "On random tokens said twice, [begin] r1 .. rn r1 .. rn, a head can match, and knows nothing of the language.",
    "「随机词元」指重复两遍的随机序列 [begin] r1 .. rn r1 .. rn：头只能靠匹配，用不上对语言的了解。",
)
COPYING = Words(
    "Copying is read off the weights alone; norms, positions and all other layers are left out.",
    "复制得分只由权重得出，不计归一化、位置与其他层。",
)
ONE = Words(
    "a head that looks everywhere alike gives entities exactly what chance does, 1",
    "处处均匀的注意力头，其实体提升恰为 1",
)
CUT = Words(
    f"Only the first {MOST:,} tokens are read.",
    f"只读取前 {MOST:,} 个词元。",
)
RESTING = Words(
    "Idle: more than 0.9 goes to the sink on this text. That is a state, and no label.",
    "空闲：在此文本上 0.9 以上的份额流向汇聚点。这是状态，不是标签。",
)


def heads(look: Look) -> Panel:
    """Every head of a stack with its labels, scores, chance and the pair of tokens that is its best evidence.

    arrays: random/NAME and text/NAME, (L, H), what `HeadProfile` has on random tokens and on the text; chance/... of
    both. What cannot be measured is left out, and a note says why: a text of one token, a model with room for none
    said twice. Raises InputError for a side or layer that does not exist, and where neither can be measured.
    """
    look, cut = shortened(look)
    side, which, model = look.side, look.which, look.subject.model
    sinks = sinks_among(look.keys, causal=side.causal and which == "self")
    found: dict[str, HeadProfile] = {}
    notes = [RULE, *([CUT] if cut else [])]
    reasons = []
    for name, make in {
        "random": lambda: profile(model, look.subject.tokenizer, side=side.name, which=which),
        "text": lambda: profile_of(look.trace, side, which, sinks=sinks, copies=False),
    }.items():
        try:
            found[name] = make()
        except InputError as error:
            why = why_not(error)
            reasons.append(why)
            notes.append(Words(f"Not measured on {READ[name].en}: {why.en}", f"{READ[name].zh}上未测量：{why.zh}"))
    if not found:
        raise Unfit(Words("; ".join(why.en for why in reasons), "；".join(why.zh for why in reasons)))
    for name, one in found.items():
        notes += _blind(name, one)
    entities = lift_of(look, side, which, sinks)
    notes += entities.notes
    rows = _rows(look, found)
    notes += [RANDOM] * ("random" in found) + [COPYING] * ("copying" in next(iter(found.values())).scores)
    if "text" in found and found["text"].idle.any():
        notes.append(RESTING)
    arrays = {f"{name}/{score}": values for name, one in found.items() for score, values in one.scores.items()}
    arrays |= {f"chance/{name}/{score}": values for name, one in found.items() for score, values in one.chance.items()}
    data = {
        "tokens": told(look.tokens),
        "keys": told(look.keys) if which == "cross" else None,
        "side": side.name,
        "which": which,
        "heads": rows,
        "entities": entities.data,
    }
    if entities.lifts is not None:
        arrays["lift"] = entities.lifts
    figures = [*_figures(found, rows), *entities.figures]
    title = Words("What each head is for", "各注意力头的作用")
    return Panel("heads", title, data, arrays, figures, _checks(look, sinks, found, entities.mask), notes)


def shortened(look: Look) -> tuple[Look, bool]:
    """The look at no more of a text, and of a source, than is read here, and whether that is less."""
    subject = look.subject
    if max(len(subject.tokens), len(subject.source)) <= MOST:
        return look, False
    short = replace(subject, tokens=subject.tokens[:MOST], source=subject.source[:MOST])
    return Look(short, look.ask), True


def _rows(look: Look, found: dict[str, HeadProfile]) -> list[dict[str, Any]]:
    """A record of each head, the highest leading score first, idle ones last."""
    said = {name: labels(one) for name, one in found.items()}
    any_one = next(iter(found.values()))
    rows = []
    for layer, head in np.ndindex(any_one.idle.shape):
        idle = "text" in found and bool(found["text"].idle[layer, head])
        row: dict[str, Any] = {"layer": layer, "head": head, "idle": idle}
        row["labels"] = {name: said[name][layer][head] for name in found}
        row["offsets"] = {name: int(one.offsets[layer, head]) for name, one in found.items()}
        row["scores"] = {
            name: {k: _number(v[layer, head]) for k, v in one.scores.items()} for name, one in found.items()
        }
        row["leading"] = _leading(found, layer, head)
        row["evidence"] = _evidence(look, found.get("text"), row["leading"], layer, head)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["idle"], -row["leading"]["above"]))


def _leading(found: dict[str, HeadProfile], layer: int, head: int) -> dict[str, Any]:
    """The score that stands furthest above its chance, in parts of the way to 1: on random tokens, or on the text
    where it is measured there alone."""
    measured = _on_random(found)
    scored = []
    for where, one in found.items():
        for name in LABELS:
            if name in one.scores and name != "positional" and (where == "random" or name not in measured):
                score, chance = (float(x[name][layer, head]) for x in (one.scores, one.chance))
                if np.isnan(score):
                    continue
                scored.append(((score - chance) / max(1 - chance, 1e-6), chance, name, where))
    above, chance, name, where = max(scored)
    return {"name": name, "on": where, "chance": chance, "above": above}


def _on_random(found: dict[str, HeadProfile]) -> set[str]:
    """What was measured on random tokens."""
    return set(found["random"].scores) if "random" in found else set()


def _evidence(look: Look, text: HeadProfile | None, leading: dict[str, Any], layer: int, head: int) -> Any:
    """The strongest pair on the text of those that the leading score counts, or of all."""
    if text is None:
        return None
    name = leading["name"] if leading["name"] in text.peaks else "confidence"
    if name not in text.peaks or text.peaks[name][layer, head] < 0:
        return None
    _, query, key = map(int, text.strongest[name][layer, head])
    pair = [look.tokens[query].piece, look.keys[key].piece]
    return {"from": query, "to": key, "pair": pair, "weight": float(text.peaks[name][layer, head])}


def _figures(found: dict[str, HeadProfile], rows: list[dict[str, Any]]) -> list[Figure]:
    main = found.get("random") or found["text"]
    figures: list[Figure] = [_table(found, rows), _best(main), _scatter(main)]
    where, text = list(found.items())[-1]
    layers, heads = text.idle.shape
    places = [str(layer) for layer in range(layers)], [str(head) for head in range(heads)]
    on = READ[where]
    for name, title in (
        ("sink", Words(f"What the sink takes on {on.en}", f"{on.zh}上汇聚点所占份额")),
        ("entropy", Words(f"Entropy on {on.en}, 1 is everywhere alike", f"{on.zh}上的熵，1 为处处均匀")),
    ):
        figures.append(Matrix(title, text.scores[name], *places, "share", Words("layer", "层"), Words("head", "头")))
    return figures


def _table(found: dict[str, HeadProfile], rows: list[dict[str, Any]]) -> Table:
    """Sorted by the leading score, which stands beside its chance."""
    columns = [Words("head", "头")]
    columns += [Words(f"labels on {READ[name].en}", f"{READ[name].zh}上的标签") for name in found]
    columns += [
        Words("leading score", "主要得分"), Words("score", "得分"), Words("chance", "随机水平"),
        Words("score on this text", "此文本得分"), Words("strongest pair", "最强的一对"),
    ]  # fmt: skip
    shown = []
    for row in rows[:ROWS]:
        lead, evidence = row["leading"], row["evidence"]
        here = row["scores"].get("text", {}).get(lead["name"])
        shown.append(
            [
                f"{row['layer']}.{row['head']}",
                *(_labels(row["labels"][name], bool(found[name].idle[row["layer"], row["head"]])) for name in found),
                _named(lead["name"], row["offsets"][lead["on"]]),
                round(row["scores"][lead["on"]][lead["name"]], 3),
                round(lead["chance"], 3),
                None if here is None else round(here, 3),
                "" if evidence is None else f"{evidence['pair'][0]}←{evidence['pair'][1]} {evidence['weight']:.2f}",
            ]
        )
    note = Words("layer.head, counted from 0", "层.头，从 0 数起")
    if len(rows) > ROWS:
        note = Words(
            f"{note.en}; the first {ROWS} of {len(rows)}, all are in the data",
            f"{note.zh}；只列前 {ROWS} 个，共 {len(rows)} 个，其余见数据",
        )
    return Table(Words("Heads, the clearest first", "各头，最明确的在前"), columns, shown, note)


def _labels(said: list[str], idle: bool) -> Words:
    if idle:
        return IDLE
    names = [_named(*_parted(one)) for one in said]
    return Words(", ".join(name.en for name in names), "、".join(name.zh for name in names)) if names else NOTHING


def _parted(label: str) -> tuple[str, int]:
    """ "offset 3" -> ("offset", 3)"""
    name, _, offset = label.partition(" ")
    return name, int(offset or 0)


def _named(name: str, offset: int) -> Words:
    if name != "offset":
        return SCORES[name]
    where = (
        Words(f"{offset} back", f"前第 {offset} 个") if offset >= 0 else Words(f"{-offset} ahead", f"后第 {-offset} 个")
    )
    return Words("itself", "自身") if offset == 0 else where


def _best(main: HeadProfile) -> Bars:
    """The best head of each score beside chance; of those that are not idle."""
    names = [name for name in LABELS if name in main.scores and main.awake(name).any()]
    best = [main.best(name) for name in names]
    return Bars(
        Words("The best head of each score", "每项得分最高的头"),
        [
            Words(f"{SCORES[name].en} {layer}.{head}", f"{SCORES[name].zh} {layer}.{head}")
            for name, (_, layer, head) in zip(names, best)
        ],
        {
            Words("score", "得分"): [score for score, _, _ in best],
            Words("chance", "随机水平"): [
                float(main.chance[name][layer, head]) for name, (_, layer, head) in zip(names, best)
            ],
        },
    )


def _scatter(main: HeadProfile) -> Scatter:
    """Two scores that tell heads apart: of decoders the two that make induction, of encoders both directions."""
    pairs = (("previous", "induction"), ("previous", "next"), ("entropy", "sink"))
    x, y = next(pair for pair in pairs if set(pair) <= set(main.scores))
    points = [
        (f"{layer}.{head}", float(main.scores[x][layer, head]), float(main.scores[y][layer, head]))
        for layer, head in np.ndindex(main.idle.shape)
        if np.isfinite([main.scores[name][layer, head] for name in (x, y)]).all()
    ]
    title = Words(f"{SCORES[x].en} and {SCORES[y].en}", f"{SCORES[x].zh}与{SCORES[y].zh}")
    return Scatter(title, points, SCORES[x], SCORES[y])


def _checks(look: Look, sinks: Tensor, found: dict[str, HeadProfile], entities: Tensor | None) -> list[Check]:
    side, which = look.side, look.which
    seam = side.seams(which)[look.layer]
    rows = [rows_add_up(part) for each in side.seams(which) for _, part in pieces(each)]
    checks = [*widest(rows), values_give_output(seam)]
    if "text" in found:
        even = _even(side, which, seam)
        checks.append(Check("alike_is_chance", _alike(look, even, which, sinks), 1e-5, CHANCE))
        if entities is not None:
            lifts = stack_lifts(even, entities[None], which=which, sinks=sinks)
            checks.append(Check("lift_is_one", float((lifts - 1).abs().max()), 1e-5, ONE))
    copies = next(iter(found.values())).scores.get("copying")
    if copies is not None:
        layer, head = np.unravel_index(int(copies.argmax()), copies.shape)
        gap = trace_gap(look.subject.model, side, which, int(layer), int(head))
        checks.append(Check("copying_is_trace", gap, 1e-4, TRACE))
    return [*checks, watched_is_unwatched(look.trace), no_hooks(look.subject.model)]


def _even(side: Side, which: str, seam: Seam) -> Side:
    """A stack of one layer, whose heads see what this one's do and look everywhere alike."""
    mask = torch.zeros(visible(seam).shape).masked_fill(~visible(seam).cpu(), -torch.inf)[:, None].to(seam.q.device)
    even = replace(seam, q=torch.zeros_like(seam.q), mask=mask, causal=False)
    return replace(side, crossed=[even]) if which == "cross" else replace(side, attended=[even])


def _alike(look: Look, even: Side, which: str, sinks: Tensor) -> float:
    """The largest difference between the scores of a head that looks everywhere alike, measured as any other, and the
    chance that stands beside them. Where all shares are equal nobody has a largest one: scores of it are left out."""
    uniform = profile_of(look.trace, even, which, sinks=sinks, copies=False)
    gaps = [
        float(np.abs(uniform.scores[name] - uniform.chance[name]).max() / max(1.0, float(uniform.chance[name].max())))
        for name in uniform.scores
        if name not in ("positional", "rare")
    ]
    return max(gaps)


def _blind(name: str, one: HeadProfile) -> list[Words]:
    """Which layers see nothing of what a score counts."""
    by_score = {score: one.blind(score) for score in one.scores}
    notes = []
    for layers in {tuple(found) for found in by_score.values() if found}:
        scores = [score for score, found in by_score.items() if tuple(found) == layers]
        numbers, where = ", ".join(map(str, layers)), READ[name]
        named = "、".join(SCORES[score].zh for score in scores)
        notes.append(
            Words(
                f"Layers {numbers} look back through a window that holds nothing to score on {where.en}: "
                f"{', '.join(SCORES[score].en for score in scores)}.",
                f"第 {numbers} 层只看一个窗口，在{where.zh}上无从测量：{named}。",
            )
        )
    return notes


def _number(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None
