"""Low layers know words and syntax, middle ones relations between sentences, high ones intent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...probe.annotated import TASKS, examples, stories
from ...probe.linear import ALPHA, Probes, by_row, features_of, gravity, stream_of
from ...probe.panel import Bars, Figure, Lines, Table, Words
from .verdict import STORIES_SEED, Array, Case, Claim, Finding, Interval, Outcome, curves_of, span, worded

LEVELS = {"syntax": ("entity", "role"), "logic": ("relation",), "intent": ("intent",)}
DEEP = 12  # layers, below which depth tells little


@dataclass(frozen=True)
class Level:
    """Where something is learnt: the centre of gravity E of its tasks' accuracy over the rows of the stream, the mean
    of several, NaN where nothing is; drawn: the same of tested words or stories that are drawn anew, (1000,). learnt:
    whether the best row of each task is surely better than the most frequent class."""

    centre: float
    drawn: Array
    learnt: bool

    @property
    def sure(self) -> Interval:
        return ends_of(self.drawn)


def ends_of(drawn: Array) -> Interval:
    """The 95 % of what was drawn that are in its middle, of what is a number."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def level_of(tasks: Sequence[Probes], seed: int) -> Level:
    """Of its tasks, each drawn anew by itself."""
    drawn = np.mean([one.drawn(Probes.gravity, seed + number) for number, one in enumerate(tasks)], 0)
    learnt = all(one.interval(lambda probes: probes.accuracy)[0].max() > one.majority for one in tasks)
    return Level(float(np.mean([one.gravity() for one in tasks])), drawn, learnt)


def verdict_of(levels: Mapping[str, Level], layers: int) -> Outcome:
    """As the rule says: the order is that of the textbook, or surely another, in a model that is deep enough."""
    ordered = list(levels.values())
    ends = [end for level in ordered for end in level.sure]
    if layers < DEEP or not all(level.learnt for level in ordered) or not np.isfinite(ends).all():
        return "unclear"
    pairs = list(pairwise(ordered))
    if all(one.sure[1] < other.sure[0] for one, other in pairs):
        return "holds"
    return "fails" if any(one.sure[0] > other.sure[1] for one, other in pairs) else "unclear"


def measure(case: Case) -> Finding:
    """A probe of each task at each row of the stream, and where each level is learnt."""
    seed = STORIES_SEED + case.seed
    told, long = stories(case.model, case.tokenizer, case.scaled(240, 24), seed, case.languages)
    most = case.scaled(200, 10)
    asked = {name: examples(task, told, most) for name, task in TASKS.items()}
    everything = [example for group in asked.values() for example in group]
    case.watch.say(f"{len(told)} stories are read, {len(everything)} states are probed")
    # each story is read once for all tasks
    states = features_of(case.model, everything, stream_of)
    features = dict(zip(asked, states.split([len(group) for group in asked.values()], 1)))
    found = {name: by_row(features[name], asked[name], seed=case.seed) for name in asked}
    levels = {name: level_of([found[task] for task in tasks], case.seed) for name, tasks in LEVELS.items()}
    layers = len(states) - 1
    outcome = verdict_of(levels, layers)
    rise = levels["intent"].centre - levels["syntax"].centre
    sure = ends_of(levels["intent"].drawn - levels["syntax"].drawn)
    known = math.isfinite(rise) and math.isfinite(sure[0])
    return Finding(
        outcome, rise if known else None, interval=sure if known else None, chance=0.0, count=len(told),
        found=_said(found, levels, layers, long), how=HOW, figures=_figures(found, levels),
        data={
            "layers": layers, "left_out": long,
            "levels": {
                name: {"centre": one.centre, "interval": one.sure, "learnt": one.learnt} for name, one in levels.items()
            },
            "tasks": {name: _record(probes) for name, probes in found.items()},
        },
    )  # fmt: skip


def _record(probes: Probes) -> dict[str, Any]:
    return {
        "classes": list(probes.classes), "trained": len(probes.taught), "tested": len(probes.groups),
        "majority": probes.majority, "accuracy": probes.accuracy.tolist(),
        "control": _known(probes.control),
        "selectivity": _known(probes.selectivity), "centre": probes.gravity(),
    }  # fmt: skip


def _said(found: Mapping[str, Probes], levels: Mapping[str, Level], layers: int, long: int) -> Words:
    centres = ", ".join(f"{name} {one.centre:.2f} {span(one.sure)}" for name, one in levels.items())
    centres_zh = "，".join(f"{ZH[name]} {one.centre:.2f} {span(one.sure)}" for name, one in levels.items())
    en = f"Centre of gravity in blocks, of {layers}: {centres}."
    zh = f"重心（以经过的层数计，共 {layers} 层）：{centres_zh}。"
    for name, probes in found.items():
        best = int(probes.accuracy.argmax())
        first, top, most = probes.accuracy[0], probes.accuracy[best], probes.majority
        en += (
            f" {TASKS[name].title.en.capitalize()}: {first:.2f} from the embeddings alone, {top:.2f} at best (after "
            f"{best} blocks), most frequent class {most:.2f}, {_selective(probes, best).en}."
        )
        zh += (
            f"{TASKS[name].title.zh}：仅凭词嵌入 {first:.2f}，最好 {top:.2f}（经过 {best} 层），多数类 {most:.2f}，"
            f"{_selective(probes, best).zh}。"
        )
    if layers < DEEP:
        en += f" With {layers} layers, fewer than {DEEP}, no verdict is given, whatever the figures are."
        zh += f"模型只有 {layers} 层，少于 {DEEP} 层，无论数值如何都不下结论。"
    weak = [name for name, one in levels.items() if not one.learnt]
    if weak:
        en += f" Not surely learnt at any layer: {', '.join(weak)}."
        zh += f"在任何一层都未确实学到：{'、'.join(ZH[name] for name in weak)}。"
    if long:
        en += f" {long} stories were too long for the model."
        zh += f"有 {long} 个故事超出模型长度。"
    return Words(en, zh)


def _selective(probes: Probes, row: int) -> Words:
    value = float(probes.selectivity[row])
    if math.isnan(value):  # words are tested that were not trained on: labels drawn for them cannot be learnt
        return Words("no control", "无对照")
    return Words(f"selectivity {value:+.2f}", f"选择性 {value:+.2f}")


def _figures(found: Mapping[str, Probes], levels: Mapping[str, Level]) -> list[Figure]:
    rows = list(range(len(next(iter(found.values())).accuracy)))
    blocks = Words("blocks behind it", "经过的层数")
    known = [name for name, one in levels.items() if np.isfinite([one.centre, *one.sure]).all()]
    more = {name: gravity(np.maximum(probes.selectivity, 0.0), 0.0) for name, probes in found.items()}
    columns = (
        Words("task", "任务"), Words("tested", "测试数"), Words("most frequent class", "多数类"),
        Words("from embeddings", "仅词嵌入"), Words("best", "最好"), Words("control there", "该处对照"),
        Words("centre of gravity", "重心"), Words("centre of selectivity", "选择性的重心"),
    )  # fmt: skip
    table = []
    for (name, probes), label in zip(found.items(), worded(found, ZH)):
        best = int(probes.accuracy.argmax())
        table.append((
            label, len(probes.groups), round(probes.majority, 3), round(float(probes.accuracy[0]), 3),
            f"{probes.accuracy[best]:.3f} ({best})", _known(probes.control.round(3))[best],
            _number(probes.gravity()), _number(more[name]),
        ))  # fmt: skip
    return [
        Lines(
            Words("Accuracy by layer", "各层准确率"), rows,
            curves_of({name: probes.accuracy.tolist() for name, probes in found.items()}, ZH), blocks,
            Words("accuracy", "准确率"),
        ),
        Lines(
            Words("Selectivity by layer: accuracy less the control's", "各层选择性：准确率减去对照任务"), rows,
            curves_of(
                {
                    name: probes.selectivity.tolist() for name, probes in found.items()
                    if np.isfinite(probes.selectivity).any()
                }, ZH,
            ), blocks,
            Words("selectivity", "选择性"),
        ),
        Bars(
            Words("Centre of gravity, 95 %", "重心，95% 区间"), worded(known, ZH),
            {"E": [levels[name].centre for name in known]}, blocks,
            [levels[name].sure[0] for name in known], [levels[name].sure[1] for name in known],
        ),
        Table(Words("Each task", "各任务"), columns, table),
    ]  # fmt: skip


def _known(values: Array) -> list[float | None]:
    return [float(x) if math.isfinite(x) else None for x in values]


def _number(x: float) -> str:
    return f"{x:.2f}" if math.isfinite(x) else ""


HOW = Words(
    "Linear probes on the residual stream in front of the first block and behind each, on annotated stories; no word, "
    "or no story, is trained on and tested on. Words and syntax: what a word names, and who does it to whom; logic: "
    "whether a sentence tells a cause, a contrast or neither; intent: whether it tells what somebody meant to do. E is "
    "the mean of the layers, weighted by what each adds to the best accuracy so far, from the most frequent class up "
    "(after Tenney et al. 2019). Caution: words are read at the word, and sentences at their end, where nothing of it "
    "stands before the first attention, which alone makes words come first. In these stories causes, contrasts and "
    "intents are told by few fixed words, so that low layers may tell them by the word alone. What a word names is "
    "tested on words that were not trained on, of which a control task could know nothing: it has none. The "
    "literature disagrees: Tenney et al. (2019) find this order in BERT, and Vig and Belinkov (2019) find grammar "
    "in GPT-2's attention most in the middle layers. A probe shows what can be read, not what is used (Hewitt and "
    "Liang 2019).",
    "在带标注的故事上，用线性探针读取第一层之前和每层之后的残差流；训练与测试没有共同的词或故事。"
    "词与语法：词指的是什么、谁对谁做；逻辑：句子表达因果、转折或两者皆非；意图：句子是否说出某人的打算。"
    "重心 E 是各层按其对迄今最高准确率的增量加权的平均层数，从多数类起算（参照 Tenney 等，2019）。"
    "注意：词在词上读取，而句子在句末读取，句末在第一层注意力之前不含句子的任何信息，仅此就会使词排在前面；"
    "这些故事里的因果、转折和意图由少数固定词表达，低层仅凭词本身就可能判断；"
    "“词指的是什么”用训练中未见的词测试，对照任务对它们一无所知，因此没有对照。"
    "文献结论不一：Tenney 等（2019）在 BERT 中发现这一顺序，而 Vig 与 Belinkov（2019）"
    "发现 GPT-2 的注意力在中间层最贴合语法。探针只说明能读出什么，不说明模型用了什么（Hewitt 与 Liang，2019）。",
)
ZH = {
    "syntax": "词与语法", "logic": "逻辑", "intent": "意图", "entity": "词指的是什么", "role": "谁对谁做",
    "relation": "因果或转折",
}  # fmt: skip
LAYERS = Claim(
    "layers",
    title=Words("Low layers know words, middle ones logic, high ones intent", "底层识词与语法，中层懂逻辑，高层知意图"),
    unit=Words("blocks higher is intent than words and syntax", "层，意图比词与语法更高"),
    said=Words(
        "Low layers tell grammar and the meaning of words, middle ones the logic between sentences, such as contrast "
        "and cause, high ones abstract ideas and the intent of the whole.",
        "低层懂得词义和语法，中层懂得句与句之间的逻辑（如转折、因果），高层懂得抽象的概念和整体的意图。",
    ),
    rule=Words(
        f"Of a model with at least {DEEP} layers in which each task is surely learnt above the most frequent class: "
        "holds where E(words and syntax) < E(logic) < E(intent) with 95 % intervals apart from each other; fails where "
        "two neighbours of these stand in the other order with intervals apart. In all other cases, and in any model "
        "with fewer layers, it is unclear.",
        f"对不少于 {DEEP} 层、且每个任务都确实学到（高于多数类）的模型：若 E（词与语法）< E（逻辑）< E（意图）"
        "且 95% 区间互不重叠，则成立；若相邻两者顺序相反且区间互不重叠，则不成立。"
        "其余情况以及层数更少的模型一律为不明确。",
    ),
    measure=measure,
)
