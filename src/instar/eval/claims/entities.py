"""Attention gives entities more weight than chance would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from ...config import InputError
from ...data.world.ontology import LANGUAGES, world
from ...probe.panel import UNSAID, Bars, Figure, Matrix, Table, Words
from ...probe.spans import spans
from .files import drawn, fitness, is_treebank, spelt_out, tagged
from .lifts import ALL, OTHERS, Lifts, best_head, known_mean, lifts, p_of
from .verdict import Array, Case, Claim, Finding, Interval, Outcome, against, interval, mean, span, worded

CHANCE, SURE_P = 1.0, 0.05
FACTS_EVERY = 8  # of the world's stories one is such a text, in which products, technologies and fields are told
FEWEST = 4  # texts of a kind, or of a half, that are worth a figure


@cache
def content_words(code: str) -> tuple[str, ...]:
    """Words of the world that mean something and name nothing: colours, deeds, activities and feelings."""
    found = world("village")
    groups = (found.colours, found.deeds, found.activities, tuple(found.feelings.values()))
    number = LANGUAGES.index(code)
    return tuple(sorted({word for group in groups for each in group for word in each.forms[number].values() if word}))


def annotated(case: Case) -> list[Mapping[str, Any]]:
    """Stories, and texts of fixed facts, in which what each word names is written down."""
    told = case.records("stories", case.scaled(96, 4), annotate=1, facts=0)
    wanted = case.scaled(48, 2)
    every = case.records("stories", FACTS_EVERY * (wanted + len(case.languages)), annotate=1)
    return told + list(islice((record for record in every if record["kind"] == "facts"), wanted))


def of_record(case: Case, record: Mapping[str, Any], seed: int) -> Lifts | None:
    """Of the names in a record, pronouns left out, and of its other content words."""
    text = record["text"]
    places = [(one["start"], one["end"], one["type"]) for one in record["spans"] if not one.get("pronoun")]
    others = [
        (one.start, one.end)
        for one in spans(text, listed=content_words(record["lang"]))
        if one.kind == "listed" and all(one.end <= start or one.start >= end for start, end, _ in places)
    ]
    return lifts(case.model, case.tokenizer, text, places, others, seed=seed)


def verdict_of(sure: tuple[float, float], p: float) -> Outcome:
    """As the rule says."""
    outcome = against(sure, CHANCE)
    return "unclear" if outcome == "holds" and p >= SURE_P else outcome


@dataclass(frozen=True)
class Group:
    """Of some words, a value of each text that has them: their lift, and what random spans of their lengths get."""

    lift: Array
    chance: Array
    seed: int

    @property
    def sure(self) -> Interval:
        return interval(self.lift, self.seed)

    @property
    def more(self) -> Interval:
        """By how much they are above random spans."""
        return interval(self.lift - self.chance, self.seed)

    def said(self, by: str) -> str:
        """Example: 1.10 [1.08, 1.11] by 1.02"""
        return f"{mean(self.lift):.2f} {span(self.sure)} {by} {mean(self.chance):.2f}"

    def record(self) -> dict[str, Any]:
        return {
            "lift": mean(self.lift), "interval": self.sure, "random": mean(self.chance), "more": self.more,
            "count": len(self.lift),
        }  # fmt: skip


def groups(found: Sequence[Lifts], seed: int) -> dict[str, Group]:
    """Every group of words that enough texts have, entities and other words first."""
    names = dict.fromkeys([ALL, OTHERS, *sorted({name for one in found for name in one.heads})])
    have = {name: [one for one in found if name in one.heads] for name in names}
    return {
        name: Group(np.array([one.mean(name) for one in ones]), np.array([one.chance[name] for one in ones]), seed)
        for name, ones in have.items()
        if len(ones) >= FEWEST or name == ALL
    }


def measure(case: Case) -> Finding:
    """The lift of entities over all heads, with its interval over texts, in the world and in people's own texts."""
    records = annotated(case)
    found: list[Lifts] = []
    codes: list[str] = []
    with case.watch.counting("texts with entities", len(records)) as each:
        for number, record in enumerate(records):
            one = of_record(case, record, case.seed + number)
            if one is not None:
                found.append(one)
                codes.append(record["lang"])
            each(1)
    if len(found) < 2:
        raise InputError(
            f"{len(found)} of {len(records)} texts can be looked at; the others are too long for the model"
        )
    shown = groups(found, case.seed)
    if len(set(codes)) > 1:
        for code in case.languages:
            mine = [one for one, other in zip(found, codes) if other == code]
            shown[f"{ALL}, {code}"] = groups(mine, case.seed)[ALL]
    sure, p = shown[ALL].sure, p_of(found)
    heads = known_mean(np.stack([one.heads[ALL] for one in found]), 0)
    real = [_real(case, source) for source in case.data if not is_treebank(source)]
    said = [_said(shown, p, _difference(found, case.seed)), _head(found, case.seed), *(row["said"] for row in real)]
    figures: list[Figure] = [
        Bars(
            Words("How many times the share if all were looked at alike", "为均匀注意时份额的多少倍"),
            worded(shown, ZH),
            {Words("lift", "提升倍数"): [mean(group.lift) for group in shown.values()]},
            low=[group.sure[0] for group in shown.values()], high=[group.sure[1] for group in shown.values()],
        ),
        Bars(
            Words("More than random spans of the same lengths", "比等长随机片段高出"), worded(shown, ZH),
            {Words("lift", "提升倍数"): [mean(group.lift - group.chance) for group in shown.values()]},
            low=[group.more[0] for group in shown.values()], high=[group.more[1] for group in shown.values()],
        ),
        Matrix(
            Words("Lift of the entities by head", "各头对实体的提升倍数"), np.nan_to_num(heads).astype(np.float32),
            [str(n) for n in range(len(heads))], [str(n) for n in range(heads.shape[1])], "plain",
            Words("layer", "层"), Words("head", "头"),
        ),
    ]  # fmt: skip
    if rows := [row for row in real if "groups" in row]:
        figures.append(_table(rows))
    return Finding(
        verdict_of(sure, p), mean(shown[ALL].lift), interval=sure, chance=CHANCE, count=len(found),
        found=Words("".join(words.en for words in said).strip(), "".join(words.zh for words in said)),
        how=HOW, figures=figures,
        data={
            "p": p, "groups": {name: group.record() for name, group in shown.items()}, "heads": heads.tolist(),
            "files": [row["data"] for row in real],
        },
    )  # fmt: skip


def _difference(found: Sequence[Lifts], seed: int) -> tuple[float, Interval] | None:
    """By how much entities are further above random spans than other words are, in the texts that have both."""
    values = [one.more() - one.more(OTHERS) for one in found if OTHERS in one.heads]
    return (mean(values), interval(values, seed)) if len(values) >= FEWEST else None


def _head(found: Sequence[Lifts], seed: int) -> Words:
    if len(found) < 2 * FEWEST:
        return UNSAID
    (layer, head), values = best_head(found, seed)
    if not len(values):
        return UNSAID
    sure = span(interval(values, seed))
    return Words(
        f" The head with most of it (layer {layer}, head {head}), chosen on half of the texts, has {mean(values):.2f} "
        f"{sure} on the others.",
        f"提升最大的头（第 {layer} 层第 {head} 头，用一半文本选出）在另一半文本上为 {mean(values):.2f} {sure}。",
    )


def _said(shown: Mapping[str, Group], p: float, more: tuple[float, Interval] | None) -> Words:
    en = f"Over all heads entities are given {shown[ALL].said('times an even share, random spans')} (p = {p:.3f})."
    zh = f"各头平均给实体的份额为均匀份额的 {shown[ALL].said('倍，随机片段为')}（p = {p:.3f}）。"
    if more is not None:
        en += (
            f" Other content words, colours and verbs: {shown[OTHERS].said('and')}; above random spans entities are "
            f"{more[0]:+.2f} {span(more[1])} ahead of these."
        )
        zh += (
            f"其他实词（颜色、动词）：{shown[OTHERS].said('与')}；就高出随机片段的幅度而言，"
            f"实体比它们多 {more[0]:+.2f} {span(more[1])}。"
        )
    rest = {name: group for name, group in shown.items() if name not in (ALL, OTHERS)}
    by_group = "; ".join(f"{name} {group.said('and')}" for name, group in rest.items())
    by_group_zh = "；".join(f"{zh_name(name)} {group.said('与')}" for name, group in rest.items())
    en += f" By group, beside random spans: {by_group}."
    zh += f"各组与其随机片段：{by_group_zh}。"
    return Words(en, zh)


def zh_name(name: str) -> str:
    return ZH.get(name, name)


def _real(case: Case, source: str) -> dict[str, Any]:
    """The same of people's own texts, and how far the tokenizer knows their language."""
    name = source.rsplit("/", 1)[-1]
    try:
        texts = drawn(tagged(source), case.scaled(96, 4), case.seed)
        if not texts:
            raise InputError("found no entity in it")
        found = [
            one
            for number, text in enumerate(texts)
            if (one := lifts(case.model, case.tokenizer, text.text, text.places, seed=case.seed + number))
        ]
        if len(found) < 2:
            raise InputError(f"{len(found)} of {len(texts)} texts can be looked at; wanted 2")
    except InputError as error:
        said = Words(f" {name}: not measured, {error}.", f"{name}：未能测量，{error}。")
        return {"said": said, "data": {"file": source, "why": str(error)}}
    shown, p = groups(found, case.seed), p_of(found)
    share = spelt_out(case.tokenizer, [text.text for text in texts])
    fit = fitness(share)
    return {
        "name": name, "groups": shown, "p": p, "share": share,
        "said": Words(
            f" {name}, {len(found)} texts: {shown[ALL].said('times an even share, random spans')} (p = {p:.3f}); the "
            f"tokenizer spells {share:.0%} of the words' bytes one by one{fit.en}.",
            f"{name}，{len(found)} 个文本：均匀份额的 {shown[ALL].said('倍，随机片段为')}（p = {p:.3f}）；"
            f"分词器逐字节拼写了词语中 {share:.0%} 的字节{fit.zh}。",
        ),
        "data": {
            "file": source, "p": p, "left_out": len(texts) - len(found), "spelt_out": share,
            "groups": {name: group.record() for name, group in shown.items()},
        },
    }  # fmt: skip


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Words("file", "文件"), Words("texts", "文本数"), Words("lift", "提升倍数"), Words("random spans", "随机片段"),
        Words("p", "p"), Words("spelt in bytes", "逐字节拼写"), Words("more than random, by kind", "各类高出随机片段"),
    )  # fmt: skip
    return Table(
        Words("Texts of people's own", "用户自己的文本"), columns,
        [
            (
                row["name"], len(row["groups"][ALL].lift),
                f"{mean(row['groups'][ALL].lift):.2f} {span(row['groups'][ALL].sure)}",
                f"{mean(row['groups'][ALL].chance):.2f}", f"{row['p']:.3f}", f"{row['share']:.0%}",
                ", ".join(
                    f"{kind} {mean(one.lift - one.chance):+.2f}" for kind, one in row["groups"].items() if kind != ALL
                ),
            )
            for row in rows
        ],
    )  # fmt: skip


HOW = Words(
    "Annotated stories and fixed facts of the world. For each head the share of the entities before a token, the sink "
    "and the token itself left out, is divided by their part of the tokens it may look at, and averaged over tokens; "
    "then over heads, and over texts. A head that looks everywhere alike has 1; where heads look at what is near, "
    "random spans have more, so that these count as well. Any content word may be looked at more, which colours and "
    "verbs show. Attention is where a head looks, and no proof of what the model uses (Jain "
    "and Wallace 2019).",
    "用世界中带标注的故事和固定事实。对每个头，除去注意力汇和词元自身，算出前文实体所得份额与其在可见词元中占比之比，"
    "先对词元、再对头、再对文本取平均；均匀注意的头为 1；若头偏向近处，随机片段也会高于 1，故一并比较。"
    "任何实词都可能被多看，故以颜色词和动词为对照。"
    "注意力只说明头看向哪里，不能证明模型用了什么（Jain 与 Wallace，2019）。",
)
ZH = {
    ALL: "实体", OTHERS: "其他实词", "entities, en": "实体（英文）", "entities, zh": "实体（中文）",
    "person": "人", "animal": "动物", "thing": "物品", "part": "部件", "place": "地点",
    "food": "食物", "organisation": "组织", "product": "产品", "technology": "技术", "field": "领域",
}  # fmt: skip
ENTITIES = Claim(
    "entities",
    title=Words("Attention gives entities more weight", "注意力给实体更高的权重"),
    unit=Words("times the share of chance", "倍于随机水平"),
    said=Words(
        "Attention gives important words of a text a higher weight; it finds the key entities, such as the names of "
        "technologies, fields and products.",
        "注意力更看重文本里要紧的词，由此找出关键的实体：技术、领域、产品等的名字。",
    ),
    rule=Words(
        "Holds where the lift of entities over all heads, 1 being chance, has a 95 % interval over texts that lies "
        "above 1, and fewer than 5 % of 200 draws of random spans get as much; fails where the interval lies at or "
        "below 1.",
        "若所有头对实体的平均提升倍数（1 为随机水平）的 95% 区间（按文本）高于 1，"
        "且 200 次随机片段中达到同样水平的不足 5%，则成立；若区间不高于 1，则不成立。",
    ),
    measure=measure,
)
