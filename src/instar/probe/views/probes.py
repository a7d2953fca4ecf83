"""The view of probes: what a plane can read off each layer of this model, on stories in which the truth is written
down, beside what it would learn by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..annotated import TASKS, examples, spoken, stories
from ..linear import Probes, by_row, features_of, planted, stream_of
from ..look import Look
from ..panel import Bars, Cells, Check, Figure, Lines, Panel, Table, Unfit, Words
from ..subject import Subject
from .attention import told as tokens_told
from .parts import named_rows

STORIES = 240
MOST = 200  # examples of a class
NEAR = 32  # tokens of the text that are drawn

TITLE = Words("Probes: what can be read off each layer", "探针：从每一层能读出什么")
READ = Words(
    "A probe shows that something can be read there by a plane, not that the model uses it (Hewitt and Liang 2019). "
    "The control learns labels drawn for each word; selectivity is accuracy less the control's, and below 0 where "
    "words are easier learnt by heart.",
    "探针只说明能用一个超平面从那里读出某种信息，不说明模型用到了它（Hewitt 与 Liang，2019）。"
    "对照任务学习给每个词随机抽取的标签；选择性等于准确率减去对照的准确率，低于 0 说明死记单词更容易。",
)
CENTRE = Words(
    "Centre of gravity: the mean of the layers, weighted by what each adds to the best accuracy so far, from the "
    "majority up (after Tenney et al. 2019).",
    "重心：各层按其对迄今最高准确率的增量加权的平均层数，从多数类起算（参照 Tenney 等，2019）。",
)
WITHOUT = Words(
    "A dash: words are tested that were not trained on, and nothing could have taught the labels drawn for them, so "
    "that there is no control.",
    "横线表示没有对照：测试用的词在训练中没有出现过，为它们随机抽取的标签无从学起。",
)
CLASSES = {
    "person": Words("person", "人"), "animal": Words("animal", "动物"), "thing": Words("thing", "物品"),
    "place": Words("place", "地点"), "food": Words("food", "食物"), "part": Words("part", "部分"),
    "acts": Words("acts", "施事"), "acted on": Words("acted on", "受事"), "cause": Words("cause", "因果"),
    "contrast": Words("contrast", "转折"), "intent": Words("intent", "打算"), "none": Words("none", "无"),
}  # fmt: skip
SHORT = {"entity": "实体", "role": "角色", "relation": "关系", "intent": "意图"}  # the tasks' names in Chinese
DISJOINT = Words("no word or story is trained on and tested on", "训练与测试没有共同的词或故事")
MINIMUM = Words("each probe stands at the minimum of its loss", "每个探针都在其损失的最小处")
PLANTED = Words("a label planted in the states is found", "植入状态中的标签能被找到")


def probes(look: Look) -> Panel:
    """Accuracy by row of the stream, L + 1 of them, on the world's annotations: what a word names, who acts, cause or
    contrast, intent; with the control, the majority and the centre of gravity, and what the probe of words says of this
    text. Of an encoder-decoder its encoder is probed. The text itself trains nothing.

    arrays: accuracy, control, low, high (tasks, L+1); said (L+1, T) the class of each token of the text. Raises
    InputError for a model without a tokenizer, or whose texts are too short for a story.
    """
    subject = look.subject
    if subject.tokenizer is None:
        raise Unfit(Words(
            "probes read stories, and the model has no tokenizer at hand; give a folder that has one",
            "探针要读故事，而此模型没有分词器；请给出带分词器的文件夹",
        ))  # fmt: skip
    if "probes" not in look.known:
        look.known["probes"] = _fitted(subject)
    count, long, found, missed, bounds, centres = look.known["probes"]
    tokens = subject.source or subject.tokens
    rows = stream_of(subject.model, [token.id for token in tokens]).float()
    chances = torch.stack([probe(row).softmax(-1) for probe, row in zip(found["entity"].fitted, rows)])
    said = chances.argmax(-1)
    labels = _rows(len(rows))
    data: dict[str, Any] = {
        "tokens": tokens_told(tokens),
        "rows": labels,
        "stories": count,
        "left_out": long,
        "languages": list(spoken(subject.tokenizer)),
        "tasks": [
            {
                "name": name, "title": TASKS[name].title._asdict(), "about": TASKS[name].about._asdict(),
                "classes": list(probes.classes), "trained": len(probes.taught), "tested": len(probes.groups),
                "majority": probes.majority, "accuracy": probes.accuracy.tolist(),
                "control": [_number(x) for x in probes.control],
                "selectivity": [_number(x) for x in probes.selectivity], "low": bounds[name][0].tolist(),
                "high": bounds[name][1].tolist(), "centre": [_number(end) for end in centres[name]],
            }
            for name, probes in found.items()
        ],
    }  # fmt: skip
    arrays = {
        "accuracy": np.stack([probes.accuracy for probes in found.values()]).astype(np.float32),
        "control": np.stack([probes.control for probes in found.values()]).astype(np.float32),
        "low": np.stack([low for low, _ in bounds.values()]).astype(np.float32),
        "high": np.stack([high for _, high in bounds.values()]).astype(np.float32),
        "said": said.numpy(),
    }
    near = range(min(NEAR, len(tokens)))
    figures: list[Figure] = [
        *_curves(found, labels),
        _centres(found, centres),
        _table(found, bounds, centres, labels),
        Cells(
            Words(
                "This text: what the probe of entities says of each token, shaded by how sure it is; it was trained on "
                "names alone and has no word for others",
                "本文：“词指的是什么”探针对每个词元的判断，深浅为其把握；它只用名词训练，对其他词没有合适的类别",
            ),
            [
                [class_of(found["entity"].classes[int(said[row, place])]) for place in near]
                for row in range(len(rows))
            ],
            chances.amax(-1)[:, : len(near)].float().numpy(), named_rows(labels),
            [tokens[place].piece for place in near],
        ),
    ]  # fmt: skip
    return Panel("probes", TITLE, data, arrays, figures, _checks(found, missed), _notes(look, found, count, long))


class _Fitted(NamedTuple):
    """What is the same for every text. stories, long: stories that were read, and left out; missed: of a planted label;
    bounds, centres: by task, with their intervals."""

    stories: int
    long: int
    found: dict[str, Probes]
    missed: float
    bounds: dict[str, tuple[Any, ...]]
    centres: dict[str, tuple[Any, ...]]


def _fitted(subject: Subject) -> _Fitted:
    assert subject.tokenizer is not None
    read, long = stories(subject.model, subject.tokenizer, STORIES)
    asked = {name: examples(task, read, MOST) for name, task in TASKS.items()}
    # each story is read once for all tasks
    states = features_of(subject.model, [example for group in asked.values() for example in group], stream_of)
    features = dict(zip(asked, states.split([len(group) for group in asked.values()], 1)))
    found = {name: by_row(features[name], asked[name]) for name in asked}
    missed = 1 - planted(features["role"][0], asked["role"])
    bounds = {name: probes.interval(lambda probes: probes.accuracy) for name, probes in found.items()}
    centres = {name: (probes.gravity(), *probes.interval(Probes.gravity)) for name, probes in found.items()}
    return _Fitted(len(read), long, found, missed, bounds, centres)


def class_of(name: str) -> Words:
    return CLASSES.get(name, Words(name, name))


def _listed(names: Sequence[str]) -> Words:
    words = [class_of(name) for name in names]
    return Words(", ".join(word.en for word in words), "、".join(word.zh for word in words))


def _rows(count: int) -> list[str]:
    return ["in", *map(str, range(count - 1))]


def _number(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def _curves(found: dict[str, Probes], labels: list[str]) -> list[Figure]:
    x = list(range(-1, len(labels) - 1))
    layer, share = Words("layer (-1: what the first is given)", "层（-1：第一层的输入）"), Words("accuracy", "准确率")
    return [
        Lines(
            Words("Accuracy of each probe", "各探针的准确率"), x,
            {TASKS[name].title: probes.accuracy.tolist() for name, probes in found.items()}, layer, share,
        ),
        Lines(
            Words("Accuracy of their controls", "各对照任务的准确率"), x,
            {
                TASKS[name].title: probes.control.tolist() for name, probes in found.items()
                if np.isfinite(probes.control).any()
            },
            layer, share,
        ),
    ]  # fmt: skip


def _centres(found: dict[str, Probes], centres: dict[str, tuple[Any, ...]]) -> Bars:
    """Row 0 is what the first block is given, row l what block l - 1 gave."""
    known = [name for name in found if np.isfinite(centres[name]).all()]
    return Bars(
        Words("How deep: blocks that are behind the centre of gravity, 95 %", "有多深：重心之前经过的层数，95 % 区间"),
        [TASKS[name].title for name in known], {"E": [float(centres[name][0]) for name in known]},
        Words("blocks", "层"),
        [float(centres[name][1]) for name in known], [float(centres[name][2]) for name in known],
    )  # fmt: skip


def _table(
    found: dict[str, Probes],
    bounds: dict[str, tuple[np.ndarray, np.ndarray]],
    centres: dict[str, tuple[Any, ...]],
    labels: list[str],
) -> Table:
    rows = []
    for name, probes in found.items():
        best = int(probes.accuracy.argmax())
        low, high = (float(end[best]) for end in bounds[name])
        rows.append((
            TASKS[name].title, _listed(probes.classes), len(probes.groups), round(probes.majority, 3),
            named_rows(labels)[best],
            Words(
                f"{probes.accuracy[best]:.3f} ({low:.3f} to {high:.3f})",
                f"{probes.accuracy[best]:.3f}（{low:.3f} 至 {high:.3f}）",
            ), *(
                round(float(x[best]), 3) if np.isfinite(x[best]) else "–" for x in (probes.control, probes.selectivity)
            ), *(_number(end) for end in centres[name][:1]),
        ))  # fmt: skip
    columns = (
        Words("task", "任务"), Words("classes", "类别"), Words("tested", "测试数"), Words("majority", "多数类"),
        Words("best layer", "最佳层"), Words("accuracy (95 %)", "准确率（95 %）"), Words("control", "对照"),
        Words("selectivity", "选择性"), Words("centre of gravity", "重心"),
    )  # fmt: skip
    note = Words(
        "; ".join(f"{name}: {TASKS[name].about.en}" for name in found),
        "；".join(f"{SHORT[name]}：{TASKS[name].about.zh}" for name in found),
    )
    return Table(Words("Each task where it is read best", "每个任务读得最好的一层"), columns, rows, note)


def _checks(found: dict[str, Probes], missed: float) -> list[Check]:
    shared = sum(len(probes.shared) for probes in found.values())
    slope = max(probe.slope for probes in found.values() for probe in probes.fitted)
    return [
        Check("disjoint", float(shared), 0.0, DISJOINT),
        Check("minimum", slope, 1e-3, MINIMUM),
        Check("planted", missed, 0.01, PLANTED),
    ]


def _notes(look: Look, found: dict[str, Probes], count: int, long: int) -> list[Words]:
    assert look.subject.tokenizer is not None
    codes = ", ".join(spoken(look.subject.tokenizer))
    notes = [
        READ,
        *([WITHOUT] if any(np.isnan(probes.control).all() for probes in found.values()) else []),
        CENTRE,
        Words(
            f"Trained and tested on {count} stories of the world ({codes}); the text itself trains nothing.",
            f"用世界里的 {count} 个故事（{codes}）训练和测试；本文不参与训练。",
        ),
    ]
    if long:
        notes.append(Words(f"{long} stories were too long for the model.", f"有 {long} 个故事超出模型长度，未使用。"))
    return notes
